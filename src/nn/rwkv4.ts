import { add, exp, mul, neg, relu, sigmoid, square, sub } from "../ops/elementwise.js";
import { concat, slice } from "../ops/movement.js";
import { where } from "../ops/select.js";
import { wkv4 } from "../ops/wkv4.js";
import { checkCount, checkOptions } from "../tensor/check.js";
import { full, tensor } from "../tensor/create.js";
import type { Shape } from "../tensor/op.js";
import type { Generator } from "../tensor/random.js";
import type { Tensor } from "../tensor/tensor.js";
import { depth, type DepthOptions } from "./depth.js";
import { Linear } from "./linear.js";
import { place, type Placement } from "./module.js";
import { ScanLayer, type ScanInput, type ScanState } from "./scanLayer.js";
import { tokenShift } from "./tokenShift.js";

export interface RWKV4Options extends Placement, DepthOptions {
  /** Numbers inside: of the attention, by default as many as of the input; of the channel mixing, four times as many. */
  readonly hiddenSize?: number;
  readonly generator?: Generator;
}

function check(where: string, inputSize: number, options: RWKV4Options, hidden: number): void {
  checkOptions(where, options, ["hiddenSize", "layer", "layers", "generator", "device", "dtype"]);
  checkCount(where, "inputSize", inputSize);
  checkCount(where, "hiddenSize", hidden);
}

const vector = (length: number, shape: Shape, options: RWKV4Options, value: (i: number) => number): Tensor =>
  tensor(
    Float64Array.from({ length }, (_, i) => value(i)),
    { shape, ...place(options), requiresGrad: true },
  );

/** x * mu + x_{t-1} * (1 - mu) */
const mixed = (x: Tensor, before: Tensor, mu: Tensor): Tensor => add(before, mul(sub(x, before), mu));

/**
 * Time mixing of RWKV-4 (Peng et al. 2023):
 *
 *     k, v, r = W_k mix_k(x), W_v mix_v(x), W_r mix_r(x),   mix(x)_t = mu * x_t + (1 - mu) * x_{t-1}
 *     y = W_o (sigmoid(r) * wkv4(k, v)),   w = -exp(time_decay), u = time_first
 *
 * State `{ x, wkv }`: the last input [1, N, C], and numerator, denominator and maximum [1, N, 3, H]; where the
 * denominator is 0 nothing was seen, whatever the maximum says. Parameters and their initial values are those of
 * Transformers' RwkvSelfAttention: `time_decay`, `time_first` [H], `time_mix_key`, `time_mix_value`,
 * `time_mix_receptance` [1, 1, C], `key.weight`, `value.weight`, `receptance.weight` [H, C], `output.weight` [C, H].
 */
export class RWKV4TimeMix extends ScanLayer<"x" | "wkv"> {
  readonly time_decay: Tensor;
  readonly time_first: Tensor;
  readonly time_mix_key: Tensor;
  readonly time_mix_value: Tensor;
  readonly time_mix_receptance: Tensor;
  readonly key: Linear;
  readonly value: Linear;
  readonly receptance: Linear;
  readonly output: Linear;
  readonly hiddenSize: number;

  /** @throws on a size or option that is not known. */
  constructor(
    readonly inputSize: number,
    options: RWKV4Options = {},
  ) {
    super();
    const { hiddenSize: H = inputSize, generator, device, dtype } = options;
    check("RWKV4TimeMix", inputSize, options, H);
    this.hiddenSize = H;
    const { rising, falling } = depth("RWKV4TimeMix", options);
    this.time_decay = vector(H, [H], options, (i) => -5 + 8 * (i / Math.max(1, H - 1)) ** (0.7 + 1.3 * rising));
    this.time_first = vector(H, [H], options, (i) => Math.log(0.3) + 0.5 * (((i + 1) % 3) - 1));
    const mixture = (value: (part: number) => number) => vector(inputSize, [1, 1, inputSize], options, (i) => value(i / inputSize));
    this.time_mix_key = mixture((part) => part ** falling);
    this.time_mix_value = mixture((part) => part ** falling + 0.3 * rising);
    this.time_mix_receptance = mixture((part) => part ** (0.5 * falling));
    const settings = { bias: false, generator, device, dtype };
    this.key = new Linear(inputSize, H, settings);
    this.value = new Linear(inputSize, H, settings);
    this.receptance = new Linear(inputSize, H, settings);
    this.output = new Linear(H, inputSize, settings);
  }

