import { beforeEach, describe, expect, it } from "vitest";
import {
  add,
  affine,
  concat,
  device,
  Dilated,
  gradientFlow,
  GRU,
  init,
  Linear,
  linear,
  LSTM,
  manualSeed,
  Module,
  mul,
  noGrad,
  reshape,
  RNN,
  scale,
  sigmoid,
  slice,
  softmax,
  split,
  sum,
  tanh,
  uniform,
  unstack,
  zeros,
  type Tensor,
} from "../src/index.js";

// What textbooks say of recurrent networks: their equations in their own form, and their claims, measured. In double
// precision, so that what is left of 12 digits is rounding.
const on = { device: device("reference"), dtype: "float64" } as const;
const [N, T, I, H] = [2, 5, 3, 4];
beforeEach(() => manualSeed(1));
const draw = (...shape: number[]) => uniform(shape, { low: -1, high: 1, ...on });
const values = (t: Tensor) => Array.from(t.dataSync());
const expectClose = (actual: Tensor, expected: Tensor) => {
  expect(actual.shape).toEqual(expected.shape);
  const wanted = values(expected);
  values(actual).forEach((v, i) => expect(v).toBeCloseTo(wanted[i], 12));
};
const parameter = (layer: Module, name: string) => layer.stateDict()[name];
const set = (layer: Module, change: Readonly<Record<string, Tensor>>) => layer.loadStateDict({ ...layer.stateDict(), ...change });

/** One matrix over [h, x] and one bias for each gate, in the layer's order. */
function joined(layer: Module, gates: number) {
  const [u, w] = [parameter(layer, "weight_hh_l0"), parameter(layer, "weight_ih_l0")];
  const bias = add(parameter(layer, "bias_ih_l0"), parameter(layer, "bias_hh_l0"));
  const sizes = new Array<number>(gates).fill(H);
  return { W: split(concat([u, w], 1), sizes, 0), b: split(bias, sizes, 0) };
}

/** Runs steps written out over x, the states starting at zero; [N, T, H] of the first state. */
function unrolled(x: Tensor, states: number, step: (x: Tensor, states: readonly Tensor[]) => Tensor[]): Tensor {
  let now = Array.from({ length: states }, () => zeros([x.shape[0], H], on));
  const outputs = unstack(x, 1).map((xt) => reshape((now = step(xt, now))[0], [x.shape[0], 1, H]));
  return concat(outputs, 1);
}

/** The layer's gradient flow, of a loss on the last step alone. */
const flowFromTheEnd = async (layer: RNN | LSTM, x: Tensor) => {
  const last = x.shape[1] - 1;
  const { layers } = await gradientFlow(layer, () => sum(slice(layer.forward(x).output, 1, last, last + 1)));
  return layers[0].norms;
};

describe("the equations, as textbooks write them", () => {
  const x = draw(N, T, I);

  it("vanilla RNN: h_t = f(W_hh h + W_xh x + b_h), y_t = g(W_hy h_t + b_y)", () => {
    const [rnn, head] = [new RNN(I, H, on), new Linear(H, 2, on)];
    const { W, b } = joined(rnn, 1);
    const [hh, xh] = split(W[0], [H, I], 1);
    const h = unrolled(x, 1, (xt, [before]) => [tanh(add(add(linear(before, hh), linear(xt, xh)), b[0]))]);
    const y = softmax(linear(h, head.weight, head.bias));
    const { output } = rnn.forward(x);
    expectClose(output, h);
    expectClose(softmax(head.forward(output)), y);
  });

  it("LSTM: four products with [h_{t-1}, x_t], six equations", () => {
    const layer = new LSTM(I, H, on);
    const { W, b } = joined(layer, 4);
    const expected = unrolled(x, 2, (xt, [h, C]) => {
      const hx = concat([h, xt], 1);
      const [i, f, g, o] = W.map((w, k) => linear(hx, w, b[k]));
      const next = add(mul(sigmoid(f), C), mul(sigmoid(i), tanh(g)));
      return [mul(sigmoid(o), tanh(next)), next];
    });
    expectClose(layer.forward(x).output, expected);
  });

  it("GRU: the update gate writes, the reset gate acts before the product", () => {
    const layer = new GRU(I, H, { update: "write", reset: "before", ...on });
    const { W, b } = joined(layer, 3);
    const expected = unrolled(x, 1, (xt, [h]) => {
      const [r, z] = [0, 1].map((k) => sigmoid(linear(concat([h, xt], 1), W[k], b[k])));
      const candidate = tanh(linear(concat([mul(r, h), xt], 1), W[2], b[2]));
      return [add(mul(affine(z, -1, 1), h), mul(z, candidate))];
    });
    expectClose(layer.forward(x).output, expected);
  });

  it("both directions side by side are two sweeps of their own", () => {
    const both = new LSTM(I, H, { bidirectional: true, ...on });
    const alone = (reverse: boolean) => {
      const layer = new LSTM(I, H, { reverse, ...on });
      const own = Object.entries(both.stateDict()).filter(([name]) => name.endsWith("_reverse") === reverse);
      layer.loadStateDict(Object.fromEntries(own.map(([name, t]) => [name.replace("_reverse", ""), t])));
      return layer.forward(x).output;
    };
    expectClose(both.forward(x).output, concat([alone(false), alone(true)], 2));
  });

  it("a stack is its layers one after another", () => {
    const stack = new GRU(I, H, { layers: 3, ...on });
    const expected = [0, 1, 2].reduce((input, k) => {
      const layer = new GRU(input.shape[2], H, on);
      const own = Object.entries(stack.stateDict()).filter(([name]) => name.endsWith(`_l${k}`));
      layer.loadStateDict(Object.fromEntries(own.map(([name, t]) => [name.replace(`_l${k}`, "_l0"), t])));
      return layer.forward(input).output;
    }, x);
    expectClose(stack.forward(x).output, expected);
  });
});

