import { affine, lessEqual, mul, neg, sigmoid, softplus, sub } from "../ops/elementwise.js";
import { split } from "../ops/movement.js";
import { scan } from "../ops/scan.js";
import { where } from "../ops/select.js";
import { checkCount, checkOptions } from "../tensor/check.js";
import { zeros } from "../tensor/create.js";
import type { Shape } from "../tensor/op.js";
import type { Generator } from "../tensor/random.js";
import type { Tensor } from "../tensor/tensor.js";
import { Linear } from "./linear.js";
import type { Placement } from "./module.js";
import { ScanLayer, type ScanInput, type ScanState } from "./scanLayer.js";

export interface MinRecurrentOptions extends Placement {
  /** Default false, as in the paper's published code. */
  readonly bias?: boolean;
  /** Numbers of the output, a linear map of h, `to_out`. Default: h itself. */
  readonly outputSize?: number;
  readonly generator?: Generator;
}

export type MinRecurrentState = ScanState<"h">;

/** g(x) = x + 1/2 where x >= 0, else sigmoid(x): positive and continuous. */
export function positive(x: Tensor): Tensor {
  const zero = zeros([], { device: x.device, dtype: x.dtype as "float32" });
  return where(lessEqual(zero, x), affine(x, 1, 0.5), sigmoid(x));
}

/** What MinGRU and MinLSTM share: one product of x, a scan, and the output. */
abstract class MinRecurrent extends ScanLayer<"h"> {
  readonly to_out?: Linear;

  constructor(
    where: string,
    readonly inputSize: number,
    readonly hiddenSize: number,
    options: MinRecurrentOptions,
  ) {
    super();
    checkOptions(where, options, ["bias", "outputSize", "generator", "device", "dtype"]);
    checkCount(where, "inputSize", inputSize);
    checkCount(where, "hiddenSize", hiddenSize);
    if (options.outputSize !== undefined) checkCount(where, "outputSize", options.outputSize);
  }

  get outputSize(): number {
    return this.to_out?.outFeatures ?? this.hiddenSize;
  }

  protected stateShapes(): Record<"h", Shape> {
    return { h: [this.hiddenSize] };
  }

  /** The factor of the state and what is added to it, at every step. */
  protected abstract terms(x: Tensor): readonly [Tensor, Tensor];

  protected run({ x, state, lengths }: ScanInput<"h">) {
    const [a, b] = this.terms(x);
    const { output, state: h } = scan(a, b, { initial: state.h, lengths });
    return { output: this.to_out?.forward(output) ?? output, state: { h } };
  }

  protected gates(x: Tensor, product: Linear): Tensor[] {
    return split(product.forward(x), new Array<number>(product.outFeatures / this.hiddenSize).fill(this.hiddenSize), 2);
  }
}

/** The projection of a layer's output, where it is asked for. */
const projection = (hidden: number, { outputSize, device, dtype, generator }: MinRecurrentOptions) =>
  outputSize === undefined ? undefined : new Linear(hidden, outputSize, { bias: false, device, dtype, generator });

const product = (inputs: number, outputs: number, { bias = false, device, dtype, generator }: MinRecurrentOptions) =>
  new Linear(inputs, outputs, { bias, device, dtype, generator });

/**
 * Minimal gated recurrent unit (Feng, Tung, Ahmed, Bengio & Hajimirsadeghi 2024, "Were RNNs All We Needed?"): the gate and
 * the candidate do not see the past, so that the state is a scan.
 *
 *     h~_t, k_t = W x_t             z_t = sigmoid(k_t)
 *     h_t = (1 - z_t) * h_{t-1} + z_t * g(h~_t),   g(x) = x + 1/2 where x >= 0, else sigmoid(x)
 *
 * 1 - z is computed as sigmoid(-k): the state is exact however far the gates are driven, and needs no logarithms.
 * State `{ h }` [1, N, H]. Parameters, as lucidrains' minGRU names them: `to_hidden_and_gate.weight` [2 * H, I] (rows h~,
 * then k), its `bias`, and `to_out.weight` [outputSize, H]; initialised as `Linear`.
 */
export class MinGRU extends MinRecurrent {
  readonly to_hidden_and_gate: Linear;
  override readonly to_out?: Linear;

  /** @throws on a size or option that is not known. */
  constructor(inputSize: number, hiddenSize: number, options: MinRecurrentOptions = {}) {
    super("MinGRU", inputSize, hiddenSize, options);
    this.to_hidden_and_gate = product(inputSize, 2 * hiddenSize, options);
    this.to_out = projection(hiddenSize, options);
  }

  protected terms(x: Tensor) {
    const [hidden, gate] = this.gates(x, this.to_hidden_and_gate);
    return [sigmoid(neg(gate)), mul(sigmoid(gate), positive(hidden))] as const;
  }
}

/**
 * Minimal long short-term memory (Feng et al. 2024): forget and input gate, normalised to a sum of one.
 *
 *     h~_t, k_t, l_t = W x_t        f_t = sigmoid(k_t), i_t = sigmoid(l_t)
 *     h_t = (f_t * h_{t-1} + i_t * g(h~_t)) / (f_t + i_t),   g as in MinGRU
 *
 * State `{ h }` [1, N, H], which enters as it is. Parameters, as lucidrains' minLSTM names them:
 * `to_hidden_and_f_i_gate.weight` [3 * H, I] (rows h~, k, l), its `bias`, and `to_out.weight`; initialised as `Linear`.
 */
export class MinLSTM extends MinRecurrent {
  readonly to_hidden_and_f_i_gate: Linear;
  override readonly to_out?: Linear;

  /** @throws on a size or option that is not known. */
  constructor(inputSize: number, hiddenSize: number, options: MinRecurrentOptions = {}) {
    super("MinLSTM", inputSize, hiddenSize, options);
    this.to_hidden_and_f_i_gate = product(inputSize, 3 * hiddenSize, options);
    this.to_out = projection(hiddenSize, options);
  }

  protected terms(x: Tensor) {
    const [hidden, forget, input] = this.gates(x, this.to_hidden_and_f_i_gate);
    // f / (f + i) = sigmoid(log f - log i), and log sigmoid(x) = -softplus(-x): no 0 / 0 where both gates are shut.
    const odds = sub(softplus(neg(input)), softplus(neg(forget)));
    return [sigmoid(odds), mul(sigmoid(neg(odds)), positive(hidden))] as const;
  }
}
