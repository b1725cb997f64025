import { describe, expect, test } from "vitest";
import {
  add,
  Bidirectional,
  concat,
  device,
  Generator,
  MinGRU,
  mul,
  noGrad,
  scope,
  slice,
  Stacked,
  sum,
  tensor,
  zeros,
  type ScanState,
  type Tensor,
  type DeviceName,
} from "../src/index.js";
import { caseValues, devicesUnderTest } from "./helpers.js";
import { scanVariants, type Where } from "./scanVariants.js";

// Sequences in halves, ragged batches, streams and gradients of every layer with a linear recurrence, on each device.
// Two orders of the same sums in float32 differ by some ulp of numbers of order one: 1e-5. Float64: 1e-12.
const [N, T, I] = [3, 11, 6];
const lengths = [7, 0, 11];

const whereOf = (name: DeviceName): Where => ({
  device: device(name),
  dtype: name === "reference" ? "float64" : "float32",
  generator: new Generator(7),
});

function input({ device, dtype }: Where, seed = 3, steps = T): Tensor {
  return tensor(caseValues({ shape: [N, steps, I], low: -2, high: 2 }, seed), { shape: [N, steps, I], dtype, device });
}

function expectClose(what: string, got: Tensor, wanted: Tensor, tolerance: number): void {
  expect(got.shape, `${what}: shape`).toEqual(wanted.shape);
  const [a, b] = [got.dataSync(), wanted.dataSync()];
  const worst = Array.from(a).reduce((most, v, i) => Math.max(most, Math.abs(v - b[i])), 0);
  expect(worst, what).toBeLessThanOrEqual(tolerance);
}

function expectStates(got: ScanState<string>, wanted: ScanState<string>, tolerance: number): void {
  expect(Object.keys(got)).toEqual(Object.keys(wanted));
  for (const [name, t] of Object.entries(got)) expectClose(`state ${name}`, t, wanted[name], tolerance);
}

const rowsOf = (state: ScanState<string>, from: number, to: number) =>
  Object.fromEntries(Object.entries(state).map(([name, t]) => [name, slice(t, 1, from, to)]));

