import { convLSTMStep, type ConvLSTMStates } from "../cells/convlstm.js";
import { conv1d, conv2d, convExtents, convOptions, convSettings, perAxis, type ConvOptions } from "../ops/conv.js";
import { concat, reshape, stack, unstack } from "../ops/movement.js";
import { where as choose } from "../ops/select.js";
import { reverseSequence, sequenceMask } from "../ops/sequence.js";
import { checkCount, checkOptions } from "../tensor/check.js";
import { zeros } from "../tensor/create.js";
import { isDebugging } from "../tensor/debug.js";
import { sameShape, showShape, size, type MaybeTensor, type Shape } from "../tensor/op.js";
import { uniform } from "../tensor/random.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import type { ConvLayerOptions } from "./conv.js";
import { Module, place } from "./module.js";
import { checkLengths } from "./lengths.js";
import type { ForwardOptions } from "./recurrent.js";
import { checkStreams } from "./recurrentLayer.js";
import type { Stream, StreamInput } from "./stream.js";
import type { Streams, StreamsOptions } from "./streams.js";

/** Options of ConvLSTM1d and ConvLSTM2d. Stride, dilation and padding are those of the convolution of the input. */
export interface ConvLSTMOptions extends ConvLayerOptions {
  /** Layers stacked on top of each other. Default 1; more need padding "same" and stride 1. */
  readonly layers?: number;
  /** Run a second sweep from the end to the start and concatenate the channels. Default false. */
  readonly bidirectional?: boolean;
}

/** What a forward pass may be given beside x: the initial state, and the valid steps of each row. */
export type ConvLSTMForwardOptions = Pick<ForwardOptions<"h" | "c">, "state" | "lengths">;

/** State of a ConvLSTM layer, each [layers * directions, N, ...sizes of the output, F]. */
export type ConvLSTMState = ConvLSTMStates;

/**
 * What ConvLSTM1d and ConvLSTM2d share: see there. Parameters `weight_ih_l{k}` [kernel..., in, 4F], `weight_hh_l{k}`
 * [kernel..., F, 4F] and `bias_l{k}` [4F], gate order i, f, g, o (the layout and order of Keras' kernel,
 * recurrent_kernel and bias), with `_reverse` for the second direction; uniform in [-1/sqrt(f), 1/sqrt(f)] with
 * f = F * kernel elements.
 */
abstract class ConvLSTM extends Module {
  readonly kernelSize: Shape;
  readonly layers: number;
  readonly directions: 1 | 2;
  private readonly settings: ConvOptions;

  protected constructor(
    private readonly axes: 1 | 2,
    readonly inChannels: number,
    readonly hiddenChannels: number,
    options: ConvLSTMOptions,
  ) {
    super();
    const where = new.target.name;
    checkOptions(where, options, [...convOptions, "kernelSize", "layers", "bidirectional", "bias", "generator", "device", "dtype"]);
    const { kernelSize = 3, layers = 1, bidirectional = false, bias = true, generator, device, dtype, ...settings } = options;
    checkCount(where, "inChannels", inChannels);
    checkCount(where, "hiddenChannels", hiddenChannels);
    checkCount(where, "layers", layers);
    this.settings = convSettings(where, { padding: "same", ...settings }, axes);
    if (layers > 1 && (this.settings.padding !== "same" || size(this.settings.stride as Shape) !== 1))
      throw new RangeError(
        `${where}: ${layers} layers need padding "same" and stride 1, so that all have states of one size; to change the size from layer to layer, put layers of their own one after another`,
      );
    this.kernelSize = perAxis(where, "kernelSize", kernelSize, axes);
    this.layers = layers;
    this.directions = bidirectional ? 2 : 1;
    const bound = 1 / Math.sqrt(hiddenChannels * size(this.kernelSize));
    const draw = { low: -bound, high: bound, generator, requiresGrad: true, ...place({ device, dtype }) };
    for (let layer = 0; layer < layers; layer++)
      for (const suffix of this.suffixes(layer)) {
        const channels = layer === 0 ? inChannels : this.outChannels;
        this.register(`weight_ih_${suffix}`, uniform([...this.kernelSize, channels, 4 * hiddenChannels], draw));
        this.register(`weight_hh_${suffix}`, uniform([...this.kernelSize, hiddenChannels, 4 * hiddenChannels], draw));
        if (bias) this.register(`bias_${suffix}`, uniform([4 * hiddenChannels], draw));
      }
  }

