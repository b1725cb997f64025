import { describe, expect, it } from "vitest";
import { ReferenceBackend } from "../src/backend/reference.js";
import { openNative } from "../src/backend/native.js";
import {
  Adam,
  add,
  characterBatches,
  device,
  Dropout,
  Generator,
  GRU,
  LanguageModel,
  Linear,
  LSTM,
  Module,
  noGrad,
  RNN,
  scope,
  streamModel,
  tensor,
  train,
  uniform,
  type ForwardOptions,
  type Placement,
  type Recurrent,
  type StateTree,
  type Tensor,
} from "../src/index.js";
import { devicesUnderTest } from "./helpers.js";

// float32, a few hundred terms of order one, summed in another order for one row than for many.
const CLOSE = 1e-5;

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  expect(actual.length).toBe(expected.length);
  for (let i = 0; i < actual.length; i++) expect(Math.abs(actual[i] - expected[i]), `element ${i}`).toBeLessThan(CLOSE);
}

/** An encoder and a mixer with states of their own, nested and in a list, called with the state by position. */
class Nested extends Module {
  readonly first: LSTM;
  readonly second: GRU;
  readonly drop = new Dropout(0.5);
  readonly head: Linear;
  constructor(place: Placement) {
    super();
    const options = { ...place, generator: new Generator(4) };
    this.first = new LSTM(3, 5, options);
    this.second = new GRU(5, 4, options);
    this.head = new Linear(4, 2, options);
  }
  forward(x: Tensor, state?: { encoder: Record<"h" | "c", Tensor>; rest: [Record<"h", Tensor>] }) {
    return scope(() => {
      const a = this.first.forward(x, { state: state?.encoder });
      const b = this.second.forward(this.drop.forward(a.output), { state: state?.rest[0] });
      return { logits: this.head.forward(b.output), state: { encoder: a.state, rest: [b.state] as const } };
    });
  }
}

