import { mul } from "../ops/elementwise.js";
import { expand, reshape } from "../ops/movement.js";
import { tensor } from "../tensor/create.js";
import type { Tensor } from "../tensor/tensor.js";

/** Recurrent weights [gates * H, H / heads] of units that hear only their own head, as [gates * H, H] with zeros elsewhere. */
export function ofHeads(weight: Tensor, heads: number): Tensor {
  if (heads === 1) return weight;
  const [rows, width] = weight.shape;
  const hidden = heads * width;
  const { device, dtype } = weight;
  const own = Array.from({ length: heads * heads }, (_, i) => (i % (heads + 1) === 0 ? 1 : 0));
  const mask = tensor(own, { shape: [1, heads, 1, heads, 1], device, dtype: dtype as "float32" | "float64" });
  const each = expand(reshape(weight, [rows / hidden, heads, width, 1, width]), [rows / hidden, heads, width, heads, width]);
  return reshape(mul(each, mask), [rows, hidden]);
}
