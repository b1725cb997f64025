import { describe, expect, it, test } from "vitest";
import { openNative } from "../src/backend/native.js";
import { ReferenceBackend } from "../src/backend/reference.js";
import {
  Adam,
  characterBatches,
  ConvLSTM1d,
  device,
  Dilated,
  Generator,
  GRU,
  LanguageModel,
  LSTM,
  RNN,
  scope,
  Stacked,
  streamModel,
  streamsModel,
  tensor,
  train,
  type Module,
  type Session,
  type Stream,
  type Streams,
  type StreamsOptions,
  type Tensor,
} from "../src/index.js";
import { putRows, takeRows } from "../src/ops/rows.js";
import { size } from "../src/tensor/op.js";
import { devicesUnderTest, nativeBackends, sameBits } from "./helpers.js";

/** Something that streams one way and the other. */
interface Subject {
  readonly stream: () => Stream;
  readonly streams: (options: StreamsOptions) => Streams;
  /** Inputs are ids below this. */
  readonly ids?: number;
}
const layer = (made: Module & { stream(): Stream; streams(options: StreamsOptions): Streams }): Subject => ({
  stream: () => made.stream(),
  streams: (options) => made.streams(options),
});

describe.each(devicesUnderTest())("sessions on %s", (name) => {
  const dev = device(name);
  const place = { device: dev, generator: new Generator(2) };
  const gru = new GRU(3, 8, place);
  const model = new LanguageModel(11, { cell: "lstm", hidden: 9, embed: 4, dropout: 0.3, ...place });
  const conv = new ConvLSTM1d(2, 3, { kernelSize: 3, padding: "same", ...place });
  const frames = { shape: [1, 1, 5, 2] };
  const subjects: Record<string, Subject> = {
    RNN: layer(new RNN(3, 5, { ...place, nonlinearity: "relu" })),
    "LSTM of two layers": layer(new LSTM(3, 33, { ...place, layers: 2, dropout: 0.5 })),
    GRU: layer(gru),
    "GRU, reset before": layer(new GRU(3, 70, { ...place, reset: "before" })),
    "LSTM with projection and zoneout": layer(new LSTM(3, 9, { ...place, projSize: 4, layerNorm: true, zoneout: 0.1 })),
    "a highway of a dilated layer": layer(
      new Stacked([new GRU(3, 3, place), new Dilated(new LSTM(3, 3, place), { dilation: 3 })], { connections: "highway", norm: "layer" }),
    ),
    ConvLSTM1d: { stream: () => conv.stream(frames), streams: (options) => conv.streams({ ...frames, ...options }) },
    "a language model": { ...layer(model), ids: 11 },
  };

  /** Inputs of some sessions, other ones on each call. */
  const generator = new Generator(5);
  const inputs = (count: number, ids = 0) => {
    const values = Float32Array.from({ length: count }, () => generator.next());
    return ids ? Int32Array.from(values, (v) => Math.floor(v * ids)) : values.map((v) => 2 * v - 1);
  };

  // Bits, not a tolerance: a kernel's result for a row depends on nothing but that row and the weights.
  it.each(Object.keys(subjects))("%s: sessions stepped in any company give what a stream gives", (kind) => {
    const { stream, streams, ids } = subjects[kind];
    using many = streams({ capacity: 3 });
    const pairs = Array.from({ length: 21 }, () => ({ session: many.open(), alone: stream() }));
    expect([many.size, many.inputSize, many.outputSize]).toEqual([21, pairs[0].alone.inputSize, pairs[0].alone.outputSize]);
    for (const count of [21, 1, 5, 13, 2, 20]) {
      const chosen = pairs.map((pair) => ({ pair, at: generator.next() })).sort((a, b) => a.at - b.at).slice(0, count).map(({ pair }) => pair); // prettier-ignore
      const x = inputs(count * many.inputSize, ids);
      const y = many.step(chosen.map(({ session }) => session), x); // prettier-ignore
      expect(y.length).toBe(count * many.outputSize);
      chosen.forEach(({ alone }, i) => {
        const expected = alone.step(x.subarray(i * many.inputSize, (i + 1) * many.inputSize));
        const got = y.subarray(i * many.outputSize, (i + 1) * many.outputSize);
        expect(sameBits(got, expected), `session ${i} of ${count}`).toBe(true);
      });
    }
    for (const { session, alone } of pairs) {
      expect(session.snapshot()).toEqual(alone.snapshot());
      alone.dispose();
    }
  });

  it("more sessions than one batch holds are stepped in one call", () => {
    using many = gru.streams({ capacity: 300 });
    const sessions = Array.from({ length: 300 }, () => many.open());
    const watched = [0, 1, 255, 256, 299].map((i) => ({ i, alone: gru.stream() }));
    const into = new Float32Array(300 * 8);
    for (let step = 0; step < 2; step++) {
      const x = inputs(900);
      expect(many.step(sessions, x, into)).toBe(into);
      for (const { i, alone } of watched)
        expect(sameBits(into.slice(i * 8, (i + 1) * 8), alone.step(x.subarray(i * 3, (i + 1) * 3))), `session ${i}`).toBe(true);
    }
    expect(many.capacity).toBe(300);
  });

  it("copies of the state go from sessions to streams and back, and sessions fork", () => {
    const lstm = new LSTM(3, 5, place);
    using many = lstm.streams({ capacity: 2 });
    const [a, b] = [many.open(), many.open()];
    for (let step = 0; step < 3; step++) many.step([b, a], inputs(6));
    using alone = lstm.stream();
    alone.restore(a.snapshot());
    const fork = a.fork(); // this one needs more room
    const x = inputs(3);
    const expected = alone.step(x);
    expect(a.step(x)).toEqual(expected);
    expect(fork.step(x)).toEqual(expected);
    expect(b.step(x)).not.toEqual(expected);
    b.restore(alone.snapshot());
    expect(b.step(x)).toEqual(alone.step(x));
    b.reset();
    alone.reset();
    expect(b.step(x)).toEqual(alone.step(x));
    expect(fork.snapshot()).not.toEqual(b.snapshot());
  });

  it("a place is given out again, with a state of zero", () => {
    using many = gru.streams({ capacity: 1 });
    const first = many.open();
    const x = inputs(3);
    const start = first.step(x);
    first.step(x);
    first.close();
    first.close();
    expect([many.size, many.capacity]).toEqual([0, 1]);
    const second = many.open();
    expect(second.step(x)).toEqual(start);
    expect([many.size, many.capacity]).toEqual([1, 1]);
    many.open();
    expect([many.size, many.capacity]).toEqual([2, 2]);
    expect(many.step([], [])).toEqual(new Float32Array(0));
  });

  it("refuses what does not fit, and steps nothing then", () => {
    using many = gru.streams();
    using others = gru.streams({ capacity: 1 });
    const [a, b, closed] = [many.open(), many.open(), many.open()];
    closed.close();
    const before = a.snapshot();
    const step =
      (sessions: Session[], values = 3 * sessions.length) =>
      () =>
        many.step(sessions, new Float32Array(values).fill(1));
    expect(step([a, b], 5)).toThrow("Streams.step: x must have 2 * 3 values, for 2 sessions, but has 5");
    expect(() => many.step([a], [1, 2, 3], new Float32Array(9))).toThrow(
      "Streams.step: into must have 1 * 8 values, for 1 sessions, but has 9",
    );
    expect(step([a, b, a])).toThrow("Streams.step: sessions[2] is there twice, but a session makes one step at a time");
    expect(step([a, closed])).toThrow("Streams.step: sessions[1] was closed");
    expect(step([a, others.open()])).toThrow("Streams.step: sessions[1] does not belong to these streams");
    expect(step([a, undefined as never])).toThrow("Streams.step: sessions[1] must be a session of these streams but is undefined");
    expect(() => closed.snapshot()).toThrow("Session.snapshot: the session was closed");
    expect(() => a.restore({ h: new Float32Array(7) })).toThrow("Session.restore: h must have 8 values but has 7");
    expect(a.snapshot()).toEqual(before);
    expect(() => gru.streams({ capacity: 0 })).toThrow("GRU.streams: capacity must be an integer of at least 1 but is 0");
    expect(() => gru.streams({ size: 3 } as never)).toThrow("GRU.streams: unknown option size");
    expect(() => new LSTM(3, 4, { ...place, bidirectional: true }).streams()).toThrow(
      "LSTM.streams: a bidirectional layer needs the whole sequence",
    );
    expect(() => conv.streams({ shape: [2, 1, 5, 2] })).toThrow("shape must be [1, 1, ...], one step of one row, but is [2, 1, 5, 2]");
    const shared = streamModel(gru, { shape: [1, 1, 3] }, (x) => ({ ...gru.forward(x), state: gru.initialState(1) }));
    shared.dispose();
    expect(() => streamsModel(gru, { shape: [1, 1, 3] }, (x) => ({ ...gru.forward(x), state: gru.initialState(1) }))).toThrow(
      "state h must have an axis of rows, but is [1, 1, 8] for one row and [1, 1, 8] for two",
    );
    many.dispose();
    many.dispose();
    expect(step([a])).toThrow("Streams: the streams were disposed of");
    expect(() => a.snapshot()).toThrow("Streams: the streams were disposed of");
  });

  it("a step that fails leaves the states as they were, and the next one is right", () => {
    using many = model.streams({ capacity: 4 });
    using alone = model.stream();
    const sessions = [many.open(), many.open(), many.open()];
    many.step(sessions, [1, 2, 3]);
    alone.step([3]);
    const before = sessions.map((s) => s.snapshot());
    expect(() => many.step(sessions, [1, 2, 11])).toThrow("ids must be in [0, 10]");
    expect(sessions.map((s) => s.snapshot())).toEqual(before);
    expect(many.step([sessions[2]], [4])).toEqual(alone.step([4]));
    expect(many.step(sessions.slice(0, 2), [4, 5]).length).toBe(22);
  });

  it("sees the weights as training leaves them", async () => {
    const own = new LanguageModel(5, { cell: "gru", hidden: 6, layers: 1, embed: 3, ...place });
    using many = own.streams();
    using alone = own.stream();
    const session = many.open();
    const before = session.step([1]);
    const ids = Int32Array.from({ length: 41 }, (_, i) => i % 5);
    for await (const step of train(own, characterBatches(ids, { batch: 2, seq: 10 }), { optimizer: new Adam(own, { lr: 0.1 }) })) void step;
    session.reset();
    const after = session.step([1]);
    expect(after).not.toEqual(before);
    expect(after).toEqual(alone.step([1]));
  });

  it("leaves nothing behind", () => {
    const own = name === "cpu" ? openNative("", 1) : new ReferenceBackend();
    const small = new LSTM(3, 5, { layers: 2, device: own });
    const open = () => {
      using many = small.streams({ capacity: 2 });
      const sessions = Array.from({ length: 5 }, () => many.open());
      many.step(sessions, new Float32Array(15));
      sessions[1].restore(sessions[0].snapshot());
      using fork = sessions[2].fork();
      const within = own.memory();
      for (let step = 0; step < 20; step++) many.step([fork, ...sessions.slice(step % 5)], new Float32Array(3 * (6 - (step % 5))));
      for (let k = 0; k < 3; k++) many.step([fork], [1, 2, 3]);
      return within.buffers;
    };
    open(); // What a kernel keeps of the weights stays with them.
    const before = own.memory();
    for (let k = 0; k < 3; k++) expect(open()).toBeGreaterThan(before.buffers);
    expect(own.memory()).toEqual(before);
  });
});

// takeRows is in the loop over all ops; what it reads, putRows writes.
test.each(nativeBackends(2))("putRows writes on $isa what the reference writes", ({ backend }) => {
  const ids = Int32Array.from({ length: 90 }, (_, i) => (i % 7 === 3 ? -1 : 100 - i));
  for (const shape of [
    [101, 1, 301],
    [101, 2, 33],
    [101, 3, 1],
  ]) {
    // prettier-ignore
    const [table, x] = [1000, 5000].map((first) => Float32Array.from({ length: size(shape) }, (_, i) => first + (i % 997)));
    const [want, got] = [device("reference"), backend].map((on) =>
      scope(() => {
        const make = (data: Float32Array | Int32Array, of: readonly number[]): Tensor => tensor(data, { shape: of, device: on });
        const to = make(table, shape);
        const rows = make(ids, [ids.length]);
        putRows(to, rows, make(x.slice(0, 90 * shape[1] * shape[2]), [shape[1], 90, shape[2]]));
        return [to.dataSync(), takeRows(to, rows).dataSync()];
      }),
    );
    want.forEach((values, i) => expect(sameBits(got[i], values)).toBe(true));
    expect(want[1].slice(0, shape[2])).toEqual(x.slice(0, shape[2]));
  }
});
