import { describe, expect, it } from "vitest";
import { eigenvalues } from "../src/train/spectrum.js";

describe("eigenvalues", () => {
  const sorted = (found: readonly (readonly [number, number])[]) => found.toSorted((a, b) => a[0] - b[0] || a[1] - b[1]);

  it("are the roots of a polynomial, from its companion matrix", () => {
    // (x - 1)(x + 2)(x^2 - 2x + 5)(x - 3) has the roots 1, -2, 1 +- 2i and 3.
    let coefficients = [1];
    for (const factor of [
      [1, -1],
      [1, 2],
      [1, -2, 5],
      [1, -3],
    ])
      // prettier-ignore
      coefficients = Array.from({ length: coefficients.length + factor.length - 1 }, (_, i) =>
        factor.reduce((s, f, k) => s + f * (coefficients[i - k] ?? 0), 0),
      );
    const companion = new Float64Array(25);
    for (let i = 0; i < 5; i++) {
      companion[i] = -coefficients[i + 1];
      if (i < 4) companion[(i + 1) * 5 + i] = 1;
    }
    const found = sorted(eigenvalues(companion, 5).map(([re, im]) => [Math.round(re * 1e9) / 1e9, im]));
    [
      [-2, 0],
      [1, -2],
      [1, 0],
      [1, 2],
      [3, 0],
    ].forEach(([re, im], i) => {
      // prettier-ignore
      expect(found[i][0]).toBeCloseTo(re, 8);
      expect(found[i][1]).toBeCloseTo(im, 8);
    });
  });

  it("of a cycle lie on the unit circle, which plain QR steps would never find", () => {
    for (const n of [1, 2, 3, 4, 9, 16]) {
      const cycle = new Float64Array(n * n);
      for (let i = 0; i < n; i++) cycle[i * n + ((i + 1) % n)] = 1;
      const found = eigenvalues(cycle, n);
      expect(found).toHaveLength(n);
      for (const [re, im] of found) expect(Math.hypot(re, im)).toBeCloseTo(1, 12);
    }
  });

  it.each([
    [5, 1.8143277283733812],
    [13, 3.0969433839849905],
    [64, 5.942054923149013],
  ])("agree with numpy for n = %i", (n, radius) => {
    // prettier-ignore
    const a = Float64Array.from({ length: n * n }, (_, i) => Math.sin(i * i * 0.37 + i));
    const trace = Array.from({ length: n }, (_, i) => a[i * n + i]).reduce((x, y) => x + y);
    const found = eigenvalues(a, n);
    expect(Math.max(...found.map(([re, im]) => Math.hypot(re, im)))).toBeCloseTo(radius, 11);
    expect(found.reduce((s, [re]) => s + re, 0)).toBeCloseTo(trace, 11);
    expect(found.reduce((s, [, im]) => s + im, 0)).toBeCloseTo(0, 11);
  });
});
