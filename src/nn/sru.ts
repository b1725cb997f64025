import { linear } from "../ops/matmul.js";
import { reshape, transpose } from "../ops/movement.js";
import { sru } from "../ops/sru.js";
import { checkChoice, checkCount, checkNumber, checkOptions } from "../tensor/check.js";
import { tensor } from "../tensor/create.js";
import type { Shape } from "../tensor/op.js";
import { uniform, type Generator } from "../tensor/random.js";
import type { Tensor } from "../tensor/tensor.js";
import { draw } from "./draw.js";
import { place, type Placement } from "./module.js";
import { ScanLayer, type ScanInput, type ScanState } from "./scanLayer.js";

export interface SRUOptions extends Placement {
  /** g. Default `"identity"`, as in the authors' code. */
  readonly activation?: "tanh" | "identity";
  /** What b_r starts with; below zero h follows x more than c. Default 0. */
  readonly highwayBias?: number;
  readonly generator?: Generator;
}

export type SRUState = ScanState<"c">;

/**
 * Simple recurrent unit (Lei, Zhang, Wang, Dai & Artzi 2018, "Simple Recurrent Units for Highly Parallelizable
 * Recurrence"):
 *
 *     f_t = sigmoid(W_f x_t + v_f * c_{t-1} + b_f)      c_t = f_t * c_{t-1} + (1 - f_t) * (W x_t)
 *     r_t = sigmoid(W_r x_t + v_r * c_{t-1} + b_r)      h_t = r_t * g(c_t) + (1 - r_t) * skip_t
 *
 * skip is x where it has as many numbers as h, else W_s x. State `{ c }` [1, N, H]. Parameters as in the authors' code:
 * `weight` [I, k * H], whose column k * j + i is that of unit j in W, W_f, W_r and, with k = 4, W_s; `weight_c` [2 * H]
 * (v_f, v_r) and `bias` [2 * H] (b_f, b_r). `weight` starts uniform with variance 1 / I, `weight_c` with variance 1, both
 * halved for the gates; `bias` is zero but for `highwayBias`.
 */
export class SRU extends ScanLayer<"c"> {
  readonly weight: Tensor;
  readonly weight_c: Tensor;
  readonly bias: Tensor;
  private readonly activation: "tanh" | "identity";

  /** @throws on a size or option that is not known. */
  constructor(
    readonly inputSize: number,
    readonly hiddenSize: number,
    options: SRUOptions = {},
  ) {
    super();
    checkOptions("SRU", options, ["activation", "highwayBias", "generator", "device", "dtype"]);
    checkCount("SRU", "inputSize", inputSize);
    checkCount("SRU", "hiddenSize", hiddenSize);
    const { activation = "identity", highwayBias = 0, generator } = options;
    checkChoice("SRU", "activation", activation, ["tanh", "identity"]);
    checkNumber("SRU", "highwayBias", highwayBias);
    this.activation = activation;
    const k = inputSize === hiddenSize ? 3 : 4;
    const placed = { ...place(options), requiresGrad: true };
    const start = (count: number, variance: (i: number) => number) =>
      draw(uniform, count, { low: -Math.sqrt(3), high: Math.sqrt(3), generator }).map((v, i) => v * Math.sqrt(variance(i)));
    const isGate = (i: number) => i % k === 1 || i % k === 2;
    this.weight = tensor(
      start(inputSize * k * hiddenSize, (i) => (isGate(i) ? 0.5 : 1) / inputSize),
      { shape: [inputSize, k * hiddenSize], ...placed },
    );
    this.weight_c = tensor(
      start(2 * hiddenSize, () => 0.5),
      placed,
    );
    this.bias = tensor(
      Float64Array.from({ length: 2 * hiddenSize }, (_, i) => (i < hiddenSize ? 0 : highwayBias)),
      placed,
    );
  }

  get outputSize(): number {
    return this.hiddenSize;
  }

  protected stateShapes(): Record<"c", Shape> {
    return { c: [this.hiddenSize] };
  }

  protected run({ x, state, lengths }: ScanInput<"c">) {
    const { inputSize: I, hiddenSize: H, activation } = this;
    const k = this.weight.shape[1] / H;
    const blocked = reshape(transpose(reshape(this.weight, [I, H, k]), [2, 1, 0]), [k * H, I]);
    const { output, state: c } = sru(
      {
        u: linear(x, blocked),
        skip: k === 3 ? x : null,
        v: reshape(this.weight_c, [2, H]),
        bias: reshape(this.bias, [2, H]),
      },
      { initial: state.c, lengths, activation },
    );
    return { output, state: { c } };
  }
}
