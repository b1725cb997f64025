import { apply, view } from "../tensor/apply.js";
import { defineOp, showShape, size, type Op, type Shape } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { broadcastPlan, broadcastShape } from "./elementwise.js";
import { sumTo } from "./reduce.js";

/**
 * Gathers by strides: result element at index (i, j, ...) is x[offset + i*strideI + j*strideJ + ...].
 * The kernel reads ints [offset, rank, dims..., strides...]. It carries expand, transpose and slice.
 */
function stridedCopy(x: ArrayLike<number>, y: { [i: number]: number; length: number }, [offset, rank, ...rest]: readonly number[]): void {
  const index = new Array<number>(rank).fill(0);
  let at = offset;
  for (let i = 0; i < y.length; i++) {
    y[i] = x[at];
    for (let d = rank - 1; d >= 0; d--) {
      at += rest[rank + d];
      if (++index[d] < rest[d]) break;
      at -= rest[rank + d] * rest[d];
      index[d] = 0;
    }
  }
}

/** Strides of a contiguous array. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length).fill(1);
  for (let i = shape.length - 2; i >= 0; i--) strides[i] = strides[i + 1] * shape[i + 1];
  return strides;
}

const expandOp: Op<{ shape: Shape }> = defineOp({
  name: "expand",
  shape([x], { shape }) {
    const full = broadcastShape("expand", x.shape, shape);
    if (full.some((d, i) => d !== shape[i]) || full.length !== shape.length) throw new RangeError(`expand: ${showShape(x.shape)} does not stretch to ${showShape(shape)}`);
    return { outputs: [{ shape, dtype: x.dtype }], ints: [0, ...broadcastPlan(shape, [x.shape])] };
  },
  reference: ([x], [y], ints) => stridedCopy(x, y, ints),
  backward: ([g], { inputs: [x] }) => [sumTo(g, x.shape)],
  cases: () => [
    { inputs: [{ shape: [1] }], attrs: { shape: [7] } },
    { inputs: [{ shape: [13, 1] }], attrs: { shape: [13, 33] } },
    { inputs: [{ shape: [5, 1, 3] }], attrs: { shape: [2, 5, 7, 3] } },
  ],
});

/** Stretches axes of size 1, and adds axes in front, to give `shape`. */
export function expand(x: Tensor, shape: Shape): Tensor {
  return apply(expandOp, [x], { shape })[0];
}

/** The same elements in row-major order under another shape; one entry may be -1 and is inferred. Shares the buffer. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const known = size(shape.filter((d) => d !== -1));
  const full = shape.map((d) => (d === -1 ? x.size / known : d));
  if (shape.filter((d) => d === -1).length > 1 || size(full) !== x.size || full.some((d) => !Number.isInteger(d) || d < 0)) {
    throw new RangeError(`reshape: ${showShape(x.shape)} has ${x.size} elements and cannot be ${showShape(shape)}`);
  }
  return view(x, full);
}
