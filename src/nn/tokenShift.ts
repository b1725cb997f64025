import { sub } from "../ops/elementwise.js";
import { concat, reshape, select, slice } from "../ops/movement.js";
import { sum } from "../ops/reduce.js";
import { where } from "../ops/select.js";
import { sequenceMask } from "../ops/sequence.js";
import { ones, zeros } from "../tensor/create.js";
import type { MaybeTensor } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";

/**
 * Each step's predecessor: x [N, T, C], zero behind each row's end, and `before` [N, C], the step before the first (zero by
 * default). `shifted` is [N, T, C], and `last` [N, C] the last valid step, the `before` of what follows.
 */
export function tokenShift(x: Tensor, before: MaybeTensor, lengths: MaybeTensor): { shifted: Tensor; last: Tensor } {
  const [n, steps, width] = x.shape;
  const { device } = x;
  const dtype = x.dtype as "float32" | "float64";
  const first = reshape(before ?? zeros([n, width], { device, dtype }), [n, 1, width]);
  const all = concat([first, x], 1);
  const shifted = slice(all, 1, 0, steps);
  if (!lengths) return { shifted, last: select(all, 1, steps) };
  // Counted from the step before the first: 1 up to that numbered `length`, less 1 up to the one before it.
  const valid = sequenceMask(lengths, steps, dtype);
  const ends = sub(concat([ones([n, 1], { device, dtype }), valid], 1), concat([valid, zeros([n, 1], { device, dtype })], 1));
  const last = sum(where(reshape(ends, [n, steps + 1, 1]), all, zeros([], { device, dtype })), { axis: 1 });
  return { shifted, last };
}
