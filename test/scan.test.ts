import { describe, expect, test } from "vitest";
import { device, maxScan, scan, tensor, zeros, type Tensor } from "../src/index.js";
import { devicesUnderTest } from "./helpers.js";

describe.each(devicesUnderTest())("scans on %s", (name) => {
  const on = device(name);
  const dtype = name === "reference" ? "float64" : "float32";
  const make = (values: readonly number[], shape: readonly number[]): Tensor => tensor([...values], { shape, dtype, device: on });

  test("of no steps give the state they were given", () => {
    const none = zeros([2, 0, 3], { dtype, device: on });
    const initial = make([1, 2, 3, 4, 5, 6], [2, 3]);
    for (const f of [scan, maxScan]) {
      const { output, state } = f(none, none, { initial });
      expect(output.shape).toEqual([2, 0, 3]);
      expect([...state.dataSync()]).toEqual([1, 2, 3, 4, 5, 6]);
    }
    expect([...scan(none, none).state.dataSync()]).toEqual([0, 0, 0, 0, 0, 0]);
    expect([...maxScan(none, none).state.dataSync()].every((v) => v === -Infinity)).toBe(true);
  });

  test("spelt out: the sum, the product, the running maximum", () => {
    const steps = (...values: number[]) => make(values, [1, values.length, 1]);
    const ones = steps(1, 1, 1, 1);
    expect([...scan(ones, steps(1, 2, 3, 4)).output.dataSync()]).toEqual([1, 3, 6, 10]);
    expect([...scan(steps(2, 3, 4), steps(0, 0, 0), { initial: make([1], [1, 1]) }).output.dataSync()]).toEqual([2, 6, 24]);
    expect([...scan(steps(2, 3, 4), steps(1, 1, 1), { reverse: true }).output.dataSync()]).toEqual([9, 4, 1]);
    expect([...maxScan(steps(0, 0, 0, 0), steps(1, 5, 3, 9)).output.dataSync()]).toEqual([1, 5, 5, 9]);
    expect([...maxScan(steps(-1, -1, -1), steps(4, 0, 0)).output.dataSync()]).toEqual([4, 3, 2]);
  });

  test("a factor of e^-60 forgets, and 10000 steps of e^-1e-4 remember", () => {
    const forget = Math.exp(-60);
    const { output } = scan(make([1, forget, forget], [1, 3, 1]), make([1, 1, 1], [1, 3, 1]));
    expect([...output.dataSync()]).toEqual([1, 1, 1]);
    const count = 10_000;
    const decay = Math.fround(Math.exp(-1e-4));
    const { state } = scan(
      make(new Array<number>(count).fill(decay), [1, count, 1]),
      make(new Array<number>(count).fill(1e-4), [1, count, 1]),
    );
    // The geometric series of 10000 roundings, each below 6e-8 of the sum so far: 6e-4 at most.
    const wanted = (1e-4 * (1 - decay ** count)) / (1 - decay);
    expect(Math.abs(state.dataSync()[0] - wanted)).toBeLessThan(6e-4);
  });

  test("NaN stays, from where it is on", () => {
    const a = make([1, 1, 1, 1], [1, 4, 1]);
    const b = make([1, NaN, 1, 1], [1, 4, 1]);
    for (const f of [scan, maxScan]) expect([...f(a, b).output.dataSync()].map(Number.isNaN)).toEqual([false, true, true, true]);
    expect([...maxScan(b, a).output.dataSync()].map(Number.isNaN)).toEqual([false, true, true, true]);
  });

  test("say what does not fit", () => {
    const a = zeros([2, 3, 4], { dtype, device: on });
    const other = zeros([2, 3, 5], { dtype, device: on });
    expect(() => scan(a, other)).toThrow(`scan: b must be ${dtype} [2, 3, 4] but is ${dtype} [2, 3, 5]`);
    expect(() => scan(zeros([2, 3], { dtype, device: on }), a)).toThrow("scan: a must be [N, T, D] but is [2, 3]");
    expect(() => scan(a, a, { initial: other })).toThrow(`scan: initial must be ${dtype} [2, 4] but is ${dtype} [2, 3, 5]`);
    expect(() => maxScan(a, a, { lengths: zeros([2], { dtype, device: on }) })).toThrow(
      `maxScan: lengths must be int32 [2] but is ${dtype} [2]`,
    );
  });
});
