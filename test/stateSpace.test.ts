import { describe, expect, test } from "vitest";
import {
  add,
  device,
  Generator,
  longConv,
  S4,
  S4D,
  S5,
  scope,
  square,
  sum,
  tensor,
  type StateSpaceModeOptions,
  type Tensor,
} from "../src/index.js";
import { caseValues, devicesUnderTest } from "./helpers.js";

const [N, T, C] = [3, 37, 4];

describe.each(devicesUnderTest())("state spaces on %s", (name) => {
  const at = { device: device(name), dtype: name === "reference" ? ("float64" as const) : ("float32" as const) };
  // The two orders of sums of 37 terms, in float32 and float64, relative to the largest.
  const tolerance = name === "reference" ? 1e-11 : 2e-5;
  const draw = (): Tensor => tensor(caseValues({ shape: [N, T, C] }, 3), { shape: [N, T, C], ...at, requiresGrad: true });

  test.each([
    ["S4", (options: StateSpaceModeOptions) => new S4(C, options)],
    ["S4, fourier", (options: StateSpaceModeOptions) => new S4(C, { measure: "fourier", ...options })],
    ["S4D", (options: StateSpaceModeOptions) => new S4D(C, options)],
  ] as const)("%s: the convolution is the recurrence, with its gradients", (_, make) =>
    scope(() => {
      const [one, other] = (["recurrent", "convolution"] as const).map((mode) => {
        const layer = make({ stateSize: 8, timeStepMax: 0.3, mode, generator: new Generator(5), ...at });
        const x = draw();
        const { output, state } = layer.forward(x, { lengths: [37, 5, 0] });
        const found: Record<string, ArrayLike<number>> = { output: output.dataSync(), state: state.x.dataSync() };
        add(sum(square(output)), sum(square(state.x))).backward();
        for (const [key, t] of Object.entries({ x, ...layer.stateDict() })) found[`gradient of ${key}`] = t.grad!.dataSync();
        return found;
      });
      for (const [key, values] of Object.entries(one)) {
        const largest = Array.from(values).reduce((most, v) => Math.max(most, Math.abs(v)), 0);
        const worst = Array.from(values).reduce((most, v, i) => Math.max(most, Math.abs(v - other[key][i])), 0);
        expect(worst, key).toBeLessThan(tolerance * (1 + largest));
      }
    }),
  );

  test("a channel remembers a step for as long as its time constant", () =>
    scope(() => {
      // One state that decays by half in every step, and counts twice for its conjugate.
      const layer = new S4D(1, { stateSize: 2, ...at });
      const values: Record<string, number[]> = {
        "kernel.C": [0.5, 0],
        "kernel.log_dt": [0],
        "kernel.log_A_real": [Math.log(Math.LN2)],
        "kernel.A_imag": [0],
      };
      const state = Object.entries(layer.stateDict()).map(([key, t]) => [key, { shape: t.shape, data: values[key] ?? t.dataSync() }]);
      layer.loadStateDict(Object.fromEntries(state) as Record<string, { shape: readonly number[]; data: number[] }>);
      const steps = Array.from(
        { length: 4 },
        (_, t) => layer.forward(tensor([1, 0, 0, 0].slice(0, t + 1), { shape: [1, t + 1, 1], ...at })).state.x.dataSync()[0],
      );
      const first = 0.5 / Math.LN2;
      steps.forEach((v, t) => expect(v).toBeCloseTo(first / 2 ** t, 6));
    }));

  test("longConv is the sum it says", () => {
    const u = tensor([1, 2, 3, 4], { shape: [1, 4, 1], ...at });
    const k = tensor([1, 10, 100], { shape: [3, 1], ...at });
    longConv(u, k)
      .dataSync()
      .forEach((v, t) => expect(v).toBeCloseTo([1, 12, 123, 234][t], 4));
    expect(() => longConv(u, tensor([1, 2], { shape: [1, 2], ...at }))).toThrow(
      `longConv: k must be ${at.dtype} [taps, 1] but is ${at.dtype} [1, 2]`,
    );
  });

  test("say what does not fit", () => {
    expect(() => new S4(4, { stateSize: 3 })).toThrow("S4: stateSize must be even but is 3");
    expect(() => new S4D(4, { mode: "fft" as never })).toThrow('S4D: mode must be "recurrent" or "convolution" but is "fft"');
    expect(() => new S4(4, { measure: "legt" as never })).toThrow('S4: measure must be "legs" or "fourier" but is "legt"');
    expect(() => new S5(4, { mode: "recurrent" } as never)).toThrow("S5: unknown option mode");
    expect(() => new S5(4, { timeStepMin: 0.2 })).toThrow("S5: timeStepMax must be a number in [0.2, Infinity] but is 0.1");
  });
});
