import type { Tensor } from "../tensor/tensor.js";
import { exp, mul, neg } from "./elementwise.js";
import { matrixScan, type MatrixScanInputs, type MatrixScanned } from "./matrixScan.js";
import { reshape } from "./movement.js";

export interface DeltaRuleInputs extends Pick<MatrixScanInputs, "q" | "k" | "v" | "logDecay" | "initial" | "lengths"> {
  /** How much of what is stored under a key is replaced, [N, T, H], in [0, 1] for a state that stays bounded. */
  readonly beta: Tensor;
}

/**
 * The delta rule (Widrow & Hoff 1960) as a recurrence over keys and values (Schlag, Irie & Schmidhuber 2021): what the
 * state holds under k_t is moved towards v_t. With a decay (Yang, Kautz & Hatamizadeh 2024: of each head; Kimi Delta
 * Attention: of each key) the state decays before it is read.
 *
 *     D_t = diag(w_t) S_{t-1}        S_t = D_t + beta_t k_t (v_t - D_t^T k_t)^T        o_t = S_t^T q_t
 *
 * q, k [N, T, H, K], v [N, T, H, V]; `logDecay` as in `matrixScan`. Keys should have length 1.
 *
 * @throws on shapes that do not fit.
 */
export function deltaRule({ q, k, v, beta, logDecay = null, ...rest }: DeltaRuleInputs): MatrixScanned {
  const strength = reshape(beta, [...beta.shape, 1]);
  const written = neg(mul(strength, k));
  const a = logDecay ? mul(k, perKey(exp(logDecay))) : k;
  return matrixScan({ q, k, v: mul(strength, v), logDecay, a, b: written, ...rest });
}

/** Decays [(N, T,) H] or [(N, T,) H, K] in a shape that is broadcast with [N, T, H, K]. */
const perKey = (decay: Tensor): Tensor => (decay.shape.length % 2 === 1 ? reshape(decay, [...decay.shape, 1]) : decay);
