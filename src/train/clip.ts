import { Module } from "../nn/module.js";
import { clipNorm, clipValue } from "../ops/update.js";
import type { Tensor } from "../tensor/tensor.js";

function gradients(of: Module | readonly Tensor[]): Tensor[] {
  const parameters = of instanceof Module ? of.parameters() : of;
  return parameters.flatMap((p) => (p.grad ? [p.grad] : []));
}

function checkBound(where: string, name: string, value: unknown): void {
  if (typeof value !== "number" || !(value >= 0))
    throw new RangeError(`${where}: ${name} must be a number of at least 0 but is ${String(value)}`);
}

/**
 * Scales all gradients together so that their common 2-norm is at most `max` (Pascanu et al. 2013); `Infinity` only
 * measures. Gives the norm before, a tensor of one element, without waiting for it.
 */
export function clipGradNorm(parameters: Module | readonly Tensor[], max: number): Tensor {
  checkBound("clipGradNorm", "max", max);
  return clipNorm(gradients(parameters), max);
}

/** Limits every element of the gradients to [-limit, limit]. */
export function clipGradValue(parameters: Module | readonly Tensor[], limit: number): void {
  checkBound("clipGradValue", "limit", limit);
  clipValue(gradients(parameters), limit);
}
