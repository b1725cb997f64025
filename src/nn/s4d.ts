import { exp, neg } from "../ops/elementwise.js";
import { packed } from "../ops/complex.js";
import { reshape } from "../ops/movement.js";
import { checkCount, checkOptions } from "../tensor/check.js";
import { full, tensor } from "../tensor/create.js";
import type { Tensor } from "../tensor/tensor.js";
import { discretize } from "./discretize.js";
import {
  drawStateSpace,
  StateSpaceKernel,
  StateSpaceLayer,
  stateSpaceOptions,
  type StateSpaceDraw,
  type StateSpaceModeOptions,
} from "./stateSpace.js";

/** A = -exp(log_A_real) + i A_imag, B = 1, zero-order hold. */
class DiagonalKernel extends StateSpaceKernel {
  readonly C: Tensor;
  readonly log_dt: Tensor;
  readonly log_A_real: Tensor;
  readonly A_imag: Tensor;

  constructor(channels: number, { states, settings, steps, complex }: StateSpaceDraw) {
    super();
    this.C = complex([channels, states]);
    this.log_dt = steps([channels]);
    this.log_A_real = full([channels, states], Math.log(0.5), settings);
    const frequencies = Float64Array.from({ length: channels * states }, (_, i) => Math.PI * (i % states));
    this.A_imag = tensor(frequencies, { shape: [channels, states], ...settings });
  }

  discrete() {
    const A = { re: neg(exp(this.log_A_real)), im: this.A_imag };
    const { a, input } = discretize(A, reshape(exp(this.log_dt), [this.log_dt.shape[0], 1]), "zoh");
    return { a: packed(a), b: packed(input), c: this.C };
  }
}

/**
 * Diagonal state space layer (Gu, Gupta, Goel & Ré 2022, "On the Parameterization and Initialization of Diagonal State
 * Space Models"), S4D-Lin, as the authors' s4d.py has it:
 *
 *     x_t = e^(dt A) * x_{t-1} + (e^(dt A) - 1) / A u_t       s_t = 2 Re(C . x_t) + D u_t
 *     y_t = v * sigmoid(g),   v, g = W gelu(s_t) + b
 *
 * for each channel, with N / 2 complex states that stand for N. State `{ x }` [1, N, H, N / 2, 2]. Parameters: `D` [H],
 * `kernel.C` [H, N / 2, 2], `kernel.log_dt` [H], `kernel.log_A_real`, `kernel.A_imag` [H, N / 2], `output_linear.0.weight`
 * [2 H, H, 1], `output_linear.0.bias`. A starts as -1/2 + i pi n.
 */
export class S4D extends StateSpaceLayer {
  readonly kernel: DiagonalKernel;

  /** @throws on a size or option that is not known. */
  constructor(inputSize: number, options: StateSpaceModeOptions = {}) {
    checkOptions("S4D", options, [...stateSpaceOptions, "mode"]);
    checkCount("S4D", "inputSize", inputSize);
    const draw = drawStateSpace("S4D", options);
    super("S4D", inputSize, draw, options);
    this.kernel = new DiagonalKernel(inputSize, draw);
  }
}