describe("claims", () => {
  it("h_0 is zero unless it is given", () => {
    const layer = new RNN(I, H, on);
    const x = draw(N, T, I);
    expectClose(layer.forward(x).output, layer.forward(x, { state: { h: zeros([1, N, H], on) } }).output);
    expect(values(layer.forward(x, { state: { h: draw(1, N, H) } }).output)).not.toEqual(values(layer.forward(x).output));
  });

  it("the same weights take a sequence of any length", () => {
    const layer = new RNN(I, H, on);
    const x = draw(N, 7, I);
    const { output } = layer.forward(x);
    for (const steps of [1, 3, 7]) expectClose(layer.forward(slice(x, 1, 0, steps)).output, slice(output, 1, 0, steps));
  });

  it("each further step costs the tape the same memory; LSTM holds more than GRU, and GRU more than RNN", () => {
    const held = (layer: RNN | LSTM | GRU, steps: number) => {
      const x = draw(N, steps, I);
      const before = on.device.memory().bytes;
      const loss = sum(layer.forward(x).output);
      const bytes = on.device.memory().bytes - before;
      loss.backward();
      layer.zeroGrad();
      return bytes;
    };
    const perStep = [new RNN(I, H, on), new GRU(I, H, on), new LSTM(I, H, on)].map((layer) => {
      const [short, middle, long] = [10, 20, 30].map((steps) => held(layer, steps));
      expect(long - middle).toBe(middle - short);
      return (long - middle) / 10;
    });
    expect(perStep[0]).toBeGreaterThan(0);
    expect(perStep[1]).toBeGreaterThan(perStep[0]);
    expect(perStep[2]).toBeGreaterThan(perStep[1]);
  });

  it.each([0.9, 1, 1.1])("gradients through a recurrence of singular values %s follow their powers", async (s) => {
    const layer = new RNN(I, H, { nonlinearity: "linear", ...on });
    init.orthogonal(parameter(layer, "weight_hh_l0"), { gain: s });
    const norms = (await flowFromTheEnd(layer, draw(1, 30, I))).h;
    norms.forEach((norm, t) => expect(norm / (norms[29] * s ** (29 - t))).toBeCloseTo(1, 10));
  });

  it("skip connections across time shorten the way of a gradient by their length", () => {
    const layer = new RNN(I, H, { nonlinearity: "linear", ...on });
    init.identity(parameter(layer, "weight_hh_l0"), { scale: 0.5 });
    for (const dilation of [1, 2, 4, 8]) {
      const x = uniform([1, 9, I], { ...on, requiresGrad: true });
      sum(slice(new Dilated(layer, { dilation }).forward(x).output, 1, 8, 9)).backward();
      const [first, last] = [0, 8].map((t) => Math.hypot(...values(slice(x.grad!, 1, t, t + 1))));
      expect(first / last).toBeCloseTo(0.5 ** (8 / dilation), 12);
    }
  });

  it("with tanh they shrink even where the weights are orthogonal", async () => {
    const layer = new RNN(I, H, on);
    init.orthogonal(parameter(layer, "weight_hh_l0"));
    const norms = (await flowFromTheEnd(layer, draw(1, 30, I))).h;
    norms.slice(1).forEach((norm, t) => expect(norms[t]).toBeLessThan(norm));
  });

  it("a cell state that nothing forgets hands gradients on undiminished; a forget gate multiplies them", async () => {
    const x = draw(1, 40, I);
    const conveyor = async (layer: LSTM) => {
      set(layer, { weight_hh_l0: zeros(parameter(layer, "weight_hh_l0").shape, on) });
      return (await flowFromTheEnd(layer, x)).c;
    };
    const open = await conveyor(new LSTM(I, H, { without: "forget", ...on }));
    open.slice(0, 39).forEach((norm) => expect(norm / open[0]).toBeCloseTo(1, 12));

    const gated = new LSTM(I, H, on);
    const zero = (name: string) => zeros(parameter(gated, name).shape, on);
    set(gated, { weight_ih_l0: zero("weight_ih_l0"), bias_hh_l0: zero("bias_hh_l0"), bias_ih_l0: zero("bias_ih_l0") });
    const half = await conveyor(gated);
    for (let t = 1; t < 39; t++) expect(half[t - 1] / half[t]).toBeCloseTo(0.5, 12);
  });

  /** A layer whose gate number k is held at 0 or 1 whatever it sees. */
  const held = <L extends LSTM | GRU>(layer: L, gates: Readonly<Record<number, 0 | 1>>): L => {
    const change = (name: string) => {
      const data = Float64Array.from(parameter(layer, name).dataSync());
      for (const [k, value] of Object.entries(gates)) data.fill(name === "bias_ih_l0" ? 1000 * (2 * value - 1) : 0, +k * H, (+k + 1) * H);
      return [name, { data, shape: [data.length] }];
    };
    layer.loadStateDict({ ...layer.stateDict(), ...(Object.fromEntries(["bias_ih_l0", "bias_hh_l0"].map(change)) as object) });
    return layer;
  };

  it("a forget gate at 1 keeps the cell state entirely, at 0 discards it completely; the output gate shows what part", () => {
    const x = draw(N, T, I);
    const state = { h: draw(1, N, H), c: draw(1, N, H) };
    const final = (gates: Readonly<Record<number, 0 | 1>>) => held(new LSTM(I, H, on), gates).forward(x, { state }).state;
    expectClose(final({ 0: 0, 1: 1 }).c, state.c);
    expectClose(final({ 0: 0, 1: 0 }).c, scale(state.c, 0));
    expectClose(final({ 0: 0, 1: 1, 3: 1 }).h, tanh(state.c));
    expectClose(final({ 3: 0 }).h, scale(state.h, 0));
  });

  it("an update gate at 0 copies the state, at 1 puts the candidate in its place; a reset gate at 0 reads as if first", () => {
    const x = draw(N, 1, I);
    const state = { h: draw(1, N, H) };
    const article = (gates: Readonly<Record<number, 0 | 1>>) => held(new GRU(I, H, { update: "write", reset: "before", ...on }), gates);
    expectClose(article({ 1: 0 }).forward(x, { state }).state.h, state.h);
    const writes = article({ 0: 0, 1: 1 });
    expectClose(writes.forward(x, { state }).output, writes.forward(x).output);
    const reads = article({ 0: 1, 1: 1 });
    expect(values(reads.forward(x, { state }).output)).not.toEqual(values(reads.forward(x).output));
    expectClose(held(new GRU(I, H, on), { 1: 1 }).forward(x, { state }).state.h, state.h);
  });

  it("recurrent parameters stand as 1 to 3 to 4 for RNN, GRU and LSTM", () => {
    const count = (layer: Module) => layer.parameters().reduce((total, { size }) => total + size, 0);
    const one = H * H + H * I + 2 * H;
    expect([new RNN(I, H), new GRU(I, H), new LSTM(I, H)].map(count)).toEqual([one, 3 * one, 4 * one]);
  });

  it("a forget gate's bias of 1 lets more of the gradient through, from the start", async () => {
    const reach = async (forgetBias: number) => {
      manualSeed(1);
      const layer = new LSTM(I, H, { forgetBias, ...on });
      const { c } = await flowFromTheEnd(layer, draw(1, 40, I));
      return c[0] / c[38];
    };
    expect(await reach(1)).toBeGreaterThan(10 * (await reach(0)));
  });

  it("no gradient passes from one segment to the one before", () => {
    const layer = new RNN(I, H, on);
    const x = uniform([N, 6, I], { ...on, requiresGrad: true });
    const first = layer.forward(slice(x, 1, 0, 3));
    const second = layer.forward(slice(x, 1, 3, 6), { state: { h: first.state.h.detach() } });
    const whole = noGrad(() => layer.forward(x).output);
    expectClose(concat([first.output, second.output], 1), whole);
    sum(second.output).backward();
    const steps = unstack(x.grad!, 1).map((t) => values(t).some((v) => v !== 0));
    expect(steps).toEqual([false, false, false, true, true, true]);
  });
});
