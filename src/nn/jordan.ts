import type { Activation } from "../cells/activation.js";
import { elmanCell } from "../cells/elman.js";
import { checkChoice, checkCount, checkOptions } from "../tensor/check.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { Recurrent, recurrentOptions, type ForwardOptions, type RecurrentOptions } from "./recurrent.js";

export interface JordanOptions extends RecurrentOptions {
  /** Numbers of the output y, which is fed back. */
  readonly outputSize: number;
  /** Default `linear`. */
  readonly outputActivation?: "linear" | "tanh" | "sigmoid";
  /** Of the hidden units. Default `tanh`. */
  readonly nonlinearity?: Activation;
}

/** The last output, [layers * directions, N, outputSize]. */
export interface JordanState {
  readonly y: Tensor;
}

/**
 * The recurrent network of Jordan 1986, "Serial order", which hears its last output instead of its last hidden values:
 *
 *     h_t = f(W x_t + b_ih + U y_{t-1} + b_hh)   y_t = g(V h_t + b_hr)
 *
 * State `{ y }`. Parameters, P outputs: `weight_ih_l{k}` [H, in], `weight_hh_l{k}` (U) [H, P], `bias_ih_l{k}`,
 * `bias_hh_l{k}` [H], `weight_hr_l{k}` (V) [P, H], `bias_hr_l{k}` [P]; `_reverse` behind each in the second direction.
 */
export class Jordan extends Recurrent<"y"> {
  constructor(inputSize: number, hiddenSize: number, options: JordanOptions) {
    checkOptions("Jordan", options, [...recurrentOptions, "outputSize", "outputActivation", "nonlinearity"]);
    const { outputSize, outputActivation = "linear", nonlinearity, ...rest } = options;
    checkCount("Jordan", "outputSize", outputSize);
    checkChoice("Jordan", "outputActivation", outputActivation, ["linear", "tanh", "sigmoid"]);
    super(elmanCell(nonlinearity, "Jordan"), inputSize, hiddenSize, rest, {
      stateNames: ["y"],
      projection: { size: outputSize, bias: rest.bias ?? true, activation: outputActivation },
    });
  }

  /** As in every recurrent layer, with y as output and state; also gives h as `hidden` [N, T, H * directions]. */
  override forward(x: Tensor, options: ForwardOptions<"y"> = {}): { output: Tensor; hidden: Tensor; state: { y: Tensor } } {
    return scope(() => {
      const { output, hidden, state } = this.run(x, options);
      return { output, hidden: hidden!, state };
    });
  }
}
