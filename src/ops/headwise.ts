import { applyFused } from "../tensor/apply.js";
import { defineFused, showShape, type Fused } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { matmul } from "./matmul.js";
import { reshape, transpose } from "./movement.js";

/** Blocks up to this size have kernels: a vector of outputs needs a few numbers of x. Larger ones are products of matrices. */
const LARGEST = 16;

/** The kernels read ints [rows, heads, size]. */
const headwiseOp: Fused = defineFused({
  name: "headwise",
  shape([x, weight]) {
    const [heads, outputs, inputs] = weight!.shape;
    const { shape, dtype } = x!;
    if (weight!.shape.length !== 3) throw new RangeError(`headwise: weight must be [H, out, in] but is ${showShape(weight!.shape)}`);
    if (shape.length === 0 || shape.at(-1) !== heads * inputs)
      throw new RangeError(`headwise: x must be [..., ${heads * inputs}] but is ${showShape(shape)}`);
    if (dtype === "int32" || weight!.dtype !== dtype)
      throw new TypeError(`headwise: x and weight must have one floating dtype but are ${dtype} and ${weight!.dtype}`);
    const rows = shape.slice(0, -1).reduce((product, n) => product * n, 1);
    return { outputs: [{ shape: [...shape.slice(0, -1), heads * outputs], dtype }], ints: [rows, heads, outputs] };
  },
  compose([x, weight]) {
    const [heads, outputs, inputs] = weight!.shape;
    const rows = x!.size / (heads * inputs);
    const byHead = transpose(reshape(x!, [rows, heads, inputs]), [1, 0, 2]);
    const product = matmul(byHead, weight!, { transposeB: true });
    return [reshape(transpose(product, [1, 0, 2]), [...x!.shape.slice(0, -1), heads * outputs])];
  },
  kernel([, weight]) {
    const [, outputs, inputs] = weight!.shape;
    return outputs === inputs && outputs <= LARGEST;
  },
  cases: () =>
    [
      [1, 1, 1, 1],
      [5, 7, 3, 3],
      [3, 16, 4, 4],
      [67, 9, 2, 2],
      [4, 5, 8, 8],
      [3, 2, 16, 16],
      [2, 3, 5, 4],
      [2, 2, 20, 20],
    ].map(([rows, heads, outputs, inputs]) => ({
      inputs: [{ shape: [rows, heads * inputs] }, { shape: [heads, outputs, inputs] }],
      attrs: undefined,
    })),
});

/**
 * A product in each head, as of a block-diagonal matrix: x [..., H * in], weight [H, out, in] -> [..., H * out].
 *
 * @throws on shapes that do not fit.
 */
export const headwise = (x: Tensor, weight: Tensor): Tensor => applyFused(headwiseOp, [x, weight], undefined)[0];
