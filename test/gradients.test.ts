import { describe, expect, it } from "vitest";
import {
  add,
  concat,
  device,
  drawGradientFlow,
  Embedding,
  flip,
  gateSaturation,
  Generator,
  grad,
  gradientFlow,
  gradientNormPenalty,
  GRU,
  IndRNN,
  init,
  Jordan,
  LanguageModel,
  LSTM,
  mul,
  pascanuPenalty,
  RNN,
  scale,
  scope,
  slice,
  spectralRadius,
  square,
  stack,
  sum,
  tanh,
  tensor,
  uniform,
  type GradientFlow,
  type Recurrent,
  type RecurrentOptions,
  type Tensor,
} from "../src/index.js";
import { linear } from "../src/ops/matmul.js";
import { reshape, unstack } from "../src/ops/movement.js";
import { devicesUnderTest } from "./helpers.js";

const values = (t: Tensor) => Array.from(t.dataSync());
const norm = (v: readonly number[]) => Math.sqrt(v.reduce((a, b) => a + b * b, 0));

/** Relative to the largest: float32 sums of a few dozen terms. */
function expectClose(actual: readonly number[], expected: readonly number[], tolerance = 1e-5): void {
  expect(actual.length).toBe(expected.length);
  const most = Math.max(...expected.map(Math.abs));
  expect(most).toBeGreaterThan(0);
  actual.forEach((v, i) => expect(Math.abs(v - expected[i]), `element ${i}`).toBeLessThan(tolerance * most));
}

const kinds: Record<string, (i: number, h: number, options: RecurrentOptions) => Recurrent<string>> = {
  RNN: (i, h, o) => new RNN(i, h, o),
  LSTM: (i, h, o) => new LSTM(i, h, o),
  GRU: (i, h, o) => new GRU(i, h, o),
  "GRU before": (i, h, o) => new GRU(i, h, { ...o, reset: "before" }),
};

const more: typeof kinds = {
  ...kinds,
  IndRNN: (i, h, o) => new IndRNN(i, h, o),
  Jordan: (i, h, o) => new Jordan(i, h, { ...o, outputSize: 3, outputActivation: "tanh" }),
  "LSTM with everything": (i, h, o) => new LSTM(i, h, { ...o, peephole: true, projSize: 3, zoneout: { h: 0.2, c: 0.1 } }),
};

