import { describe, expect, it, test } from "vitest";
import type { Backend, TypedArray } from "../src/backend/backend.js";
import { device, noGrad, scope, tensor } from "../src/index.js";
import { linear, matmul, type MatmulOptions } from "../src/ops/matmul.js";
import { rounded, type Precision } from "../src/ops/precision.js";
import { caseValues, nativeAvailable, nativeBackends, sameBits } from "./helpers.js";

// Products larger than the cases of their ops: of several tiles, with sums that are taken in parts.

// A sum of k terms of order one, in order, is of the size of sqrt(k) on the way and rounded k times in float32: off by some
// 1e-8 * k, and the tensor cores round towards zero.
const tolerance = (k: number) => 1e-6 + 1e-7 * k;

const largest = (got: TypedArray, wanted: TypedArray) => {
  let most = 0;
  got.forEach((v: number, i: number) => (most = Math.max(most, Math.abs(v - wanted[i]))));
  return most;
};

function given(shape: readonly number[], seed: number, on: Backend) {
  const dtype = on.name === "reference" ? "float64" : "float32";
  return tensor(caseValues({ shape }, seed), { shape, dtype, device: on });
}

function product(on: Backend, batch: readonly number[], [m, n, k]: readonly number[], options: MatmulOptions): TypedArray {
  return scope(() =>
    noGrad(() => {
      const a = given([...batch, ...(options.transposeA ? [k, m] : [m, k])], 1, on);
      const b = given([...batch, ...(options.transposeB ? [n, k] : [k, n])], 2, on);
      return matmul(a, b, options).dataSync();
    }),
  );
}

describe.skipIf(!nativeAvailable)("large products", () => {
  const sizes = [
    [130, 200, 70],
    [129, 97, 20],
    [200, 260, 600],
    [68, 132, 1300],
    [40, 70, 2048],
    [1, 37, 9001],
    [16, 100, 515],
    [9, 1, 10_000],
  ];
  describe.each(nativeBackends(2))("on $isa", ({ backend }) => {
    it.each(sizes)("m = %i, n = %i, k = %i: as the reference, transposed or not", (...size) => {
      for (const transposeA of [false, true])
        for (const transposeB of [false, true]) {
          const [got, wanted] = [backend, device("reference")].map((on) => product(on, [], size, { transposeA, transposeB }));
          expect(largest(got, wanted), `transposed: ${transposeA}, ${transposeB}`).toBeLessThan(tolerance(size[2]));
        }
    });

    test("batches of them", () => {
      for (const [batch, ...size] of [
        [3, 20, 70, 600],
        [2, 150, 140, 33],
        [65_600, 1, 2, 1],
      ]) {
        const [got, wanted] = [backend, device("reference")].map((on) => product(on, [batch], size, { transposeB: true }));
        expect(largest(got, wanted)).toBeLessThan(tolerance(size[2]));
      }
    });

    test("sums of nothing are the bias, or zero", () => {
      scope(() => {
        expect(product(backend, [], [3, 5, 0], {}).every((v) => v === 0)).toBe(true);
        expect(product(backend, [], [0, 5, 3], {})).toHaveLength(0);
        const bias = given([5], 3, backend);
        const y = linear(given([2, 0], 1, backend), given([5, 0], 2, backend), bias).dataSync();
        expect(sameBits(y.slice(5), bias.dataSync())).toBe(true);
      });
    });

    describe.each(["float32", "bf16", "int8"] as const)("a layer of %s", (precision: Precision) => {
      const [rows, features, out] = [140, 1100, 150];
      const values = (shape: readonly number[], seed: number) => caseValues({ shape }, seed);
      const [x, weight, bias] = [values([rows, features], 1), values([out, features], 2), values([out], 3)];
      const run = (on: Backend, some: number) =>
        scope(() =>
          noGrad(() => {
            const dtype = on.name === "reference" ? "float64" : "float32";
            const make = (data: readonly number[], shape: readonly number[]) => tensor(data, { shape, dtype, device: on });
            const inputs = make(x.slice(0, some * features), [some, features]);
            return linear(inputs, make(weight, [out, features]), make(bias, [out]), precision).dataSync();
          }),
        );

      test("multiplies rounded operands", () => {
        const [X, W] = [x, weight].map((t) => rounded(t, features, precision));
        const wanted = new Float64Array(rows * out);
        for (let r = 0; r < rows; r++)
          for (let o = 0; o < out; o++) {
            let total = bias[o];
            for (let i = 0; i < features; i++) total += X[r * features + i] * W[o * features + i];
            wanted[r * out + o] = total;
          }
        const got = run(backend, rows);
        // What lies in the middle between two bytes may become either: one operand is then off by 1/127, times a weight.
        expect(largest(got, wanted)).toBeLessThan(precision === "int8" ? 1e-2 : tolerance(features));
        expect(wanted.filter((v, i) => Math.abs(got[i] - v) > tolerance(features)).length).toBeLessThan(0.02 * wanted.length);
      });

      test("gives a row the same bits alone, among a few and among many", () => {
        const all = run(backend, rows);
        for (const some of [1, 7, 40, 100]) expect(sameBits(run(backend, some), all.slice(0, some * out)), `${some} rows`).toBe(true);
      });
    });
  });
});
