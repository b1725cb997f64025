import { exp, neg } from "../ops/elementwise.js";
import { linear } from "../ops/matmul.js";
import { split } from "../ops/movement.js";
import { selectiveScan } from "../ops/selectiveScan.js";
import { checkChoice, checkCount, checkNumber, checkOptions } from "../tensor/check.js";
import { ones, tensor } from "../tensor/create.js";
import type { Shape } from "../tensor/op.js";
import { uniform, type Generator } from "../tensor/random.js";
import type { Tensor } from "../tensor/tensor.js";
import { draw } from "./draw.js";
import { fill, like } from "./fill.js";
import { Linear } from "./linear.js";
import { place, type Placement } from "./module.js";
import { ScanLayer, type ScanInput, type ScanState } from "./scanLayer.js";
import { ShortConv } from "./shortConv.js";

export interface MambaOptions extends Placement {
  /** States S of each channel. Default 16. */
  readonly stateSize?: number;
  /** Steps K that the convolution sees. Default 4. */
  readonly convKernel?: number;
  /** Channels E inside, as a multiple of the input's. Default 2. */
  readonly expand?: number;
  /** Rank R of the step sizes. Default: a sixteenth of the input's channels, rounded up. */
  readonly timeStepRank?: number;
  /** Of in_proj and out_proj. Default false. */
  readonly bias?: boolean;
  /** Of the convolution. Default true. */
  readonly convBias?: boolean;
  /** The step sizes at the start are drawn between these, uniformly in their logarithm. Default 0.001 and 0.1. */
  readonly timeStepMin?: number;
  readonly timeStepMax?: number;
  readonly generator?: Generator;
}

const mambaOptions = [
  "stateSize",
  "convKernel",
  "expand",
  "timeStepRank",
  "bias",
  "convBias",
  "timeStepMin",
  "timeStepMax",
  "generator",
  "device",
  "dtype",
] as const;

/**
 * Mamba (Gu & Dao 2023, "Linear-Time Sequence Modeling with Selective State Spaces"), the whole mixer:
 *
 *     x_t, z_t = W_in u_t                       x_t = silu(conv(x_{t-K+1} ... x_t))
 *     r_t, B_t, C_t = W_x x_t                   dt_t = softplus(W_dt r_t + b_dt)
 *     h_t = exp(dt_t A) * h_{t-1} + dt_t x_t B_t,   A = -exp(A_log)
 *     y_t = W_out ((C_t . h_t + D x_t) * silu(z_t))
 *
 * State `{ conv, ssm }`: [1, N, K - 1, E] and [1, N, E, S]. Parameters have the names of Transformers' MambaMixer:
 * `A_log` [E, S], `D` [E], `in_proj.weight` [2 E, C], `conv1d.weight` [E, 1, K], `conv1d.bias`, `x_proj.weight`
 * [R + 2 S, E], `dt_proj.weight` [E, R], `dt_proj.bias`, `out_proj.weight` [C, E]; A starts as -1 ... -S (S4D-real).
 */
export class Mamba extends ScanLayer<"conv" | "ssm"> {
  readonly A_log: Tensor;
  readonly D: Tensor;
  readonly in_proj: Linear;
  readonly conv1d: ShortConv;
  readonly x_proj: Linear;
  readonly dt_proj: Linear;
  readonly out_proj: Linear;
  readonly stateSize: number;
  /** E */
  readonly innerSize: number;
  readonly timeStepRank: number;
  readonly convKernel: number;

  /** @throws on a size or option that is not known. */
  constructor(
    readonly inputSize: number,
    options: MambaOptions = {},
  ) {
    super();
    checkOptions("Mamba", options, mambaOptions);
    checkCount("Mamba", "inputSize", inputSize);
    const { stateSize = 16, convKernel = 4, expand = 2, timeStepRank = Math.ceil(inputSize / 16) } = options;
    const { bias = false, convBias = true, timeStepMin = 0.001, timeStepMax = 0.1 } = options;
    for (const [name, value] of Object.entries({ stateSize, convKernel, timeStepRank })) checkCount("Mamba", name, value);
    checkCount("Mamba", "expand * inputSize", expand * inputSize);
    for (const [name, value] of Object.entries({ bias, convBias })) checkChoice("Mamba", name, value, [true, false]);
    checkNumber("Mamba", "timeStepMin", timeStepMin, Number.MIN_VALUE);
    checkNumber("Mamba", "timeStepMax", timeStepMax, timeStepMin);
    const settings = { generator: options.generator, device: options.device, dtype: options.dtype };
    const inner = expand * inputSize;
    this.stateSize = stateSize;
    this.innerSize = inner;
    this.timeStepRank = timeStepRank;
    this.convKernel = convKernel;
    this.in_proj = new Linear(inputSize, 2 * inner, { bias, ...settings });
    this.conv1d = new ShortConv(inner, convKernel, { bias: convBias, ...settings });
    this.x_proj = new Linear(inner, timeStepRank + 2 * stateSize, { bias: false, ...settings });
    this.dt_proj = new Linear(timeStepRank, inner, settings);
    const { bias: stepBias } = this.dt_proj;
    fill(stepBias!, like(stepBias!, drawStepBias(inner, timeStepMin, timeStepMax, options.generator)));
    const placed = { ...place(options), requiresGrad: true };
    const rates = Array.from({ length: inner * stateSize }, (_, i) => Math.log((i % stateSize) + 1));
    this.A_log = tensor(rates, { shape: [inner, stateSize], ...placed });
    this.D = ones([inner], placed);
    this.out_proj = new Linear(inner, inputSize, { bias, ...settings });
  }

  get outputSize(): number {
    return this.inputSize;
  }

  protected stateShapes(): Record<"conv" | "ssm", Shape> {
    return { conv: [this.convKernel - 1, this.innerSize], ssm: [this.innerSize, this.stateSize] };
  }

  protected run({ x, state, lengths }: ScanInput<"conv" | "ssm">) {
    const { innerSize, stateSize, timeStepRank } = this;
    const [inner, gate] = split(this.in_proj.forward(x), [innerSize, innerSize], 2);
    const { output: u, state: conv } = this.conv1d.forward(inner, state.conv, lengths);
    const [rank, B, C] = split(this.x_proj.forward(u), [timeStepRank, stateSize, stateSize], 2);
    const { output, state: ssm } = selectiveScan(
      {
        u,
        delta: linear(rank, this.dt_proj.weight),
        A: neg(exp(this.A_log)),
        B,
        C,
        D: this.D,
        z: gate,
        deltaBias: this.dt_proj.bias,
      },
      { initial: state.ssm, lengths },
    );
    return { output: this.out_proj.forward(output), state: { conv, ssm } };
  }
}

/** The state of Mamba. */
export type MambaState = ScanState<"conv" | "ssm">;

/** @internal Biases whose softplus is a step size between `least`, or 1e-4 if that is more, and `most`, uniform in its logarithm. */
export function drawStepBias(count: number, least: number, most: number, generator: Generator | undefined): Float64Array {
  return draw(uniform, count, { low: Math.log(least), high: Math.log(most), generator }).map((v) => {
    const step = Math.max(Math.exp(v), 1e-4);
    return step + Math.log(-Math.expm1(-step));
  });
}
