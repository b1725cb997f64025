import { add, affine, mul, neg, relu, sigmoid, square, sub, tanh } from "../ops/elementwise.js";
import { matmul } from "../ops/matmul.js";
import { matrixScan } from "../ops/matrixScan.js";
import { reshape } from "../ops/movement.js";
import { unit } from "../ops/norm.js";
import { sum } from "../ops/reduce.js";
import { checkCount, checkOptions } from "../tensor/check.js";
import { full, tensor, zeros } from "../tensor/create.js";
import { sameShape, showShape, type MaybeTensor, type Shape } from "../tensor/op.js";
import type { Generator } from "../tensor/random.js";
import type { Tensor } from "../tensor/tensor.js";
import { depth, type DepthOptions } from "./depth.js";
import { constant, orthogonal, uniform } from "./fill.js";
import { HeadNorm } from "./headNorm.js";
import { Linear } from "./linear.js";
import { place, type Placement } from "./module.js";
import type { SequenceOptions } from "./recurrentLayer.js";
import { ScanLayer, type ScanInput, type ScanState } from "./scanLayer.js";
import { tokenShift } from "./tokenShift.js";

export interface RWKV7TimeMixOptions extends Placement, DepthOptions {
  /** Numbers of a head. Default 64. */
  readonly headSize?: number;
  /** Ranks of the products that make the decay, the learning rate, the share of the first layer's value, and the gate. */
  readonly decayRank?: number;
  readonly rateRank?: number;
  readonly valueRank?: number;
  readonly gateRank?: number;
  /** Have `v0`, `v1` and `v2`. Default: in every layer but the first. */
  readonly valueMix?: boolean;
  readonly generator?: Generator;
}

const timeOptions = [
  "headSize",
  "decayRank",
  "rateRank",
  "valueRank",
  "gateRank",
  "valueMix",
  "layer",
  "layers",
  "generator",
  "device",
  "dtype",
] as const;

export interface RWKV7ForwardOptions extends SequenceOptions<ScanState<"x" | "S">> {
  /** The values of the first layer, [N, T, C], which later layers mix into theirs. */
  readonly first?: Tensor;
}

/**
 * Time mixing of RWKV-7 (Peng et al. 2025, "RWKV-7 Goose with Expressive Dynamic State Evolution"), for each head. Every
 * letter has its own mix x_t + (x_{t-1} - x_t) * x_letter of two steps:
 *
 *     r, k, v = W x          w = exp(-exp(-1/2) sigmoid(w0 + tanh(x w1) w2))          a = sigmoid(a0 + x a1 a2)
 *     v += (v of the first layer - v) * sigmoid(v0 + x v1 v2)                         g = sigmoid(x g1) g2
 *     kk = (k * k_k) / |k * k_k|          k *= 1 + (a - 1) * k_a
 *     S_t = diag(w) S_{t-1} - (kk * a) (kk^T S_{t-1}) + k v^T        o = S_t^T r
 *     y = W_output ((groupNorm(o) + (sum of r * k * r_k) v) * g)
 *
 * State `{ x, S }`: [1, N, C] and [1, N, H, K, V]. Parameters have the names of BlinkDL's code; layer 0 has no `v0`, `v1`, `v2`.
 */
export class RWKV7TimeMix extends ScanLayer<"x" | "S"> {
  readonly heads: number;
  readonly headSize: number;
  readonly x_r: Tensor;
  readonly x_w: Tensor;
  readonly x_k: Tensor;
  readonly x_v: Tensor;
  readonly x_a: Tensor;
  readonly x_g: Tensor;
  readonly w0: Tensor;
  readonly w1: Tensor;
  readonly w2: Tensor;
  readonly a0: Tensor;
  readonly a1: Tensor;
  readonly a2: Tensor;
  readonly v0: Tensor | null = null;
  readonly v1: Tensor | null = null;
  readonly v2: Tensor | null = null;
  readonly g1: Tensor;
  readonly g2: Tensor;
  readonly k_k: Tensor;
  readonly k_a: Tensor;
  readonly r_k: Tensor;
  readonly receptance: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly output: Linear;
  readonly ln_x: HeadNorm;

