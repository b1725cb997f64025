import { abs, add, affine, div, exp, log, neg, relu, sigmoid, tanh } from "../ops/elementwise.js";
import { clamp } from "../ops/select.js";
import { checkChoice } from "../tensor/check.js";
import type { Tensor } from "../tensor/tensor.js";

/** What a cell can apply to its gates and candidate values, element by element. */
export const activations = {
  tanh,
  relu,
  sigmoid,
  /** x / (1 + |x|) */
  softsign: (x: Tensor): Tensor => div(x, affine(abs(x), 1, 1)),
  /** log(1 + e^x) */
  softplus: (x: Tensor): Tensor => add(relu(x), log(affine(exp(neg(abs(x))), 1, 1))),
  /** x / 6 + 0.5 within [0, 1], as Keras 3 has it. */
  hardSigmoid: (x: Tensor): Tensor => clamp(affine(x, 1 / 6, 0.5), 0, 1),
  linear: (x: Tensor): Tensor => x,
} as const;

export type Activation = keyof typeof activations;

/** Activations of a gated cell. With others than the default ones it runs step by step, without kernels of its own. */
export interface CellActivations {
  /** Of the candidate value, and of an LSTM's cell state where the output reads it. Default `tanh`. */
  readonly activation?: Activation;
  /** Of the gates. Default `sigmoid`. */
  readonly recurrentActivation?: Activation;
}

/** The two functions of a cell, and what they add to its name: nothing where they are the usual ones. @throws on an unknown one. */
export function activationsOf(where: string, { activation = "tanh", recurrentActivation = "sigmoid" }: CellActivations) {
  const names = Object.keys(activations);
  checkChoice(where, "activation", activation, names);
  checkChoice(where, "recurrentActivation", recurrentActivation, names);
  const usual = activation === "tanh" && recurrentActivation === "sigmoid";
  return {
    phi: activations[activation],
    sigma: activations[recurrentActivation],
    suffix: usual ? "" : `_${activation}_${recurrentActivation}`,
  };
}
