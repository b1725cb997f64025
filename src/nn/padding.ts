import { reshape } from "../ops/movement.js";
import { where as choose } from "../ops/select.js";
import { sequenceMask } from "../ops/sequence.js";
import { zeros } from "../tensor/create.js";
import type { MaybeTensor } from "../tensor/op.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";

/** x [N, T, ...] with zeros behind the valid steps of each row, whatever was there; x itself without lengths, int32 [N]. */
export function zeroPadding(x: Tensor, lengths: MaybeTensor): Tensor {
  if (!lengths) return x;
  const { shape, dtype, device } = x;
  return scope(() => {
    const mask = sequenceMask(lengths, shape[1], dtype as "float32" | "float64");
    return choose(reshape(mask, [shape[0], shape[1], ...shape.slice(2).map(() => 1)]), x, zeros([], { dtype, device }));
  });
}