  /** @throws on a size or option that is not known. */
  constructor(
    readonly inputSize: number,
    options: RWKV7TimeMixOptions = {},
  ) {
    super();
    const where = "RWKV7TimeMix";
    checkOptions(where, options, timeOptions);
    checkCount(where, "inputSize", inputSize);
    const { headSize = 64, generator, device, dtype } = options;
    const { decayRank = 64, rateRank = 64, valueRank = 32, gateRank = 128 } = options;
    for (const [name, value] of Object.entries({ headSize, decayRank, rateRank, valueRank, gateRank })) checkCount(where, name, value);
    const { layer, layers, rising, falling } = depth(where, options);
    const C = inputSize;
    if (C % headSize !== 0) throw new RangeError(`${where}: inputSize must be a multiple of headSize but they are ${C} and ${headSize}`);
    this.headSize = headSize;
    this.heads = C / headSize;
    const settings = { requiresGrad: true, ...place(options) };
    const shape = [1, 1, C];
    const each = (value: (i: number) => number) =>
      tensor(
        Array.from({ length: C }, (_, i) => value(i)),
        { shape, ...settings },
      );
    const linear = (i: number) => (C > 1 ? i / (C - 1) - 0.5 : 0);
    const zigzag = (i: number) => {
      const z = headSize > 1 ? ((i % headSize) - (headSize - 1) / 2) / ((headSize - 1) / 2) : 0;
      return z * Math.abs(z);
    };
    const mix = (power: number) => each((i) => 1 - (i / C) ** (power * falling));
    const low = (rank: number) => zeros([C, rank], settings);
    const high = (rank: number) => {
      const t = zeros([rank, C], settings);
      return orthogonal(t, { gain: 0.1 * Math.max(1, Math.sqrt(rank / C)), generator });
    };
    this.x_r = mix(0.2);
    this.x_w = mix(0.9);
    this.x_k = mix(0.7);
    this.x_v = mix(0.7);
    this.x_a = mix(0.9);
    this.x_g = mix(0.2);
    this.w0 = each((i) => -5.5 + 6 * (C > 1 ? i / (C - 1) : 0) ** (1 + rising ** 0.3) + 2.5 * zigzag(i));
    this.w1 = low(decayRank);
    this.w2 = high(decayRank);
    this.a0 = each((i) => -0.19 + 0.3 * zigzag(i) + 0.4 * linear(i));
    this.a1 = low(rateRank);
    this.a2 = high(rateRank);
    if (options.valueMix ?? layer > 0) {
      this.v0 = each((i) => 0.73 - 0.4 * linear(i));
      this.v1 = low(valueRank);
      this.v2 = high(valueRank);
    }
    this.g1 = low(gateRank);
    this.g2 = high(gateRank);
    this.k_k = each((i) => 0.71 - 0.1 * linear(i));
    this.k_a = full(shape, 1.02, settings);
    this.r_k = full([this.heads, headSize], -0.04, settings);
    const product = (scale: number) => {
      const made = new Linear(C, C, { bias: false, generator, device, dtype });
      uniform(made.weight, { low: -scale / Math.sqrt(C), high: scale / Math.sqrt(C), generator });
      return made;
    };
    this.receptance = product(0.5);
    this.key = product(0.05);
    this.value = product(0.5);
    this.output = product(0.5);
    this.ln_x = new HeadNorm(this.heads, C, { device, dtype });
    constant(this.ln_x.weight, ((1 + layer) / layers) ** 0.7);
  }

  get outputSize(): number {
    return this.inputSize;
  }

  protected stateShapes(): Record<"x" | "S", Shape> {
    const { heads, headSize } = this;
    return { x: [this.inputSize], S: [heads, headSize, headSize] };
  }

  /**
   * As every such layer, and `first` may be given in a layer after the first. `value` [N, T, C] is what the first layer
   * hands to the others.
   */
  override forward(x: Tensor, { first, ...options }: RWKV7ForwardOptions = {}) {
    if (first && !sameShape(first.shape, x.shape))
      throw new RangeError(`RWKV7TimeMix.forward: first must be ${showShape(x.shape)} but is ${showShape(first.shape)}`);
    return this.through(x, options, (input) => this.run(input, first));
  }

