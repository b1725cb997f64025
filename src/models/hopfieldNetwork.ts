import { checkCount, checkNumber, checkOptions } from "../tensor/check.js";
import { defaultGenerator, type Generator } from "../tensor/random.js";

export interface HopfieldNetworkOptions {
  /** How patterns are stored: see `HopfieldNetwork`. Default `"hebbian"`. */
  readonly rule?: "hebbian" | "projection";
  /** Threshold of every unit, or one for each. Default 0. */
  readonly thresholds?: number | ArrayLike<number>;
  /** Let units act on themselves (the diagonal of the weights). Default false. */
  readonly selfCoupling?: boolean;
}

export interface UpdateOptions {
  /** One unit after another, each seeing what changed before it (default), or all at once. */
  readonly update?: "asynchronous" | "synchronous";
  /** Every unit once, in the order of an asynchronous sweep. Default: a new random order for each sweep. */
  readonly order?: readonly number[];
  /** Source of random orders. Default: the process's generator. */
  readonly generator?: Generator;
}

export interface RecallOptions extends UpdateOptions {
  /** Give up after so many sweeps. Default 100. */
  readonly maxSweeps?: number;
}

/** What a recall ended with. */
export interface Recall {
  /** The last state, +1 and -1. */
  readonly pattern: Int8Array;
  /** Whether that is a fixed point. If not, `maxSweeps` ran out, or a synchronous network swings between two states. */
  readonly converged: boolean;
  /** How many sweeps changed something. */
  readonly sweeps: number;
  /** Energy of the start and after each of those sweeps. */
  readonly energies: readonly number[];
}

/** A field nearer to its threshold than this is a tie: sums of rounded weights would decide it by chance. */
const TIE = 1e-9;

/**
 * The network of Hopfield 1982: an associative memory of units s_i = +1 or -1 with symmetric weights w and thresholds
 * theta. A unit looks at its field and takes its sign; in a tie it stays:
 *
 *     h_i = sum_j w_ij s_j
 *     s_i <- +1 if h_i > theta_i, -1 if h_i < theta_i
 *     E = -1/2 sum_ij w_ij s_i s_j + sum_i theta_i s_i
 *
 * No asynchronous update raises the energy, so that every recall ends in a fixed point. Synchronous updates end in a
 * fixed point or swing between two states (Goles & Olivos 1980). Patterns xi of N units are stored by one of two rules:
 *
 * - `hebbian` (Hopfield 1982): w_ij = 1/N sum over patterns of xi_i xi_j. Recalls up to about 0.14 N random patterns with
 *   few errors (Amit, Gutfreund & Sompolinsky 1985); patterns that resemble each other disturb each other sooner.
 * - `projection`, or pseudo-inverse (Personnaz, Guyon & Dreyfus 1985): w = X X^+ with the patterns as columns of X, the
 *   orthogonal projection on their span. With thresholds 0 every stored pattern is a fixed point, alike or not. The
 *   diagonal makes the basins of attraction smaller (Kanter & Sompolinsky 1987).
 *
 * The diagonal is 0 unless `selfCoupling`. Computed on the host in double precision: the memory is N x N numbers.
 */
export class HopfieldNetwork {
  /** w, [units, units] in row-major order. */
  readonly weights: Float64Array;
  readonly thresholds: Float64Array;
  readonly rule: "hebbian" | "projection";
  private readonly selfCoupling: boolean;
  /** Orthonormal basis of what the projection rule has stored. */
  private readonly basis: Float64Array[] = [];

  /** @throws on a number of units below 1, thresholds that are not finite or too few, an unknown rule or option. */
  constructor(
    readonly units: number,
    options: HopfieldNetworkOptions = {},
  ) {
    checkCount("HopfieldNetwork", "units", units);
    checkOptions("HopfieldNetwork", options, ["rule", "thresholds", "selfCoupling"]);
    const { rule = "hebbian", thresholds = 0, selfCoupling = false } = options;
    if (rule !== "hebbian" && rule !== "projection")
      throw new RangeError(`HopfieldNetwork: rule must be "hebbian" or "projection" but is ${JSON.stringify(rule)}`);
    this.rule = rule;
    this.selfCoupling = selfCoupling;
    this.weights = new Float64Array(units * units);
    this.thresholds = typeof thresholds === "number" ? new Float64Array(units).fill(thresholds) : Float64Array.from(thresholds);
    if (this.thresholds.length !== units)
      throw new RangeError(`HopfieldNetwork: thresholds must be a number or ${units} of them but are ${this.thresholds.length}`);
    this.thresholds.forEach((value, i) => checkNumber("HopfieldNetwork", `thresholds[${i}]`, value));
  }

  /**
   * Adds patterns to those stored before. None is stored unless all are right.
   * @throws unless each has `units` values, all +1 or -1.
   */
  store(patterns: readonly ArrayLike<number>[]): this {
    const checked = patterns.map((pattern, p) => this.check(`store: patterns[${p}]`, pattern));
    for (const pattern of checked) {
      if (this.rule === "hebbian") this.addOuter(pattern, 1 / this.units);
      else this.project(pattern);
    }
    return this;
  }

