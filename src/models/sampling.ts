import { checkCount, checkNumber } from "../tensor/check.js";

/** How the next id is chosen from a model's logits. */
export interface SamplingOptions {
  /** Logits are divided by it: below 1 bolder choices become rarer, 0 always takes the likeliest. Default 1. */
  readonly temperature?: number;
  /** Choose among this many likeliest ids only. Default: all. */
  readonly topK?: number;
  /** Choose among the fewest likeliest ids that together have at least this probability (Holtzman et al. 2020). Default 1: all. */
  readonly topP?: number;
  /**
   * Logits of ids that were there before, also in the prompt, are divided by it where they are positive and multiplied by
   * it where they are negative (Keskar et al. 2019). Default 1: nothing happens.
   */
  readonly repetitionPenalty?: number;
}

export const samplingOptions = ["temperature", "topK", "topP", "repetitionPenalty"] as const;

/** The ids that were there, in as much memory as there are ids. */
export class Seen {
  last = -1;
  private readonly flags: Uint8Array;

  constructor(vocabSize: number, ids: ArrayLike<number> = []) {
    this.flags = new Uint8Array(vocabSize);
    for (let i = 0; i < ids.length; i++) this.add(ids[i]);
  }

  add(id: number): void {
    this.flags[id] = 1;
    this.last = id;
  }

  has(id: number): boolean {
    return this.flags[id] === 1;
  }
}

/** @throws RangeError naming the first option that makes no sense. */
export function checkSampling(where: string, { temperature = 1, topK, topP = 1, repetitionPenalty = 1 }: SamplingOptions): void {
  checkNumber(where, "temperature", temperature, 0);
  if (topK !== undefined) checkCount(where, "topK", topK);
  checkNumber(where, "topP", topP, 0, 1);
  checkNumber(where, "repetitionPenalty", repetitionPenalty, Number.MIN_VALUE);
}

function largest(logits: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i] > logits[best]) best = i;
  return best;
}

/**
 * An id drawn from softmax(logits / temperature), after what is `seen` was made rarer and what `topK` and `topP` exclude was
 * left out. `u` in [0, 1) is the random number that decides.
 *
 * @throws Error if a logit is NaN or infinite.
 */
export function pick(
  given: ArrayLike<number>,
  u: number,
  { temperature = 1, topK, topP = 1, repetitionPenalty = 1 }: SamplingOptions = {},
  seen?: Seen,
): number {
  const bad = Array.prototype.findIndex.call(given, (v: number) => !Number.isFinite(v));
  if (bad >= 0) throw new Error(`sample: the model's logits must be finite but logit ${bad} is ${given[bad]}`);
  const rarer = (v: number, id: number) => (!seen?.has(id) ? v : v > 0 ? v / repetitionPenalty : v * repetitionPenalty);
  const logits = repetitionPenalty === 1 ? given : Float64Array.from(given, rarer);
  const best = largest(logits);
  if (temperature === 0) return best;
  const weights = Float64Array.from(logits, (v) => Math.exp((v - logits[best]) / temperature));
  const order = topK === undefined && topP === 1 ? null : likeliest(weights, topK, topP);
  const count = order?.length ?? weights.length;
  const idAt = (i: number) => (order ? order[i] : i);
  let left = 0;
  for (let i = 0; i < count; i++) left += weights[idAt(i)];
  left *= u;
  for (let i = 0; i < count; i++) {
    left -= weights[idAt(i)];
    if (left < 0) return idAt(i);
  }
  return idAt(0);
}

/** The ids that `topK` and `topP` leave, likeliest first. */
function likeliest(weights: Float64Array, topK: number | undefined, topP: number): number[] {
  let order = Array.from(weights, (_, i) => i);
  if (topK !== undefined && topK < weights.length) {
    // Ids of weights below the k-th need no sorting; of those equal to it the first are taken.
    const least = weights.slice().sort()[weights.length - topK];
    order = order.filter((id) => weights[id] >= least);
  }
  order.sort((a, b) => weights[b] - weights[a] || a - b);
  order = order.slice(0, topK);
  const wanted = topP * order.reduce((sum, id) => sum + weights[id], 0);
  let sum = 0;
  const last = order.findIndex((id) => (sum += weights[id]) >= wanted);
  return last < 0 ? order : order.slice(0, last + 1);
}
