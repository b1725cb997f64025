import { add, exp, mul, neg, relu, sigmoid, square, sub, tanh } from "../ops/elementwise.js";
import { matmul } from "../ops/matmul.js";
import { reshape, select, transpose } from "../ops/movement.js";
import { checkCount, checkOptions } from "../tensor/check.js";
import { tensor, zeros } from "../tensor/create.js";
import type { Shape } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { depth } from "./depth.js";
import { uniform } from "./fill.js";
import { Linear } from "./linear.js";
import { place } from "./module.js";
import { HeadedTimeMix, startingBonus, startingDecay, type RWKV5Options } from "./rwkv5.js";
import { ScanLayer, type ScanInput } from "./scanLayer.js";
import { tokenShift } from "./tokenShift.js";

export interface RWKV6Options extends RWKV5Options {
  /** Rank of the products that make the mixes. Default 32. */
  readonly mixRank?: number;
  /** Rank of the product that makes the decays. Default 64. */
  readonly decayRank?: number;
}

/** What is mixed of two steps, in the order in which `time_maa_w2` has them. */
const letters = ["w", "k", "v", "r", "g"] as const;

/**
 * Time mixing of RWKV-6 (Peng et al. 2024, "Eagle and Finch"), for each head: RWKV-5 whose mixes and decays depend on the
 * input. With d_t = x_{t-1} - x_t, each letter's mix is
 *
 *     x_t + d_t * (maa_letter + tanh((x_t + d_t * maa_x) W_1) W_2,letter)
 *     r, k, v, g = W mix(x)       w_t = exp(-exp(time_decay + tanh(mix_w(x) D_1) D_2))
 *     o_t = (S_{t-1} + diag(u) k_t v_t^T)^T r_t       S_t = diag(w_t) S_{t-1} + k_t v_t^T
 *     y_t = W_output (groupNorm(o_t) * silu(g_t))
 *
 * State `{ x, S }`: [1, N, C] and [1, N, H, K, V]. Parameters have the names of BlinkDL's code: `time_maa_x`, `_w`, `_k`, `_v`,
 * `_r`, `_g` [1, 1, C], `time_maa_w1` [C, 5 * rank], `time_maa_w2` [5, rank, C], `time_decay` [1, 1, C], `time_decay_w1`
 * [C, rank], `time_decay_w2` [rank, C], `time_faaaa` (u) [H, K], and the others as in RWKV-5.
 */
export class RWKV6TimeMix extends HeadedTimeMix {
  readonly time_maa_x: Tensor;
  readonly time_maa_w: Tensor;
  readonly time_maa_k: Tensor;
  readonly time_maa_v: Tensor;
  readonly time_maa_r: Tensor;
  readonly time_maa_g: Tensor;
  readonly time_maa_w1: Tensor;
  readonly time_maa_w2: Tensor;
  readonly time_decay: Tensor;
  readonly time_decay_w1: Tensor;
  readonly time_decay_w2: Tensor;
  readonly time_faaaa: Tensor;

  /** @throws on a size or option that is not known. */
  constructor(inputSize: number, options: RWKV6Options = {}) {
    const { mixRank = 32, decayRank = 64, ...rest } = options;
    super("RWKV6TimeMix", inputSize, rest);
    checkCount("RWKV6TimeMix", "mixRank", mixRank);
    checkCount("RWKV6TimeMix", "decayRank", decayRank);
    const settings = { requiresGrad: true, ...place(options) };
    const low = (t: Tensor) => uniform(t, { low: -0.01, high: 0.01, generator: options.generator });
    const share = (power: number, rise = 0) =>
      this.each([1, 1, inputSize], rest, (i, rising, falling) => 1 - ((i / inputSize) ** (power * falling) + rise * rising));
    this.time_maa_x = share(1);
    this.time_maa_w = share(1);
    this.time_maa_k = share(1);
    this.time_maa_v = share(1, 0.3);
    this.time_maa_r = share(0.5);
    this.time_maa_g = share(0.5);
    this.time_maa_w1 = zeros([inputSize, 5 * mixRank], settings);
    this.time_maa_w2 = low(zeros([5, mixRank, inputSize], settings));
    this.time_decay = this.each([1, 1, inputSize], rest, startingDecay(inputSize));
    this.time_decay_w1 = zeros([inputSize, decayRank], settings);
    this.time_decay_w2 = low(zeros([decayRank, inputSize], settings));
    this.time_faaaa = this.each([this.heads, this.headSize], rest, startingBonus(inputSize));
  }

