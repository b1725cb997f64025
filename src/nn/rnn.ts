import type { Activation } from "../cells/activation.js";
import { elmanCell } from "../cells/elman.js";
import { checkOptions } from "../tensor/check.js";
import type { Tensor } from "../tensor/tensor.js";
import { Recurrent, recurrentOptions, type RecurrentOptions } from "./recurrent.js";

export interface RNNOptions extends RecurrentOptions {
  /** Default `tanh`. With others than `tanh` and `relu` it runs step by step, without kernels of its own. */
  readonly nonlinearity?: Activation;
}
export interface RNNState {
  /** [layers * directions, N, H] */
  readonly h: Tensor;
}

/**
 * The simple recurrent network of Elman 1990, torch.nn.RNN: h_t = tanh(W x_t + b_ih + U h_{t-1} + b_hh), or with
 * another function. State `{ h }`. Parameters `weight_ih_l{k}` [H, in], `weight_hh_l{k}` [H, H], `bias_ih_l{k}` and
 * `bias_hh_l{k}` [H], with `_reverse` for the second direction.
 */
export class RNN extends Recurrent<"h"> {
  constructor(inputSize: number, hiddenSize: number, options: RNNOptions = {}) {
    checkOptions("RNN", options, [...recurrentOptions, "nonlinearity"]);
    const { nonlinearity, ...rest } = options;
    super(elmanCell(nonlinearity, "RNN"), inputSize, hiddenSize, rest);
  }
}
