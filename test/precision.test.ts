import { describe, expect, it, test } from "vitest";
import type { Backend } from "../src/backend/backend.js";
import {
  dequantize,
  device,
  GRU,
  IndRNN,
  Linear,
  LSTM,
  MGU,
  mul,
  Module,
  noGrad,
  quantize,
  RNN,
  scope,
  sum,
  tensor,
  type Recurrent,
  type RecurrentOptions,
  type Tensor,
} from "../src/index.js";
import { bfloat16, rounded } from "../src/ops/precision.js";
import { Generator, uniform } from "../src/tensor/random.js";
import { caseValues, nativeAvailable, nativeBackends, sameBits, weightsLike } from "./helpers.js";

type Values = ReturnType<Tensor["dataSync"]>;
type Make = (inputs: number, hidden: number, options: RecurrentOptions) => Recurrent<string>;

/** Layers, and whether what a product of theirs reads is computed in the step: the devices may round that to either side. */
const layers: Readonly<Record<string, readonly [make: Make, inner?: boolean]>> = {
  RNN: [(i, h, o) => new RNN(i, h, o)],
  "RNN relu": [(i, h, o) => new RNN(i, h, { nonlinearity: "relu", ...o })],
  LSTM: [(i, h, o) => new LSTM(i, h, o)],
  "LSTM peephole": [(i, h, o) => new LSTM(i, h, { peephole: true, ...o })],
  "LSTM layerNorm": [(i, h, o) => new LSTM(i, h, { layerNorm: true, ...o })],
  "LSTM projection": [(i, h, o) => new LSTM(i, h, { projSize: Math.ceil(h / 2), ...o }), true],
  GRU: [(i, h, o) => new GRU(i, h, o)],
  "GRU reset before": [(i, h, o) => new GRU(i, h, { reset: "before", ...o }), true],
  MGU: [(i, h, o) => new MGU(i, h, o), true],
  IndRNN: [(i, h, o) => new IndRNN(i, h, o)],
};
const precisions = ["bf16", "int8"] as const;

const values = (shape: readonly number[], seed: number) => caseValues({ shape }, seed);
function given(shape: readonly number[], seed: number, on: Backend, requiresGrad = false): Tensor {
  const dtype = on.name === "reference" ? "float64" : "float32";
  return tensor(values(shape, seed), { shape, dtype, device: on, requiresGrad });
}
const copy = (t: Tensor, on: Backend) =>
  tensor(t.dataSync(), { shape: t.shape, dtype: on.name === "reference" ? "float64" : "float32", device: on });

function make(
  name: string,
  sizes: readonly [number, number],
  on: Backend,
  precision: "bf16" | "int8" | "float32",
  options: RecurrentOptions = {},
) {
  const dtype = on.name === "reference" ? "float64" : "float32";
  const layer = layers[name][0](...sizes, { generator: new Generator(7), device: on, dtype, ...options });
  layer.precision = precision;
  return layer.eval();
}

/** The largest difference, and the share of elements that are off by more than `tight`. */
function differences(got: Values, wanted: Values, tight: number) {
  let most = 0;
  let off = 0;
  got.forEach((v: number, i: number) => {
    const error = Math.abs(v - wanted[i]);
    most = Math.max(most, Number.isFinite(error) ? error : Infinity);
    if (!(error <= tight)) off++;
  });
  return { most, share: off / got.length };
}

// The same float32 operands are rounded to the same numbers everywhere, so that what is left are sums and functions in
// float32: 1e-6 of terms of order one. Where the operand is computed in the step itself, float32 may put it to the other
// side of a tie than float64 does, now and then: then one operand is off by 2^-8 or by 1/127, times a weight.
const TIGHT = 1e-5;
const ONE_STEP = 1e-2;

describe("rounding", () => {
  test("to bfloat16: 8 bits of mantissa, ties to even, what is not finite stays so", () => {
    expect([1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -8 + 2 ** -20, -1 - 2 ** -9].map(bfloat16)).toEqual([1, 1 + 2 ** -6, 1 + 2 ** -7, -1]);
    expect([0, Infinity, -Infinity, NaN, 3e38].map(bfloat16)).toEqual([0, Infinity, -Infinity, NaN, 226 * 2 ** 120]);
  });
  test("to bytes: each row by its own largest, which stays; a row of zeros stays", () => {
    expect([...rounded([127, -63.4, 0.5, 1.5, 0, 0, 0, 0, -2, 1, 0, 0.007], 4, "int8")].map((v) => Number(v.toFixed(4)))).toEqual([
      127, -63, 0, 2, 0, 0, 0, 0, -2, 1.0079, 0, 0,
    ]);
  });
});

