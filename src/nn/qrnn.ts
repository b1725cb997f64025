import { mul, neg, sigmoid, tanh } from "../ops/elementwise.js";
import { concat, split } from "../ops/movement.js";
import { scan } from "../ops/scan.js";
import { checkChoice, checkCount, checkOptions } from "../tensor/check.js";
import type { Shape } from "../tensor/op.js";
import type { Generator } from "../tensor/random.js";
import { Linear } from "./linear.js";
import type { Placement } from "./module.js";
import { ScanLayer, type ScanInput, type ScanState } from "./scanLayer.js";
import { tokenShift } from "./tokenShift.js";

export interface QRNNOptions extends Placement {
  /** Steps that a gate sees: 1, x_t alone, or 2. Default 1. */
  readonly window?: 1 | 2;
  /** Default true. */
  readonly outputGate?: boolean;
  readonly generator?: Generator;
}

/** The state of QRNN: `x`, the last input, matters with a window of 2 only. */
export type QRNNState = ScanState<"c" | "x">;

/**
 * Quasi-recurrent network (Bradbury, Merity, Xiong & Socher 2016) with fo-pooling, or f-pooling without output gate:
 *
 *     z_t, f_t, o_t = W [x_t, x_{t-1}] + b
 *     c_t = sigmoid(f_t) * tanh(z_t) + (1 - sigmoid(f_t)) * c_{t-1}        h_t = sigmoid(o_t) * c_t
 *
 * f lets in, as in Salesforce's pytorch-qrnn; the paper's f keeps. State `{ c, x }`, [1, N, H] and [1, N, I].
 * Parameters as pytorch-qrnn names them: `linear.weight` [G * H, window * I] (rows z, f, o; columns x_t, x_{t-1}),
 * `linear.bias`; initialised as `Linear`.
 */
export class QRNN extends ScanLayer<"c" | "x"> {
  readonly linear: Linear;
  readonly window: 1 | 2;

  /** @throws on a size or option that is not known. */
  constructor(
    readonly inputSize: number,
    readonly hiddenSize: number,
    options: QRNNOptions = {},
  ) {
    super();
    checkOptions("QRNN", options, ["window", "outputGate", "generator", "device", "dtype"]);
    checkCount("QRNN", "inputSize", inputSize);
    checkCount("QRNN", "hiddenSize", hiddenSize);
    const { window = 1, outputGate = true, generator, device, dtype } = options;
    checkChoice("QRNN", "window", window, [1, 2]);
    checkChoice("QRNN", "outputGate", outputGate, [true, false]);
    this.window = window;
    this.linear = new Linear(window * inputSize, (outputGate ? 3 : 2) * hiddenSize, { generator, device, dtype });
  }

  get outputSize(): number {
    return this.hiddenSize;
  }

  protected stateShapes(): Record<"c" | "x", Shape> {
    return { c: [this.hiddenSize], x: [this.inputSize] };
  }

  protected run({ x, state, lengths }: ScanInput<"c" | "x">) {
    const { shifted: before, last } = tokenShift(x, state.x, lengths);
    const gates = this.linear.forward(this.window === 1 ? x : concat([x, before], 2));
    const [z, f, ...o] = split(gates, new Array<number>(gates.shape[2] / this.hiddenSize).fill(this.hiddenSize), 2);
    const { output, state: c } = scan(sigmoid(neg(f)), mul(sigmoid(f), tanh(z)), { initial: state.c, lengths });
    return { output: o.length > 0 ? mul(sigmoid(o[0]), output) : output, state: { c, x: last } };
  }
}
