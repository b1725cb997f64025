import { add, affine, div, exp, minimum, relu, scale } from "../ops/elementwise.js";
import { matrixScan } from "../ops/matrixScan.js";
import { reshape } from "../ops/movement.js";
import { zeros } from "../tensor/create.js";
import type { Shape } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { HeadedLayer, type HeadedOptions } from "./headed.js";
import type { ScanInput, ScanState } from "./scanLayer.js";

export type LinearAttentionState = ScanState<"S" | "z">;

/** elu(x) + 1, positive everywhere. */
export function positiveFeature(x: Tensor): Tensor {
  const zero = zeros([], { device: x.device, dtype: x.dtype as "float32" | "float64" });
  return add(relu(x), exp(minimum(x, zero)));
}

/**
 * Causal linear attention (Katharopoulos, Vyas, Pappas & Fleuret 2020, "Transformers are RNNs"): attention whose softmax is
 * replaced by a product of features, so that the past is a matrix and a vector in each head:
 *
 *     S_t = S_{t-1} + phi(k_t) v_t^T      z_t = z_{t-1} + phi(k_t)      y_t = S_t^T phi(q_t) / (z_t . phi(q_t) + 1e-10)
 *
 * with phi(x) = elu(x) + 1 and q scaled by 1 / sqrt(K). x [N, T, C] -> [N, T, C]; state `{ S, z }`: [1, N, heads, K, V] and
 * [1, N, heads, K]. Parameters as in `HeadedLayer`.
 */
export class LinearAttention extends HeadedLayer<"S" | "z"> {
  /** @throws on an option that is not known, and on a size that is not a positive integer. */
  constructor(inputSize: number, options: HeadedOptions = {}) {
    super("LinearAttention", inputSize, options);
  }

  protected stateShapes(): Record<"S" | "z", Shape> {
    const { heads, keySize, valueSize } = this;
    return { S: [heads, keySize, valueSize], z: [heads, keySize] };
  }

  protected run({ x, state, lengths }: ScanInput<"S" | "z">) {
    const q = positiveFeature(this.byHead(this.q_proj.forward(x)));
    const k = positiveFeature(this.byHead(this.k_proj.forward(x)));
    const scanned = matrixScan(
      {
        q: scale(q, this.keySize ** -0.5),
        k,
        v: this.byHead(this.v_proj.forward(x)),
        initial: state.S,
        initialNormaliser: state.z,
        lengths,
      },
      { normaliser: true },
    );
    const total = reshape(affine(scanned.denominator!, 1, 1e-10), [...scanned.denominator!.shape, 1]);
    return { output: this.mixed(div(scanned.output, total)), state: { S: scanned.state, z: scanned.normaliser! } };
  }
}
