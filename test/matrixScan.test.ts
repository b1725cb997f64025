import { describe, expect, test } from "vitest";
import { deltaRule, device, Generator, matrixMemory, matrixScan, scan, SLSTM, tensor, type Tensor } from "../src/index.js";
import { uniform } from "../src/tensor/random.js";
import { devicesUnderTest } from "./helpers.js";

// The recurrence of a matrix against what it is known to be by other means. float32 sums of some dozens of terms of order one.
const numbers = (t: Tensor) => Array.from(t.dataSync());

function expectNear(got: readonly number[], wanted: readonly number[], tolerance: number): void {
  expect(got.length).toBe(wanted.length);
  const worst = got.reduce((most, v, i) => Math.max(most, Math.abs(v - wanted[i])), 0);
  expect(worst).toBeLessThanOrEqual(tolerance);
}

describe.each(devicesUnderTest())("matrix scans on %s", (name) => {
  const dtype = name === "reference" ? "float64" : "float32";
  const place = { device: device(name), dtype } as const;
  const close = name === "reference" ? 1e-12 : 1e-5;
  const draw = (shape: readonly number[], seed: number, low = -1, high = 1) =>
    uniform(shape, { low, high, generator: new Generator(seed), ...place });
  const filled = (shape: readonly number[], value: number) =>
    tensor(new Array<number>(shape.reduce((a, b) => a * b)).fill(value), { shape, ...place });

  test("with one key and one value it is the scan of a channel", () => {
    const [n, steps, heads] = [2, 37, 5];
    const [q, k, v] = [1, 2, 3].map((seed) => draw([n, steps, heads, 1], seed));
    const logDecay = draw([n, steps, heads], 4, -2, 0);
    const { output, state } = matrixScan({ q, k, v, logDecay });
    const [a, b, read] = [numbers(logDecay).map(Math.exp), numbers(k).map((x, i) => x * numbers(v)[i]), numbers(q)];
    const flat = (data: readonly number[]) => tensor([...data], { shape: [n, steps, heads], ...place });
    const channel = scan(flat(a), flat(b));
    expectNear(
      numbers(output),
      numbers(channel.output).map((h, i) => h * read[i]),
      close,
    );
    expectNear(numbers(state), numbers(channel.state), close);
  });

  test("without decay it is causal attention without a softmax", () => {
    const [steps, keys, values] = [9, 4, 3];
    const [q, k] = [1, 2].map((seed) => draw([1, steps, 1, keys], seed));
    const v = draw([1, steps, 1, values], 3);
    const [Q, K, V] = [q, k, v].map(numbers);
    const wanted = Array.from({ length: steps * values }, (_, at) => {
      const [t, j] = [Math.floor(at / values), at % values];
      let total = 0;
      for (let s = 0; s <= t; s++) {
        let score = 0;
        for (let i = 0; i < keys; i++) score += Q[t * keys + i] * K[s * keys + i];
        total += score * V[s * values + j];
      }
      return total;
    });
    expectNear(numbers(matrixScan({ q, k, v }).output), wanted, close);
  });

  test("behind the end of a row it gives zeros, with a bonus too, and lengths beyond 0..T count as 0 and T", () => {
    const [n, steps, heads, keys, values] = [3, 5, 2, 3, 4];
    const [q, k] = [1, 2].map((seed) => draw([n, steps, heads, keys], seed));
    const v = draw([n, steps, heads, values], 3);
    const bonus = draw([heads, keys], 4);
    const initial = draw([n, heads, keys, values], 5);
    const run = (lengths: readonly number[]) => {
      const valid = tensor([...lengths], { dtype: "int32", device: place.device });
      const { output, state } = matrixScan({ q, k, v, initial, lengths: valid }, { read: "old", bonus });
      return { output: numbers(output), state: numbers(state) };
    };
    const width = steps * heads * values;
    const clamped = run([0, steps, 2]);
    expect(clamped.output.slice(0, width)).toEqual(new Array<number>(width).fill(0));
    expect(clamped.output.slice(width, 2 * width + 2 * heads * values).every((x) => x !== 0)).toBe(true);
    expect(clamped.output.slice(2 * width + 2 * heads * values)).toEqual(new Array<number>(3 * heads * values).fill(0));
    expect(run([-1, 9, 2])).toEqual(clamped);
  });

  test("forgets at any rate and remembers over any length", () => {
    const steps = 10_000;
    const ones = filled([1, steps, 1, 1], 1);
    const strong = matrixScan({ q: ones, k: ones, v: ones, logDecay: filled([1], -60) });
    expect(numbers(strong.output).every((x) => Math.abs(x - 1) < 1e-6)).toBe(true);
    const weak = numbers(matrixScan({ q: ones, k: ones, v: ones, logDecay: filled([1], -1e-4) }).state)[0];
    const limit = (1 - Math.exp(-1e-4 * steps)) / (1 - Math.exp(-1e-4));
    // Ten thousand roundings of a sum of some thousands.
    expect(Math.abs(weak / limit - 1)).toBeLessThan(1e-4);
  });

  test("the delta rule reads back what it has written under a key, replacing what was there", () => {
    const key = [0.6, 0.8, 0];
    const other = [0, 0, 1];
    const keys = tensor([...key, ...other, ...key], { shape: [1, 3, 1, 3], ...place });
    const queries = tensor([...key, ...key, ...key], { shape: [1, 3, 1, 3], ...place });
    const v = tensor([1, 2, 3, 4, 5, 6], { shape: [1, 3, 1, 2], ...place });
    expectNear(numbers(deltaRule({ q: queries, k: keys, v, beta: filled([1, 3, 1], 1) }).output), [1, 2, 1, 2, 5, 6], close * 10);
  });

  test("mLSTM is its equations without a stabiliser, while those do not overflow", () => {
    const [steps, size] = [7, 3];
    const [q, k, v] = [1, 2, 3].map((seed) => draw([1, steps, 1, size], seed));
    const [inputGate, forgetGate] = [4, 5].map((seed) => draw([1, steps, 1], seed, -3, 3));
    const [Q, K, V, I, F] = [q, k, v, inputGate, forgetGate].map(numbers);
    const C = new Float64Array(size * size);
    const n = new Float64Array(size);
    const wanted: number[] = [];
    for (let t = 0; t < steps; t++) {
      const at = (data: readonly number[], j: number) => data[t * size + j];
      const [i, f] = [Math.exp(I[t]), 1 / (1 + Math.exp(-F[t]))];
      for (let a = 0; a < size; a++) {
        n[a] = f * n[a] + i * at(K, a);
        for (let b = 0; b < size; b++) C[a * size + b] = f * C[a * size + b] + i * at(K, a) * at(V, b);
      }
      const total = Q.slice(t * size, (t + 1) * size).reduce((sum, x, a) => sum + x * n[a], 0);
      for (let b = 0; b < size; b++) {
        let read = 0;
        for (let a = 0; a < size; a++) read += at(Q, a) * C[a * size + b];
        wanted.push(read / Math.max(Math.abs(total), 1));
      }
    }
    expectNear(numbers(matrixMemory({ q, k, v, inputGate, forgetGate }, { eps: 0 }).output), wanted, close);
  });

  test("sLSTM is its equations without a stabiliser, while those do not overflow", () => {
    const steps = 6;
    const layer = new SLSTM(1, 1, { generator: new Generator(9), ...place });
    const x = draw([1, steps, 1], 3, -2, 2);
    const [w, u, b, b2] = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"].map((key) => numbers(layer.stateDict()[key]));
    const sigmoid = (z: number) => 1 / (1 + Math.exp(-z));
    let [h, c, n] = [0, 0, 0];
    const wanted = numbers(x).map((xt) => {
      const [i, f, z, o] = [0, 1, 2, 3].map((g) => w[g] * xt + u[g] * h + b[g] + b2[g]);
      c = sigmoid(f) * c + Math.exp(i) * Math.tanh(z);
      n = sigmoid(f) * n + Math.exp(i);
      return (h = (sigmoid(o) * c) / n);
    });
    expectNear(numbers(layer.forward(x).output), wanted, close);
  });

  test("says what does not fit", () => {
    const [q, k, v] = [draw([2, 3, 2, 4], 1), draw([2, 3, 2, 4], 2), draw([2, 3, 4, 5], 3)];
    expect(() => matrixScan({ q, k: draw([2, 3, 2, 5], 2), v })).toThrow("matrixScan: k must be [2, 3, 2, 4] but is [2, 3, 2, 5]");
    expect(() => matrixScan({ q: draw([2, 3, 3, 4], 1), k: draw([2, 3, 3, 4], 1), v })).toThrow(
      "matrixScan: heads must be a multiple of the groups of q but they are 4 and 3",
    );
    expect(() => matrixScan({ q, k, v, logDecay: draw([2], 1) })).toThrow(
      "matrixScan: logDecay must be [2, 3, 4, 4] or [2, 3, 4] or [4, 4] or [4] but is [2]",
    );
    expect(() => matrixScan({ q, k, v, a: draw([2, 3, 4, 4], 1) })).toThrow("matrixScan: a and b must be given together");
    expect(() => matrixScan({ q, k, v, initialNormaliser: draw([2, 4, 4], 1) })).toThrow(
      "matrixScan: initialNormaliser is given but no normaliser is asked for",
    );
    expect(() => new SLSTM(3, 5, { heads: 2 })).toThrow("SLSTM: heads must divide hiddenSize, 5, but are 2");
  });
});
