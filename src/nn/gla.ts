import { affine, mul, neg, scale, silu, softplus } from "../ops/elementwise.js";
import { matrixScan } from "../ops/matrixScan.js";
import { checkCount } from "../tensor/check.js";
import type { Shape } from "../tensor/op.js";
import { HeadedLayer, type HeadedOptions } from "./headed.js";
import type { Linear } from "./linear.js";
import { RMSNorm } from "./norm.js";
import type { ScanInput, ScanState } from "./scanLayer.js";

export interface GLAOptions extends HeadedOptions {
  /** Rank of the gates' weights. Default 16. */
  readonly gateRank?: number;
}

export type GLAState = ScanState<"S">;

/**
 * Gated linear attention (Yang, Wang, Shen, Panda & Kim 2024): every key forgets at a rate that the input sets,
 *
 *     log w_t = log sigmoid(W_2 W_1 x_t + b) / 16
 *     S_t = diag(w_t) S_{t-1} + k_t v_t^T        y_t = W_o (silu(W_g x_t) * norm(S_t^T q_t))
 *
 * with q scaled by 1 / sqrt(K) and each head normalised by its root mean square. x [N, T, C] -> [N, T, C]; state `{ S }`
 * [1, N, heads, K, V]. Keys are half as wide as in the other layers by default, as in the paper. Parameters as in
 * `HeadedLayer`, and `g_proj.weight` [heads * V, C], `gk_proj.0.weight` [rank, C], `gk_proj.1.weight` [heads * K, rank],
 * `gk_proj.1.bias`, `g_norm.weight` [V].
 */
export class GLA extends HeadedLayer<"S"> {
  readonly g_proj: Linear;
  readonly gk_proj: readonly [Linear, Linear];
  readonly g_norm: RMSNorm;

  /** @throws on an option that is not known, and on a size that is not a positive integer. */
  constructor(inputSize: number, options: GLAOptions = {}) {
    const { gateRank = 16, ...rest } = options;
    checkCount("GLA", "gateRank", gateRank);
    super("GLA", inputSize, { keySize: inputSize / (options.heads ?? 4) / 2, ...rest });
    this.g_proj = this.product(inputSize, this.heads * this.valueSize, options);
    this.gk_proj = [this.product(inputSize, gateRank, options), this.product(gateRank, this.heads * this.keySize, options, true)];
    this.g_norm = new RMSNorm(this.valueSize, { device: options.device, dtype: options.dtype });
  }

  protected stateShapes(): Record<"S", Shape> {
    return { S: [this.heads, this.keySize, this.valueSize] };
  }

  protected run({ x, state, lengths }: ScanInput<"S">) {
    const gates = this.gk_proj[1].forward(this.gk_proj[0].forward(x));
    const scanned = matrixScan({
      q: scale(this.byHead(this.q_proj.forward(x)), this.keySize ** -0.5),
      k: this.byHead(this.k_proj.forward(x)),
      v: this.byHead(this.v_proj.forward(x)),
      logDecay: this.byHead(affine(softplus(neg(gates)), -1 / 16)),
      initial: state.S,
      lengths,
    });
    const gate = silu(this.byHead(this.g_proj.forward(x)));
    return { output: this.mixed(mul(gate, this.g_norm.forward(scanned.output))), state: { S: scanned.state } };
  }
}
