import type { DiagonalScanInputs } from "../ops/diagonalScan.js";
import { diagonalScan } from "../ops/diagonalScan.js";
import { add, gelu, mul, sigmoid } from "../ops/elementwise.js";
import { linear } from "../ops/matmul.js";
import { longConv } from "../ops/longConv.js";
import { concat, reshape, split } from "../ops/movement.js";
import { checkChoice, checkCount, checkNumber } from "../tensor/check.js";
import { ones, zeros } from "../tensor/create.js";
import type { Shape } from "../tensor/op.js";
import { normal, uniform, type Generator } from "../tensor/random.js";
import type { Tensor } from "../tensor/tensor.js";
import { Module, place, type Placement } from "./module.js";
import { ScanLayer, type ScanInput, type ScanState } from "./scanLayer.js";

export interface StateSpaceOptions extends Placement {
  /** States N of each channel, an even number; half of them are kept, the others are their conjugates. Default 64. */
  readonly stateSize?: number;
  /** The step sizes at the start are drawn between these, uniformly in their logarithm. Default 0.001 and 0.1. */
  readonly timeStepMin?: number;
  readonly timeStepMax?: number;
  readonly generator?: Generator;
}

export interface StateSpaceModeOptions extends StateSpaceOptions {
  /**
   * How a sequence is run from its start. `"recurrent"` (default) step by step; `"convolution"` by fast Fourier transforms
   * of the input and of what a single one makes: the same output, whose gradient costs a fraction for it does not go back
   * through the states. The state is the recurrence's in both, and what goes on from a state is always recurrent.
   */
  readonly mode?: "recurrent" | "convolution";
}

export const stateSpaceOptions = ["stateSize", "timeStepMin", "timeStepMax", "generator", "device", "dtype"] as const;

/** The state of S4 and S4D: `x`, [1, N, H, S, 2]. */
export type StateSpaceState = ScanState<"x">;

/** How parameters of a state space are drawn. */
export interface StateSpaceDraw {
  readonly states: number;
  readonly settings: { readonly requiresGrad: true; readonly generator?: Generator } & ReturnType<typeof place>;
  /** Logarithms of step sizes. */
  readonly steps: (shape: Shape) => Tensor;
  /** Complex numbers of unit variance, real and imaginary part on the last axis. */
  readonly complex: (shape: Shape) => Tensor;
}

/** @throws on a size that is not known. */
export function drawStateSpace(where: string, options: StateSpaceOptions): StateSpaceDraw {
  const { stateSize = 64, timeStepMin = 0.001, timeStepMax = 0.1, generator } = options;
  checkCount(where, "stateSize", stateSize, 2);
  if (stateSize % 2 !== 0) throw new RangeError(`${where}: stateSize must be even but is ${stateSize}`);
  checkNumber(where, "timeStepMin", timeStepMin, Number.MIN_VALUE);
  checkNumber(where, "timeStepMax", timeStepMax, timeStepMin);
  const settings = { requiresGrad: true, generator, ...place(options) } as const;
  return {
    states: stateSize / 2,
    settings,
    steps: (shape) => uniform(shape, { low: Math.log(timeStepMin), high: Math.log(timeStepMax), ...settings }),
    complex: (shape) => normal([...shape, 2], { std: Math.SQRT1_2, ...settings }),
  };
}

/** A product with [2 H, H] weights, halved by a gate: `weight` [2 H, H, 1] and `bias`, as torch.nn.Conv1d draws them. */
class GatedLinear extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor;

  constructor(features: number, { settings }: StateSpaceDraw) {
    super();
    const bound = 1 / Math.sqrt(features);
    this.weight = uniform([2 * features, features, 1], { low: -bound, high: bound, ...settings });
    this.bias = uniform([2 * features], { low: -bound, high: bound, ...settings });
  }

  forward(x: Tensor): Tensor {
    const [out, features] = this.weight.shape;
    const [value, gate] = split(linear(x, reshape(this.weight, [out, features]), this.bias), [features, features], 2);
    return mul(value, sigmoid(gate));
  }
}

/** The continuous state space of each channel, and what `diagonalScan` reads of it. */
export abstract class StateSpaceKernel extends Module {
  abstract discrete(): Omit<DiagonalScanInputs, "u">;
}

/** What S4 and S4D share: a state space for each channel, y = GLU(W gelu(ssm(u) + D u) + b). */
export abstract class StateSpaceLayer extends ScanLayer<"x"> {
  readonly D: Tensor;
  abstract readonly kernel: StateSpaceKernel;
  readonly output_linear: readonly GatedLinear[];
  readonly mode: "recurrent" | "convolution";
  private readonly states: number;

  constructor(
    where: string,
    readonly inputSize: number,
    draw: StateSpaceDraw,
    { mode = "recurrent" }: StateSpaceModeOptions,
  ) {
    super();
    checkChoice(where, "mode", mode, ["recurrent", "convolution"]);
    this.mode = mode;
    this.states = draw.states;
    this.D = normal([inputSize], draw.settings);
    this.output_linear = [new GatedLinear(inputSize, draw)];
  }

  get outputSize(): number {
    return this.inputSize;
  }

  protected stateShapes(): Record<"x", Shape> {
    return { x: [this.inputSize, this.states, 2] };
  }

  protected run({ x, state, lengths }: ScanInput<"x">) {
    const kernel = this.kernel.discrete();
    const { output, state: last } = diagonalScan({ u: x, ...kernel }, { initial: state.x, lengths });
    const read = this.mode === "convolution" && !state.x && x.shape[1] > 1 ? longConv(x, impulse(kernel, x)) : output;
    return { output: this.output_linear[0].forward(gelu(add(read, mul(x, this.D)))), state: { x: last } };
  }
}

/** What each channel makes of a single one, [T, D]. */
function impulse(kernel: Omit<DiagonalScanInputs, "u">, { shape: [, steps, width], dtype, device }: Tensor): Tensor {
  const placed = { dtype: dtype as "float32" | "float64", device };
  const u = concat([ones([1, 1, width], placed), zeros([1, steps - 1, width], placed)], 1);
  return reshape(diagonalScan({ u, ...kernel }).output, [steps, width]);
}