  /** Channels of the output: F, or 2F if bidirectional. */
  get outChannels(): number {
    return this.hiddenChannels * this.directions;
  }

  /** Sizes of the output for frames of the given sizes. @throws RangeError if the kernel does not fit. */
  outputSizes(sizes: Shape): Shape {
    return convExtents(this.constructor.name, sizes, this.kernelSize, this.settings).map(({ output }) => output);
  }

  /** Zero states for `rows` sequences of frames of the given sizes, each [layers * directions, rows, ...output sizes, F]. */
  initialState(rows: number, sizes: Shape): ConvLSTMState {
    const { device, dtype } = this.parameter("weight_hh_l0")!;
    const zero = () => zeros(this.stateShape(rows, sizes), { device, dtype });
    return { h: zero(), c: zero() };
  }

  /**
   * Runs x [N, T, ...sizes, inChannels] through the stack.
   *
   * Returns `output` [N, T, ...output sizes, F * directions] of the last layer, zero after each row's last valid step,
   * and the final `state`, each [layers * directions, N, ...output sizes, F], frozen at the last valid step
   * (layer-major, then direction). The second direction starts at each row's last valid step. To go on in a later batch,
   * pass the state on, detached.
   *
   * @throws on a wrong shape, frames smaller than the kernel, a length outside 0..T or not an integer, an unknown option;
   * under `debug` on a state that is not finite.
   */
  forward(x: Tensor, options: ConvLSTMForwardOptions = {}): { output: Tensor; state: ConvLSTMState } {
    const where = `${this.constructor.name}.forward`;
    checkOptions(where, options, ["state", "lengths"]);
    if (x.shape.length !== this.axes + 3 || x.shape.at(-1) !== this.inChannels) {
      const sizes = this.axes === 1 ? ["W"] : ["H", "W"];
      throw new RangeError(`${where}: x must be ${showShape(["N", "T", ...sizes, this.inChannels])} but is ${showShape(x.shape)}`);
    }
    const shape = this.stateShape(x.shape[0], x.shape.slice(2, -1));
    const { state: initial } = options;
    if (initial) checkState(where, initial, shape);
    return scope(() => {
      const lengths = options.lengths ? checkLengths(where, x, options.lengths) : null;
      const cells = initial ? unstack(initial.c) : [];
      const parts = initial ? unstack(initial.h).map((h, i) => ({ h, c: cells[i] })) : [];
      const finals: ConvLSTMStates[] = [];
      let input = x;
      for (let layer = 0; layer < this.layers; layer++) {
        const outputs = this.suffixes(layer).map((suffix) => {
          const { output, state } = this.sweepOne(input, suffix, lengths, parts[finals.length] ?? this.zeroState(shape));
          finals.push(state);
          return output;
        });
        input = outputs.length === 1 ? outputs[0] : concat(outputs, -1);
      }
      return { output: input, state: { h: stack(finals.map(({ h }) => h)), c: stack(finals.map(({ c }) => c)) } };
    });
  }

  /**
   * A stream over one sequence, fed one frame at a time: `input.shape` is [1, 1, ...sizes, inChannels].
   * @throws if bidirectional.
   */
  override stream(input: StreamInput): Stream {
    checkStreams(this);
    return super.stream(input);
  }

