import { activationOf, type Activation } from "../cells/activation.js";
import { add, affine, exp, mul, neg, relu, scale, sign, tanh } from "../ops/elementwise.js";
import { clamp } from "../ops/select.js";
import type { Tensor } from "../tensor/tensor.js";

/** An activation of an ONNX operator with its numbers. */
export interface OnnxActivation {
  /** Tells one from another: name and numbers. */
  readonly key: string;
  /** As a layer here takes it: by name if it has one. */
  readonly activation: Activation;
}

interface Kind {
  /** Default of the number; an activation without one does not take any from the list. */
  readonly alpha?: number;
  readonly beta?: number;
  of(alpha: number, beta: number): Activation;
}

const named = (name: Activation): Kind => ({ of: () => name });
/** min(x, 0) */
const negative = (x: Tensor) => neg(relu(neg(x)));

/** By ONNX's names in lower case, with the defaults of its operators. */
const kinds: Readonly<Record<string, Kind>> = {
  sigmoid: named("sigmoid"),
  tanh: named("tanh"),
  relu: named("relu"),
  softsign: named("softsign"),
  softplus: named("softplus"),
  /** The numbers of `hardSigmoid` here are Keras' of today, 1/6 and 0.5; the float32 of a file is as near as it gets. */
  hardsigmoid: {
    alpha: 0.2,
    beta: 0.5,
    of: (alpha, beta) =>
      Math.abs(alpha - 1 / 6) < 1e-7 && beta === 0.5 ? "hardSigmoid" : (x: Tensor) => clamp(affine(x, alpha, beta), 0, 1),
  },
  affine: { alpha: 1, beta: 0, of: (alpha, beta) => (x: Tensor) => affine(x, alpha, beta) },
  leakyrelu: { alpha: 0.01, of: (alpha) => (x: Tensor) => add(relu(x), scale(negative(x), alpha)) },
  thresholdedrelu: { alpha: 1, of: (alpha) => (x: Tensor) => mul(x, relu(sign(affine(x, 1, -alpha)))) },
  scaledtanh: { alpha: 1, beta: 1, of: (alpha, beta) => (x: Tensor) => scale(tanh(scale(x, beta)), alpha) },
  elu: { alpha: 1, of: (alpha) => (x: Tensor) => add(relu(x), affine(exp(negative(x)), alpha, -alpha)) },
};

/** The activations of an operator; alphas and betas are taken in turn by those that have such a number. */
export function onnxActivations(
  where: string,
  names: readonly string[],
  alphas: readonly number[] = [],
  betas: readonly number[] = [],
): OnnxActivation[] {
  const [nextAlpha, nextBeta] = [alphas.values(), betas.values()];
  return names.map((given) => {
    const name = given.toLowerCase();
    if (!Object.hasOwn(kinds, name))
      throw new RangeError(`${where}: activations must be of ${Object.keys(kinds).join(", ")} but one is ${given}`);
    const kind = kinds[name];
    const alpha = kind.alpha === undefined ? 0 : (nextAlpha.next().value ?? kind.alpha);
    const beta = kind.beta === undefined ? 0 : (nextBeta.next().value ?? kind.beta);
    return { key: `${name}(${alpha},${beta})`, activation: kind.of(alpha, beta) };
  });
}

/** The activation of what is within [-clip, clip]; 0 bounds nothing. */
export function bounded({ activation }: OnnxActivation, clip: number): Activation {
  if (clip === 0) return activation;
  const f = activationOf("ONNX", "activation", activation);
  return (x) => f(clamp(x, -clip, clip));
}
