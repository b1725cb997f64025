import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import type { Backend, TypedArray } from "../src/backend/backend.js";
import { cudaInfo, openCuda } from "../src/backend/native.js";
import { device, noGrad, scope, tensor } from "../src/index.js";
import { linear, matmul } from "../src/ops/matmul.js";
import { rounded, type Precision } from "../src/ops/precision.js";
import { caseValues, cudaUnderTest, sameBits } from "./helpers.js";

// How cuBLASLt is found and called, with libraries in its place that compute on the processor (test/emulated).

const folder = dirname(process.env.THROUGHTIME_CUDA ?? "");
const fake = (kind: string) => join(folder, `fake_cublaslt_${kind}.so`);
const place = mkdtempSync(join(tmpdir(), "throughtime-"));
const log = join(place, "log");

function given(shape: readonly number[], seed: number, on: Backend) {
  const dtype = on.name === "reference" ? "float64" : "float32";
  return tensor(caseValues({ shape }, seed), { shape, dtype, device: on });
}

function expectClose(got: TypedArray, wanted: TypedArray, tolerance: number): void {
  expect(got.length).toBe(wanted.length);
  got.forEach((v: number, i: number) => expect(Math.abs(v - wanted[i])).toBeLessThan(tolerance));
}

/** What the library was asked for: sizes, type and way of computing. */
const asked = () => (existsSync(log) ? readFileSync(log, "utf8").trim().split("\n") : []);

const [batch, m, n, k] = [3, 7, 13, 33];
const products = (on: Backend): TypedArray[] =>
  scope(() =>
    noGrad(() => [
      ...[false, true].flatMap((transposeA) =>
        [false, true].map((transposeB) => {
          const a = given([batch, ...(transposeA ? [k, m] : [m, k])], 1, on);
          const b = given([batch, ...(transposeB ? [n, k] : [k, n])], 2, on);
          return matmul(a, b, { transposeA, transposeB }).dataSync();
        }),
      ),
      linear(given([m, k], 1, on), given([n, k], 2, on), given([n], 3, on)).dataSync(),
    ]),
  );
const layer = (on: Backend, precision: Precision) =>
  scope(() => noGrad(() => linear(given([m, k], 1, on), given([n, k], 2, on), given([n], 3, on), precision).dataSync()));

describe.skipIf(!cudaUnderTest || !existsSync(fake("good")))("cuBLASLt", () => {
  afterEach(() => {
    for (const name of ["CUBLASLT", "CUBLASLT_FROM", "TF32"]) delete process.env[`THROUGHTIME_${name}`];
    for (const name of ["LOG", "FAIL"]) delete process.env[`FAKE_CUBLASLT_${name}`];
    rmSync(log, { force: true });
  });
  afterAll(() => rmSync(place, { recursive: true }));
  const open = (variables: Record<string, string> = {}) => {
    Object.assign(process.env, { THROUGHTIME_CUBLASLT: fake("good"), THROUGHTIME_CUBLASLT_FROM: "1", FAKE_CUBLASLT_LOG: log });
    Object.assign(process.env, variables);
    return openCuda();
  };

  test.each([
    [fake("good"), "cuBLASLt 13.2.1 (fake_cublaslt_good.so)"],
    [fake("old"), "none: fake_cublaslt_old.so is version 11.1.3, and 12 or 13 is needed"],
    [fake("lacking"), "none: fake_cublaslt_lacking.so has no cublasLtMatmulPreferenceDestroy"],
    [folder, "none: THROUGHTIME_CUBLASLT: no libcublasLt.so is there"],
    ["0", "none: THROUGHTIME_CUBLASLT forbids it"],
    ["", "none: THROUGHTIME_CUBLASLT forbids it"],
  ])("%s: device.info() says which one it is, or why none", (path, told) => {
    process.env.THROUGHTIME_CUBLASLT = path;
    expect(cudaInfo().blas).toBe(told);
  });

  test("a library that is not there", () => {
    process.env.THROUGHTIME_CUBLASLT = "/nowhere.so";
    expect(cudaInfo().blas).toMatch(/^none: THROUGHTIME_CUBLASLT: \/nowhere.so: cannot open/);
  });

  test("takes products, batches and biases, each shape planned once and asked for again", () => {
    const on = open();
    const wanted = products(device("reference"));
    for (let times = 0; times < 2; times++) products(on).forEach((got, i) => expectClose(got, wanted[i], 1e-5));
    const once = [...Array.from({ length: 4 }, () => "13 7 33 0 68"), "13 7 33 0 68"];
    expect(asked()).toEqual([...once, ...once]);
  });

  test("of bfloat16 gets rounded operands, and of bytes nothing", () => {
    const on = open();
    const [x, w] = [caseValues({ shape: [m, k] }, 1), caseValues({ shape: [n, k] }, 2)].map((t) => rounded(t, k, "bf16"));
    const bias = caseValues({ shape: [n] }, 3);
    const wanted = Float64Array.from({ length: m * n }, (_, at) => {
      let total = bias[at % n];
      for (let i = 0; i < k; i++) total += x[Math.floor(at / n) * k + i] * w[(at % n) * k + i];
      return total;
    });
    expectClose(layer(on, "bf16"), wanted, 1e-5);
    expect(asked()).toEqual(["13 7 33 14 68"]);
    layer(on, "int8");
    expect(asked()).toHaveLength(1);
  });

  test("products that are small are this library's own", () => {
    products(open({ THROUGHTIME_CUBLASLT_FROM: "100000" }));
    expect(asked()).toEqual([]);
  });

  test.each(["matmul", "heuristic", "old", "lacking"])("where it fails (%s) the products are this library's own, to the bit", (what) => {
    const own = products(open({ THROUGHTIME_CUBLASLT: "0" }));
    const failing: Record<string, string> =
      what === "old" || what === "lacking" ? { THROUGHTIME_CUBLASLT: fake(what) } : { FAKE_CUBLASLT_FAIL: what };
    const on = open(failing);
    for (let times = 0; times < 2; times++) products(on).forEach((got, i) => expect(sameBits(got, own[i])).toBe(true));
    expect(asked()).toEqual([]);
  });

  describe("TF32", () => {
    test("is off unless it is asked for", () => {
      expect(cudaInfo().tf32).toBe(false);
      process.env.THROUGHTIME_TF32 = "1";
      expect(cudaInfo().tf32).toBe(true);
    });

    test.each(["0", fake("good")])("rounds the operands of float32 (cuBLASLt: %s)", (path) => {
      const exact = products(device("reference"));
      const got = products(open({ THROUGHTIME_CUBLASLT: path, THROUGHTIME_TF32: "1" }));
      // Eleven bits of mantissa: each of the k terms is off by 2^-11 at most, here or there.
      got.forEach((values, i) => {
        expectClose(values, exact[i], 1e-2);
        expect(values.some((v: number, at: number) => Math.abs(v - exact[i][at]) > 1e-5)).toBe(true);
      });
      expect(asked()).toEqual(path === "0" ? [] : Array.from({ length: 5 }, () => "13 7 33 0 77"));
    });
  });
});
