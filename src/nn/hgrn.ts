import { affine, mul, neg, sigmoid, silu } from "../ops/elementwise.js";
import { scan } from "../ops/scan.js";
import { checkCount, checkNumber, checkOptions } from "../tensor/check.js";
import type { Shape } from "../tensor/op.js";
import type { Generator } from "../tensor/random.js";
import { Linear } from "./linear.js";
import type { Placement } from "./module.js";
import { RMSNorm } from "./norm.js";
import { ScanLayer, type ScanInput, type ScanState } from "./scanLayer.js";

export interface HGRNOptions extends Placement {
  /** gamma: the least that a forget gate keeps, rising from layer to layer of a stack. Default 0. */
  readonly lowerBound?: number;
  /** Added to the mean square before its root. Default 1e-5. */
  readonly eps?: number;
  readonly generator?: Generator;
}

export type HGRNState = ScanState<"h">;

/**
 * Hierarchically gated recurrent network (Qin, Yang & Zhong 2023, "Hierarchically Gated Recurrent Neural Network for
 * Sequence Modeling"), the token mixer, with a real state as flash-linear-attention has it:
 *
 *     f_t = gamma + (1 - gamma) * sigmoid(W_f x_t)
 *     h_t = f_t * h_{t-1} + (1 - f_t) * silu(W_i x_t)
 *     y_t = W_o (RMSNorm(h_t) * silu(W_g x_t))
 *
 * State `{ h }` [1, N, H]. Parameters as flash-linear-attention names them: `i_proj.weight`, `f_proj.weight`,
 * `g_proj.weight` [H, I], `g_norm.weight` [H], `o_proj.weight` [I, H]; initialised as `Linear`, the norm with ones.
 */
export class HGRN extends ScanLayer<"h"> {
  readonly i_proj: Linear;
  readonly f_proj: Linear;
  readonly g_proj: Linear;
  readonly g_norm: RMSNorm;
  readonly o_proj: Linear;
  readonly lowerBound: number;

  /** @throws on a size or option that is not known. */
  constructor(
    readonly inputSize: number,
    readonly hiddenSize: number,
    options: HGRNOptions = {},
  ) {
    super();
    checkOptions("HGRN", options, ["lowerBound", "eps", "generator", "device", "dtype"]);
    checkCount("HGRN", "inputSize", inputSize);
    checkCount("HGRN", "hiddenSize", hiddenSize);
    const { lowerBound = 0, eps = 1e-5, generator, device, dtype } = options;
    checkNumber("HGRN", "lowerBound", lowerBound, 0, 1, true);
    checkNumber("HGRN", "eps", eps, 0);
    this.lowerBound = lowerBound;
    const settings = { bias: false, generator, device, dtype };
    this.i_proj = new Linear(inputSize, hiddenSize, settings);
    this.f_proj = new Linear(inputSize, hiddenSize, settings);
    this.g_proj = new Linear(inputSize, hiddenSize, settings);
    this.g_norm = new RMSNorm(hiddenSize, { eps, device, dtype });
    this.o_proj = new Linear(hiddenSize, inputSize, settings);
  }

  get outputSize(): number {
    return this.inputSize;
  }

  protected stateShapes(): Record<"h", Shape> {
    return { h: [this.hiddenSize] };
  }

  protected run({ x, state, lengths }: ScanInput<"h">) {
    const open = 1 - this.lowerBound;
    const gate = this.f_proj.forward(x);
    const forget = affine(sigmoid(gate), open, this.lowerBound);
    // 1 - f from the other side of the sigmoid, so that nothing cancels where f is near 1.
    const input = mul(affine(sigmoid(neg(gate)), open), silu(this.i_proj.forward(x)));
    const { output, state: h } = scan(forget, input, { initial: state.h, lengths });
    const gated = mul(this.g_norm.forward(output), silu(this.g_proj.forward(x)));
    return { output: this.o_proj.forward(gated), state: { h } };
  }
}
