import { gruCell, gruVariant, type GRUVariant } from "../cells/gru.js";
import { mgu } from "../cells/mgu.js";
import { checkChoice, checkOptions } from "../tensor/check.js";
import type { Tensor } from "../tensor/tensor.js";
import { Recurrent, recurrentOptions, type RecurrentOptions } from "./recurrent.js";

export interface GRUOptions extends RecurrentOptions, GRUVariant {
  /**
   * Layer normalisation (Ba, Kiros & Hinton 2016) of W x and of U h, all three gates of each together, biases added
   * after it, as haste has it. Needs the reset after the product. Default false.
   */
  readonly layerNorm?: boolean;
}
export interface GRUState {
  /** [layers * directions, N, H] */
  readonly h: Tensor;
}

/**
 * Gated recurrent unit (Cho et al. 2014), torch.nn.GRU. State `{ h }`. Gate order r, z, n:
 *
 *     r, z = sigmoid(W x_t + b_i + U h_{t-1} + b_h)
 *     n = tanh(W_n x_t + b_in + r * (U_n h_{t-1} + b_hn))     reset: "after"
 *     n = tanh(W_n x_t + b_in + U_n (r * h_{t-1}) + b_hn)     reset: "before"
 *     h_t = (1 - z) * n + z * h_{t-1}                         update: "keep"
 *     h_t = (1 - z) * h_{t-1} + z * n                         update: "write"
 *
 * Parameters `weight_ih_l{k}` [3H, in], `weight_hh_l{k}` [3H, H], `bias_ih_l{k}`, `bias_hh_l{k}` [3H], with `layerNorm`
 * the gains `gain_ih_l{k}` and `gain_hh_l{k}` [3H]; `_reverse` behind each in the second direction.
 */
export class GRU extends Recurrent<"h"> {
  /** @throws on layer normalisation with the reset before the product. */
  constructor(inputSize: number, hiddenSize: number, options: GRUOptions = {}) {
    checkOptions("GRU", options, [...recurrentOptions, ...gruVariant, "layerNorm"]);
    const { reset, update, activation, recurrentActivation, layerNorm = false, ...rest } = options;
    const cell = gruCell({ reset, update, activation, recurrentActivation });
    checkChoice("GRU", "layerNorm", layerNorm, [true, false]);
    if (layerNorm && reset === "before")
      throw new RangeError('GRU: layerNorm is over the gates of one product U h, but reset: "before" makes two; use reset: "after"');
    super(cell, inputSize, hiddenSize, rest, { norms: layerNorm ? ["ih", "hh"] : [] });
  }
}

/**
 * Minimal gated unit (Zhou, Wu, Zhang & Zhou 2016): a GRU whose one gate f both resets and updates. State `{ h }`.
 * Gate order f, n:
 *
 *     f = sigmoid(W_f x_t + b_if + U_f h_{t-1} + b_hf)
 *     n = tanh(W_n x_t + b_in + U_n (f * h_{t-1}) + b_hn)
 *     h_t = (1 - f) * h_{t-1} + f * n
 *
 * Parameters `weight_ih_l{k}` [2H, in], `weight_hh_l{k}` [2H, H], `bias_ih_l{k}`, `bias_hh_l{k}` [2H].
 */
export class MGU extends Recurrent<"h"> {
  constructor(inputSize: number, hiddenSize: number, options: RecurrentOptions = {}) {
    checkOptions("MGU", options, recurrentOptions);
    super(mgu, inputSize, hiddenSize, options);
  }
}