describe.each(devicesUnderTest())("on %s", (name) => {
  const tolerance = name === "reference" ? 1e-12 : 1e-5;

  describe.each(Object.entries(scanVariants))("%s", (_, make) => {
    test("gives output [N, T, outputSize], and two parts that equal the whole", () =>
      scope(() => {
        const at = whereOf(name);
        const layer = make(at);
        const x = input(at);
        const whole = layer.forward(x);
        expect(whole.output.shape).toEqual([N, T, layer.outputSize]);
        for (const cut of [1, 4, T - 1, 0]) {
          const first = layer.forward(slice(x, 1, 0, cut));
          const second = layer.forward(slice(x, 1, cut), { state: first.state });
          expectClose(`cut at ${cut}`, concat([first.output, second.output], 1), whole.output, tolerance);
          expectStates(second.state, whole.state, tolerance);
        }
      }));

    test("starts from zero", () =>
      scope(() => {
        const at = whereOf(name);
        const layer = make(at);
        const x = input(at);
        expectClose("output", layer.forward(x, { state: layer.initialState(N) }).output, layer.forward(x).output, tolerance);
      }));

    test("a ragged batch is its rows one by one, whatever is in the padding", () =>
      scope(() => {
        const at = whereOf(name);
        const layer = make(at);
        const values = caseValues({ shape: [N, T, I], low: -2, high: 2 }, 3);
        values.forEach((_, i) => Math.floor(i / I) % T >= lengths[Math.floor(i / (T * I))] && (values[i] = NaN));
        const x = tensor(values, { shape: [N, T, I], dtype: at.dtype, device: at.device, requiresGrad: true });
        const before = layer.forward(input(at, 5)).state;
        const { output, state } = layer.forward(x, { lengths, state: before });
        lengths.forEach((length, n) => {
          const row = slice(slice(x, 0, n, n + 1), 1, 0, length);
          const alone = layer.forward(row, { state: rowsOf(before, n, n + 1) });
          expectClose(`row ${n}`, slice(slice(output, 0, n, n + 1), 1, 0, length), alone.output, tolerance);
          expectStates(rowsOf(state, n, n + 1), alone.state, tolerance);
        });
        const behind = output
          .dataSync()
          .filter((_, i) => Math.floor(i / layer.outputSize) % T >= lengths[Math.floor(i / (T * layer.outputSize))]);
        expect(behind.every((v: number) => v === 0)).toBe(true);
        [sum(output), ...Object.values(state).map((t) => sum(t))].reduce(add).backward();
        expect([x, ...layer.parameters()].every((t) => t.grad === null || t.grad.dataSync().every((v: number) => Number.isFinite(v)))).toBe(
          true,
        );
        const dx = x.grad!.dataSync();
        expect(dx.filter((_, i) => Math.floor(i / I) % T >= lengths[Math.floor(i / (T * I))]).every((v: number) => v === 0)).toBe(true);
      }));

    test("a stream gives what forward gives", () =>
      scope(() => {
        const at = whereOf(name);
        const layer = make(at);
        const x = slice(input(at), 0, 0, 1);
        const wanted = noGrad(() => layer.forward(x).output.dataSync());
        using stream = layer.stream();
        const values = x.dataSync();
        for (let t = 0; t < T; t++) {
          const got = stream.step(values.slice(t * I, (t + 1) * I));
          got.forEach((v, i) => expect(Math.abs(v - wanted[t * layer.outputSize + i])).toBeLessThanOrEqual(tolerance));
        }
      }));

    test("can be run both ways and stacked", () =>
      scope(() => {
        const at = whereOf(name);
        const both = new Bidirectional(make(at), make(at));
        expect(both.forward(input(at), { lengths }).output.shape).toEqual([N, T, both.outputSize]);
        const layer = make(at);
        const second = new MinGRU(layer.outputSize, 3, at);
        expectClose(
          "stack",
          new Stacked([layer, second]).forward(input(at)).output,
          second.forward(layer.forward(input(at)).output).output,
          tolerance,
        );
      }));

    test("says what does not fit", () => {
      const at = whereOf(name);
      const layer = make(at);
      const where = `${layer.constructor.name}.forward`;
      const x = input(at);
      const state = layer.initialState(N) as Record<string, Tensor>;
      const [first] = Object.keys(state);
      expect(() => layer.forward(slice(x, 2, 0, 2))).toThrow(`${where}: x must be [N, T, 6] but is [3, 11, 2]`);
      expect(() => layer.forward(x, { length: lengths } as never)).toThrow(`${where}: unknown option length; did you mean lengths?`);
      expect(() => layer.forward(x, { lengths: [1, 2] })).toThrow(`${where}: lengths must have 3 entries but has 2`);
      expect(() => layer.forward(x, { state: { ...state, [first]: zeros([1, 2], at) } })).toThrow(
        `${where}: state.${first} must be [1, 3,`,
      );
      expect(() => layer.forward(x, { state: {} })).toThrow(/: state\.\w+ must be \[1, 3,.*\] but is absent/);
    });
  });
});

describe.skipIf(!devicesUnderTest().includes("cpu"))("native gradients are those of the reference", () => {
  // Gradients of parameters sum N * T terms of order one in float32.
  test.each(Object.entries(scanVariants))("%s", (_, make) =>
    scope(() => {
      const [reference, native] = (["reference", "cpu"] as const).map((name) => {
        const at = whereOf(name);
        const layer = make(at);
        const exact = make({ ...whereOf("reference"), dtype: "float32" });
        layer.loadStateDict(
          Object.fromEntries(Object.entries(exact.stateDict()).map(([key, t]) => [key, { shape: t.shape, data: t.dataSync() }])),
        );
        const x = input(at);
        const state = Object.fromEntries(
          Object.entries(layer.initialState(N)).map(([key, t], i) => [
            key,
            tensor(caseValues({ shape: t.shape }, 40 + i), { ...at, shape: t.shape }),
          ]),
        );
        const leaves: Record<string, Tensor> = { x, ...state, ...layer.stateDict() };
        for (const t of Object.values(leaves)) t.requiresGrad = true;
        const result = layer.forward(x, { state, lengths });
        const weighted = (t: Tensor, k: number) => sum(mul(t, tensor(caseValues({ shape: t.shape }, 60 + k), { ...at, shape: t.shape })));
        [result.output, ...Object.values(result.state)].map(weighted).reduce(add).backward();
        return leaves;
      });
      for (const [key, t] of Object.entries(native)) {
        expect(t.grad === null, key).toBe(reference[key].grad === null);
        if (!t.grad) continue;
        const largest = Array.from(reference[key].grad!.dataSync()).reduce((most, v) => Math.max(most, Math.abs(v)), 0);
        expectClose(`gradient of ${key}`, t.grad, reference[key].grad!, 1e-5 * (1 + largest));
      }
    }),
  );
});