  protected run({ x, state, lengths }: ScanInput<"x" | "S">, first: MaybeTensor = null) {
    const { heads, headSize } = this;
    const [n, steps] = x.shape;
    const { shifted, last } = tokenShift(x, state.x, lengths);
    const change = sub(shifted, x);
    const mixed = (share: Tensor) => add(x, mul(change, share));
    const lowRank = (t: Tensor, down: Tensor, up: Tensor) => matmul(matmul(t, down), up);
    const perHead = (t: Tensor) => reshape(t, [n, steps, heads, headSize]);

    const r = perHead(this.receptance.forward(mixed(this.x_r)));
    const decay = add(this.w0, matmul(tanh(matmul(mixed(this.x_w), this.w1)), this.w2));
    const key = this.key.forward(mixed(this.x_k));
    const xv = mixed(this.x_v);
    const own = this.value.forward(xv);
    const share = first && this.v0 && sigmoid(add(this.v0, lowRank(xv, this.v1!, this.v2!)));
    const value = share ? add(own, mul(sub(first, own), share)) : own;
    const rate = sigmoid(add(this.a0, lowRank(mixed(this.x_a), this.a1, this.a2)));
    const gate = matmul(sigmoid(matmul(mixed(this.x_g), this.g1)), this.g2);

    // Far below any square of a key, so that a key of zeros has a gradient.
    const removed = unit(perHead(mul(key, this.k_k)), 1e-24);
    const k = perHead(mul(key, affine(mul(affine(rate, 1, -1), this.k_a), 1, 1)));
    const v = perHead(value);
    const scanned = matrixScan({
      q: r,
      k,
      v,
      logDecay: perHead(affine(sigmoid(decay), -Math.exp(-0.5))),
      a: neg(removed),
      b: mul(removed, perHead(rate)),
      initial: state.S,
      lengths,
    });
    const bonus = mul(sum(mul(mul(r, k), this.r_k), { axis: -1, keepDims: true }), v);
    const read = add(this.ln_x.forward(scanned.output), reshape(bonus, x.shape));
    return { output: this.output.forward(mul(read, gate)), value, state: { x: last, S: scanned.state } };
  }
}

/** The state of RWKV-7's time mixing. */
export type RWKV7TimeMixState = ScanState<"x" | "S">;

export interface RWKV7ChannelMixOptions extends Placement, DepthOptions {
  /** Numbers inside. Default: four times the input's. */
  readonly hiddenSize?: number;
  readonly generator?: Generator;
}

/**
 * Channel mixing of RWKV-7 (Peng et al. 2025):
 *
 *     y_t = W_value relu(W_key (x_t + (x_{t-1} - x_t) * x_k))^2
 *
 * State `{ x }`: [1, N, C]. Parameters `x_k` [1, 1, C], `key.weight` [F, C], `value.weight` [C, F].
 */
export class RWKV7ChannelMix extends ScanLayer<"x"> {
  readonly x_k: Tensor;
  readonly key: Linear;
  readonly value: Linear;

  /** @throws on a size or option that is not known. */
  constructor(
    readonly inputSize: number,
    options: RWKV7ChannelMixOptions = {},
  ) {
    super();
    const where = "RWKV7ChannelMix";
    checkOptions(where, options, ["hiddenSize", "layer", "layers", "generator", "device", "dtype"]);
    checkCount(where, "inputSize", inputSize);
    const { hiddenSize = 4 * inputSize, generator, device, dtype } = options;
    checkCount(where, "hiddenSize", hiddenSize);
    const power = depth(where, options).falling ** 4;
    const shares = Array.from({ length: inputSize }, (_, i) => 1 - (i / inputSize) ** power);
    this.x_k = tensor(shares, { shape: [1, 1, inputSize], requiresGrad: true, ...place(options) });
    const settings = { bias: false, generator, device, dtype };
    this.key = new Linear(inputSize, hiddenSize, settings);
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
    const mixed = add(x, mul(sub(shifted, x), this.x_k));
    return { output: this.value.forward(square(relu(this.key.forward(mixed)))), state: { x: last } };
  }
}
