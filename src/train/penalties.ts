import { elmanRelu, elmanTanh } from "../cells/elman.js";
import { Module } from "../nn/module.js";
import { abs, add, affine, div, greater, mul, scale, sqrt, square, sub } from "../ops/elementwise.js";
import { matmul } from "../ops/matmul.js";
import { stack } from "../ops/movement.js";
import { max, sum } from "../ops/reduce.js";
import { where } from "../ops/select.js";
import { inputsOf, isPlain } from "../ops/sweepInputs.js";
import { tensor } from "../tensor/create.js";
import { noGrad } from "../tensor/graph.js";
import { scope } from "../tensor/scope.js";
import { grad, Tensor } from "../tensor/tensor.js";
import { stateGradients, traceSweeps, type TracedSweep } from "./trace.js";

/**
 * The squared 2-norm of the gradient of a loss by some parameters, as a tensor of one element that can itself be
 * differentiated: a term to add to the loss, to stay where the loss is flat (Drucker & LeCun 1992). The backward pass is
 * recorded, so `loss` can still be differentiated after; a step costs about three times as much.
 *
 * @throws if the loss is not one element, or does not depend on any of the parameters.
 */
export function gradientNormPenalty(loss: Tensor, parameters: Module | readonly Tensor[]): Tensor {
  const list = parameters instanceof Module ? parameters.parameters() : parameters;
  return scope(() => {
    const gradients = grad(loss, list, { createGraph: true }).filter((g) => g !== null);
    if (gradients.length === 0) throw new Error("gradientNormPenalty: the loss does not depend on any of the parameters");
    return gradients.map((g) => sum(square(g))).reduce((a, b) => add(a, b));
  });
}

/**
 * A loss, and the regulariser of Pascanu, Mikolov & Bengio 2013 (section 3.3) that keeps gradients from vanishing or
 * exploding on their way back through time, for `RNN` layers (tanh or relu): with g_t = dL/dh_t and the Jacobian of one step
 * J_t = dh_t/dh_{t-1} = diag(f'(a_t)) U,
 *
 *     Omega = sum_t ( ||g_t J_t|| / ||g_t|| - 1 )^2
 *
 * summed over the layers, directions and valid steps of each row, and averaged over the rows. As in the paper only the
 * immediate derivative by U (`weight_hh`) is taken: g_t and the states, and with them f', are constants, so `penalty` has a
 * gradient by U and by nothing else. Steps whose g_t is zero do not count.
 *
 * `run` computes the loss, one element, from a model that it runs; it is run once, step by step, and its tape is kept:
 * `add(loss, scale(penalty, 0.5)).backward()`.
 *
 * @throws if no RNN layer was run, or one with options beside biases and lengths.
 */
export function pascanuPenalty(run: () => Tensor): { loss: Tensor; penalty: Tensor } {
  return scope(() => {
    const { result: loss, sweeps } = traceSweeps(run);
    if (!(loss instanceof Tensor) || loss.size !== 1) throw new TypeError("pascanuPenalty: the loss must be a tensor of one element");
    const mine = sweeps.filter(({ op }) => op === elmanTanh.sweep || op === elmanRelu.sweep);
    if (mine.length === 0) throw new Error("pascanuPenalty: no RNN layer was run");
    const gradients = stateGradients(loss, mine);
    const terms = mine.map((sweep, i) => omega(sweep, gradients[i].map(([g]) => g))); // prettier-ignore
    return { loss, penalty: terms.reduce((a, b) => add(a, b)) };
  });
}

function omega({ op, inputs, attrs, steps, lengths }: TracedSweep, gradients: readonly Tensor[]): Tensor {
  const cell = op === elmanTanh.sweep ? elmanTanh : elmanRelu;
  const named = inputsOf<Tensor>(cell, inputs);
  if (!isPlain(named, attrs)) throw new Error("pascanuPenalty: an RNN layer may have no options beside biases and lengths");
  const { device, dtype } = gradients[0];
  const rows = gradients[0].shape[0];
  const { direction, counted } = noGrad(() => {
    const h = stack(steps.map(({ states }) => states[0].detach()));
    const valid = lengths && Float32Array.from({ length: steps.length * rows }, (_, i) => +(Math.floor(i / rows) < lengths[i % rows]));
    const all = stack(gradients);
    const g = valid ? mul(all, tensor(valid, { shape: [steps.length, rows, 1], device, dtype })) : all;
    // Long ago g may be too small to be squared in float32: only its direction enters the ratio.
    const most = max(abs(g), { axis: -1, keepDims: true });
    const counted = greater(most, most.like(0));
    const scaled = div(g, where(counted, most, most.like(1)));
    const norm = sqrt(sum(square(scaled), { axis: -1, keepDims: true }));
    const unit = div(scaled, where(counted, norm, norm.like(1)));
    const slope = cell === elmanTanh ? affine(square(h), -1, 1) : greater(h, h.like(0));
    return { direction: mul(unit, slope), counted };
  });
  const squared = sum(square(matmul(direction, named.weightHh!)), { axis: -1, keepDims: true });
  // The root has no derivative at 0, where all units are cut off and the term is 1 whatever U is.
  const open = greater(squared, squared.like(0));
  const ratio = mul(open, sqrt(where(open, squared, squared.like(1))));
  return scale(sum(mul(counted, square(sub(ratio, ratio.like(1))))), 1 / rows);
}