  protected mixtures(x: Tensor, change: Tensor) {
    const [n, steps, width] = x.shape;
    const rank = this.time_maa_w2.shape[1];
    const seen = tanh(matmul(add(x, mul(change, this.time_maa_x)), this.time_maa_w1));
    // [N T, 5, rank] by [5, rank, C] -> [5, N T, C]
    const shares = matmul(transpose(reshape(seen, [n * steps, letters.length, rank]), [1, 0, 2]), this.time_maa_w2);
    const mixed = (letter: (typeof letters)[number]) => {
      const own = reshape(select(shares, 0, letters.indexOf(letter)), [n, steps, width]);
      return add(x, mul(change, add(this[`time_maa_${letter}`], own)));
    };
    const decay = add(this.time_decay, matmul(tanh(matmul(mixed("w"), this.time_decay_w1)), this.time_decay_w2));
    return {
      r: this.receptance.forward(mixed("r")),
      k: this.key.forward(mixed("k")),
      v: this.value.forward(mixed("v")),
      g: this.gate.forward(mixed("g")),
      logDecay: reshape(neg(exp(decay)), [n, steps, this.heads, this.headSize]),
    };
  }
}

export interface RWKV6ChannelMixOptions extends Omit<RWKV5Options, "headSize"> {
  /** Numbers inside. Default: three and a half times the input's. */
  readonly hiddenSize?: number;
}

/**
 * Channel mixing of RWKV-6 (Peng et al. 2024), with d_t = x_{t-1} - x_t:
 *
 *     y_t = sigmoid(W_r (x_t + d_t * maa_r)) * (W_v relu(W_k (x_t + d_t * maa_k))^2)
 *
 * State `{ x }`: [1, N, C]. Parameters `time_maa_k`, `time_maa_r` [1, 1, C], `key.weight` [F, C], `receptance.weight` [C, C],
 * `value.weight` [C, F].
 */
export class RWKV6ChannelMix extends ScanLayer<"x"> {
  readonly time_maa_k: Tensor;
  readonly time_maa_r: Tensor;
  readonly key: Linear;
  readonly receptance: Linear;
  readonly value: Linear;

  /** @throws on a size or option that is not known. */
  constructor(
    readonly inputSize: number,
    options: RWKV6ChannelMixOptions = {},
  ) {
    super();
    const where = "RWKV6ChannelMix";
    checkOptions(where, options, ["hiddenSize", "layer", "layers", "generator", "device", "dtype"]);
    const { hiddenSize = Math.floor(3.5 * inputSize), generator, device, dtype } = options;
    checkCount(where, "inputSize", inputSize);
    checkCount(where, "hiddenSize", hiddenSize);
    const { falling } = depth(where, options);
    const shares = Array.from({ length: inputSize }, (_, i) => 1 - (i / inputSize) ** falling);
    const share = () => tensor(shares, { shape: [1, 1, inputSize], requiresGrad: true, ...place(options) });
    this.time_maa_k = share();
    this.time_maa_r = share();
    const settings = { bias: false, generator, device, dtype };
    this.key = new Linear(inputSize, hiddenSize, settings);
    this.receptance = new Linear(inputSize, inputSize, settings);
    this.value = new Linear(hiddenSize, inputSize, settings);
  }

  get outputSize(): number {
    return this.inputSize;
  }

  protected stateShapes(): Record<"x", Shape> {
    return { x: [this.inputSize] };
  }

  protected run({ x, state, lengths }: ScanInput<"x">) {
    const { shifted, last } = tokenShift(x, state.x, lengths);
    const change = sub(shifted, x);
    const mixed = (share: Tensor) => add(x, mul(change, share));
    const k = square(relu(this.key.forward(mixed(this.time_maa_k))));
    const r = sigmoid(this.receptance.forward(mixed(this.time_maa_r)));
    return { output: mul(r, this.value.forward(k)), state: { x: last } };
  }
}
