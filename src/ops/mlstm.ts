import { full } from "../tensor/create.js";
import type { MaybeTensor } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { abs, add, affine, div, exp, maximum, mul, neg, softplus, sub } from "./elementwise.js";
import { matrixScan } from "./matrixScan.js";
import { concat, reshape, slice } from "./movement.js";
import { maxScan } from "./scan.js";

export interface MatrixMemoryInputs {
  /** [N, T, H, K]; one of q and k is to be scaled by 1 / sqrt(K). */
  readonly q: Tensor;
  readonly k: Tensor;
  /** [N, T, H, V]. */
  readonly v: Tensor;
  /** Arguments of the exponential input gate and of the forget gate, [N, T, H]. */
  readonly inputGate: Tensor;
  readonly forgetGate: Tensor;
  /** C and n are zero and m is minus infinity by default. */
  readonly state?: MatrixMemoryState | null;
  readonly lengths?: MaybeTensor;
}

/** The memory C [N, H, K, V] and the normaliser n [N, H, K], both scaled by exp(-m), and the stabiliser m [N, H]. */
export interface MatrixMemoryState {
  readonly C: Tensor;
  readonly n: Tensor;
  readonly m: Tensor;
}

/**
 * The matrix memory of xLSTM (Beck et al. 2024, eq. 19-27), with the forget gate f = sigmoid(f~) and the input gate
 * i = exp(i~), neither of which is ever computed as it stands:
 *
 *     m_t = max(log f_t + m_{t-1}, i~_t)        f'_t = exp(log f_t + m_{t-1} - m_t)        i'_t = exp(i~_t - m_t)
 *     C_t = f'_t C_{t-1} + i'_t k_t v_t^T        n_t = f'_t n_{t-1} + i'_t k_t
 *     h_t = C_t^T q_t / (max(|n_t . q_t|, exp(-m_t)) + eps)
 *
 * @returns h [N, T, H, V], zero behind each row's end, and the state after it. @throws on shapes that do not fit.
 */
export function matrixMemory(inputs: MatrixMemoryInputs, { eps = 1e-6 }: { readonly eps?: number } = {}) {
  const { q, k, v, inputGate, forgetGate, state = null, lengths = null } = inputs;
  const [n, steps, heads] = inputGate.shape;
  const m0 = state?.m ?? full([n, heads], -Infinity, { device: q.device, dtype: q.dtype as "float32" | "float64" });
  const logForget = neg(softplus(neg(forgetGate)));
  const { output: m, state: last } = maxScan(logForget, inputGate, { initial: m0, lengths });
  const before = concat([reshape(m0, [n, 1, heads]), slice(m, 1, 0, Math.max(steps - 1, 0))], 1);
  const perKey = (t: Tensor) => reshape(t, [n, steps, heads, 1]);
  const scanned = matrixScan(
    {
      q,
      k: mul(k, perKey(exp(sub(inputGate, m)))),
      v,
      logDecay: sub(add(logForget, steps > 0 ? before : m), m),
      initial: state?.C ?? null,
      initialNormaliser: state?.n ?? null,
      lengths,
    },
    { normaliser: true },
  );
  const bound = affine(maximum(abs(scanned.denominator!), exp(neg(m))), 1, eps);
  const output = div(scanned.output, perKey(bound));
  return { output, state: { C: scanned.state, n: scanned.normaliser!, m: last } };
}
