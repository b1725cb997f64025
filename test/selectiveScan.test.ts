import { describe, expect, test } from "vitest";
import { device, expand, reshape, scope, selectiveScan, sum, tensor, zeros, type Tensor } from "../src/index.js";
import { caseValues, devicesUnderTest } from "./helpers.js";

const [N, T, D, S] = [2, 5, 4, 3];

describe.each(devicesUnderTest())("selectiveScan on %s", (name) => {
  const on = device(name);
  const dtype = name === "reference" ? "float64" : "float32";
  const draw = (shape: readonly number[], seed: number): Tensor =>
    tensor(caseValues({ shape }, seed), { shape, dtype, device: on, requiresGrad: true });
  const inputs = () => ({ u: draw([N, T, D], 1), delta: draw([N, T, D], 2), A: draw([D, S], 3) });

  test("B and C that are constant in time are those of groups of one channel", () =>
    scope(() => {
      const grads = [false, true].map((spread) => {
        const [B, C] = [draw([D, S], 4), draw([D, S], 5)];
        const along = (t: Tensor) => (spread ? expand(reshape(t, [1, 1, D, S]), [N, T, D, S]) : t);
        const x = inputs();
        const { output, state } = selectiveScan({ ...x, B: along(B), C: along(C) });
        const results = [output, state].map((t) => t.dataSync());
        sum(output).backward();
        return [...results, ...[x.u, x.delta, x.A, B, C].map((t) => t.grad!.dataSync())];
      });
      // Other orders of sums of ten terms of order one.
      grads[0].forEach((values, k) => values.forEach((v, i) => expect(Math.abs(v - grads[1][k][i])).toBeLessThan(1e-5)));
    }));

  test("steps so long that the state forgets, or so short that it stands still, give numbers", () =>
    scope(() => {
      const spread = [-1e4, -100, 100, 1e4];
      const delta = tensor(
        Array.from({ length: N * T * D }, (_, i) => spread[i % 4]),
        { shape: [N, T, D], dtype, device: on, requiresGrad: true },
      );
      const initial = draw([N, D, S], 6);
      const A = tensor(new Array<number>(D * S).fill(-1), { shape: [D, S], dtype, device: on, requiresGrad: true });
      const { output, state } = selectiveScan(
        { u: draw([N, T, D], 1), delta, A, B: draw([N, T, S], 4), C: draw([N, T, S], 5) },
        { initial },
      );
      const results = [output, state].map((t) => [...t.dataSync()]);
      sum(output).backward();
      for (const values of [...results, ...[delta, A, initial].map((t) => [...t.grad!.dataSync()])])
        expect(values.every((v) => Number.isFinite(v))).toBe(true);
      const [still] = initial.dataSync();
      expect(results[1][0]).toBeCloseTo(still, 6);
    }));

  test("says what does not fit", () => {
    const { u, delta, A } = inputs();
    const [B, C] = [draw([N, T, S], 4), draw([N, T, S], 5)];
    expect(() => selectiveScan({ u, delta, A: draw([S, D], 1), B, C })).toThrow("selectiveScan: A must be [4, S] but is [3, 4]");
    expect(() => selectiveScan({ u, delta, A, B: draw([N, T, 2], 1), C })).toThrow(
      `selectiveScan: B must be ${dtype} [2, 5, 1, 3] but is ${dtype} [2, 5, 1, 2]`,
    );
    expect(() => selectiveScan({ u, delta, A, B: draw([N, T, 3, S], 1), C })).toThrow(
      "selectiveScan: the channels of u, 4, must be a multiple of the groups of B and C, 3",
    );
    expect(() => selectiveScan({ u, delta, A, B, C, D: draw([S], 1) })).toThrow(
      `selectiveScan: D must be ${dtype} [4] but is ${dtype} [3]`,
    );
    expect(() => selectiveScan({ u, delta, A, B, C }, { initial: zeros([N, D], { dtype, device: on }) })).toThrow(
      `selectiveScan: initial must be ${dtype} [2, 4, 3] but is ${dtype} [2, 4]`,
    );
  });
});