describe.each(devicesUnderTest())("gradients on %s", (name) => {
  const dev = device(name);
  const draw = (seed: number, ...shape: number[]) => uniform(shape, { low: -1, high: 1, device: dev, generator: new Generator(seed) });
  const make = (kind: string, i: number, h: number, options: RecurrentOptions = {}) =>
    more[kind](i, h, { device: dev, generator: new Generator(7), ...options });
  const weighted = (output: Tensor, weights: Tensor) => sum(mul(output, weights));

  describe("gradientFlow", () => {
    it.each(Object.keys(more))("of %s is what a state handed over says", async (kind) => {
      const layer = make(kind, 3, 5).eval();
      const width = layer.outputSize;
      const [x, w] = [draw(1, 2, 6, 3), draw(2, 2, 6, width)];
      const { loss, layers } = await gradientFlow(layer, () => weighted(layer.forward(x).output, w));
      const whole = scope(() => weighted(layer.forward(x).output, w));
      expect(Math.abs(loss - values(whole)[0])).toBeLessThan(1e-5);
      expect(layers.map((l) => l.name)).toEqual(["l0"]);
      const states = Object.keys(layer.initialState(1));
      expect(Object.keys(layers[0].norms)).toEqual(states);
      for (let t = 0; t < 5; t++) {
        const { state } = layer.forward(slice(x, 1, 0, t + 1));
        const held = Object.fromEntries(states.map((s) => [s, state[s].detach()]));
        for (const s of states) held[s].requiresGrad = true;
        const rest = weighted(layer.forward(slice(x, 1, t + 1, 6), { state: held }).output, slice(w, 1, t + 1, 6));
        const found = grad(rest, states.map((s) => held[s])); // prettier-ignore
        states.forEach((s, k) => {
          const read = reshape(slice(w, 1, t, t + 1), [1, 2, width]);
          expectClose([layers[0].norms[s][t]], [norm(values(k === 0 ? add(found[k]!, read) : found[k]!))]);
        });
      }
      expectClose([layers[0].norms[states[0]][5]], [norm(values(slice(w, 1, 5, 6)))]);
    });

    it("of a stack counts the way up as well as the way on", async () => {
      const layer = make("RNN", 3, 4, { layers: 2 });
      const [x, w] = [draw(1, 2, 5, 3), draw(2, 2, 5, 4)];
      const { layers } = await gradientFlow(layer, () => weighted(layer.forward(x).output, w));
      const p = layer.stateDict();
      const zero = tensor(new Float32Array(8), { shape: [2, 4], device: dev });
      const [lower, upper]: Tensor[][] = [[], []];
      unstack(x, 1).forEach((xt, t) => {
        const step = (k: number, input: Tensor, before: Tensor) =>
          tanh(add(linear(input, p[`weight_ih_l${k}`], p[`bias_ih_l${k}`]), linear(before, p[`weight_hh_l${k}`], p[`bias_hh_l${k}`])));
        lower.push(step(0, xt, lower[t - 1] ?? zero));
        upper.push(step(1, lower[t], upper[t - 1] ?? zero));
      });
      const found = grad(weighted(stack(upper, 1), w), [...lower, ...upper]).map((g) => norm(values(g!)));
      expect(layers.map((l) => l.name)).toEqual(["l0", "l1"]);
      expectClose(layers[0].norms.h, found.slice(0, 5));
      expectClose(layers[1].norms.h, found.slice(5));
    });

    it.each(["LSTM", "GRU"])("of a ragged, bidirectional %s is that of its rows alone", async (kind) => {
      const layer = make(kind, 3, 4, { bidirectional: true, layers: 2 });
      const [x, w] = [draw(1, 3, 5, 3), draw(2, 3, 5, 8)];
      const lengths = [5, 0, 3];
      const { layers } = await gradientFlow(layer, () => weighted(layer.forward(x, { lengths }).output, w));
      const row = (t: Tensor, n: number) => slice(slice(t, 0, n, n + 1), 1, 0, lengths[n]);
      const alone = async (n: number) => (await gradientFlow(layer, () => weighted(layer.forward(row(x, n)).output, row(w, n)))).layers;
      const [first, third] = [await alone(0), await alone(2)];
      expect(layers.map((l) => l.name)).toEqual(["l0", "l0_reverse", "l1", "l1_reverse"]);
      layers.forEach(({ norms }, i) => {
        for (const s of Object.keys(norms)) {
          const expected = first[i].norms[s].map((v, t) => Math.hypot(v, third[i].norms[s][t] ?? 0));
          expectClose(norms[s], expected);
        }
      });
    });

    it("takes a batch, names the layers of a model, and leaves its gradients and memory alone", async () => {
      const model = new LanguageModel(7, { cell: "gru", hidden: 6, embed: 4, layers: 2, device: dev });
      const ids = Int32Array.from({ length: 8 }, (_, i) => (i * 3) % 7);
      const batch = { inputs: { data: ids, shape: [2, 4] }, targets: { data: ids, shape: [2, 4] }, lengths: [4, 2] };
      const before = dev.memory().buffers;
      const { layers } = await gradientFlow(model, batch);
      expect(layers.map((l) => l.name)).toEqual(["rnn.l0", "rnn.l1"]);
      expect(layers[1].norms.h).toHaveLength(4);
      expect(layers[1].norms.h.every((v) => v > 0)).toBe(true);
      expect(model.parameters().every((p) => p.grad === null)).toBe(true);
      expect(dev.memory().buffers).toBe(before);
      const last = await gradientFlow(model, batch, { loss: (result: { logits: Tensor }) => sum(slice(result.logits, 1, 1, 2)) });
      expect(last.layers[1].norms.h.map((v) => v > 0)).toEqual([true, true, false, false]);
    });

    it("shows gradients that float32 cannot square", async () => {
      const layer = make("RNN", 1, 2);
      init.identity(layer.stateDict().weight_hh_l0, { scale: 1e-2 });
      init.zeros(layer.stateDict().weight_ih_l0);
      init.zeros(layer.stateDict().bias_ih_l0);
      init.zeros(layer.stateDict().bias_hh_l0);
      const { layers } = await gradientFlow(layer, () => sum(slice(layer.forward(draw(1, 1, 15, 1)).output, 1, 14, 15)));
      layers[0].norms.h.forEach((v, t) => expectClose([v], [Math.SQRT2 * 1e-2 ** (14 - t)]));
    });

    it("says what is wrong", async () => {
      const layer = make("RNN", 3, 2);
      const embed = new Embedding(3, 2, { device: dev });
      await expect(gradientFlow(embed, () => sum(embed.weight))).rejects.toThrow("gradientFlow: the model ran no recurrent layer");
      await expect(gradientFlow(layer, () => layer.forward(draw(1, 1, 2, 3)).output)).rejects.toThrow(
        "the loss must be a tensor of one element",
      );
      await expect(gradientFlow(layer, () => scope(() => sum(layer.forward(draw(1, 1, 2, 3)).output.detach())))).rejects.toThrow(
        "the loss does not depend on anything that requires a gradient",
      );
      await expect(gradientFlow(layer, () => sum(draw(1, 1)), { los: 1 } as never)).rejects.toThrow("unknown option los");
    });
  });

  describe("penalties", () => {
    it("gradientNormPenalty of a parabola is what paper says, and so is its gradient", () => {
      const p = tensor([1, -2, 3], { device: dev, requiresGrad: true });
      const a = [0.5, 1, 2];
      const loss = scale(weighted(square(p), tensor(a, { device: dev })), 0.5);
      const penalty = gradientNormPenalty(loss, [p]);
      expectClose(values(penalty), [0.25 + 4 + 36]);
      penalty.backward({ retainGraph: true });
      expectClose(values(p.grad!), [0.5 * 1, -2 * 2, 8 * 3]);
      p.grad = null;
      loss.backward();
      expectClose(values(p.grad!), [0.5, -2, 6]);
      expect(() => gradientNormPenalty(sum(square(p)), [tensor([1], { device: dev, requiresGrad: true })])).toThrow(
        "gradientNormPenalty: the loss does not depend on any of the parameters",
      );
    });

    const states = (layer: Recurrent<string>, x: Tensor, w: Tensor) => {
      const { output } = layer.forward(x);
      const [rows, steps, width] = output.shape;
      const h = values(output);
      const at = (flat: number[], n: number, t: number) => flat.slice((n * steps + t) * width, (n * steps + t + 1) * width);
      return { h, d: values(w), at, rows, steps, width };
    };

    /** Omega written out with plain numbers: g and f' from U, the Jacobian from V. */
    const omega = (layer: Recurrent<string>, x: Tensor, w: Tensor, relu: boolean, lengths: number[], V?: number[]): number => {
      const { h, d, at, rows, steps, width } = states(layer, x, w);
      const U = values(layer.stateDict().weight_hh_l0);
      const through = (q: number[], matrix: number[]) =>
        Array.from({ length: width }, (_, j) => q.reduce((s, v, i) => s + v * matrix[i * width + j], 0));
      let total = 0;
      for (let n = 0; n < rows; n++) {
        let onward = new Array<number>(width).fill(0);
        for (let t = Math.min(steps, lengths[n]) - 1; t >= 0; t--) {
          const g = onward.map((v, k) => v + at(d, n, t)[k]);
          const q = at(h, n, t).map((v, k) => g[k] * (relu ? +(v > 0) : 1 - v * v));
          onward = through(q, U);
          if (norm(g) > 0) total += (norm(through(q, V ?? U)) / norm(g) - 1) ** 2;
        }
      }
      return total / rows;
    };

    it.each(["tanh", "relu"] as const)("pascanuPenalty of %s is Omega, with its immediate derivative by U alone", (nonlinearity) => {
      const layer = new RNN(2, 4, { nonlinearity, device: dev, generator: new Generator(3) });
      const [x, w] = [draw(1, 3, 5, 2), draw(2, 3, 5, 4)];
      const { loss, penalty } = pascanuPenalty(() => weighted(layer.forward(x).output, w));
      expectClose(values(loss), values(weighted(layer.forward(x).output, w)));
      expectClose(values(penalty), [omega(layer, x, w, nonlinearity === "relu", [5, 5, 5])]);
      penalty.backward({ retainGraph: true });
      const { weight_hh_l0: U, weight_ih_l0, bias_hh_l0 } = layer.stateDict();
      expect([weight_ih_l0.grad, bias_hh_l0.grad]).toEqual([null, null]);
      const step = 1e-3;
      const expected = values(U).map((_, i) => {
        const moved = (by: number) => omega(layer, x, w, nonlinearity === "relu", [5, 5, 5], values(U).map((v, k) => v + (k === i ? by : 0))); // prettier-ignore
        return (moved(step) - moved(-step)) / (2 * step);
      });
      // Central differences of a curve with curvature of order one: step^2.
      expectClose(values(U.grad!), expected, 1e-4);
      loss.backward();
      expect(weight_ih_l0.grad).not.toBeNull();
    });

    it("pascanuPenalty counts valid steps, both directions, and rows without a gradient as nothing", () => {
      const layer = new RNN(2, 4, { device: dev, generator: new Generator(3) });
      const [x, w] = [draw(1, 3, 5, 2), draw(2, 3, 5, 4)];
      const lengths = [2, 5, 0];
      const { penalty } = pascanuPenalty(() => weighted(layer.forward(x, { lengths }).output, w));
      expectClose(values(penalty), [omega(layer, x, w, false, lengths)]);
      const both = new RNN(2, 4, { device: dev, bidirectional: true });
      const p = both.stateDict();
      for (const [n, t] of Object.entries(layer.stateDict()))
        for (const end of ["", "_reverse"]) dev.write(p[n + end].buffer(), t.dataSync());
      const [there, back] = [add(x, flip(x, 1)), add(w, flip(w, 1))];
      const one = pascanuPenalty(() => weighted(layer.forward(there).output, back)).penalty;
      const two = pascanuPenalty(() => weighted(both.forward(there).output, concat([back, back], 2))).penalty;
      expectClose(values(two), [2 * values(one)[0]]);
    });

    it("pascanuPenalty pulls the recurrence towards keeping norms, with memory flat", () => {
      const layer = new RNN(2, 8, { device: dev, generator: new Generator(3) });
      const [x, w] = [draw(1, 4, 20, 2), draw(2, 4, 8)];
      const last = () => sum(mul(reshape(slice(layer.forward(x).output, 1, 19, 20), [4, 8]), w));
      const U = layer.stateDict().weight_hh_l0;
      const descend = () =>
        scope(() => {
          layer.zeroGrad();
          const { penalty } = pascanuPenalty(last);
          penalty.backward();
          const next = values(U).map((v, i) => v - 0.02 * values(U.grad!)[i]);
          dev.write(U.buffer(), Float32Array.from(next));
          return values(penalty)[0];
        });
      const first = descend();
      const buffers = dev.memory().buffers;
      let now = first;
      for (let k = 0; k < 30; k++) now = descend();
      expect(now).toBeLessThan(first / 10);
      expect(dev.memory().buffers).toBe(buffers);
    });

    it("pascanuPenalty says what is wrong", () => {
      const gru = make("GRU", 2, 3);
      expect(() => pascanuPenalty(() => sum(gru.forward(draw(1, 1, 2, 2)).output))).toThrow("pascanuPenalty: no RNN layer was run");
      const rnn = make("RNN", 2, 3);
      expect(() => pascanuPenalty(() => rnn.forward(draw(1, 1, 2, 2)).output)).toThrow("the loss must be a tensor of one element");
    });
  });

  describe("gateSaturation", () => {
    it("finds gates that biases hold open or shut", async () => {
      const layer = make("LSTM", 3, 2);
      for (const p of layer.parameters()) init.zeros(p);
      dev.write(layer.stateDict().bias_ih_l0.buffer(), Float32Array.from([-5, 5, 5, 5, 0, 0, 0, -1])); // i, f, g, o
      const loss = () => sum(layer.forward(draw(1, 4, 3, 3)).output);
      const gates = { i: { low: 0.5, high: 0.5 }, f: { low: 0, high: 1 }, o: { low: 0, high: 0 } };
      expect(await gateSaturation(layer, loss)).toEqual([{ name: "l0", gates }]);
      const wide = await gateSaturation(layer, loss, { low: 0.3, high: 0.5 });
      expect(wide[0].gates.o).toEqual({ low: 0.5, high: 0 });
    });

    it("reads every step of a GRU, in both directions, valid ones only", async () => {
      const layer = make("GRU", 2, 3, { bidirectional: true });
      const x = draw(4, 2, 4, 2);
      const lengths = [4, 2];
      const found = await gateSaturation(layer, () => sum(layer.forward(x, { lengths }).output), { low: 0.5, high: 0.5 });
      const p = layer.stateDict();
      const out = values(layer.forward(x, { lengths }).output);
      found.forEach(({ name, gates }, direction) => {
        const suffix = direction === 0 ? "l0" : "l0_reverse";
        expect(name).toBe(suffix);
        const weights = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"].map((n) => values(p[`${n}_${suffix}`]));
        const above = { r: 0, z: 0 };
        for (let n = 0; n < 2; n++)
          for (let t = 0; t < lengths[n]; t++) {
            const from = direction === 0 ? t - 1 : t + 1;
            const inside = from >= 0 && from < lengths[n];
            const h = [0, 1, 2].map((k) => (inside ? out[(n * 4 + from) * 6 + direction * 3 + k] : 0));
            const xt = values(x).slice((n * 4 + t) * 2, (n * 4 + t) * 2 + 2);
            (["r", "z"] as const).forEach((gate, g) => {
              for (let u = 3 * g; u < 3 * g + 3; u++) {
                const a =
                  xt.reduce((s, v, k) => s + v * weights[0][u * 2 + k], 0) + h.reduce((s, v, k) => s + v * weights[1][u * 3 + k], 0);
                above[gate] += +(a + weights[2][u] + weights[3][u] > 0);
              }
            });
          }
        for (const gate of ["r", "z"] as const) {
          expect(gates[gate].high).toBeCloseTo(above[gate] / 18, 10);
          expect(gates[gate].low).toBeCloseTo(1 - above[gate] / 18, 10);
        }
      });
    });

    it("says what is wrong", async () => {
      const rnn = make("RNN", 2, 3);
      await expect(gateSaturation(rnn, () => sum(rnn.forward(draw(1, 1, 2, 2)).output))).rejects.toThrow("ran no LSTM or GRU layer");
      const gru = make("GRU", 2, 3);
      await expect(gateSaturation(gru, () => sum(gru.forward(draw(1, 1, 2, 2)).output), { low: 0.9, high: 0.1 })).rejects.toThrow("high");
    });
  });

  describe("spectralRadius", () => {
    const matrix = (n: number, data: number[]) => tensor(data, { shape: [data.length / n, n], device: dev });

    it("is that of each gate, complex eigenvalues included", async () => {
      const turn = [0, -0.9, 0.9, 0];
      const found = await spectralRadius(matrix(2, [...turn, 0.5, 7, 0, -0.25, 0, 0, 0, 0]));
      expectClose(found.slice(0, 2), [0.9, 0.5], 1e-7);
      expect(found[2]).toBe(0);
    });

    it("of an orthogonal matrix is 1, whatever is multiplied with it", async () => {
      const q = init.orthogonal(tensor(new Float32Array(4 * 33 * 33), { shape: [132, 33], device: dev }), { gates: 4, gain: 0.7 });
      expectClose(await spectralRadius(q), [0.7, 0.7, 0.7, 0.7], 1e-6);
    });

    it("says what is wrong", async () => {
      await expect(spectralRadius(matrix(3, [1, 2, 3, 4, 5, 6]))).rejects.toThrow(
        "spectralRadius: weight must be [gates * H, H] but is [2, 3]",
      );
      await expect(spectralRadius(matrix(1, [NaN]))).rejects.toThrow("spectralRadius: weight must hold finite numbers");
    });
  });
});

