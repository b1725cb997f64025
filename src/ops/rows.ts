import { apply, update } from "../tensor/apply.js";
import { defineReference } from "../backend/reference.js";
import { defineOp, showShape, type Op, type Spec } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";

/** What both kernels read: ints [numbers, outer, inner], of a table [rows, outer, inner]. */
function plan(name: string, table: Spec, ids: Spec): { outer: number; inner: number; ints: number[] } {
  if (table.shape.length !== 3) throw new RangeError(`${name}: table must be [rows, outer, inner] but is ${showShape(table.shape)}`);
  if (ids.dtype !== "int32" || ids.shape.length !== 1)
    throw new RangeError(`${name}: ids must be int32 [count] but are ${ids.dtype} ${showShape(ids.shape)}`);
  const [, outer, inner] = table.shape;
  return { outer, inner, ints: [ids.shape[0], outer, inner] };
}

const takeRowsOp: Op = defineOp({
  name: "takeRows",
  shape([table, ids]) {
    const { outer, inner, ints } = plan("takeRows", table, ids);
    return { outputs: [{ shape: [outer, ids.shape[0], inner], dtype: table.dtype }], ints };
  },
  reference([table, ids], [y], [count, outer, inner]) {
    for (let o = 0; o < outer; o++)
      for (let i = 0; i < count; i++) {
        const [from, to] = [(ids[i] * outer + o) * inner, (o * count + i) * inner];
        for (let k = 0; k < inner; k++) y[to + k] = ids[i] < 0 ? 0 : table[from + k];
      }
  },
  cases: () =>
    (
      [
        [[1, 1, 1], [0]],
        [
          [5, 2, 3],
          [4, -1, 0, 2],
        ],
        [
          [7, 3, 33],
          [6, 5, 4, -1, -1, 0, 3],
        ],
        [[3, 1, 4], []],
        [[203, 1, 301], Array.from({ length: 128 }, (_, i) => ((i * 37) % 204) - 1)],
      ] as const
    ).map(([shape, values]) => ({ inputs: [{ shape }, { shape: [values.length], dtype: "int32", values }], attrs: undefined })),
});

/**
 * Rows of a table by their numbers: table [rows, outer, inner] and ids int32 [count] give [outer, count, inner], zero where
 * an id is -1. Not differentiable. The ids are the library's own and are not checked.
 */
export function takeRows(table: Tensor, ids: Tensor): Tensor {
  return apply(takeRowsOp, [table, ids], undefined)[0];
}

defineReference("putRows", ([x, ids], [table], [count, outer, inner]) => {
  for (let o = 0; o < outer; o++)
    for (let i = 0; i < count; i++) {
      const [from, to] = [(o * count + i) * inner, (ids[i] * outer + o) * inner];
      for (let k = 0; ids[i] >= 0 && k < inner; k++) table[to + k] = x[from + k];
    }
});

/** Writes x [outer, count, inner] to the rows of a table where `takeRows` finds it; what has the id -1 goes nowhere. No id twice. */
export function putRows(table: Tensor, ids: Tensor, x: Tensor): void {
  const { outer, inner, ints } = plan("putRows", table, ids);
  if (x.dtype !== table.dtype || x.size !== outer * ids.size * inner)
    throw new RangeError(
      `putRows: x must be ${table.dtype} ${showShape([outer, ids.size, inner])} but is ${x.dtype} ${showShape(x.shape)}`,
    );
  update("putRows", [x, ids], [table], ints);
}
