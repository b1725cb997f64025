import { complex } from "../ops/complex.js";
import { exp, neg } from "../ops/elementwise.js";
import { reshape } from "../ops/movement.js";
import { checkChoice, checkCount, checkOptions } from "../tensor/check.js";
import { tensor } from "../tensor/create.js";
import type { Tensor } from "../tensor/tensor.js";
import { bilinearLowRank } from "./discretize.js";
import { normalForm, type ComplexArray } from "./hippo.js";
import {
  drawStateSpace,
  StateSpaceKernel,
  StateSpaceLayer,
  stateSpaceOptions,
  type StateSpaceDraw,
  type StateSpaceModeOptions,
} from "./stateSpace.js";

export interface S4Options extends StateSpaceModeOptions {
  /** What the state remembers of the past at the start, see `hippo`. Default `"legs"`. */
  readonly measure?: "legs" | "fourier";
}

/** A = diag(-exp(A_real) - i A_imag) - P P^*, bilinear. */
class LowRankKernel extends StateSpaceKernel {
  readonly C: Tensor;
  readonly inv_dt: Tensor;
  readonly B: Tensor;
  readonly P: Tensor;
  readonly A_real: Tensor;
  readonly A_imag: Tensor;

  constructor(channels: number, measure: "legs" | "fourier", draw: StateSpaceDraw) {
    super();
    const { states, settings } = draw;
    const { w, P, B } = normalForm(measure, 2 * states);
    const each = (value: (s: number) => number) =>
      tensor(
        Float64Array.from({ length: channels * states }, (_, i) => value(i % states)),
        { shape: [channels, states], ...settings },
      );
    const eachComplex = ({ re, im }: ComplexArray) =>
      tensor(
        Float64Array.from({ length: 2 * channels * states }, (_, i) => (i % 2 === 0 ? re : im)[Math.floor(i / 2) % states]),
        { shape: [1, channels, states, 2], ...settings },
      );
    this.C = draw.complex([1, channels, states]);
    this.inv_dt = draw.steps([channels, 1]);
    this.B = eachComplex(B);
    this.P = eachComplex(P);
    // The logarithm needs a real part below zero, which fourier has not.
    this.A_real = each((s) => Math.log(Math.max(-w.re[s], 1e-4)));
    this.A_imag = each((s) => -w.im[s]);
  }

  discrete() {
    const apart = (t: Tensor) => complex(reshape(t, t.shape.slice(1)));
    const w = { re: neg(exp(this.A_real)), im: neg(this.A_imag) };
    return { ...bilinearLowRank(w, apart(this.P), apart(this.B), exp(this.inv_dt)), c: reshape(this.C, this.C.shape.slice(1)) };
  }
}

/**
 * Structured state space layer (Gu, Goel & Ré 2022, "Efficiently Modeling Long Sequences with Structured State Spaces"):
 *
 *     x' = A x + B u, A = diag(w) - P P^*, with bilinear steps of dt       s_t = 2 Re(C . x_t) + D u_t
 *     y_t = v * sigmoid(g),   v, g = W gelu(s_t) + b
 *
 * for each channel, from HiPPO matrices in their normal form; N / 2 complex states stand for N. State `{ x }`
 * [1, N, H, N / 2, 2]. Parameters as the authors name those of a kernel: `kernel.C`, `kernel.B`, `kernel.P`
 * [1, H, N / 2, 2], `kernel.inv_dt` [H, 1] (log dt), `kernel.A_real` (log of -Re w), `kernel.A_imag` (-Im w) [H, N / 2];
 * `D` [H], `output_linear.0.weight` [2 H, H, 1] and `bias`. C is C itself, not the C (1 - A^L) of their checkpoints.
 */
export class S4 extends StateSpaceLayer {
  readonly kernel: LowRankKernel;

  /** @throws on a size or option that is not known. */
  constructor(inputSize: number, options: S4Options = {}) {
    checkOptions("S4", options, [...stateSpaceOptions, "mode", "measure"]);
    checkCount("S4", "inputSize", inputSize);
    const { measure = "legs" } = options;
    checkChoice("S4", "measure", measure, ["legs", "fourier"]);
    const draw = drawStateSpace("S4", options);
    super("S4", inputSize, draw, options);
    this.kernel = new LowRankKernel(inputSize, measure, draw);
  }
}
