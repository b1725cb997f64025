import { add, exp, mul, neg, scale, sigmoid, silu, softplus } from "../ops/elementwise.js";
import { deltaRule } from "../ops/deltaRule.js";
import { unit } from "../ops/norm.js";
import { checkCount } from "../tensor/check.js";
import { full } from "../tensor/create.js";
import type { MaybeTensor, Shape } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { HeadedLayer, type HeadedOptions } from "./headed.js";
import type { Linear } from "./linear.js";
import { place } from "./module.js";
import { RMSNorm } from "./norm.js";
import type { ScanInput, ScanState } from "./scanLayer.js";
import { ShortConv } from "./shortConv.js";

export interface DeltaNetOptions extends HeadedOptions {
  /** Steps that the convolutions of queries, keys and values see. Default 4. */
  readonly convKernel?: number;
}

type States = "S" | "q" | "k" | "v";
export type DeltaNetState = ScanState<States>;

/** What DeltaNet and GatedDeltaNet share: everything but the decay and what becomes of the output. */
abstract class Delta extends HeadedLayer<States> {
  readonly q_conv1d: ShortConv;
  readonly k_conv1d: ShortConv;
  readonly v_conv1d: ShortConv;
  readonly b_proj: Linear;
  readonly o_norm: RMSNorm;
  readonly convKernel: number;

  constructor(where: string, inputSize: number, { convKernel = 4, ...options }: DeltaNetOptions) {
    super(where, inputSize, options);
    checkCount(where, "convKernel", convKernel);
    const { heads, keySize, valueSize } = this;
    const { generator, device, dtype } = options;
    const settings = { bias: false, generator, device, dtype };
    this.convKernel = convKernel;
    this.q_conv1d = new ShortConv(heads * keySize, convKernel, settings);
    this.k_conv1d = new ShortConv(heads * keySize, convKernel, settings);
    this.v_conv1d = new ShortConv(heads * valueSize, convKernel, settings);
    this.b_proj = this.product(inputSize, heads, options);
    this.o_norm = new RMSNorm(valueSize, { device, dtype });
  }

  /** log w of each head [N, T, heads]; null where nothing is forgotten. */
  protected abstract logDecay(x: Tensor): MaybeTensor;

  /** What the heads read [N, T, heads, V], normalised, before they are mixed. */
  protected abstract gated(x: Tensor, read: Tensor): Tensor;

  protected stateShapes(): Record<States, Shape> {
    const { heads, keySize, valueSize, convKernel } = this;
    const [keys, values] = [
      [convKernel - 1, heads * keySize],
      [convKernel - 1, heads * valueSize],
    ];
    return { S: [heads, keySize, valueSize], q: keys, k: keys, v: values };
  }

  protected run({ x, state, lengths }: ScanInput<States>) {
    const q = this.q_conv1d.forward(this.q_proj.forward(x), state.q, lengths);
    const k = this.k_conv1d.forward(this.k_proj.forward(x), state.k, lengths);
    const v = this.v_conv1d.forward(this.v_proj.forward(x), state.v, lengths);
    const scanned = deltaRule({
      q: scale(unit(this.byHead(q.output)), this.keySize ** -0.5),
      k: unit(this.byHead(k.output)),
      v: this.byHead(v.output),
      beta: sigmoid(this.b_proj.forward(x)),
      logDecay: this.logDecay(x),
      initial: state.S,
      lengths,
    });
    const output = this.mixed(this.gated(x, this.o_norm.forward(scanned.output)));
    return { output, state: { S: scanned.state, q: q.state, k: k.state, v: v.state } };
  }
}

/**
 * DeltaNet (Schlag, Irie & Schmidhuber 2021; Yang, Wang, Zhang, Shen & Kim 2024): a fast weight matrix in each head, in which
 * what is stored under a key is replaced instead of added to,
 *
 *     q_t, k_t, v_t = silu(conv(W x_t))       beta_t = sigmoid(W_b x_t)
 *     S_t = S_{t-1} + beta_t k_t (v_t - S_{t-1}^T k_t)^T        y_t = W_o norm(S_t^T q_t)
 *
 * with queries and keys of length 1, queries scaled by 1 / sqrt(K), and each head normalised by its root mean square.
 * x [N, T, C] -> [N, T, C]. State `S` [1, N, heads, K, V], and of the convolutions `q`, `k`, `v` [1, N, convKernel - 1, ..].
 * Parameters as in `HeadedLayer`, and `b_proj.weight` [heads, C], `q_conv1d.weight` [heads * K, 1, convKernel] and so for k
 * and v, `o_norm.weight` [V].
 */
export class DeltaNet extends Delta {
  /** @throws on an option that is not known, and on a size that is not a positive integer. */
  constructor(inputSize: number, options: DeltaNetOptions = {}) {
    super("DeltaNet", inputSize, options);
  }

  protected logDecay(): null {
    return null;
  }

  protected gated(_: Tensor, read: Tensor): Tensor {
    return read;
  }
}

/**
 * Gated DeltaNet (Yang, Kautz & Hatamizadeh 2024): DeltaNet whose heads also forget, at a rate that the input sets as in
 * Mamba-2, before they are read and written, and whose output is gated:
 *
 *     log w_t = -exp(A_log) * softplus(W_a x_t + dt_bias)        D_t = w_t S_{t-1}
 *     S_t = D_t + beta_t k_t (v_t - D_t^T k_t)^T                 y_t = W_o (silu(W_g x_t) * norm(S_t^T q_t))
 *
 * Shapes, state and parameters as in DeltaNet, and `a_proj.weight` [heads, C], `A_log` [heads], `dt_bias` [heads],
 * `g_proj.weight` [heads * V, C]. A starts at -1 and the step sizes at softplus(-4).
 */
export class GatedDeltaNet extends Delta {
  readonly a_proj: Linear;
  readonly g_proj: Linear;
  readonly A_log: Tensor;
  readonly dt_bias: Tensor;

  /** @throws on an option that is not known, and on a size that is not a positive integer. */
  constructor(inputSize: number, options: DeltaNetOptions = {}) {
    super("GatedDeltaNet", inputSize, options);
    const { heads, valueSize } = this;
    this.a_proj = this.product(inputSize, heads, options);
    this.g_proj = this.product(inputSize, heads * valueSize, options);
    const settings = { requiresGrad: true, ...place(options) };
    this.A_log = full([heads], 0, settings);
    this.dt_bias = full([heads], -4, settings);
  }

  protected logDecay(x: Tensor): Tensor {
    return neg(mul(exp(this.A_log), softplus(add(this.a_proj.forward(x), this.dt_bias))));
  }

  protected gated(x: Tensor, read: Tensor): Tensor {
    return mul(silu(this.byHead(this.g_proj.forward(x))), read);
  }
}
