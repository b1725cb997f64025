import { indrnnRelu, indrnnTanh } from "../cells/indrnn.js";
import { checkChoice, checkCount, checkOptions } from "../tensor/check.js";
import { Recurrent, recurrentOptions, type RecurrentOptions } from "./recurrent.js";

export interface IndRNNOptions extends RecurrentOptions {
  /** Default `relu`, the paper's. */
  readonly nonlinearity?: "relu" | "tanh";
  /** Layer normalisation of W x, the bias added after it (haste's placement). Default false. */
  readonly layerNorm?: boolean;
  /**
   * The length T of the sequences it is made for: recurrent weights are drawn from [0, 2^(1/T)], so that a memory may at
   * most double over a sequence. Default: T without end, [0, 1].
   */
  readonly steps?: number;
}

/**
 * Independently recurrent network (Li, Li, Cook, Zhu & Gao 2018): each unit hears of the past only itself,
 *
 *     h_t = f(W x_t + b + u * h_{t-1}),   f = max(., 0) or tanh.
 *
 * Units mix in the next layer. State `{ h }`. Parameters `weight_ih_l{k}` [H, in], `weight_hh_l{k}` [H] (the paper's u),
 * `bias_ih_l{k}` [H], with `layerNorm` the gain `gain_ih_l{k}` [H]; `_reverse` behind each in the second direction. As in
 * the paper, u starts uniform in [0, 2^(1/T)] (see `steps`): over T steps a gradient then grows at most twofold.
 */
export class IndRNN extends Recurrent<"h"> {
  constructor(inputSize: number, hiddenSize: number, options: IndRNNOptions = {}) {
    checkOptions("IndRNN", options, [...recurrentOptions, "nonlinearity", "layerNorm", "steps"]);
    const { nonlinearity = "relu", layerNorm = false, steps, ...rest } = options;
    checkChoice("IndRNN", "nonlinearity", nonlinearity, ["relu", "tanh"]);
    checkChoice("IndRNN", "layerNorm", layerNorm, [true, false]);
    if (steps !== undefined) checkCount("IndRNN", "steps", steps);
    super(nonlinearity === "relu" ? indrnnRelu : indrnnTanh, inputSize, hiddenSize, rest, {
      biases: ["ih"],
      norms: layerNorm ? ["ih"] : [],
      recurrentRange: { low: 0, high: steps === undefined ? 1 : 2 ** (1 / steps) },
    });
  }
}