describe.skipIf(!nativeAvailable)("layers of reduced precision", () => {
  const reference = device("reference");
  describe.each(nativeBackends(2))("on $isa", ({ backend }) => {
    const sizes = [
      [1, 1, 1, 1],
      [5, 13, 7, 3],
      [3, 33, 2, 4],
      [37, 31, 5, 2],
      [2, 67, 1, 3],
    ] as const;
    describe.each(precisions)("%s", (precision) => {
      describe.each(Object.keys(layers))("%s", (name) => {
        it.each(sizes)("I = %i, H = %i, B = %i, T = %i: each step as the reference from the same state", (I, H, n, steps) => {
          scope(() => {
            const cpu = make(name, [I, H], backend, precision);
            const oracle = make(name, [I, H], reference, precision);
            oracle.loadStateDict(cpu.stateDict());
            const x = given([n, steps, I], 1, backend);
            const whole = noGrad(() => cpu.forward(x));
            let state = cpu.initialState(n);
            for (let t = 0; t < steps; t++) {
              const now = tensor(
                Array.from({ length: n }, (_, i) => [...x.dataSync().subarray((i * steps + t) * I, (i * steps + t + 1) * I)]).flat(),
                { shape: [n, 1, I], device: backend },
              );
              const got = noGrad(() => cpu.forward(now, { state }));
              const before = Object.fromEntries(Object.entries(state).map(([s, v]) => [s, copy(v, reference)]));
              const wanted = noGrad(() => oracle.forward(copy(now, reference), { state: before }));
              for (const [s, v] of Object.entries(got.state)) {
                const { most, share } = differences(v.dataSync(), wanted.state[s].dataSync(), TIGHT);
                expect(most, `state ${s} at step ${t}`).toBeLessThan(layers[name][1] ? ONE_STEP : TIGHT);
                expect(share, `share of state ${s} at step ${t}`).toBeLessThan(0.2);
              }
              ({ state } = got);
            }
            for (const [s, v] of Object.entries(whole.state))
              expect(sameBits(v.dataSync(), state[s].dataSync()), `${s} of the sequence and of its steps`).toBe(true);
          });
        });

        test("lengths, both directions, two layers, an initial state; the bits of two threads, and of a row alone", () => {
          scope(() => {
            const options = { layers: 2, bidirectional: true };
            const cpu = make(name, [5, 37], backend, precision, options);
            const oracle = make(name, [5, 37], reference, precision, options);
            oracle.loadStateDict(cpu.stateDict());
            const [n, lengths] = [5, [4, 0, 2, 1, 3]];
            const run = (on: Backend, layer: Recurrent<string>) => {
              const state = Object.fromEntries(
                Object.entries(layer.initialState(n)).map(([s, { shape }], i) => [s, given(shape, 30 + i, on)]),
              );
              return noGrad(() => layer.forward(given([n, 4, 5], 1, on), { lengths, state })).output.dataSync();
            };
            backend.setThreads(1);
            const alone = run(backend, cpu);
            backend.setThreads(2);
            const got = run(backend, cpu);
            expect(sameBits(got, alone)).toBe(true);
            // An operand that goes to the other side of a tie changes all that comes after it a little.
            const { most, share } = differences(got, run(reference, oracle), 1e-4);
            expect(most).toBeLessThan(2e-2);
            expect(share).toBeLessThan(0.3);
            const x = given([n, 4, 5], 1, backend);
            const all = noGrad(() => cpu.forward(x)).output.dataSync();
            const first = noGrad(() =>
              cpu.forward(tensor(x.dataSync().slice(0, 20), { shape: [1, 4, 5], device: backend })),
            ).output.dataSync();
            expect(sameBits(first, all.slice(0, first.length))).toBe(true);
          });
        });
      });

      test("a stream gives what forward gives, and float32 something else", () => {
        for (const name of ["LSTM", "GRU reset before"]) {
          const layer = make(name, [9, 70], backend, precision, { layers: 2 });
          const x = Float32Array.from(values([6, 9], 3));
          const forward = () =>
            scope(() => noGrad(() => layer.forward(tensor(x, { shape: [1, 6, 9], device: backend }))).output.dataSync());
          const whole = forward();
          using stream = layer.stream();
          for (let t = 0; t < 6; t++)
            expect(sameBits(stream.step(x.slice(9 * t, 9 * t + 9)), whole.slice(70 * t, 70 * t + 70)), `${name}, step ${t}`).toBe(true);
          layer.precision = "float32";
          const { most, share } = differences(forward(), whole, 1e-6);
          expect(share).toBeGreaterThan(0.9);
          expect(most).toBeLessThan(2e-2);
        }
      });

      test("a row that holds what is not finite gives nothing finite, and others are as they were", () => {
        scope(() => {
          const head = new Linear(40, 33, { device: backend }).eval();
          head.precision = precision;
          const x = Float32Array.from(values([3, 40], 1));
          const run = () => noGrad(() => head.forward(tensor(x, { shape: [3, 40], device: backend }))).dataSync();
          const before = run();
          for (const bad of [NaN, Infinity]) {
            x[47] = bad;
            const after = run();
            expect(after.slice(33, 66).some((v) => Number.isFinite(v))).toBe(false);
            expect(sameBits(after.slice(66), before.slice(66))).toBe(true);
            expect(sameBits(after.slice(0, 33), before.slice(0, 33))).toBe(true);
          }
        });
      });
    });

    // The layers whose gradients are checked, the last two with the options that their sweeps are staged for.
    const trained = ["RNN", "LSTM", "GRU", "GRU reset before", "MGU", "IndRNN", "LSTM layerNorm", "LSTM projection"];
    type Given = { readonly options?: RecurrentOptions; readonly precision?: "bf16" | "float32"; readonly broken?: boolean };
    const gradients = (name: string, on: Backend, { options = {}, precision = "bf16", broken = false }: Given = {}) => {
      const layer = make(name, [6, 35], on, precision, options).train();
      return scope(() => {
        const x = given([25, 4, 6], 1, on, true);
        const state = Object.fromEntries(
          Object.entries(layer.initialState(25)).map(([s, { shape }], i) => [s, given(shape, 30 + i, on, true)]),
        );
        const { output } = layer.forward(x, { lengths: Array.from({ length: 25 }, (_, i) => (i * 3) % 5), state });
        const weights = weightsLike(output, 0).dataSync().slice();
        if (broken) weights[(7 * 4 + 0) * output.shape[2] + 3] = NaN;
        const asked = tensor(weights, { shape: output.shape, dtype: output.dtype as "float32", device: on });
        sum(mul(output, asked)).backward();
        return Object.fromEntries(Object.entries({ x, ...state, ...layer.stateDict() }).map(([key, t]) => [key, t.grad!.dataSync()]));
      });
    };
    const size = (v: Values) => 1 + Array.from(v).reduce((most, x) => Math.max(most, Math.abs(x)), 0);

    describe.each(trained)("gradients of bf16: %s", (name) => {
      test("are sums of products of rounded operands, as the composition's; those of float32 are not", () => {
        const [got, wanted, exact] = [
          gradients(name, backend),
          gradients(name, device("reference")),
          gradients(name, backend, { precision: "float32" }),
        ];
        for (const [key, g] of Object.entries(got)) {
          // What float32 computes in the pass, gates' gradients first of all, may be rounded to the other side: see above.
          const scale = size(wanted[key]);
          const { most, share } = differences(g, wanted[key], TIGHT * scale);
          expect(most, key).toBeLessThan(5e-3 * scale);
          expect(share, `share of ${key}`).toBeLessThan(0.1);
        }
        const { share } = differences(got.weight_ih_l0, exact.weight_ih_l0, TIGHT * size(exact.weight_ih_l0));
        expect(share).toBeGreaterThan(0.8);
      });

      test("have the same bits on any number of threads, and where the gates are computed again", () => {
        backend.setThreads(1);
        const alone = gradients(name, backend);
        backend.setThreads(2);
        const [got, again] = [gradients(name, backend), gradients(name, backend, { options: { checkpoint: true } })];
        for (const [key, g] of Object.entries(alone)) {
          expect(sameBits(got[key], g), `two threads: ${key}`).toBe(true);
          expect(sameBits(again[key], g), `checkpoint: ${key}`).toBe(true);
        }
      });

      test("pass on what is not a number, to its own row alone and to the weights", () => {
        const [whole, broken] = [gradients(name, backend), gradients(name, backend, { broken: true })];
        const rows = (v: Values) => Array.from({ length: 25 }, (_, i) => v.slice((i * v.length) / 25, ((i + 1) * v.length) / 25));
        rows(broken.x).forEach((row, i) =>
          i === 7 ? expect(row.slice(0, 6).every(Number.isNaN)).toBe(true) : expect(sameBits(row, rows(whole.x)[i]), `row ${i}`).toBe(true),
        );
        expect(Array.from(broken.weight_ih_l0).some(Number.isNaN)).toBe(true);
        expect(Array.from(broken.weight_hh_l0).some(Number.isNaN)).toBe(true);
      });
    });

    test("gradients of a linear layer of bf16 are the products of its rounded operands", () => {
      scope(() => {
        const [rows, features, out] = [37, 21, 50];
        const head = new Linear(features, out, { precision: "bf16", device: backend });
        const x = given([rows, features], 1, backend, true);
        const dy = given([rows, out], 2, backend);
        sum(mul(head.forward(x), dy)).backward();
        const [X, W, G] = [x, head.weight, dy].map((t) => rounded(t.dataSync(), t.shape[1], "bf16"));
        const total = (n: number, term: (i: number) => number) => Array.from({ length: n }, (_, i) => term(i)).reduce((a, b) => a + b, 0);
        const dx = Float64Array.from({ length: rows * features }, (_, i) =>
          total(out, (o) => G[Math.floor(i / features) * out + o] * W[o * features + (i % features)]),
        );
        const dw = Float64Array.from({ length: out * features }, (_, i) =>
          total(rows, (r) => G[r * out + Math.floor(i / features)] * X[r * features + (i % features)]),
        );
        expect(differences(x.grad!.dataSync(), dx, 0).most).toBeLessThan(TIGHT);
        expect(differences(head.weight.grad!.dataSync(), dw, 0).most).toBeLessThan(TIGHT);
        const db = Float64Array.from({ length: out }, (_, o) => total(rows, (r) => dy.dataSync()[r * out + o]));
        expect(differences(head.bias!.grad!.dataSync(), db, 0).most).toBeLessThan(TIGHT);
      });
    });
  });
});

