import { full, tensor, zeros } from "../tensor/create.js";
import type { Tensor } from "../tensor/tensor.js";
import { add, exp, mul, sub } from "./elementwise.js";
import { matmul } from "./matmul.js";
import type { MatrixScanned } from "./matrixScan.js";
import { matrixSizes, type MatrixScanInputs } from "./matrixScanInputs.js";
import { expand, reshape, slice, transpose } from "./movement.js";
import { scan } from "./scan.js";
import { where } from "./select.js";
import { sequenceMask } from "./sequence.js";

/** What has a dual form: a decay of each step and head, [N, T, H], and no term of low rank. */
export type DualInputs = Pick<MatrixScanInputs, "q" | "k" | "v" | "logDecay" | "initial">;

/**
 * The other form of a matrix scan whose decay is a number a step (Dao & Gu 2024, "Transformers are SSMs", section 5):
 * attention without softmax, masked by the decay between two steps. It gives what `matrixScan` gives, by T^2 products.
 *
 *     O = (L * Q K^T) V,   L_ij = w_i w_{i-1} ... w_{j+1} for j <= i, else 0
 *
 * Arguments as those of `matrixScan`. Decays are differences of sums of logDecay: in float32 they lose what the sum over
 * a whole sequence has too many digits for.
 *
 * @throws on shapes that do not fit.
 */
export function ssdAttention({ q, k, v, logDecay = null, initial = null }: DualInputs): MatrixScanned {
  const { n, steps, groups, heads, keys, values } = matrixSizes({ q, k, v, logDecay, initial });
  if (logDecay && logDecay.shape.length !== 3)
    throw new RangeError("ssdAttention: logDecay must be [N, T, H]: one number for each step and head");
  const options = { device: q.device, dtype: q.dtype as "float32" | "float64" };
  if (steps === 0) return { output: v, state: initial ?? zeros([n, heads, keys, values], options) };
  const perHead = (t: Tensor) =>
    reshape(expand(reshape(transpose(t, [0, 2, 1, 3]), [n, groups, 1, steps, keys]), [n, groups, heads / groups, steps, keys]), [
      n,
      heads,
      steps,
      keys,
    ]);
  const [Q, K, V] = [perHead(q), perHead(k), transpose(v, [0, 2, 1, 3])];
  const decay = logDecay ?? zeros([n, steps, heads], options);
  const sums = transpose(scan(full(decay.shape, 1, options), decay).output, [0, 2, 1]);
  const column = reshape(sums, [n, heads, steps, 1]);
  const total = slice(column, 2, steps - 1);
  const ends = tensor(
    Int32Array.from({ length: steps }, (_, i) => i + 1),
    { device: q.device },
  );
  const past = sequenceMask(ends, steps, options.dtype);
  const L = exp(where(past, sub(column, reshape(sums, [n, heads, 1, steps])), full([], -Infinity, options)));
  const inner = matmul(mul(matmul(Q, K, { transposeB: true }), L), V);
  const written = matmul(mul(K, exp(sub(total, column))), V, { transposeA: true });
  const output = initial ? add(inner, matmul(mul(Q, exp(column)), initial)) : inner;
  return { output: transpose(output, [0, 2, 1, 3]), state: initial ? add(mul(exp(total), initial), written) : written };
}
