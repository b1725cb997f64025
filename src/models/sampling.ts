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
  for (let i = 0; i < given.length; i++)
    if (!Number.isFinite(given[i])) throw new Error(`sample: the model's logits must be finite but logit ${i} is ${given[i]}`);
  const logits = repetitionPenalty === 1 || !seen ? given : penalised(given, repetitionPenalty, seen);
  const best = largest(logits);
  if (temperature === 0) return best;
  const weights = new Float64Array(logits.length);
  let total = 0;
  for (let i = 0; i < weights.length; i++) total += weights[i] = Math.exp((logits[i] - logits[best]) / temperature);
  if ((topK === undefined || topK >= weights.length) && topP === 1) return draw(weights, null, u * total);
  const order = likeliest(weights, total, topK ?? weights.length, topP);
  const left = order.reduce((sum, id) => sum + weights[id], 0);
  return draw(weights, order, u * left);
}

function penalised(logits: ArrayLike<number>, penalty: number, seen: Seen): Float64Array {
  const changed = Float64Array.from(logits);
  for (let i = 0; i < changed.length; i++) if (seen.has(i)) changed[i] = changed[i] > 0 ? changed[i] / penalty : changed[i] * penalty;
  return changed;
}

/** The id at which the sum of the weights passes `level`, in this order or that of the ids. */
function draw(weights: Float64Array, order: readonly number[] | null, level: number): number {
  const count = order?.length ?? weights.length;
  let left = level;
  for (let i = 0; i < count; i++) {
    const id = order ? order[i] : i;
    left -= weights[id];
    if (left < 0) return id;
  }
  return order ? order[0] : 0;
}

/** The ids that `topK` and `topP` leave, likeliest first and equals by their number. */
function likeliest(weights: Float64Array, total: number, topK: number, topP: number): number[] {
  // Together, weights of at most this are less than what topP leaves out: they need no sorting.
  const least = topK < weights.length ? kth(weights, topK) : ((1 - topP) * total) / weights.length;
  const found: number[] = [];
  for (let i = 0; i < weights.length; i++) if (weights[i] >= least) found.push(i);
  const order = found.sort((a, b) => weights[b] - weights[a] || a - b).slice(0, topK);
  const wanted = topP * (topK < weights.length ? order.reduce((sum, id) => sum + weights[id], 0) : total);
  let sum = 0;
  const last = order.findIndex((id) => (sum += weights[id]) >= wanted);
  return last < 0 ? order : order.slice(0, last + 1);
}

/** The k-th largest value, by a heap of the k largest so far whose root is the smallest of them. */
function kth(values: Float64Array, k: number): number {
  const heap = values.slice(0, k).sort();
  for (let i = k; i < values.length; i++) {
    const value = values[i];
    if (value <= heap[0]) continue;
    let at = 0;
    for (let child = 1; child < k; child = 2 * at + 1) {
      if (child + 1 < k && heap[child + 1] < heap[child]) child++;
      if (heap[child] >= value) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = value;
  }
  return heap[0];
}
