import { bernoulli, type Generator } from "../tensor/random.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { mul } from "./elementwise.js";

/**
 * Sets each element to zero with probability p and scales the others by 1 / (1 - p), so that the mean is kept
 * (Srivastava et al. 2014). The mask is drawn by `bernoulli`; it is kept for the backward pass. p = 0 gives x itself.
 *
 * @throws unless 0 <= p <= 1.
 */
export function dropout(x: Tensor, p: number, { generator }: { readonly generator?: Generator } = {}): Tensor {
  if (!(p >= 0 && p <= 1)) throw new RangeError(`dropout: p must be a number in [0, 1] but is ${p}`);
  if (p === 0) return x;
  const value = p === 1 ? 0 : 1 / (1 - p);
  return scope(() => mul(x, bernoulli(x.shape, 1 - p, { value, generator, dtype: x.dtype, device: x.device })));
}
