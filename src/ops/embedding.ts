import type { TypedArray } from "../backend/backend.js";
import { apply } from "../tensor/apply.js";
import { defineOp, sameShape, showShape, size, type Op } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";

function checkIds(ids: TypedArray, count: number): void {
  const at = ids.findIndex((id: number) => id < 0 || id >= count);
  if (at >= 0)
    throw new RangeError(`embedding: ids must be in [0, ${count - 1}] for a table of ${count} rows, but ids[${at}] is ${ids[at]}`);
}

const cases = [
  { ids: { shape: [1], dtype: "int32", values: [0] }, table: [1, 1] },
  { ids: { shape: [2, 3], dtype: "int32", values: [4, 0, 4, 4, 2, 4] }, table: [5, 7] },
  { ids: { shape: [13], dtype: "int32", values: [12, 3, 3, 0, 7, 12, 12, 1, 9, 10, 11, 2, 3] }, table: [13, 33] },
  { ids: { shape: [0], dtype: "int32", values: [] }, table: [3, 4] },
  { ids: { shape: [1201], dtype: "int32", values: Array.from({ length: 1201 }, (_, i) => (i * i) % 17) }, table: [17, 130] },
] as const;

/** Rows of a table. The kernel reads ints [ids, rows of the table, features]. */
const embeddingOp: Op = defineOp({
  name: "embedding",
  shape([ids, weight]) {
    if (ids.dtype !== "int32") throw new TypeError(`embedding: ids must be int32 but are ${ids.dtype}`);
    if (weight.shape.length !== 2 || weight.dtype === "int32")
      throw new RangeError(`embedding: weight must be a floating [count, features] but is ${weight.dtype} ${showShape(weight.shape)}`);
    return { outputs: [{ shape: [...ids.shape, weight.shape[1]], dtype: weight.dtype }], ints: [size(ids.shape), ...weight.shape] };
  },
  reference([ids, weight], [y], [, rows, features]) {
    checkIds(ids, rows);
    ids.forEach((id: number, i: number) => y.set(weight.subarray(id * features, (id + 1) * features), i * features));
  },
  backward: ([g], { inputs: [ids, weight] }) => [null, apply(embeddingGradientOp, [g, ids], { rows: weight.shape[0] })[0]],
  cases: () => cases.map(({ ids, table }) => ({ inputs: [ids, { shape: table }], attrs: undefined })),
});

/**
 * The adjoint of `embedding`: adds each row of g to the row of a zero table that its id names, in the order of the ids.
 * The kernel reads the same ints.
 */
const embeddingGradientOp: Op<{ rows: number }> = defineOp({
  name: "embeddingGradient",
  shape([g, ids], { rows }) {
    const features = g.shape.at(-1)!;
    if (!sameShape(g.shape.slice(0, -1), ids.shape))
      throw new RangeError(`embeddingGradient: g must be ${showShape([...ids.shape, "features"])} but is ${showShape(g.shape)}`);
    return { outputs: [{ shape: [rows, features], dtype: g.dtype }], ints: [size(ids.shape), rows, features] };
  },
  reference([g, ids], [y], [, rows, features]) {
    checkIds(ids, rows);
    y.fill(0);
    ids.forEach((id: number, i: number) => {
      for (let f = 0; f < features; f++) y[id * features + f] += g[i * features + f];
    });
  },
  backward: ([g], { inputs: [, ids] }) => [embedding(ids, g), null],
  cases: () => cases.map(({ ids, table: [rows, features] }) => ({ inputs: [{ shape: [...ids.shape, features] }, ids], attrs: { rows } })),
});

/**
 * Row `ids[...]` of weight for each id: ids int32 [...], weight [count, features]; gives [..., features].
 * An id outside the table is an error: at once on the reference device, at the next read on a native one.
 */
export function embedding(ids: Tensor, weight: Tensor): Tensor {
  return apply(embeddingOp, [ids, weight], undefined)[0];
}
