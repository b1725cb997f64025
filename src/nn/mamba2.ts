import { add, exp, mul, neg, silu, softplus } from "../ops/elementwise.js";
import { matrixScan } from "../ops/matrixScan.js";
import { reshape, split } from "../ops/movement.js";
import { clamp } from "../ops/select.js";
import { checkChoice, checkCount, checkNumber, checkOptions } from "../tensor/check.js";
import { ones, tensor } from "../tensor/create.js";
import type { Shape } from "../tensor/op.js";
import type { Generator } from "../tensor/random.js";
import type { Tensor } from "../tensor/tensor.js";
import { Linear } from "./linear.js";
import { drawStepBias } from "./mamba.js";
import { place, type Placement } from "./module.js";
import { RMSNorm } from "./norm.js";
import { ScanLayer, type ScanInput, type ScanState } from "./scanLayer.js";
import { ShortConv } from "./shortConv.js";

export interface Mamba2Options extends Placement {
  /** Numbers P of a head. Default 64. */
  readonly headSize?: number;
  /** Numbers S of a key, which the paper calls the state. Default 128. */
  readonly stateSize?: number;
  /** Heads share their B and C with those of their group. Default 1. */
  readonly groups?: number;
  /** Steps K that the convolution sees. Default 4. */
  readonly convKernel?: number;
  /** Channels E inside, as a multiple of the input's; E / P heads. Default 2. */
  readonly expand?: number;
  /** Of in_proj and out_proj. Default false. */
  readonly bias?: boolean;
  /** Of the convolution. Default true. */
  readonly convBias?: boolean;
  /** The step sizes at the start are drawn between these, uniformly in their logarithm. Default 0.001 and 0.1. */
  readonly timeStepMin?: number;
  readonly timeStepMax?: number;
  /** Step sizes are kept within these. Default: 0 and infinity. */
  readonly timeStepLimit?: readonly [number, number];
  /** Of the normalisation. Default 1e-5. */
  readonly eps?: number;
  readonly generator?: Generator;
}

const options = [
  "headSize",
  "stateSize",
  "groups",
  "convKernel",
  "expand",
  "bias",
  "convBias",
  "timeStepMin",
  "timeStepMax",
  "timeStepLimit",
  "eps",
  "generator",
  "device",
  "dtype",
] as const;

/**
 * Mamba-2 (Dao & Gu 2024, "Transformers are SSMs: Generalized Models and Efficient Algorithms Through Structured State
 * Space Duality"), the whole mixer, for each head h of group g:
 *
 *     z_t, x_t, B_t, C_t, d_t = W_in u_t       x_t, B_t, C_t = silu(conv(the last K of each))
 *     dt_t = softplus(d_t + dt_bias)           a_t = exp(-exp(A_log) dt_t)
 *     S_t = a_t S_{t-1} + B_t (dt_t x_t)^T      y_t = S_t^T C_t + D x_t
 *     out_t = W_out (rmsNorm(y_t * silu(z_t)) * weight)     over all heads together
 *
 * State `{ conv, ssm }`: [1, N, K - 1, E + 2 G S] and [1, N, H, S, P]. Parameters have the names of Transformers' Mamba2Mixer:
 * `dt_bias`, `A_log`, `D` [H], `in_proj.weight` [2 E + 2 G S + H, C], `conv1d.weight` [E + 2 G S, 1, K], `conv1d.bias`,
 * `norm.weight` [E], `out_proj.weight` [C, E]. A starts as -1 ... -H.
 */
export class Mamba2 extends ScanLayer<"conv" | "ssm"> {
  readonly dt_bias: Tensor;
  readonly A_log: Tensor;
  readonly D: Tensor;
  readonly in_proj: Linear;
  readonly conv1d: ShortConv;
  readonly norm: RMSNorm;
  readonly out_proj: Linear;
  readonly heads: number;
  readonly headSize: number;
  readonly stateSize: number;
  readonly groups: number;
  readonly convKernel: number;
  private readonly limit: readonly [number, number];

