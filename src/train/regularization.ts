import { mul, scale, square, sub } from "../ops/elementwise.js";
import { reshape, slice } from "../ops/movement.js";
import { mean, sum } from "../ops/reduce.js";
import { sequenceMask } from "../ops/sequence.js";
import { checkNumber, checkOptions } from "../tensor/check.js";
import { tensor, zeros } from "../tensor/create.js";
import { showShape } from "../tensor/op.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";

/** Options of the penalties on activations. */
export interface ActivationOptions {
  /** Valid steps of each row, 0 to T: the mean is over these. Default: all. */
  readonly lengths?: readonly number[] | Int32Array;
}

/**
 * Activation regularisation (Merity, McCann & Socher 2017): alpha times the mean of the squares of the output [N, T, C] of
 * the last recurrent layer, after dropout. A term to add to the loss; AWD-LSTM has alpha = 2.
 */
export function activationRegularization(output: Tensor, alpha: number, options: ActivationOptions = {}): Tensor {
  check("activationRegularization", output, "alpha", alpha, options);
  return scope(() => scale(meanSquare(output, options.lengths), alpha));
}

/**
 * Temporal activation regularisation (Merity, McCann & Socher 2017): beta times the mean of the squares of h_t - h_{t-1},
 * over the output [N, T, C] of the last recurrent layer, before dropout. 0 for fewer than two steps. AWD-LSTM has beta = 1.
 */
export function temporalActivationRegularization(output: Tensor, beta: number, options: ActivationOptions = {}): Tensor {
  check("temporalActivationRegularization", output, "beta", beta, options);
  const steps = output.shape[1];
  return scope(() => {
    if (steps < 2) return scale(sum(slice(output, 1, 0, 0)), beta);
    const change = sub(slice(output, 1, 1, steps), slice(output, 1, 0, steps - 1));
    const lengths = options.lengths && Array.from(options.lengths, (length) => Math.max(0, length - 1));
    return scale(meanSquare(change, lengths), beta);
  });
}

function check(where: string, { shape }: Tensor, name: string, factor: number, options: ActivationOptions): void {
  checkOptions(where, options, ["lengths"]);
  checkNumber(where, name, factor, 0);
  if (shape.length !== 3) throw new RangeError(`${where}: output must be [N, T, C] but is ${showShape(shape)}`);
  const { lengths } = options;
  if (lengths && (lengths.length !== shape[0] || !lengths.every((v: number) => Number.isInteger(v) && v >= 0 && v <= shape[1])))
    throw new RangeError(`${where}: lengths must be ${shape[0]} integers from 0 to ${shape[1]} but are ${showShape(Array.from(lengths))}`);
}

function meanSquare(x: Tensor, lengths: ActivationOptions["lengths"]): Tensor {
  if (!lengths) return mean(square(x));
  const { device, dtype } = x;
  const [rows, steps, features] = x.shape;
  const valid = sequenceMask(tensor(Int32Array.from(lengths), { device }), steps, dtype as "float32");
  const count = features * Array.from(lengths).reduce((a, b) => a + b, 0);
  return count === 0 ? zeros([], { device, dtype }) : scale(sum(mul(square(x), reshape(valid, [rows, steps, 1]))), 1 / count);
}