  get outputSize(): number {
    return this.inputSize;
  }

  protected stateShapes(): Record<"x" | "wkv", Shape> {
    return { x: [this.inputSize], wkv: [3, this.hiddenSize] };
  }

  protected run({ x, state, lengths }: ScanInput<"x" | "wkv">) {
    const { shifted: before, last } = tokenShift(x, state.x, lengths);
    const k = this.key.forward(mixed(x, before, this.time_mix_key));
    const v = this.value.forward(mixed(x, before, this.time_mix_value));
    const r = sigmoid(this.receptance.forward(mixed(x, before, this.time_mix_receptance)));
    const initial = state.wkv && started(state.wkv);
    const { output, state: wkv } = wkv4({ w: neg(exp(this.time_decay)), u: this.time_first, k, v }, { initial, lengths });
    return { output: this.output.forward(mul(r, output)), state: { x: last, wkv } };
  }
}

/** The state, with a maximum as low as can be where the denominator is 0. */
function started(state: Tensor): Tensor {
  const [sums, den, most] = [slice(state, 1, 0, 2), slice(state, 1, 1, 2), slice(state, 1, 2, 3)];
  const lowest = full([], -1e38, { dtype: state.dtype as "float32", device: state.device });
  return concat([sums, where(den, most, lowest)], 1);
}

/**
 * Channel mixing of RWKV-4 (Peng et al. 2023), its feed-forward layer:
 *
 *     y = sigmoid(W_r mix_r(x)) * (W_v relu(W_k mix_k(x))^2)
 *
 * State `{ x }`, the last input [1, N, C]. Parameters and their initial values are those of Transformers' RwkvFeedForward:
 * `time_mix_key`, `time_mix_receptance` [1, 1, C], `key.weight` [H, C], `receptance.weight` [C, C], `value.weight` [C, H].
 */
export class RWKV4ChannelMix extends ScanLayer<"x"> {
  readonly time_mix_key: Tensor;
  readonly time_mix_receptance: Tensor;
  readonly key: Linear;
  readonly receptance: Linear;
  readonly value: Linear;

  /** @throws on a size or option that is not known. */
  constructor(
    readonly inputSize: number,
    options: RWKV4Options = {},
  ) {
    super();
    const { hiddenSize: H = 4 * inputSize, generator, device, dtype } = options;
    check("RWKV4ChannelMix", inputSize, options, H);
    const { falling } = depth("RWKV4ChannelMix", options);
    const mixture = () => vector(inputSize, [1, 1, inputSize], options, (i) => (i / inputSize) ** falling);
    this.time_mix_key = mixture();
    this.time_mix_receptance = mixture();
    const settings = { bias: false, generator, device, dtype };
    this.key = new Linear(inputSize, H, settings);
    this.receptance = new Linear(inputSize, inputSize, settings);
    this.value = new Linear(H, inputSize, settings);
  }

  get outputSize(): number {
    return this.inputSize;
  }

  protected stateShapes(): Record<"x", Shape> {
    return { x: [this.inputSize] };
  }

  protected run({ x, state, lengths }: ScanInput<"x">) {
    const { shifted: before, last } = tokenShift(x, state.x, lengths);
    const k = square(relu(this.key.forward(mixed(x, before, this.time_mix_key))));
    const r = sigmoid(this.receptance.forward(mixed(x, before, this.time_mix_receptance)));
    return { output: mul(r, this.value.forward(k)), state: { x: last } };
  }
}

/** The states of RWKV-4's two halves. */
export type RWKV4TimeState = ScanState<"x" | "wkv">;
export type RWKV4ChannelState = ScanState<"x">;
