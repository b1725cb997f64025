import { describe, expect, it } from "vitest";
import { device, GRU, IndRNN, LSTM, MGU, noGrad, RNN, scope, SLSTM, sum, tensor, type Tensor } from "../src/index.js";
import { mul } from "../src/ops/elementwise.js";
import { concat, slice } from "../src/ops/movement.js";
import { Generator, uniform } from "../src/tensor/random.js";
import type { ForwardOptions, Recurrent, RecurrentOptions } from "../src/nn/recurrent.js";
import { devicesUnderTest } from "./helpers.js";

type Layer = Recurrent<string>;
type Make = (inputSize: number, hiddenSize: number, options: RecurrentOptions) => Layer;

const layers: Record<string, Make> = {
  "RNN tanh": (i, h, o) => new RNN(i, h, o),
  "RNN relu": (i, h, o) => new RNN(i, h, { ...o, nonlinearity: "relu" }),
  LSTM: (i, h, o) => new LSTM(i, h, o),
  "GRU after": (i, h, o) => new GRU(i, h, o),
  "GRU before": (i, h, o) => new GRU(i, h, { ...o, reset: "before" }),
  "GRU write": (i, h, o) => new GRU(i, h, { ...o, update: "write" }),
  "LSTM peephole": (i, h, o) => new LSTM(i, h, { ...o, peephole: true }),
  "LSTM coupled": (i, h, o) => new LSTM(i, h, { ...o, coupled: "input" }),
  "LSTM layer norm": (i, h, o) => new LSTM(i, h, { ...o, layerNorm: true }),
  MGU: (i, h, o) => new MGU(i, h, o),
  IndRNN: (i, h, o) => new IndRNN(i, h, o),
  SLSTM: (i, h, o) => new SLSTM(i, h, o),
  "SLSTM, heads": (i, h, o) => new SLSTM(i, h, { ...o, heads: h }),
};

// float32 sums of at most a few hundred terms of order one.
const CLOSE = 2e-5;

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  expect(actual.length).toBe(expected.length);
  for (let i = 0; i < actual.length; i++) expect(Math.abs(actual[i] - expected[i]), `element ${i}`).toBeLessThan(CLOSE);
}

const values = (t: Tensor) => Array.from(t.dataSync());

