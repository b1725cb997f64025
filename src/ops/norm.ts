import { applyFused } from "../tensor/apply.js";
import { defineFused, sameShape, showShape, size, type CaseInput, type Fused, type MaybeTensor, type Shape } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { add, affine, div, mul, sqrt, square, sub } from "./elementwise.js";
import { mean, sum } from "./reduce.js";

/** The kernel reads ints [rows, features] and floats [eps], and saves the mean and 1 / deviation of each row: [2, rows]. */
const layerNormOp: Fused<{ eps: number }> = defineFused({
  name: "layerNorm",
  shape([x, weight, bias], { eps }) {
    const { shape, dtype } = x!;
    if (dtype === "int32" || shape.length === 0)
      throw new RangeError(`layerNorm: x must be floating with at least one axis but is ${dtype} ${showShape(shape)}`);
    const features = shape.at(-1)!;
    for (const [name, spec] of [["weight", weight] as const, ["bias", bias] as const]) {
      if (spec && (!sameShape(spec.shape, [features]) || spec.dtype !== dtype)) {
        throw new RangeError(`layerNorm: ${name} must be ${dtype} [${features}] but is ${spec.dtype} ${showShape(spec.shape)}`);
      }
    }
    return { outputs: [{ shape, dtype }], ints: [size(shape.slice(0, -1)), features], floats: [eps] };
  },
  compose([input, weight, bias], { eps }) {
    const x = input!;
    const centred = sub(x, mean(x, { axis: -1, keepDims: true }));
    const variance = mean(square(centred), { axis: -1, keepDims: true });
    const normal = div(centred, sqrt(affine(variance, 1, eps)));
    const scaled = weight ? mul(normal, weight) : normal;
    return [bias ? add(scaled, bias) : scaled];
  },
  saved: ([x]) => [{ shape: [2, size(x!.shape.slice(0, -1))], dtype: x!.dtype }],
  cases() {
    const shapes: readonly Shape[] = [
      [1, 2],
      [7, 13],
      [3, 5, 33],
      [403, 130],
    ];
    return shapes.flatMap((shape) => {
      const vector: CaseInput = { shape: shape.slice(-1) };
      return [
        [vector, vector],
        [vector, null],
        [null, vector],
        [null, null],
      ].map((affine) => ({ inputs: [{ shape }, ...affine], attrs: { eps: 1e-5 } }));
    });
  },
});

/**
 * (x - mean) / sqrt(variance + eps) * weight + bias over the last axis, with the biased variance (Ba et al. 2016).
 * x is [..., C]; weight and bias are [C] or null.
 */
export function layerNorm(
  x: Tensor,
  weight: MaybeTensor = null,
  bias: MaybeTensor = null,
  { eps = 1e-5 }: { readonly eps?: number } = {},
): Tensor {
  return applyFused(layerNormOp, [x, weight, bias], { eps })[0];
}

/** x / sqrt(sum of squares + eps) over the last axis: length 1. */
export const unit = (x: Tensor, eps = 1e-12): Tensor => div(x, sqrt(affine(sum(square(x), { axis: -1, keepDims: true }), 1, eps)));

/**
 * x / sqrt(mean of squares + eps) * weight over the last axis (Zhang & Sennrich 2019). x is [..., C]; weight is [C] or null.
 */
export function rmsNorm(x: Tensor, weight: MaybeTensor = null, { eps = 1e-5 }: { readonly eps?: number } = {}): Tensor {
  const normal = div(x, sqrt(affine(mean(square(x), { axis: -1, keepDims: true }), 1, eps)));
  return weight ? mul(normal, weight) : normal;
}
