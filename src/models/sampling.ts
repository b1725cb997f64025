import { checkCount, checkNumber } from "../tensor/check.js";

/** How the next id is chosen from a model's logits. */
export interface SamplingOptions {
  /** Logits are divided by it: below 1 bolder choices become rarer, 0 always takes the likeliest. Default 1. */
  readonly temperature?: number;
  /** Choose among this many likeliest ids only. Default: all. */
  readonly topK?: number;
  /** Choose among the fewest likeliest ids that together have at least this probability (Holtzman et al. 2020). Default 1: all. */
  readonly topP?: number;
}

export const samplingOptions = ["temperature", "topK", "topP"] as const;

/** @throws RangeError naming the first option that makes no sense. */
export function checkSampling(where: string, { temperature = 1, topK, topP = 1 }: SamplingOptions): void {
  checkNumber(where, "temperature", temperature, 0);
  if (topK !== undefined) checkCount(where, "topK", topK);
  checkNumber(where, "topP", topP, 0, 1);
}

function largest(logits: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i] > logits[best]) best = i;
  return best;
}

/**
 * An id drawn from softmax(logits / temperature), after leaving out what `topK` and `topP` exclude. `u` in [0, 1) is the
 * random number that decides.
 *
 * @throws Error if a logit is NaN or infinite.
 */
export function pick(logits: ArrayLike<number>, u: number, { temperature = 1, topK, topP = 1 }: SamplingOptions = {}): number {
  const bad = Array.prototype.findIndex.call(logits, (v: number) => !Number.isFinite(v));
  if (bad >= 0) throw new Error(`sample: the model's logits must be finite but logit ${bad} is ${logits[bad]}`);
  const best = largest(logits);
  if (temperature === 0) return best;
  const weights = Float64Array.from(logits, (v) => Math.exp((v - logits[best]) / temperature));
  let order = Array.from(weights, (_, i) => i);
  if (topK !== undefined || topP < 1) {
    order.sort((a, b) => weights[b] - weights[a] || a - b);
    order = order.slice(0, topK);
    order = order.slice(0, nucleus(order, weights, topP));
  }
  let left = u * total(order, weights);
  for (const id of order) {
    left -= weights[id];
    if (left < 0) return id;
  }
  return order[0];
}

const total = (order: readonly number[], weights: Float64Array) => order.reduce((sum, id) => sum + weights[id], 0);

/** How many of the ids, likeliest first, reach the probability `topP`. */
function nucleus(order: readonly number[], weights: Float64Array, topP: number): number {
  const wanted = topP * total(order, weights);
  let sum = 0;
  const last = order.findIndex((id) => (sum += weights[id]) >= wanted);
  return last < 0 ? order.length : last + 1;
}