  /** @throws on a size or option that is not known, and on heads that do not fit. */
  constructor(
    readonly inputSize: number,
    given: Mamba2Options = {},
  ) {
    super();
    const where = "Mamba2";
    checkOptions(where, given, options);
    checkCount(where, "inputSize", inputSize);
    const { headSize = 64, stateSize = 128, groups = 1, convKernel = 4, expand = 2, bias = false, convBias = true } = given;
    const { timeStepMin = 0.001, timeStepMax = 0.1, timeStepLimit = [0, Infinity], eps, generator, device, dtype } = given;
    for (const [name, value] of Object.entries({ headSize, stateSize, groups, convKernel })) checkCount(where, name, value);
    for (const [name, value] of Object.entries({ bias, convBias })) checkChoice(where, name, value, [true, false]);
    checkNumber(where, "timeStepMin", timeStepMin, Number.MIN_VALUE);
    checkNumber(where, "timeStepMax", timeStepMax, timeStepMin);
    const inner = expand * inputSize;
    checkCount(where, "expand * inputSize", inner);
    if (inner % headSize !== 0)
      throw new RangeError(`${where}: expand * inputSize must be a multiple of headSize but they are ${inner} and ${headSize}`);
    const heads = inner / headSize;
    if (heads % groups !== 0) throw new RangeError(`${where}: the heads, ${heads}, must be a multiple of groups but that is ${groups}`);
    if (timeStepLimit.length !== 2 || !(timeStepLimit[0] <= timeStepLimit[1]))
      throw new RangeError(`${where}: timeStepLimit must be two numbers in order but is [${timeStepLimit.join(", ")}]`);
    this.heads = heads;
    this.headSize = headSize;
    this.stateSize = stateSize;
    this.groups = groups;
    this.convKernel = convKernel;
    this.limit = timeStepLimit;
    const settings = { generator, device, dtype };
    const placed = { ...place(given), requiresGrad: true };
    const channels = inner + 2 * groups * stateSize;
    this.dt_bias = tensor(drawStepBias(heads, timeStepMin, timeStepMax, generator), placed);
    this.A_log = tensor(
      Array.from({ length: heads }, (_, h) => Math.log(h + 1)),
      placed,
    );
    this.D = ones([heads], placed);
    this.in_proj = new Linear(inputSize, inner + channels + heads, { bias, ...settings });
    this.conv1d = new ShortConv(channels, convKernel, { bias: convBias, ...settings });
    this.norm = new RMSNorm(inner, { eps, device, dtype });
    this.out_proj = new Linear(inner, inputSize, { bias, ...settings });
  }

  get outputSize(): number {
    return this.inputSize;
  }

  protected stateShapes(): Record<"conv" | "ssm", Shape> {
    const { heads, headSize, stateSize, groups, convKernel } = this;
    return { conv: [convKernel - 1, heads * headSize + 2 * groups * stateSize], ssm: [heads, stateSize, headSize] };
  }

  protected run({ x: u, state, lengths }: ScanInput<"conv" | "ssm">) {
    const { heads, headSize, stateSize, groups, norm } = this;
    const [n, steps] = u.shape;
    const inner = heads * headSize;
    const shared = groups * stateSize;
    const [gate, taps, step] = split(this.in_proj.forward(u), [inner, inner + 2 * shared, heads], 2);
    const { output: mixed, state: conv } = this.conv1d.forward(taps, state.conv, lengths);
    const [x, B, C] = split(mixed, [inner, shared, shared], 2);
    const dt = this.limited(softplus(add(step, this.dt_bias)));
    const values = reshape(x, [n, steps, heads, headSize]);
    const perGroup = (t: Tensor) => reshape(t, [n, steps, groups, stateSize]);
    const scanned = matrixScan({
      q: perGroup(C),
      k: perGroup(B),
      v: mul(reshape(dt, [n, steps, heads, 1]), values),
      logDecay: mul(dt, neg(exp(this.A_log))),
      initial: state.ssm,
      lengths,
    });
    const y = add(scanned.output, mul(values, reshape(this.D, [heads, 1])));
    const gated = mul(reshape(y, [n, steps, inner]), silu(gate));
    const output = this.out_proj.forward(norm.forward(gated));
    return { output, state: { conv, ssm: scanned.state } };
  }

  private limited(dt: Tensor): Tensor {
    const [least, most] = this.limit;
    return least <= 0 && most === Infinity ? dt : clamp(dt, least, most);
  }
}

/** The state of Mamba-2. */
export type Mamba2State = ScanState<"conv" | "ssm">;
