import { describe, expect, test } from "vitest";
import { add, device, grad, matrixScan, mul, scope, ssdAttention, sum, tensor, type Tensor } from "../src/index.js";
import { caseValues, devicesUnderTest } from "./helpers.js";

// The two forms sum the same products in other orders: float64 to 1e-11; float32 to some ulp of sums of 40 terms.
describe.each(devicesUnderTest())("the dual forms of a state space on %s", (name) => {
  const at = { device: device(name), dtype: name === "reference" ? ("float64" as const) : ("float32" as const) };
  const tolerance = name === "reference" ? 1e-11 : 5e-5;
  const some = (shape: readonly number[], seed: number, low = -1, high = 1) =>
    tensor(caseValues({ shape, low, high }, seed), { shape, requiresGrad: true, ...at });

  const read = (t: Tensor) => ({ shape: t.shape, data: Array.from(t.dataSync()) });

  function expectClose(what: string, got: ReturnType<typeof read>, wanted: ReturnType<typeof read>): void {
    expect(got.shape, what).toEqual(wanted.shape);
    const largest = wanted.data.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
    got.data.forEach((v, i) => expect(Math.abs(v - wanted.data[i]), what).toBeLessThanOrEqual(tolerance * (1 + largest)));
  }

  test.each([
    { steps: 1, groups: 1, heads: 1, decay: -1 },
    { steps: 40, groups: 2, heads: 4, decay: -1, state: true },
    { steps: 33, groups: 1, heads: 3, decay: -60, state: true },
    { steps: 9, groups: 3, heads: 3 },
  ])("the quadratic form gives outputs, state and gradients of the recurrence: %o", ({ steps, groups, heads, decay, state }) => {
    scope(() => {
      const [N, K, V] = [2, 5, 7];
      const inputs = {
        q: some([N, steps, groups, K], 1),
        k: some([N, steps, groups, K], 2),
        v: some([N, steps, heads, V], 3),
        logDecay: decay ? some([N, steps, heads], 4, decay, 0) : null,
        initial: state ? some([N, heads, K, V], 5) : null,
      };
      const weight = some([N, steps, heads, V], 6).detach();
      const leaves = Object.values(inputs).filter((t): t is Tensor => t !== null);
      const [recurrent, quadratic] = [matrixScan, ssdAttention].map((form) => {
        const scanned = form(inputs);
        const [output, last] = [read(scanned.output), read(scanned.state)];
        const slopes = grad(add(sum(mul(scanned.output, weight)), sum(scanned.state)), leaves);
        return { output, last, slopes: slopes.map((slope) => read(slope!)) };
      });
      expectClose("output", quadratic.output, recurrent.output);
      expectClose("state", quadratic.last, recurrent.last);
      quadratic.slopes.forEach((slope, i) => expectClose(`gradient ${i}`, slope, recurrent.slopes[i]));
    });
  });

  test("says what does not fit", () => {
    const [q, v] = [some([1, 2, 1, 3], 1), some([1, 2, 1, 4], 2)];
    expect(() => ssdAttention({ q, k: q, v, logDecay: some([1, 3], 3) })).toThrow("ssdAttention: logDecay must be [N, T, H]");
    expect(() => ssdAttention({ q, k: v, v })).toThrow("matrixScan: k must be [1, 2, 1, 3] but is [1, 2, 1, 4]");
  });
});
