import { abs, add, affine, div, exp, log, neg, relu, sigmoid, tanh } from "../ops/elementwise.js";
import { clamp } from "../ops/select.js";
import { checkChoice } from "../tensor/check.js";
import type { Tensor } from "../tensor/tensor.js";

type ElementWise = (x: Tensor) => Tensor;

/** What a cell can apply to its gates and candidate values by name. */
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
} as const satisfies Record<string, ElementWise>;

/** A name, or a function of your own, element by element, made of ops: `(x) => clamp(affine(x, 0.2, 0.5), 0, 1)`. */
export type Activation = keyof typeof activations | ElementWise;

/** Activations of a gated cell. With others than the default ones it runs step by step, without kernels of its own. */
export interface CellActivations {
  /** Of the candidate value. Default `tanh`. */
  readonly activation?: Activation;
  /** Of the gates. Default `sigmoid`. */
  readonly recurrentActivation?: Activation;
}

/** The function that is meant. @throws on an unknown name. */
export function activationOf(where: string, option: string, activation: Activation): ElementWise {
  if (typeof activation === "function") return activation;
  checkChoice(where, option, activation, Object.keys(activations));
  return activations[activation];
}

/** The name of a function of the table, `own` of any other. */
export function activationName(f: ElementWise): string {
  return Object.entries(activations).find(([, known]) => known === f)?.[0] ?? "own";
}

/** Cells by name, so that the same variant is the same cell; not those with functions of the caller's own. */
export function memoised<C>(cells: Map<string, C>, name: string, make: () => C): C {
  const known = cells.get(name);
  if (known) return known;
  const made = make();
  if (!/_own(_|$)/.test(name)) cells.set(name, made);
  return made;
}