describe.each(devicesUnderTest())("recurrent layers on %s", (name) => {
  const dev = device(name);
  const make = (kind: string, i: number, h: number, options: RecurrentOptions = {}) =>
    layers[kind](i, h, { device: dev, generator: new Generator(7), ...options });
  const draw = (...shape: number[]) => uniform(shape, { low: -1, high: 1, device: dev, generator: new Generator(shape.length + shape[0]) });
  const forward = (layer: Layer, x: Tensor, options: ForwardOptions<string> = {}) => noGrad(() => layer.forward(x, options));

  describe.each(Object.keys(layers))("%s", (kind) => {
    it("gives output [N, T, H * directions] and states [layers * directions, N, H]", () => {
      const layer = make(kind, 3, 5, { layers: 2, bidirectional: true });
      const { output, state } = forward(layer, draw(4, 6, 3));
      expect(output.shape).toEqual([4, 6, 10]);
      for (const s of Object.values(state)) expect(s.shape).toEqual([4, 4, 5]);
    });

    it("carries its state: two halves equal the whole", () => {
      const layer = make(kind, 3, 13, { layers: 2 });
      const x = draw(5, 9, 3);
      const whole = forward(layer, x);
      const first = forward(layer, slice(x, 1, 0, 4));
      const second = forward(layer, slice(x, 1, 4, 9), { state: first.state });
      expectClose(values(concat([first.output, second.output], 1)), values(whole.output));
      for (const s of Object.keys(whole.state)) expectClose(values(second.state[s]), values(whole.state[s]));
    });

    it("streams: T steps equal the whole, and fork, snapshot, restore and reset do what they say", () => {
      const layer = make(kind, 3, 7, { layers: 2 });
      const x = draw(1, 6, 3);
      const whole = values(forward(layer, x).output);
      const inputs = Array.from({ length: 6 }, (_, t) => values(slice(x, 1, t, t + 1)));
      using stream = layer.stream();
      const play = (from: number, to: number, s = stream) => inputs.slice(from, to).flatMap((v) => [...s.step(v)]);
      expectClose(play(0, 6), whole);
      stream.reset();
      expectClose(play(0, 3), whole.slice(0, 21));
      const saved = stream.snapshot();
      using other = stream.fork();
      expectClose(play(3, 6), whole.slice(21));
      expectClose(play(3, 6, other), whole.slice(21));
      stream.restore(saved);
      expectClose(play(3, 6), whole.slice(21));
    });

    it("freezes the state at the last valid step and gives zero after it, length 0 included", () => {
      const layer = make(kind, 2, 5, { bidirectional: true });
      const x = draw(4, 5, 2);
      const lengths = [5, 0, 2, 1];
      const { output, state } = forward(layer, x, { lengths });
      lengths.forEach((length, n) => {
        const rest = values(slice(slice(output, 0, n, n + 1), 1, length, 5));
        expect(rest.every((v) => v === 0)).toBe(true);
        if (length === 0) return;
        const alone = forward(layer, slice(slice(x, 0, n, n + 1), 1, 0, length));
        expectClose(values(slice(slice(output, 0, n, n + 1), 1, 0, length)), values(alone.output));
        for (const s of Object.keys(state)) expectClose(values(slice(state[s], 1, n, n + 1)), values(alone.state[s]));
      });
    });

    it("gives the gradient of padding as zero and of valid steps as if alone", () => {
      const layer = make(kind, 2, 4);
      const x = draw(2, 3, 2);
      x.requiresGrad = true;
      const { output } = layer.forward(x, { lengths: [1, 3] });
      sum(mul(output, output)).backward();
      const g = values(x.grad!);
      expect(g.slice(2, 6)).toEqual([0, 0, 0, 0]);
      expect(g.slice(6).some((v) => v !== 0)).toBe(true);
    });

    it("leaves nothing behind but what it returns", () => {
      const layer = make(kind, 3, 4, { layers: 2 });
      const x = draw(2, 5, 3);
      const before = dev.memory().buffers;
      scope(() => {
        const { output } = layer.forward(x);
        sum(output).backward();
        layer.zeroGrad();
      });
      expect(dev.memory().buffers).toBe(before);
    });
  });

  it("names parameters, gates and shapes as PyTorch does", () => {
    const layer = make("LSTM", 3, 4, { layers: 2, bidirectional: true });
    const shapes = Object.fromEntries([...layer.namedParameters()].map(([n, p]) => [n, p.shape]));
    expect(Object.keys(shapes).slice(0, 4)).toEqual(["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]);
    expect(shapes.weight_ih_l1_reverse).toEqual([16, 8]);
    expect(Object.keys(shapes)).toHaveLength(16);
    expect(Math.max(...values(layer.stateDict().weight_hh_l0).map(Math.abs))).toBeLessThanOrEqual(0.5);
  });

  it("says what is wrong with its arguments", () => {
    const layer = make("LSTM", 3, 4);
    expect(() => layer.forward(draw(2, 5, 2))).toThrow("LSTM.forward: x must be [N, T, 3] but is [2, 5, 2]");
    expect(() => layer.forward(draw(2, 3))).toThrow("LSTM.forward: x must be [N, T, 3] but is [2, 3]");
    expect(() => layer.forward(draw(2, 5, 3), { lengths: [1] })).toThrow("lengths must have 2 entries but has 1");
    expect(() => layer.forward(draw(2, 5, 3), { lengths: [1, 6] })).toThrow("lengths must be integers from 0 to 5 but entry 1 is 6");
    expect(() => layer.forward(draw(2, 5, 3), { lengths: [1, 0.5] })).toThrow("entry 1 is 0.5");
    expect(() => layer.forward(draw(2, 5, 3), { state: { h: draw(1, 2, 4) } })).toThrow("state.c must be [1, 2, 4] but is absent");
    expect(() => layer.forward(draw(2, 5, 3), { state: { h: draw(1, 3, 4), c: draw(1, 2, 4) } })).toThrow(
      "state.h must be [1, 2, 4] but is [1, 3, 4]",
    );
    expect(() => layer.forward(draw(2, 5, 3), { length: [1] } as never)).toThrow("unknown option length; did you mean lengths?");
    expect(() => new LSTM(3, 4, { layer: 2 } as never)).toThrow("LSTM: unknown option layer; did you mean layers?");
    expect(() => new LSTM(0, 4)).toThrow("LSTM: inputSize must be an integer of at least 1 but is 0");
    expect(() => new GRU(3, 4, { reset: "middle" as never })).toThrow('GRU: reset must be "after" or "before" but is "middle"');
    expect(() => make("LSTM", 3, 4, { bidirectional: true }).stream()).toThrow("bidirectional");
    expect(() => layer.stream().step([1, 2])).toThrow("Stream.step: x must have 3 values but has 2");
    expect(() => layer.forward(tensor([[[1, 2, 3]]], { dtype: "int32", device: dev }))).toThrow(/float/);
  });
});
