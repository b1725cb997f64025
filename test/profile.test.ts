import { describe, expect, test } from "vitest";
import { characterModel, greedy, markovText, setting, training } from "../bench/characterModel.js";
import { device, drawProfile, LSTM, ones, scope, sum, tanh, type Profile } from "../src/index.js";
import { devicesUnderTest, nativeAvailable } from "./helpers.js";

describe.each(devicesUnderTest())("device.profile on %s", (name) => {
  const on = device(name);

  test("counts every kernel, those of a replayed step too", async () => {
    const layer = new LSTM(3, 5, { device: on });
    using stream = layer.stream();
    const { kernels } = await device.profile(() => {
      for (let k = 0; k < 4; k++) scope(() => void sum(tanh(ones([300, 300], { device: on }))));
      for (let k = 0; k < 7; k++) stream.step([1, 2, 3]);
    }, name);
    const calls = Object.fromEntries(kernels.map((kernel) => [kernel.kernel, kernel.calls]));
    // On the reference device a step of the stream is made of plain ops, tanh of the candidate and of the cell among them.
    expect(calls).toMatchObject(name === "cpu" ? { fill: 4, tanh: 4, sum: 4, "sweep.lstm": 7 } : { fill: 4, tanh: 4 + 14, sum: 4 });
    for (const { seconds } of kernels) expect(seconds).toBeGreaterThanOrEqual(0);
    expect(kernels.map(({ seconds }) => seconds)).toEqual(kernels.map(({ seconds }) => seconds).sort((a, b) => b - a));
  });

  test("the parts make up the whole, and what was queued before is not in it", async () => {
    const x = ones([200, 200], { device: on });
    scope(() => void tanh(x));
    const profile = await device.profile(async () => {
      const y = tanh(tanh(x));
      await y.data();
      const until = performance.now() + 20;
      while (performance.now() < until);
    }, name);
    expect(profile.kernels).toMatchObject([{ kernel: "tanh", calls: 2 }]);
    const { seconds, busy, idle, javascript } = profile;
    // The loop that only looks at the clock is JavaScript, and no kernel runs meanwhile.
    expect(javascript).toBeGreaterThan(0.015);
    expect(idle).toBeGreaterThan(0.015);
    expect(busy + idle).toBeCloseTo(seconds, 9);
    expect(javascript).toBeLessThanOrEqual(seconds);
  });

  test("a failure ends the profile; two at a time are refused", async () => {
    await expect(device.profile(() => Promise.reject(new Error("no")), name)).rejects.toThrow("no");
    const nested = device.profile(() => device.profile(() => undefined, name), name);
    await expect(nested).rejects.toThrow(`device.profile: a profile of the ${name} device is being taken already`);
    expect((await device.profile(() => undefined, name)).kernels).toEqual([]);
  });
});

test("drawProfile", () => {
  const kernels = [
    { kernel: "sweep.lstm", calls: 4, seconds: 0.03 },
    { kernel: "adam", calls: 2, seconds: 0.004 },
    { kernel: "sum", calls: 3, seconds: 0.002 },
  ];
  const profile: Profile = { seconds: 0.04, kernels, busy: 0.036, idle: 0.004, javascript: 0.006 };
  expect(drawProfile(profile, { steps: 2, kernels: 1 }).split("\n")).toEqual([
    "kernel                   calls        ms     share",
    "sweep.lstm                   2    15.000    75.0 %",
    "2 others                   2.5     3.000    15.0 %",
    "no kernel                          2.000    10.0 %",
    "all                               20.000   100.0 %",
    "JavaScript meanwhile               3.000    15.0 %",
  ]);
  expect(drawProfile({ seconds: 0, kernels: [], busy: 0, idle: 0, javascript: 0 })).toContain("0.0 %");
  expect(() => drawProfile(profile, { steps: 0 })).toThrow("drawProfile: steps must be an integer of at least 1 but is 0");
});

describe("the character model that is measured", () => {
  test("a text of which each symbol is one of four, by the two before it", () => {
    const text = markovText(20_000, 7);
    const seen = new Map<number, Set<number>>();
    for (let i = 2; i < text.length; i++) {
      const before = text[i - 2] * 7 + text[i - 1];
      seen.set(before, (seen.get(before) ?? new Set()).add(text[i]));
    }
    expect(Math.max(...[...seen.values()].map((next) => next.size))).toBeLessThanOrEqual(4);
    expect(new Set(text).size).toBe(7);
  });

  test.skipIf(!nativeAvailable)("learns it, and goes on from what it has read", async () => {
    const small = { ...setting, vocabulary: 5, embed: 8, hidden: 16, steps: 20, batch: 8, lr: 1e-2 };
    const model = characterModel(small);
    const losses: number[] = [];
    for await (const { loss } of training(model, small)) if (losses.push(loss) === 60) break;
    // At first all five symbols are as likely.
    expect(losses[0]).toBeCloseTo(Math.log(5), 0);
    expect(losses.at(-1)).toBeLessThan(losses[0] - 0.1);
    const [next, again] = [greedy(model), greedy(model)];
    const made = Array.from({ length: 30 }, next);
    expect(made).toEqual(Array.from({ length: 30 }, again));
    expect(new Set(made).size).toBeGreaterThan(1);
  });
});