class Model extends Module {
  rnn = new LSTM(3, 20, { layers: 2 });
  other = new GRU(20, 10, { precision: "bf16" });
  head = new Linear(10, 4);
  forward(x: Tensor): Tensor {
    return this.head.forward(this.other.forward(this.rnn.forward(x).output).output);
  }
}

describe("quantize", () => {
  const model = new Model();
  const x = uniform([2, 5, 3], { generator: new Generator(1) });
  const run = () => scope(() => noGrad(() => model.forward(x)).dataSync());

  test("and back: the same bits as before, and the same state dict throughout", () => {
    model.eval();
    const before = run();
    const names = Object.keys(model.stateDict());
    const weights = Object.values(model.stateDict()).map((t) => t.dataSync());
    model.train();
    expect(quantize(model)).toBe(model);
    expect([model.training, model.rnn.precision, model.other.precision, model.head.precision]).toEqual([false, "int8", "int8", "int8"]);
    const bytes = run();
    expect(quantize(model).rnn.precision).toBe("int8");
    expect(sameBits(run(), bytes)).toBe(true);
    expect(Object.keys(model.stateDict())).toEqual(names);
    Object.values(model.stateDict()).forEach((t, i) => expect(sameBits(t.dataSync(), weights[i])).toBe(true));
    const { most, share } = differences(bytes, before, 0);
    expect(share).toBeGreaterThan(0.5);
    expect(most).toBeLessThan(0.02);
    dequantize(model);
    expect([model.rnn.precision, model.other.precision, model.head.precision]).toEqual(["float32", "bf16", "float32"]);
    expect(sameBits(run(), before)).toBe(true);
  });

  test("bytes are made again from weights that change", () => {
    scope(() => {
      const head = quantize(new Linear(8, 3, { bias: false }));
      const one = tensor(new Float32Array(8).fill(1), { shape: [1, 8] });
      expect(
        head
          .forward(one)
          .dataSync()
          .some((v) => v !== 0),
      ).toBe(true);
      head.loadStateDict({ weight: { shape: [3, 8], data: new Float32Array(24).fill(0.5) } });
      head
        .forward(one)
        .dataSync()
        .forEach((v: number) => expect(v).toBeCloseTo(4, 5));
    });
  });

  test("training it throws, and so does a gradient of x; what it gives has no gradient", () => {
    scope(() => {
      quantize(model);
      const leaf = uniform([2, 5, 3], { requiresGrad: true });
      expect(model.forward(x).requiresGrad).toBe(false);
      expect(() => model.forward(leaf)).toThrow("LSTM.forward: a quantised module has no gradient; dequantize it to train");
      model.train();
      expect(() => model.forward(x)).toThrow("LSTM.forward: a quantised module has no gradient");
      expect(() => model.head.forward(uniform([1, 10]))).toThrow("Linear.forward: a quantised module has no gradient");
      expect(noGrad(() => model.forward(x)).shape).toEqual([2, 5, 4]);
      dequantize(model);
      expect(model.forward(leaf).requiresGrad).toBe(true);
    });
  });

  test("what is not there to quantise, and options that are none", () => {
    class Empty extends Module {}
    expect(() => quantize(new Empty())).toThrow("quantize: Empty has neither a recurrent layer nor a Linear");
    expect(() => new LSTM(3, 4, { precision: "int8" as never })).toThrow('LSTM: precision must be "float32" or "bf16" but is "int8"');
    expect(() => new Linear(3, 4, { precision: "fp16" as never })).toThrow('Linear: precision must be "float32" or "bf16" but is "fp16"');
  });
});