  /** Many sequences, fed frames as `stream` takes them and stepped together: see `Streams`. @throws if bidirectional. */
  override streams(input: StreamInput & StreamsOptions): Streams {
    checkStreams(this, "streams");
    return super.streams(input);
  }

  /** One layer in one direction: one convolution of all frames, then a step for each. */
  private sweepOne(x: Tensor, suffix: string, lengths: MaybeTensor, initial: ConvLSTMStates) {
    const [n, steps] = x.shape;
    const { device, dtype } = x;
    if (steps === 0) return { output: zeros([n, 0, ...initial.h.shape.slice(1)], { device, dtype }), state: initial };
    const flip = (t: Tensor) => (suffix.endsWith("_reverse") ? reverseSequence(t, lengths) : t);
    const convolution = this.axes === 1 ? conv1d : conv2d;
    const frames = reshape(x, [n * steps, ...x.shape.slice(2)]);
    const convolved = convolution(frames, this.parameter(`weight_ih_${suffix}`)!, this.parameter(`bias_${suffix}`), this.settings);
    const wx = reshape(convolved, [n, steps, ...convolved.shape.slice(1)]);
    const weightHh = this.parameter(`weight_hh_${suffix}`)!;
    const mask =
      lengths && reshape(sequenceMask(lengths, steps, x.dtype as "float32" | "float64"), [n, steps, ...wx.shape.slice(2).map(() => 1)]);
    const valid = mask && unstack(mask, 1);
    let state = initial;
    const outputs = unstack(flip(wx), 1).map((wxt, t) => {
      const next = convLSTMStep(wxt, weightHh, state);
      state = valid ? { h: choose(valid[t], next.h, state.h), c: choose(valid[t], next.c, state.c) } : next;
      return next.h;
    });
    const output = stack(outputs, 1);
    return { output: flip(mask ? choose(mask, output, zeros([], { device, dtype })) : output), state };
  }

  private zeroState(shape: Shape): ConvLSTMStates {
    const { device, dtype } = this.parameter("weight_hh_l0")!;
    const zero = zeros(shape.slice(1), { device, dtype });
    return { h: zero, c: zero };
  }

  private stateShape(rows: number, sizes: Shape): Shape {
    return [this.layers * this.directions, rows, ...this.outputSizes(sizes), this.hiddenChannels];
  }

  private suffixes(layer: number): string[] {
    return this.directions === 2 ? [`l${layer}`, `l${layer}_reverse`] : [`l${layer}`];
  }
}

function checkState(where: string, state: object, shape: Shape): void {
  checkOptions(`${where}: state`, state, ["h", "c"]);
  for (const s of ["h", "c"] as const) {
    const t = (state as Partial<ConvLSTMState>)[s];
    if (!t || !sameShape(t.shape, shape))
      throw new RangeError(`${where}: state.${s} must be ${showShape(shape)} but is ${t ? showShape(t.shape) : "absent"}`);
    if (isDebugging() && !t.dataSync().every(Number.isFinite)) throw new RangeError(`${where}: state.${s} must be finite but is not`);
  }
}

/**
 * Convolutional LSTM over sequences of rows (Shi et al. 2015): x [N, T, W, in], channels last. State `{ h, c }`. Padding
 * "same" unless said otherwise; the convolution of the state is always "same", with stride and dilation 1.
 */
export class ConvLSTM1d extends ConvLSTM {
  constructor(inChannels: number, hiddenChannels: number, options: ConvLSTMOptions = {}) {
    super(1, inChannels, hiddenChannels, options);
  }
}

/**
 * Convolutional LSTM over sequences of images (Shi et al. 2015): x [N, T, H, W, in], channels last. State `{ h, c }`.
 * Padding "same" unless said otherwise; the convolution of the state is always "same", with stride and dilation 1.
 */
export class ConvLSTM2d extends ConvLSTM {
  constructor(inChannels: number, hiddenChannels: number, options: ConvLSTMOptions = {}) {
    super(2, inChannels, hiddenChannels, options);
  }
}
