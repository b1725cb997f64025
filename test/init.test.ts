import { describe, expect, it } from "vitest";
import { ConvLSTM2d, device, Generator, GRU, IndRNN, init, LanguageModel, Linear, LSTM, tensor, zeros, type Tensor } from "../src/index.js";
import { devicesUnderTest } from "./helpers.js";

const values = (t: Tensor) => Array.from(t.dataSync());

/** Rows of a matrix. */
const rowsOf = (flat: number[], columns: number) =>
  Array.from({ length: flat.length / columns }, (_, i) => flat.slice(i * columns, (i + 1) * columns));
const columnsOf = (flat: number[], columns: number) =>
  Array.from({ length: columns }, (_, j) => flat.filter((_, at) => at % columns === j));
const dot = (a: number[], b: number[]) => a.reduce((sum, v, k) => sum + v * b[k], 0);

/** Every pair of vectors has the product that orthonormal ones, times `gain`, have. float32 keeps 2^-24 of an entry. */
function expectOrthonormal(vectors: number[][], gain = 1): void {
  vectors.forEach((a, i) =>
    vectors.forEach((b, j) => expect(Math.abs(dot(a, b) - (i === j ? gain * gain : 0))).toBeLessThan(1e-6 * gain * gain)),
  );
}

const moments = (of: number[]) => {
  const mean = of.reduce((a, b) => a + b) / of.length;
  return { mean, std: Math.sqrt(of.reduce((sum, v) => sum + (v - mean) ** 2, 0) / of.length), most: Math.max(...of.map(Math.abs)) };
};

