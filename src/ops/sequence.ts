import { apply } from "../tensor/apply.js";
import { zeros } from "../tensor/create.js";
import { defineOp, showShape, size, type Op } from "../tensor/op.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { reshape } from "./movement.js";
import { where } from "./select.js";

// Lengths beyond 0..T count as 0 and T.
const lengthCases = [
  { lengths: [1], steps: 1 },
  { lengths: [0, 3, 5], steps: 5 },
  { lengths: [7, 2, 13, 1], steps: 13 },
  { lengths: [-3, 9, 4, 2147483647], steps: 4 },
];

/** 1 where step t is valid (t < length), else 0. The kernel reads ints [rows, steps]. */
const sequenceMaskOp: Op<{ steps: number; dtype: "float32" | "float64" }> = defineOp({
  name: "sequenceMask",
  shape([lengths], { steps, dtype }) {
    if (lengths.dtype !== "int32" || lengths.shape.length !== 1)
      throw new TypeError(`sequenceMask: lengths must be int32 [N] but is ${lengths.dtype} ${showShape(lengths.shape)}`);
    return { outputs: [{ shape: [lengths.shape[0], steps], dtype }], ints: [lengths.shape[0], steps] };
  },
  reference([lengths], [mask], [rows, steps]) {
    for (let n = 0; n < rows; n++) for (let t = 0; t < steps; t++) mask[n * steps + t] = t < lengths[n] ? 1 : 0;
  },
  cases: () =>
    lengthCases.map(({ lengths, steps }) => ({
      inputs: [{ shape: [lengths.length], dtype: "int32", values: lengths }],
      attrs: { steps, dtype: "float32" },
    })),
});

/** Validity of each step of a ragged batch: lengths int32 [N] gives [N, steps] of 1 and 0. */
export function sequenceMask(lengths: Tensor, steps: number, dtype: "float32" | "float64" = "float32"): Tensor {
  return apply(sequenceMaskOp, [lengths], { steps, dtype })[0];
}

/** x [N, T, ...] with the first `length` steps of each row reversed, T of a longer one, the rest in place. Ints [N, T, inner]. */
const reverseSequenceOp: Op = defineOp({
  name: "reverseSequence",
  shape([x, lengths]) {
    const [n, steps] = x.shape;
    if (x.shape.length < 2) throw new RangeError(`reverseSequence: x must be [N, T, ...] but is ${showShape(x.shape)}`);
    if (lengths && (lengths.dtype !== "int32" || showShape(lengths.shape) !== showShape([n])))
      throw new TypeError(`reverseSequence: lengths must be int32 [${n}] but is ${lengths.dtype} ${showShape(lengths.shape)}`);
    return { outputs: [x], ints: [n, steps, size(x.shape.slice(2))] };
  },
  reference([x, lengths], [y], [rows, steps, inner]) {
    for (let n = 0; n < rows; n++) {
      const length = lengths ? Math.min(lengths[n], steps) : steps;
      for (let t = 0; t < steps; t++) {
        const from = t < length ? length - 1 - t : t;
        for (let i = 0; i < inner; i++) y[(n * steps + t) * inner + i] = x[(n * steps + from) * inner + i];
      }
    }
  },
  backward: ([g], { inputs: [, lengths] }) => [reverseSequence(g, lengths ?? null), ...(lengths ? [null] : [])],
  cases: () => [
    { inputs: [{ shape: [3, 7, 5] }], attrs: undefined },
    ...lengthCases.map(({ lengths, steps }) => ({
      inputs: [{ shape: [lengths.length, steps, 3] }, { shape: [lengths.length], dtype: "int32" as const, values: lengths }],
      attrs: undefined,
    })),
  ],
});

/** Reverses the valid steps of each row of x [N, T, ...] and leaves the padding where it is; its own inverse. */
export function reverseSequence(x: Tensor, lengths: Tensor | null = null): Tensor {
  return apply(reverseSequenceOp, lengths ? [x, lengths] : [x], undefined)[0];
}

/** x [N, T, ...] with zeros behind the valid steps of each row, whatever was there; x itself without lengths, int32 [N]. */
export function zeroPadding(x: Tensor, lengths: Tensor | null): Tensor {
  if (!lengths) return x;
  const { shape, dtype, device } = x;
  return scope(() => {
    const mask = sequenceMask(lengths, shape[1], dtype as "float32" | "float64");
    return where(reshape(mask, [shape[0], shape[1], ...shape.slice(2).map(() => 1)]), x, zeros([], { dtype, device }));
  });
}
