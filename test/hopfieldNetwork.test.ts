import { describe, expect, it } from "vitest";
import { Generator, HopfieldNetwork, type HopfieldNetworkOptions } from "../src/index.js";

const signs = (count: number, generator: Generator) => Array.from({ length: count }, () => (generator.next() < 0.5 ? -1 : 1));
const randomPatterns = (count: number, units: number, seed: number) => {
  const generator = new Generator(seed);
  return Array.from({ length: count }, () => signs(units, generator));
};
const corrupt = (pattern: number[], share: number, generator: Generator) => pattern.map((s) => (generator.next() < share ? -s : s));
const wrong = (a: ArrayLike<number>, b: ArrayLike<number>) => Array.from(a).filter((value, i) => value !== b[i]).length;
const range = (n: number) => Array.from({ length: n }, (_, i) => i);

const networks: Record<string, HopfieldNetworkOptions> = {
  hebbian: {},
  "hebbian with self-coupling": { selfCoupling: true },
  "hebbian with thresholds": { thresholds: range(60).map((i) => Math.sin(i) / 4) },
  projection: { rule: "projection" },
  "projection with self-coupling": { rule: "projection", selfCoupling: true },
};

describe.each(Object.entries(networks))("the network of 1982, %s", (_, options) => {
  const network = new HopfieldNetwork(60, options).store(randomPatterns(8, 60, 3));
  const self = options.selfCoupling ?? false;

  it("has symmetric weights, with a diagonal only where asked for", () => {
    for (let i = 0; i < 60; i++) {
      for (let j = 0; j < i; j++) expect(network.weights[i * 60 + j]).toBe(network.weights[j * 60 + i]);
      expect(network.weights[i * 61] > 0).toBe(self);
    }
  });

  it("has the energy of its definition", () => {
    const s = signs(60, new Generator(1));
    let energy = 0;
    for (let i = 0; i < 60; i++) {
      energy += network.thresholds[i] * s[i];
      for (let j = 0; j < 60; j++) energy -= 0.5 * network.weights[i * 60 + j] * s[i] * s[j];
    }
    expect(network.energy(s)).toBeCloseTo(energy, 10);
  });

  it("never raises its energy by asynchronous updates, and ends in a fixed point", () => {
    const generator = new Generator(5);
    for (let trial = 0; trial < 20; trial++) {
      const { pattern, converged, sweeps, energies } = network.recall(signs(60, generator), { generator });
      expect(converged).toBe(true);
      expect(energies).toHaveLength(sweeps + 1);
      energies.slice(1).forEach((energy, i) => expect(energy).toBeLessThan(energies[i] + 1e-12));
      expect(network.sweep(pattern, { generator })).toEqual(pattern);
      expect(network.sweep(pattern, { update: "synchronous" })).toEqual(pattern);
    }
  });
});

describe("updates", () => {
  it("asynchronous ones see what changed before, in the order given", () => {
    // Two units that inhibit each other: whoever comes first turns, and the other then has what it wants.
    const network = new HopfieldNetwork(2).store([[1, -1]]);
    expect(network.sweep([1, 1], { order: [0, 1] })).toEqual(Int8Array.of(-1, 1));
    expect(network.sweep([1, 1], { order: [1, 0] })).toEqual(Int8Array.of(1, -1));
    expect(network.sweep([1, 1], { update: "synchronous" })).toEqual(Int8Array.of(-1, -1));
  });

  it("synchronous ones may swing between two states, and that is found", () => {
    const network = new HopfieldNetwork(2).store([[1, -1]]);
    const { converged, sweeps, pattern } = network.recall([1, 1], { update: "synchronous" });
    expect({ converged, sweeps, pattern }).toEqual({ converged: false, sweeps: 2, pattern: Int8Array.of(1, 1) });
  });

  it("synchronous ones recall what asynchronous ones recall", () => {
    const patterns = randomPatterns(3, 100, 4);
    const network = new HopfieldNetwork(100).store(patterns);
    const { pattern, converged } = network.recall(corrupt(patterns[1], 0.15, new Generator(2)), { update: "synchronous" });
    expect([converged, wrong(pattern, patterns[1])]).toEqual([true, 0]);
  });

  it("random orders follow from the seed", () => {
    const network = new HopfieldNetwork(60).store(randomPatterns(30, 60, 3));
    const recall = (seed: number) => network.recall(signs(60, new Generator(9)), { generator: new Generator(seed) });
    expect(recall(1)).toEqual(recall(1));
    expect(new Set(range(8).map((seed) => recall(seed).pattern.join())).size).toBeGreaterThan(1);
  });

  it("a tie leaves a unit as it is, a threshold decides which side it takes", () => {
    const free = new HopfieldNetwork(3);
    expect(free.recall([1, -1, 1])).toMatchObject({ converged: true, sweeps: 0, energies: [0] });
    const biased = new HopfieldNetwork(3, { thresholds: [0.5, -0.5, 0] });
    expect(biased.sweep([1, -1, 1])).toEqual(Int8Array.of(-1, 1, 1));
    expect(biased.energy([-1, 1, 1])).toBe(-1);
  });

  it("stops after maxSweeps", () => {
    const network = new HopfieldNetwork(100).store(randomPatterns(40, 100, 8));
    const start = signs(100, new Generator(3));
    const whole = network.recall(start, { generator: new Generator(1) });
    expect(whole.sweeps).toBeGreaterThan(2);
    const cut = network.recall(start, { generator: new Generator(1), maxSweeps: 2 });
    expect(cut).toEqual({ ...cut, converged: false, sweeps: 2, energies: whole.energies.slice(0, 3) });
  });
});