describe.each(devicesUnderTest())("streams on %s", (name) => {
  const dev = device(name);
  const place = { device: dev, generator: new Generator(2) };
  const sequence = (steps: number, features: number) =>
    uniform([1, steps, features], { low: -1, high: 1, device: dev, generator: new Generator(8) });
  const rows = (x: Tensor) => {
    const data = x.dataSync() as Float32Array;
    return Array.from({ length: x.shape[1] }, (_, t) => data.slice(t * x.shape[2], (t + 1) * x.shape[2]));
  };
  const layers: Record<string, Recurrent<string>> = {
    RNN: new RNN(3, 5, { ...place, nonlinearity: "relu" }),
    LSTM: new LSTM(3, 17, { ...place, layers: 2, dropout: 0.5 }),
    GRU: new GRU(3, 8, place),
    "GRU, reset before": new GRU(3, 5, { ...place, reset: "before", bias: false }),
  };

  it.each(Object.keys(layers))("%s: steps give what the whole sequence gives, without dropout", (kind) => {
    const layer = layers[kind];
    const x = sequence(9, 3);
    const expected = rows(noGrad(() => layer.eval().forward(x)).output);
    layer.train();
    using stream = layer.stream();
    expect([stream.inputSize, stream.outputSize]).toEqual([3, layer.hiddenSize]);
    rows(x).forEach((step, t) => expectClose(stream.step(step), expected[t]));
    expect(layer.training).toBe(true);
    stream.reset();
    expectClose(stream.step([...rows(x)[0]]), expected[0]);
  });

  it("snapshot, restore and fork take up where they were", () => {
    using stream = layers.LSTM.stream();
    const x = rows(sequence(8, 3));
    x.slice(0, 4).forEach((step) => stream.step(step));
    const saved = stream.snapshot();
    expect(Object.keys(saved)).toEqual(["h", "c"]);
    using fork = stream.fork();
    const on = x.slice(4).map((step) => Array.from(stream.step(step)));
    expect(x.slice(4).map((step) => Array.from(fork.step(step)))).toEqual(on);
    stream.restore(saved);
    expect(x.slice(4).map((step) => Array.from(stream.step(step)))).toEqual(on);
    fork.reset();
    expect(Array.from(fork.step(x[4]))).not.toEqual(on[0]);
    expect(Array.from(stream.step(x[0]))).not.toEqual(on[0]);
  });

  it("fills an array that is given, and another one each time otherwise", () => {
    using stream = layers.GRU.stream();
    const into = new Float32Array(8);
    expect(stream.step([1, 2, 3], into)).toBe(into);
    expect(into.some((v) => v !== 0)).toBe(true);
    const [a, b] = [stream.step([1, 2, 3]), stream.step([3, 2, 1])];
    expect(a).not.toEqual(b);
  });

  it("refuses what does not fit", () => {
    using stream = layers.GRU.stream();
    expect(() => stream.step([1, 2])).toThrow("Stream.step: x must have 3 values but has 2");
    expect(() => stream.step([1, 2, 3], new Float32Array(2))).toThrow("Stream.step: into must have 8 values but has 2");
    expect(() => stream.restore({})).toThrow("Stream.restore: h must have 8 values but is absent");
    expect(() => stream.restore({ h: new Float32Array(7) })).toThrow("Stream.restore: h must have 8 values but has 7");
    expect(() => new LSTM(3, 4, { ...place, bidirectional: true }).stream()).toThrow(
      "LSTM.stream: a bidirectional layer needs the whole sequence",
    );
    const closed = layers.GRU.stream();
    closed.dispose();
    closed.dispose();
    expect(() => closed.step([1, 2, 3])).toThrow("the stream was disposed of");
  });

  it("a whole model streams: a language model, by ids", () => {
    const model = new LanguageModel(11, { cell: "lstm", hidden: 9, embed: 4, dropout: 0.3, ...place });
    const ids = [3, 0, 10, 10, 7];
    const logits = rows(noGrad(() => model.eval().forward(tensor([ids], { dtype: "int32", device: dev })).logits));
    model.train();
    using stream = model.stream();
    ids.forEach((id, t) => expectClose(stream.step([id]), logits[t]));
    expect([model.training, model.rnn.training, model.drop.training]).toEqual([true, true, true]);
  });

  it("a model of the user's streams, with states nested and by position, and forks", () => {
    const model = new Nested({ device: dev });
    const x = sequence(7, 3);
    const expected = rows(noGrad(() => model.eval().forward(x)).logits);
    model.train();
    const forward = (v: Tensor, state: StateTree | undefined) => model.forward(v, state as never);
    using stream = streamModel(model, { shape: [1, 1, 3] }, forward);
    const steps = rows(x);
    steps.slice(0, 3).forEach((step, t) => expectClose(stream.step(step), expected[t]));
    expect(Object.keys(stream.snapshot())).toEqual(["encoder.h", "encoder.c", "rest.0.h"]);
    using fork = stream.fork();
    steps.slice(3).forEach((step, t) => expectClose(fork.step(step), expected[3 + t]));
    steps.slice(3).forEach((step, t) => expectClose(stream.step(step), expected[3 + t]));
    expect(model.drop.training).toBe(true);
  });

  it("a model called with { state } streams as it is", () => {
    class Residual extends Module {
      readonly rnn = new GRU(3, 3, place);
      forward(x: Tensor, { state }: ForwardOptions<"h"> = {}) {
        const { output, state: next } = this.rnn.forward(x, { state });
        return { output: add(x, output), state: next };
      }
    }
    const model = new Residual();
    const x = sequence(4, 3);
    const expected = rows(noGrad(() => model.forward(x)).output);
    using stream = streamModel(model, { shape: [1, 1, 3] });
    rows(x).forEach((step, t) => expectClose(stream.step(step), expected[t]));
  });

  it("refuses a model that gives no output or no state", () => {
    const model = new Nested({ device: dev });
    expect(() => streamModel(model, { shape: [1, 1, 3] }, () => ({}) as never)).toThrow(
      "streamModel: forward must return { output, state } or { logits, state }",
    );
  });

  it("sees the weights as training leaves them", async () => {
    const model = new LanguageModel(5, { cell: "gru", hidden: 6, layers: 1, embed: 3, ...place });
    using stream = model.stream();
    const before = stream.step([1]);
    const ids = Int32Array.from({ length: 41 }, (_, i) => i % 5);
    for await (const step of train(model, characterBatches(ids, { batch: 2, seq: 10 }), { optimizer: new Adam(model, { lr: 0.1 }) }))
      void step;
    stream.reset();
    const after = stream.step([1]);
    expect(after).not.toEqual(before);
    const logits = noGrad(() => model.forward(tensor([[1]], { dtype: "int32", device: dev })).logits);
    expectClose(after, logits.dataSync());
  });

  it("leaves nothing behind", () => {
    const own = name === "cpu" ? openNative("", 1) : new ReferenceBackend();
    const layer = new LSTM(3, 5, { layers: 2, device: own });
    const model = new LanguageModel(5, { hidden: 6, embed: 3, device: own });
    const open = () => {
      using stream = layer.stream();
      using fork = stream.fork();
      fork.step([1, 2, 3]);
      stream.restore(fork.snapshot());
      using whole = model.stream();
      for (let t = 0; t < 20; t++) whole.step([t % 5]);
      return own.memory().buffers;
    };
    open(); // What a kernel keeps of the weights stays with them.
    const before = own.memory();
    for (let k = 0; k < 3; k++) expect(open()).toBeGreaterThan(before.buffers);
    expect(own.memory()).toEqual(before);
  });
});