it.each(Object.keys(kinds))("gradientNormPenalty of %s has the derivative that differences say, in double precision", (kind) => {
  const placed = { device: device("reference"), dtype: "float64" as const };
  const layer = kinds[kind](2, 3, { ...placed, layers: 2, generator: new Generator(1) });
  const x = uniform([2, 4, 2], { ...placed, generator: new Generator(2) });
  const penalty = () => scope(() => gradientNormPenalty(sum(square(layer.forward(x).output)), layer));
  penalty().backward();
  for (const [name, p] of layer.namedParameters()) {
    const start = values(p);
    const direction = start.map((_, i) => Math.cos(i));
    const moved = (by: number) => {
      placed.device.write(
        p.buffer(),
        Float64Array.from(start, (v, i) => v + by * direction[i]),
      );
      return values(penalty())[0];
    };
    // Central differences: the error is that of the third derivative, of order one, times the square of the step.
    const difference = (moved(1e-4) - moved(-1e-4)) / 2e-4;
    moved(0);
    const got = values(p.grad!).reduce((s, g, i) => s + g * direction[i], 0);
    expect(Math.abs(got - difference), name).toBeLessThan(1e-6 * (1 + Math.abs(difference)));
  }
});

describe("drawGradientFlow", () => {
  const flow: GradientFlow = {
    loss: 1,
    layers: [
      { name: "rnn.l0", norms: { h: Array.from({ length: 25 }, (_, t) => 10 ** ((t - 24) / 4)) } },
      { name: "rnn.l1", norms: { h: Array.from({ length: 25 }, (_, t) => (t < 12 ? 0 : 0.1)) } },
    ],
  };

  it("draws powers of ten against steps", () => {
    expect(drawGradientFlow(flow, { width: 32, height: 7 }).split("\n")).toEqual([
      " 1e0 |                        oo",
      "1e-1 |            xxxxxxxxxxxxxx",
      "1e-2 |                oooo",
      "1e-3 |           ooooo",
      "1e-4 |       oooo",
      "1e-5 |   oooo",
      "1e-6 |ooo",
      "     +--------------------------",
      "      t = 0                   24",
      "      o dL/dh of rnn.l0: 1.0e-6 to 1.0e+0",
      "      x dL/dh of rnn.l1: 0.0e+0 to 1.0e-1",
    ]);
  });

  it("holds a flow without a gradient, and one of a single step", () => {
    const none = drawGradientFlow({ loss: 0, layers: [{ name: "l0", norms: { h: [0, 0] } }] });
    expect(none).toContain("o dL/dh of l0: 0.0e+0 to 0.0e+0");
    expect(drawGradientFlow({ loss: 0, layers: [{ name: "l0", norms: { h: [1] } }] })).toContain("ooo");
    expect(() => drawGradientFlow(flow, { height: 1 })).toThrow("drawGradientFlow: height must be an integer of at least 3 but is 1");
  });
});