describe("storage", () => {
  it("Hebb's rule sums outer products over N, pattern by pattern or together", () => {
    const network = new HopfieldNetwork(3).store([[1, 1, -1], [1, -1, -1]]); // prettier-ignore
    expect(Array.from(network.weights)).toEqual([0, 0, -2 / 3, 0, 0, 0, -2 / 3, 0, 0]);
    const apart = new HopfieldNetwork(3).store([[1, 1, -1]]).store([[1, -1, -1]]);
    expect(apart.weights).toEqual(network.weights);
  });

  it("the projection rule gives w X = X and w w = w, also for patterns that depend on each other", () => {
    const patterns = randomPatterns(5, 20, 6);
    const again = [patterns[0], patterns[1].map((s) => -s), ...patterns];
    const { weights } = new HopfieldNetwork(20, { rule: "projection", selfCoupling: true }).store(again);
    const times = (v: ArrayLike<number>) => range(20).map((i) => range(20).reduce((acc, j) => acc + weights[i * 20 + j] * v[j], 0));
    for (const pattern of again) times(pattern).forEach((value, i) => expect(value).toBeCloseTo(pattern[i], 12));
    const column = times(range(20).map((i) => weights[i * 20 + 3]));
    column.forEach((value, i) => expect(value).toBeCloseTo(weights[i * 20 + 3], 12));
    expect(range(20).reduce((trace, i) => trace + weights[i * 21], 0)).toBeCloseTo(5, 12); // the dimension of the span
  });

  it.each([false, true])(
    "every pattern stored by projection is a fixed point, far past Hebb's capacity (self-coupling %s)",
    (selfCoupling) => {
      const patterns = randomPatterns(60, 100, 11);
      const projection = new HopfieldNetwork(100, { rule: "projection", selfCoupling }).store(patterns);
      for (const pattern of patterns) expect(projection.recall(pattern)).toMatchObject({ converged: true, sweeps: 0 });
      const hebbian = new HopfieldNetwork(100, { selfCoupling }).store(patterns);
      expect(patterns.filter((pattern) => hebbian.recall(pattern).sweeps === 0).length).toBeLessThan(60);
    },
  );

  it("alike patterns are kept apart by projection, not by Hebb's rule", () => {
    const generator = new Generator(2);
    const base = signs(100, generator);
    const patterns = range(6).map(() => corrupt(base, 0.1, generator));
    const kept = (rule: "hebbian" | "projection") =>
      patterns.filter((p) => wrong(new HopfieldNetwork(100, { rule }).store(patterns).recall(p, { generator }).pattern, p) === 0).length;
    expect(kept("projection")).toBe(6);
    expect(kept("hebbian")).toBeLessThan(6);
  });

  it("recalls corrupted patterns below capacity and not above it", () => {
    const recalled = (count: number) => {
      const patterns = randomPatterns(count, 200, 21);
      const network = new HopfieldNetwork(200).store(patterns);
      const generator = new Generator(4);
      const errors = patterns.map((p) => wrong(network.recall(corrupt(p, 0.1, generator), { generator }).pattern, p));
      return errors.reduce((a, b) => a + b) / (200 * count);
    };
    expect(recalled(10)).toBeLessThan(0.005); // 0.05 N
    expect(recalled(60)).toBeGreaterThan(0.1); // 0.3 N: more errors than the start had
  });
});

describe("what is no network or no pattern is refused", () => {
  const network = new HopfieldNetwork(3);
  it.each<[string, () => unknown, RegExp]>([
    ["a value that is not a sign", () => network.store([[1, -1, 1], [1, 0, 1]]), /HopfieldNetwork.store: patterns\[1\] must be \+1 and -1 but has 0 at 1/], // prettier-ignore
    ["NaN", () => network.recall([1, NaN, 1]), /HopfieldNetwork.recall: pattern must be \+1 and -1 but has NaN at 1/],
    ["a short pattern", () => network.energy([1, 1]), /HopfieldNetwork.energy: state must have 3 values but has 2/],
    ["a pattern that is no list", () => network.store([1, -1, 1] as never), /HopfieldNetwork.store: patterns\[0\] must have 3 values/],
    [
      "an order with a gap",
      () => network.sweep([1, 1, 1], { order: [0, 1, 1] }),
      /HopfieldNetwork.sweep: order must name each of the units 0 to 2 once/,
    ],
    ["an order past the end", () => network.recall([1, 1, 1], { order: [1, 2, 3] }), /HopfieldNetwork.recall: order must name each/],
    ["an order for all at once", () => network.sweep([1, 1, 1], { update: "synchronous", order: [0, 1, 2] }), /order has no meaning/],
    [
      "an unknown update",
      () => network.sweep([1, 1, 1], { update: "async" as never }),
      /update must be "asynchronous" or "synchronous" but is "async"/,
    ],
    ["no sweeps", () => network.recall([1, 1, 1], { maxSweeps: 0 }), /maxSweeps must be an integer of at least 1 but is 0/],
    [
      "an unknown rule",
      () => new HopfieldNetwork(3, { rule: "storkey" as never }),
      /rule must be "hebbian" or "projection" but is "storkey"/,
    ],
    ["too few thresholds", () => new HopfieldNetwork(3, { thresholds: [0, 1] }), /thresholds must be a number or 3 of them but are 2/],
    ["an infinite threshold", () => new HopfieldNetwork(2, { thresholds: [0, Infinity] }), /thresholds\[1\] must be a number/],
    ["no units", () => new HopfieldNetwork(0), /units must be an integer of at least 1 but is 0/],
    ["an unknown option", () => new HopfieldNetwork(3, { treshold: 1 } as never), /unknown option treshold; did you mean thresholds\?/],
  ])("%s", (_, call, message) => {
    expect(call).toThrow(message);
    expect(network.weights).toEqual(new Float64Array(9));
  });
});