  /** E of a state. @throws unless it has `units` values, all +1 or -1. */
  energy(state: ArrayLike<number>): number {
    return this.energyOf(this.check("energy: state", state));
  }

  /**
   * The state after every unit was updated once. @throws on a wrong state, order or option.
   */
  sweep(state: ArrayLike<number>, options: UpdateOptions = {}): Int8Array {
    checkOptions("HopfieldNetwork.sweep", options, ["update", "order", "generator"]);
    return this.updater("sweep", options)(this.check("sweep: state", state));
  }

  /**
   * Sweeps from a corrupted pattern until nothing changes, a synchronous network is back where it was two sweeps ago, or
   * `maxSweeps` are done. @throws on a wrong pattern, order or option.
   */
  recall(pattern: ArrayLike<number>, options: RecallOptions = {}): Recall {
    checkOptions("HopfieldNetwork.recall", options, ["update", "order", "generator", "maxSweeps"]);
    const { maxSweeps = 100, ...how } = options;
    checkCount("HopfieldNetwork.recall", "maxSweeps", maxSweeps);
    const next = this.updater("recall", how);
    const same = (a: Int8Array, b: Int8Array) => a.every((value, i) => value === b[i]);
    let state = this.check("recall: pattern", pattern);
    let before: Int8Array | null = null;
    const energies = [this.energyOf(state)];
    for (let sweep = 0; sweep < maxSweeps; sweep++) {
      const after = next(state);
      if (same(after, state)) return { pattern: state, converged: true, sweeps: sweep, energies };
      energies.push(this.energyOf(after));
      const swings = before !== null && same(after, before);
      [before, state] = [state, after];
      if (swings) break;
    }
    return { pattern: state, converged: state.every((s, i) => this.unit(state, i) === s), sweeps: energies.length - 1, energies };
  }

  /** One sweep by the options, with the order of each checked or drawn. */
  private updater(name: string, { update = "asynchronous", order, generator = defaultGenerator }: UpdateOptions) {
    const where = `HopfieldNetwork.${name}`;
    if (update !== "asynchronous" && update !== "synchronous")
      throw new RangeError(`${where}: update must be "asynchronous" or "synchronous" but is ${JSON.stringify(update)}`);
    if (order && update === "synchronous") throw new RangeError(`${where}: order has no meaning for a synchronous update`);
    if (order && (order.length !== this.units || new Set(order).size !== this.units || order.some((i) => !(i in this.thresholds))))
      throw new RangeError(`${where}: order must name each of the units 0 to ${this.units - 1} once`);
    return (state: Int8Array): Int8Array => {
      if (update === "synchronous") return state.map((_, i) => this.unit(state, i));
      const next = state.slice();
      for (const i of order ?? permutation(this.units, generator)) next[i] = this.unit(next, i);
      return next;
    };
  }

  /** What unit i becomes. */
  private unit(state: Int8Array, i: number): number {
    const excess = this.field(state, i) - this.thresholds[i];
    return Math.abs(excess) <= TIE ? state[i] : Math.sign(excess);
  }

  private field(state: Int8Array, i: number): number {
    let h = 0;
    for (let j = 0, at = i * this.units; j < this.units; j++, at++) h += this.weights[at] * state[j];
    return h;
  }

  private energyOf(state: Int8Array): number {
    return state.reduce((energy, s, i) => energy + s * (this.thresholds[i] - this.field(state, i) / 2), 0);
  }

  /** w += factor v v^T */
  private addOuter(v: ArrayLike<number>, factor: number): void {
    for (let i = 0, at = 0; i < this.units; i++)
      for (let j = 0; j < this.units; j++, at++) if (i !== j || this.selfCoupling) this.weights[at] += factor * v[i] * v[j];
  }

  /** Adds the part of a pattern that is new to the span (Gram and Schmidt, twice for the sake of rounding). */
  private project(pattern: Int8Array): void {
    const rest = Float64Array.from(pattern);
    for (let pass = 0; pass < 2; pass++)
      for (const q of this.basis) {
        const share = q.reduce((acc, value, i) => acc + value * rest[i], 0);
        q.forEach((value, i) => (rest[i] -= share * value));
      }
    const length = Math.sqrt(rest.reduce((acc, value) => acc + value * value, 0));
    if (length <= TIE * Math.sqrt(this.units)) return;
    const direction = rest.map((value) => value / length);
    this.basis.push(direction);
    this.addOuter(direction, 1);
  }

  private check(what: string, pattern: ArrayLike<number>): Int8Array {
    const { length } = pattern;
    if (length !== this.units) throw new RangeError(`HopfieldNetwork.${what} must have ${this.units} values but has ${length}`);
    for (let i = 0; i < length; i++)
      if (pattern[i] !== 1 && pattern[i] !== -1)
        throw new RangeError(`HopfieldNetwork.${what} must be +1 and -1 but has ${String(pattern[i])} at ${i}`);
    return Int8Array.from(pattern);
  }
}

/** 0 to n - 1 in random order (Fisher & Yates). */
function permutation(n: number, generator: Generator): number[] {
  const order = Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = Math.floor(generator.next() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}