describe.each(devicesUnderTest())("initialisations on %s", (name) => {
  const dev = device(name);
  const blank = (...shape: number[]) => {
    const p = zeros(shape, { device: dev });
    p.requiresGrad = true;
    return p;
  };
  const generator = () => new Generator(5);

  it("fills in place, repeats itself under a seed, and gives the parameter back", () => {
    const p = blank(6, 4);
    const fillings = [
      init.uniform,
      init.normal,
      init.orthogonal,
      init.glorotUniform,
      init.glorotNormal,
      init.kaimingUniform,
      init.kaimingNormal,
    ];
    for (const filling of fillings) {
      expect(filling(p, { generator: generator() })).toBe(p);
      const first = values(p);
      expect(new Set(first).size).toBeGreaterThan(20);
      expect(values(filling(p, { generator: new Generator(6) }))).not.toEqual(first);
      expect(values(filling(p, { generator: generator() }))).toEqual(first);
    }
    expect(p.requiresGrad).toBe(true);
    expect(values(init.constant(p, 0.25)).every((v) => v === 0.25)).toBe(true);
    expect(values(init.zeros(p)).every((v) => v === 0)).toBe(true);
  });

  it("leaves no buffer behind", () => {
    const p = blank(6, 4);
    const before = dev.memory().buffers;
    init.orthogonal(p, { gates: 2 });
    init.normal(p);
    init.glorotUniform(p);
    init.identity(p, { gates: 3 });
    expect(dev.memory().buffers).toBe(before);
  });

  // The mean of n = 40 000 numbers strays by std / sqrt(n) and their deviation by less than std / sqrt(n): 5 of these are 2.5 %.
  it.each<[string, (p: Tensor) => Tensor, number, number]>([
    ["uniform", (p) => init.uniform(p, { low: -3, high: 3, generator: generator() }), Math.sqrt(3), 3],
    ["normal", (p) => init.normal(p, { std: 2, generator: generator() }), 2, Infinity],
    ["Glorot, uniform", (p) => init.glorotUniform(p, { generator: generator() }), Math.sqrt(2 / 500), Math.sqrt(6 / 500)],
    ["Glorot, normal", (p) => init.xavierNormal(p, { gain: 3, generator: generator() }), 3 * Math.sqrt(2 / 500), Infinity],
    ["Glorot by gate", (p) => init.xavierUniform(p, { gates: 4, generator: generator() }), Math.sqrt(2 / 200), Math.sqrt(6 / 200)],
    ["Kaiming, uniform", (p) => init.kaimingUniform(p, { generator: generator() }), Math.sqrt(2 / 100), Math.sqrt(6 / 100)],
    ["Kaiming, leaky", (p) => init.kaimingNormal(p, { slope: 1, generator: generator() }), Math.sqrt(1 / 100), Infinity],
    ["Kaiming, out", (p) => init.kaimingNormal(p, { fan: "out", generator: generator() }), Math.sqrt(2 / 400), Infinity],
    ["Kaiming by gate", (p) => init.kaimingNormal(p, { fan: "out", gates: 4, generator: generator() }), Math.sqrt(2 / 100), Infinity],
  ])("%s has the variance it should", (_, filling, std, bound) => {
    const found = moments(values(filling(blank(400, 100))));
    expect(Math.abs(found.mean)).toBeLessThan(0.025 * std);
    expect(Math.abs(found.std - std)).toBeLessThan(0.025 * std);
    expect(found.most).toBeLessThanOrEqual(bound);
    expect(found.most).toBeGreaterThan(Math.min(1.7 * std, 0.99 * bound));
  });

  it("counts the kernel of a convolution to the fans", () => {
    const p = values(init.glorotUniform(blank(20, 30, 5, 5), { generator: generator() }));
    expect(moments(p).most).toBeLessThanOrEqual(Math.sqrt(6 / 1250));
    expect(moments(p).most).toBeGreaterThan(0.99 * Math.sqrt(6 / 1250));
  });

  it("orthogonal: rows, columns, or blocks are orthonormal", () => {
    expectOrthonormal(rowsOf(values(init.orthogonal(blank(7, 13), { generator: generator() })), 13));
    expectOrthonormal(columnsOf(values(init.orthogonal(blank(52, 13), { gain: 2, generator: generator() })), 13), 2);
    const blocks = values(init.orthogonal(blank(52, 13), { gates: 4, generator: generator() }));
    for (let g = 0; g < 4; g++) expectOrthonormal(rowsOf(blocks.slice(g * 169, (g + 1) * 169), 13));
    expect(blocks.slice(0, 169)).not.toEqual(blocks.slice(169, 338));
  });

  it("orthogonal matrices lean in no direction: entries of a hundred have mean 0 and variance 1/n", () => {
    const g = generator();
    const all = Array.from({ length: 400 }, () => values(init.orthogonal(blank(4, 4), { generator: g })));
    for (let at = 0; at < 16; at++) {
      const { mean, std } = moments(all.map((q) => q[at]));
      expect(Math.abs(mean)).toBeLessThan(0.1);
      expect(Math.abs(std - 0.5)).toBeLessThan(0.1);
    }
  });

  it("identity: ones on the diagonal of each block", () => {
    expect(values(init.identity(blank(2, 3)))).toEqual([1, 0, 0, 0, 1, 0]);
    expect(values(init.identity(blank(4, 2), { gates: 2, scale: 0.5 }))).toEqual([0.5, 0, 0, 0.5, 0.5, 0, 0, 0.5]);
  });

  it("keras: every layer and direction, the forget gate at one, nothing else touched", () => {
    const layer = new LSTM(6, 5, { layers: 2, bidirectional: true, device: dev });
    expect(init.keras(layer, { generator: generator() })).toBe(layer);
    const state = layer.stateDict();
    for (const suffix of ["l0", "l0_reverse", "l1", "l1_reverse"]) {
      expectOrthonormal(columnsOf(values(state[`weight_hh_${suffix}`]), 5));
      const w = state[`weight_ih_${suffix}`];
      const bound = Math.sqrt(6 / (20 + w.shape[1]));
      expect(moments(values(w)).most).toBeLessThanOrEqual(bound);
      expect(moments(values(w)).most).toBeGreaterThan(0.9 * bound);
      expect(values(state[`bias_ih_${suffix}`])).toEqual([0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
      expect(values(state[`bias_hh_${suffix}`])).toEqual(new Array(20).fill(0));
    }
    const gru = init.keras(new GRU(3, 2, { device: dev }));
    expect(values(gru.stateDict().bias_ih_l0)).toEqual([0, 0, 0, 0, 0, 0]);
    expect(values(init.keras(new LSTM(3, 1, { device: dev }), { forgetBias: 0 }).stateDict().bias_ih_l0)).toEqual([0, 0, 0, 0]);
    const variant = init.keras(new LSTM(3, 1, { coupled: "forget", device: dev }));
    expect(values(variant.stateDict().bias_ih_l0)).toEqual([1, 0, 0]);
    const own = new IndRNN(3, 2, { device: dev });
    const u = values(own.stateDict().weight_hh_l0);
    expect(values(init.keras(own).stateDict().weight_hh_l0)).toEqual(u);
    const linear = new Linear(3, 2, { device: dev });
    const before = values(linear.bias!);
    expect(values(init.keras(linear).bias!)).toEqual(before);
  });

  it("keras knows the kernels of a convolution by Keras' layout", () => {
    const layer = init.keras(new ConvLSTM2d(6, 5, { kernelSize: [3, 2], device: dev }), { generator: generator() });
    const { weight_ih_l0, weight_hh_l0, bias_l0 } = layer.stateDict();
    const bound = Math.sqrt(6 / (6 * (6 + 20)));
    expect(moments(values(weight_ih_l0)).most).toBeLessThanOrEqual(bound);
    expect(moments(values(weight_ih_l0)).most).toBeGreaterThan(0.97 * bound);
    expectOrthonormal(columnsOf(values(weight_hh_l0), 20));
    expect(values(bias_l0)).toEqual([0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  });

  it("chrono: units keep for 1 to T - 1 steps; other gates stay as they were", () => {
    const layer = new LSTM(3, 400, { device: dev, layers: 2 });
    const before = values(layer.stateDict().bias_ih_l1);
    init.chrono(layer, 50, { generator: generator() });
    const bias = values(layer.stateDict().bias_ih_l1);
    const keep = bias.slice(400, 800).map(Math.exp);
    expect(bias.slice(0, 400)).toEqual(bias.slice(400, 800).map((v) => -v));
    expect(bias.slice(800)).toEqual(before.slice(800));
    expect(
      values(layer.stateDict().bias_hh_l1)
        .slice(0, 800)
        .every((v) => v === 0),
    ).toBe(true);
    // Uniform in [1, 49]: the mean of 400 strays by 0.7, of which this is 5.
    const { mean } = moments(keep);
    expect(Math.abs(mean - 25)).toBeLessThan(3.5);
    expect(Math.min(...keep)).toBeGreaterThanOrEqual(0.999);
    expect(Math.max(...keep)).toBeLessThanOrEqual(49.001);
    expect(values(init.chrono(new GRU(2, 1, { device: dev }), 2).stateDict().bias_ih_l0)[1]).toBe(0);
    const sign = (g: GRU) => Math.sign(values(init.chrono(g, 9).stateDict().bias_ih_l0)[1]);
    expect([sign(new GRU(2, 1, { device: dev })), sign(new GRU(2, 1, { device: dev, update: "write" }))]).toEqual([1, -1]);
    expect(() => init.chrono(new Linear(1, 1, { device: dev }), 9)).toThrow("init.chrono: there is no LSTM or GRU layer");
    expect(() => init.chrono(new LSTM(1, 1, { bias: false, device: dev }), 9)).toThrow("init.chrono: the layer must have biases");
  });

  it("keras reaches the layers of a whole model", () => {
    const model = init.keras(new LanguageModel(7, { hidden: 4, embed: 3, device: dev }), { generator: generator() });
    expectOrthonormal(columnsOf(values(model.stateDict()["rnn.weight_hh_l1"]), 4));
  });

  it("says what is wrong with its arguments", () => {
    const p = blank(6, 4);
    expect(() => init.orthogonal(p, { gates: 4 })).toThrow(
      "init.orthogonal: axis 0 must be a multiple of gates = 4 but the parameter is [6, 4]",
    );
    expect(() => init.glorotUniform(blank(6))).toThrow("init.glorotUniform: parameter must have at least two axes but is [6]");
    expect(() => init.normal(p, { sd: 1 } as never)).toThrow("init.normal: unknown option sd; did you mean std?");
    expect(() => init.kaimingNormal(p, { fan: "both" as never })).toThrow('fan must be "in" or "out" but is "both"');
    expect(() => init.constant(p, NaN)).toThrow("init.constant: value must be a number");
    expect(() => init.zeros(tensor([1], { dtype: "int32", device: dev }))).toThrow("init.constant: parameter must be float32 or float64");
  });
});
