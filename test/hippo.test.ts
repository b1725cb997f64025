import { describe, expect, test } from "vitest";
import { hippo, normalForm } from "../src/index.js";

describe.each(["legs", "fourier"] as const)("the normal form of %s", (measure) => {
  test("has orthonormal vectors, with the eigenvalues of A + P P^T, that turn into A and B again", () => {
    const n = 12;
    const half = n / 2;
    const { A, B } = hippo(measure, n);
    const { w, P, B: b, V } = normalForm(measure, n);
    // With the conjugates, a sum over all states is twice a real part. Double precision over sums of 12 terms of up to 150.
    const close = (got: number, wanted: number) => expect(Math.abs(got - wanted)).toBeLessThan(1e-10);
    const column = (i: number, k: number) => [V.re[i * half + k], V.im[i * half + k]];
    for (let i = 0; i < n; i++) {
      let input = 0;
      for (let k = 0; k < half; k++) input += 2 * (column(i, k)[0] * b.re[k] - column(i, k)[1] * b.im[k]);
      close(input, B[i]);
      for (let j = 0; j < n; j++) {
        let entry = 0;
        let [left, right] = [0, 0];
        for (let k = 0; k < half; k++) {
          const [[x, y], [u, v]] = [column(i, k), column(j, k)];
          // V w V^*
          entry += 2 * ((x * u + y * v) * w.re[k] - (y * u - x * v) * w.im[k]);
          left += 2 * (x * P.re[k] - y * P.im[k]);
          right += 2 * (u * P.re[k] - v * P.im[k]);
        }
        close(entry - left * right, A[i * n + j]);
      }
    }
    for (let k = 0; k < half; k++) {
      expect(w.im[k]).toBeLessThanOrEqual(1e-12);
      for (let l = 0; l < half; l++) {
        let [re, im] = [0, 0];
        for (let i = 0; i < n; i++) {
          const [[x, y], [u, v]] = [column(i, k), column(i, l)];
          re += x * u + y * v;
          im += x * v - y * u;
        }
        close(re, +(k === l));
        close(im, 0);
      }
    }
  });
});

test("hippo of Legendre polynomials in a window", () => {
  const { A, B } = hippo("legt", 2);
  const root = Math.sqrt(3);
  expect([...A]).toEqual([-0.5, 0.5 * root, -0.5 * root, -1.5].map((v) => expect.closeTo(v, 12) as number));
  expect([...B]).toEqual([0.5, root / 2].map((v) => expect.closeTo(v, 12) as number));
});

test("says what does not fit", () => {
  expect(() => hippo("lagt" as never, 4)).toThrow('hippo: measure must be "legs", "legt" or "fourier" but is "lagt"');
  expect(() => hippo("fourier", 3)).toThrow("hippo: states must be even for fourier but is 3");
  expect(() => normalForm("legs", 5)).toThrow("normalForm: states must be even and at least 2 but is 5");
});
