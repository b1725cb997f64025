import { mul, scale, silu } from "../ops/elementwise.js";
import { matrixScan } from "../ops/matrixScan.js";
import { rmsNorm } from "../ops/norm.js";
import { tensor } from "../tensor/create.js";
import type { Shape } from "../tensor/op.js";
import { HeadedLayer, type HeadedOptions } from "./headed.js";
import type { Linear } from "./linear.js";
import type { ScanInput, ScanState } from "./scanLayer.js";

export type RetentionState = ScanState<"S">;

/**
 * Multi-scale retention (Sun et al. 2023, "Retentive Network"), without its rotation of positions: every head forgets at a
 * rate of its own, gamma_h = 1 - 2^(-5 - h),
 *
 *     S_t = gamma_h S_{t-1} + k_t v_t^T        y_t = W_o (silu(W_g x_t) * norm(S_t^T q_t))
 *
 * with q scaled by 1 / sqrt(K) and each head normalised by its root mean square. x [N, T, C] -> [N, T, C]; state `{ S }`
 * [1, N, heads, K, V]. Parameters as in `HeadedLayer`, and `g_proj.weight` [heads * V, C].
 */
export class RetNet extends HeadedLayer<"S"> {
  readonly g_proj: Linear;

  /** @throws on an option that is not known, and on a size that is not a positive integer. */
  constructor(inputSize: number, options: HeadedOptions = {}) {
    super("RetNet", inputSize, options);
    this.g_proj = this.product(inputSize, this.heads * this.valueSize, options);
  }

  protected stateShapes(): Record<"S", Shape> {
    return { S: [this.heads, this.keySize, this.valueSize] };
  }

  protected run({ x, state, lengths }: ScanInput<"S">) {
    const { device, dtype } = x;
    const rates = Array.from({ length: this.heads }, (_, h) => Math.log1p(-(2 ** (-5 - h))));
    const scanned = matrixScan({
      q: scale(this.byHead(this.q_proj.forward(x)), this.keySize ** -0.5),
      k: this.byHead(this.k_proj.forward(x)),
      v: this.byHead(this.v_proj.forward(x)),
      logDecay: tensor(rates, { device, dtype }),
      initial: state.S,
      lengths,
    });
    const gate = silu(this.byHead(this.g_proj.forward(x)));
    return { output: this.mixed(mul(gate, rmsNorm(scanned.output))), state: { S: scanned.state } };
  }
}
