import { describe, expect, test } from "vitest";
import type { Backend } from "../src/backend/backend.js";
import { device, dropout, Generator, manualSeed, normal, sum, tensor, uniform, bernoulli, type Tensor } from "../src/index.js";
import { philox } from "../src/tensor/philox.js";
import { nativeBackends, sameBits } from "./helpers.js";

device.use("reference");

/** Sample mean and variance. */
function moments(values: ArrayLike<number>): [number, number] {
  const list = Array.from(values);
  const mean = list.reduce((a, b) => a + b, 0) / list.length;
  return [mean, list.reduce((a, b) => a + (b - mean) ** 2, 0) / list.length];
}

describe("philox", () => {
  // Known answers published with Random123 (kat_vectors, philox4x32 with 10 rounds).
  test.each([
    [
      [0, 0, 0, 0],
      [0, 0],
      [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    ],
    [
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff],
      [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ])("counter %j, key %j", ([a, b, c, d], [k0, k1], expected) => {
    const out = new Uint32Array(4);
    philox(a, b, c, d, k0, k1, out);
    expect(Array.from(out)).toEqual(expected);
  });
});

describe("Generator", () => {
  test("goes on from a saved state, across kinds of draws", () => {
    const generator = new Generator(2 ** 40 + 7);
    uniform([5], { generator });
    const state = JSON.parse(JSON.stringify(generator.state()));
    const draw = (g: Generator) =>
      [uniform([7], { generator: g }), normal([3], { generator: g }), bernoulli([9], 0.5, { generator: g })]
        .flatMap((t) => Array.from(t.dataSync()))
        .concat(g.next());
    const first = draw(generator);
    const resumed = new Generator();
    resumed.setState(state);
    expect(draw(resumed)).toEqual(first);
    expect(resumed.state()).toEqual(generator.state());
    expect(draw(generator)).not.toEqual(first);
  });

  test("carries the offset past 32 bits", () => {
    const at = (offset: number) => {
      const generator = new Generator(1);
      generator.setState({ seed: 1, offset });
      return Array.from(uniform([8], { generator }).dataSync());
    };
    expect(at(2 ** 32 - 1).slice(4)).toEqual(at(2 ** 32).slice(0, 4));
    expect(at(2 ** 32)).not.toEqual(at(0));
  });

  test("two draws never share a block", () => {
    const generator = new Generator(3);
    const parts = [uniform([4], { generator }), uniform([4], { generator })].flatMap((t) => Array.from(t.dataSync()));
    expect(parts).toEqual(Array.from(uniform([8], { generator: new Generator(3) }).dataSync()));
  });

  test("manualSeed repeats, another seed differs", () => {
    const draw = (seed: number) => {
      manualSeed(seed);
      return Array.from(uniform([6]).dataSync());
    };
    expect(draw(5)).toEqual(draw(5));
    expect(draw(5)).not.toEqual(draw(6));
  });

  test.each([-1, 0.5, NaN, 2 ** 53])("refuses seed %s", (seed) =>
    expect(() => new Generator(seed)).toThrow("Generator: seed must be an integer from 0 to 2^53 - 1"),
  );
});

describe.each(nativeBackends(2))("on $isa", ({ backend }) => {
  test("every bit is that of the reference", () => {
    const generator = (offset: number) => {
      const made = new Generator(2 ** 45 + 3);
      made.setState({ ...made.state(), offset });
      return made;
    };
    for (const offset of [0, 2 ** 32 - 5000]) {
      const both = (draw: (on: Backend) => Tensor) => [draw(backend), draw(device("reference"))].map((t) => t.dataSync());
      const [u, v] = both((on) => uniform([40_007], { low: -0.1, high: 0.7, device: on, generator: generator(offset) }));
      expect(sameBits(u, v)).toBe(true);
      const [a, b] = both((on) => bernoulli([40_007], 0.1, { value: 1 / 0.9, device: on, generator: generator(offset) }));
      expect(sameBits(a, b)).toBe(true);
    }
  });
});

describe("draws", () => {
  const n = 20000;
  // Six standard errors of the mean and of the variance.
  const within = (sd: number) => (6 * sd) / Math.sqrt(n);

  test("uniform: range, mean, variance, and equal values in both dtypes", () => {
    const single = uniform([n], { low: -2, high: 3, generator: new Generator(8) }).dataSync();
    const [mean, variance] = moments(single);
    expect(Math.min(...single)).toBeGreaterThanOrEqual(-2);
    expect(Math.max(...single)).toBeLessThan(3);
    expect(Math.abs(mean - 0.5)).toBeLessThan(within(Math.sqrt(25 / 12)));
    expect(Math.abs(variance - 25 / 12)).toBeLessThan(within(Math.sqrt(625 / 180)));
    const double = uniform([n], { low: -2, high: 3, generator: new Generator(8), dtype: "float64" }).dataSync();
    expect(Float32Array.from(double)).toEqual(single);
  });

  test("normal: mean, variance, odd counts", () => {
    const [mean, variance] = moments(normal([n], { mean: 1, std: 2, generator: new Generator(9) }).dataSync());
    expect(Math.abs(mean - 1)).toBeLessThan(within(2));
    expect(Math.abs(variance - 4)).toBeLessThan(within(4 * Math.SQRT2));
    const odd = normal([7], { generator: new Generator(9) }).dataSync();
    expect(
      Array.from(
        normal([8], { generator: new Generator(9) })
          .dataSync()
          .slice(0, 7),
      ),
    ).toEqual(Array.from(odd));
  });

  test("next: 53 bits in [0, 1)", () => {
    const generator = new Generator(10);
    const values = Array.from({ length: n }, () => generator.next());
    const [mean] = moments(values);
    expect(values.every((v) => v >= 0 && v < 1)).toBe(true);
    expect(Math.abs(mean - 0.5)).toBeLessThan(within(Math.sqrt(1 / 12)));
    expect(values.some((v) => !Number.isInteger(v * 2 ** 32))).toBe(true);
  });

  test("dropout keeps the mean, and its gradient is the mask", () => {
    const x = tensor(new Float32Array(n).fill(1));
    x.requiresGrad = true;
    const y = dropout(x, 0.25, { generator: new Generator(11) });
    const kept = y.dataSync();
    const share = kept.filter((v) => v !== 0).length / n;
    expect(Math.abs(share - 0.75)).toBeLessThan(within(Math.sqrt(0.75 * 0.25)));
    expect(new Set(kept)).toEqual(new Set([0, Math.fround(1 / 0.75)]));
    sum(y).backward();
    expect(x.grad!.dataSync()).toEqual(kept);
  });

  test("dropout of everything, and of nothing", () => {
    const x = tensor([1, 2]);
    expect(dropout(x, 0)).toBe(x);
    expect(Array.from(dropout(x, 1).dataSync())).toEqual([0, 0]);
  });

  test.each([
    [() => uniform([2], { low: 1, high: 0 }), "uniform: low and high must be finite with low <= high but are 1 and 0"],
    [() => uniform([2], { dtype: "int32" }), "uniform: dtype must be float32 or float64 but is int32"],
    [() => uniform([-1]), "uniform: shape must be non-negative integers but is [-1]"],
    [() => normal([2], { std: -1 }), "normal: mean must be finite and std at least 0 but are 0 and -1"],
    [() => bernoulli([2], 1.5), "bernoulli: p must be a number in [0, 1] but is 1.5"],
    [() => dropout(tensor([1]), NaN), "dropout: p must be a number in [0, 1] but is NaN"],
  ])("bad arguments: %#", (call, message) => expect(call).toThrow(message));
});
