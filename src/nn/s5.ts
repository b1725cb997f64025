import { packed } from "../ops/complex.js";
import { complexScan } from "../ops/complexScan.js";
import { add, affine, exp, mul } from "../ops/elementwise.js";
import { linear } from "../ops/matmul.js";
import { reshape, slice, stack, transpose } from "../ops/movement.js";
import { checkChoice, checkCount, checkOptions } from "../tensor/check.js";
import { tensor } from "../tensor/create.js";
import type { MaybeTensor, Shape } from "../tensor/op.js";
import { normal } from "../tensor/random.js";
import type { Tensor } from "../tensor/tensor.js";
import { discretize, timesPacked, type Discretization } from "./discretize.js";
import { draw } from "./draw.js";
import { normalForm } from "./hippo.js";
import { ScanLayer, type ScanInput, type ScanState } from "./scanLayer.js";
import { drawStateSpace, stateSpaceOptions, type StateSpaceOptions } from "./stateSpace.js";

export interface S5Options extends StateSpaceOptions {
  /** Default `"zoh"`. */
  readonly discretization?: Discretization;
}

/** The state of S5: `x`, [1, N, P, 2]. */
export type S5State = ScanState<"x">;

/** What an S5 reads. */
export interface S5Inputs {
  /** [N, T, H] */
  readonly u: Tensor;
  /** [P] each: the eigenvalues. */
  readonly lambda: { readonly re: Tensor; readonly im: Tensor };
  /** [P, H, 2] */
  readonly B: Tensor;
  /** [H, P, 2] */
  readonly C: Tensor;
  /** [P], the step sizes. */
  readonly steps: Tensor;
}

/** @internal y = Re(C x), without D u; states stand for their conjugates too, and then y counts twice, if `conjugates` says so. */
export function s5(
  { u, lambda, B, C, steps }: S5Inputs,
  options: {
    readonly discretization: Discretization;
    readonly conjugates: boolean;
    readonly initial?: MaybeTensor;
    readonly lengths?: MaybeTensor;
    readonly reverse?: boolean;
  },
) {
  const [n, length] = u.shape;
  const [states, features] = B.shape;
  const { a, input } = discretize(lambda, steps, options.discretization);
  const along = { re: reshape(input.re, [states, 1]), im: reshape(input.im, [states, 1]) };
  // Rows of the real product: real and imaginary part of each state in turn.
  const driving = reshape(transpose(timesPacked(along, B), [0, 2, 1]), [2 * states, features]);
  const { initial, lengths, reverse } = options;
  const driven = reshape(linear(u, driving), [n, length, states, 2]);
  const { output: x, state } = complexScan(packed(a), driven, { initial, lengths, reverse });
  const scale = options.conjugates ? 2 : 1;
  const parts = [slice(C, 2, 0, 1), slice(C, 2, 1, 2)].map((t, i) => affine(reshape(t, t.shape.slice(0, 2)), i === 0 ? scale : -scale));
  const reading = reshape(stack(parts, 2), [C.shape[0], 2 * states]);
  return { output: linear(reshape(x, [n, length, 2 * states]), reading), state };
}

/**
 * State space with many inputs and outputs (Smith, Warrington & Linderman 2023, "Simplified State Space Layers for Sequence
 * Modeling"), its sequence mixer:
 *
 *     x_t = e^(dt Lambda) * x_{t-1} + (e^(dt Lambda) - 1) / Lambda * B u_t       y_t = 2 Re(C x_t) + D u_t
 *
 * or bilinear. P = stateSize / 2 complex states stand for stateSize. State `{ x }` [1, N, P, 2]. Parameters as in the
 * authors' code: `Lambda_re`, `Lambda_im` [P], `B` [P, H, 2], `C` [H, P, 2], `D` [H], `log_step` [P, 1]; Lambda starts as
 * the eigenvalues of HiPPO-LegS, B and C as random matrices in the coordinates of its eigenvectors.
 */
export class S5 extends ScanLayer<"x"> {
  readonly Lambda_re: Tensor;
  readonly Lambda_im: Tensor;
  readonly B: Tensor;
  readonly C: Tensor;
  readonly D: Tensor;
  readonly log_step: Tensor;
  private readonly discretization: Discretization;

  /** @throws on a size or option that is not known. */
  constructor(
    readonly inputSize: number,
    options: S5Options = {},
  ) {
    super();
    checkOptions("S5", options, [...stateSpaceOptions, "discretization"]);
    checkCount("S5", "inputSize", inputSize);
    const { discretization = "zoh" } = options;
    checkChoice("S5", "discretization", discretization, ["zoh", "bilinear"]);
    this.discretization = discretization;
    const { states: P, settings, steps } = drawStateSpace("S5", options);
    const H = inputSize;
    const { w, V } = normalForm("legs", 2 * P);
    const vector = (values: Float64Array) => tensor(values, { ...settings });
    this.Lambda_re = vector(w.re);
    this.Lambda_im = vector(w.im);
    // V^* B and C V of real matrices of 2 P states, with variances 1 / H and 1 / (2 P).
    const { generator } = options;
    const inputs = draw(normal, 2 * P * H, { std: 1 / Math.sqrt(H), generator });
    const outputs = draw(normal, H * 2 * P, { std: 1 / Math.sqrt(2 * P), generator });
    const product = (rows: number, columns: number, value: (row: number, column: number, k: number) => number, sign: 1 | -1) =>
      Float64Array.from({ length: 2 * rows * columns }, (_, i) => {
        const [row, column] = [Math.floor(i / (2 * columns)), Math.floor(i / 2) % columns];
        const state = sign < 0 ? row : column;
        const part = i % 2 === 0 ? V.re : V.im;
        let total = 0;
        for (let k = 0; k < 2 * P; k++) total += part[k * P + state] * value(row, column, k);
        return i % 2 === 0 ? total : sign * total;
      });
    this.B = tensor(product(P, H, (_, h, k) => inputs[k * H + h], -1), { shape: [P, H, 2], ...settings }); // prettier-ignore
    this.C = tensor(product(H, P, (h, _, k) => outputs[h * 2 * P + k], 1), { shape: [H, P, 2], ...settings }); // prettier-ignore
    this.D = normal([H], settings);
    this.log_step = steps([P, 1]);
  }

  get outputSize(): number {
    return this.inputSize;
  }

  protected stateShapes(): Record<"x", Shape> {
    return { x: [this.Lambda_re.size, 2] };
  }

  protected run({ x, state, lengths }: ScanInput<"x">) {
    const { Lambda_re: re, Lambda_im: im, B, C, discretization } = this;
    const steps = reshape(exp(this.log_step), [re.size]);
    const { output, state: last } = s5(
      { u: x, lambda: { re, im }, B, C, steps },
      { discretization, conjugates: true, initial: state.x, lengths },
    );
    return { output: add(output, mul(x, this.D)), state: { x: last } };
  }
}
