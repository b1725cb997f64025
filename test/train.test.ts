import { setTimeout } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import {
  Adam,
  CarriedState,
  characterBatches,
  crossEntropy,
  device,
  evaluate,
  Generator,
  GRU,
  LanguageModel,
  Linear,
  meanSquaredError,
  Module,
  noGrad,
  scope,
  SGD,
  slice,
  sum,
  tensor,
  train,
  type Trainable,
  type Batch,
  type Optimizer,
  type Tensor,
  type TrainOptions,
  type TrainStep,
} from "../src/index.js";
import { openNative } from "../src/backend/native.js";
import { ReferenceBackend } from "../src/backend/reference.js";
import { devicesUnderTest } from "./helpers.js";

const vocab = 7;
const text = Int32Array.from({ length: 200 }, (_, i) => (i * i + (i >> 2)) % vocab);

/** Steps of a training, at most `limit`. */
async function steps<R>(
  limit: number,
  model: Module,
  batches: Iterable<Batch> | AsyncIterable<Batch>,
  options: TrainOptions<R>,
): Promise<TrainStep[]> {
  const found: TrainStep[] = [];
  for await (const step of train(model as Trainable<R>, batches, options)) {
    found.push(step);
    if (found.length === limit) break;
  }
  return found;
}

const weights = (model: Module) => model.parameters().map((p) => Array.from(p.dataSync()));

describe.each(devicesUnderTest())("train on %s", (name) => {
  const dev = device(name);
  const make = (options: object = {}) =>
    new LanguageModel(vocab, { cell: "gru", hidden: 6, layers: 2, embed: 4, device: dev, generator: new Generator(3), ...options });
  const batches = (options: object = {}) => characterBatches(text, { batch: 3, seq: 8, epochs: Infinity, ...options });
  const ids = (data: readonly number[] | Int32Array, ...shape: number[]) => ({ data: Int32Array.from(data), shape });

  it("does what the same steps do when written out", async () => {
    const model = make();
    const optimizer = new SGD(model, { lr: 0.5, momentum: 0.9 });
    const found = await steps(6, model, batches(), { optimizer, carryState: true });

    const other = make();
    const plain = new SGD(other, { lr: 0.5, momentum: 0.9 });
    let state: Record<string, Tensor> | undefined;
    const losses: number[] = [];
    for (const { inputs, targets } of batches()) {
      const x = tensor(inputs.data, { shape: inputs.shape, device: dev });
      const result = other.forward(x, { state });
      const loss = crossEntropy(result.logits, tensor(targets.data, { shape: targets.shape, device: dev }));
      plain.zeroGrad();
      loss.backward();
      plain.step();
      state = Object.fromEntries(Object.entries(result.state).map(([s, t]) => [s, t.detach()]));
      losses.push(await loss.item());
      if (losses.length === 6) break;
    }
    expect(found.map(({ loss }) => loss)).toEqual(losses);
    expect(weights(model)).toEqual(weights(other));
  });

  it("reports what a step did", async () => {
    const model = make();
    const optimizer = new Adam(model, { lr: 0.1 });
    const found = await steps(3, model, batches(), { optimizer, schedule: (step) => 1 / (step + 1) });
    expect(found.map(({ step }) => step)).toEqual([1, 2, 3]);
    found.forEach(({ lr }, i) => expect(lr).toBeCloseTo(0.1 / (i + 1), 12));
    for (const { tokens, seconds, tokensPerSecond, gradNorm } of found) {
      expect(tokens).toBe(24);
      expect(seconds).toBeGreaterThan(0);
      expect(tokensPerSecond).toBeCloseTo(24 / seconds, 6);
      expect(gradNorm).toBeGreaterThan(0);
    }
    const again = await steps(1, model, batches(), { optimizer });
    expect(again[0].step).toBe(4);
  });

  it("clips by norm and by value after measuring the norm", async () => {
    const norms = async (options: Partial<TrainOptions<unknown>>) => {
      const model = make();
      const before = weights(model);
      const [{ gradNorm }] = await steps(1, model, batches(), { optimizer: new SGD(model, { lr: 1 }), ...options });
      const moved = weights(model).flatMap((w, k) => w.map((v, i) => Math.abs(v - before[k][i])));
      return { gradNorm, moved: Math.hypot(...moved), most: Math.max(...moved) };
    };
    const free = await norms({});
    expect(free.moved).toBeCloseTo(free.gradNorm, 4);
    const clipped = await norms({ clipNorm: 0.01 });
    expect(clipped.gradNorm).toBe(free.gradNorm);
    expect(clipped.moved).toBeCloseTo(0.01, 5);
    const limited = await norms({ clipValue: 0.001 });
    expect(limited.gradNorm).toBe(free.gradNorm);
    expect(limited.most).toBeCloseTo(0.001, 6);
  });

  it("truncates: the segments of a batch are the same as batches of their own with the state carried", async () => {
    const run = async (seq: number, options: Partial<TrainOptions<unknown>>) => {
      const model = make();
      const found = await steps(6, model, batches({ seq }), { optimizer: new Adam(model, { lr: 0.01 }), ...options });
      return { losses: found.map(({ loss }) => loss), weights: weights(model) };
    };
    expect(await run(24, { truncate: 8, carryState: true })).toEqual(await run(8, { carryState: true }));
    const whole = await run(8, { truncate: 100 });
    expect(whole).toEqual(await run(8, {}));
    expect(whole.losses.slice(1)).not.toEqual((await run(8, { carryState: true })).losses.slice(1));
  });

  it("gives the carried state to the caller, and starts anew where a batch says so or has other rows", async () => {
    const seen: (string | undefined)[] = [];
    const model = make();
    const carryState = new CarriedState();
    const forward = (x: Tensor, options: { readonly state?: unknown }) => {
      seen.push(options.state === undefined ? undefined : "state");
      return model.forward(x, options as never);
    };
    const batch = (rows: number, reset = false): Batch => ({
      inputs: ids(text.subarray(0, rows * 4), rows, 4),
      targets: ids(text.subarray(1, rows * 4 + 1), rows, 4),
      reset,
    });
    const optimizer = new Adam(model);
    await steps(9, model, [batch(2, true), batch(2), batch(2, true), batch(3), batch(3)], { optimizer, carryState, forward });
    expect(seen).toEqual([undefined, "state", undefined, undefined, "state"]);
    expect(carryState.rows).toBe(3);
    expect(carryState.stateDict().h.shape).toEqual([2, 3, 6]);
    await steps(9, model, [batch(3)], { optimizer, carryState, forward });
    expect(seen.at(-1)).toBe("state");
    carryState.reset();
    expect(carryState.value).toBeNull();
  });

  it("with lengths, counts and learns from the valid steps only, truncated or not", async () => {
    const padded = (fill: number): Batch => ({
      inputs: ids([1, 2, 3, 4, 5, fill, fill, fill], 2, 4),
      targets: ids([2, 3, 4, 5, 6, fill, fill, fill], 2, 4),
      lengths: [4, 1],
    });
    for (const truncate of [undefined, 2]) {
      const run = async (fill: number) => {
        const model = make();
        const found = await steps(9, model, [padded(fill)], { optimizer: new SGD(model, { lr: 0.1 }), truncate });
        return { losses: found.map(({ loss }) => loss), tokens: found.map(({ tokens }) => tokens), weights: weights(model) };
      };
      const zero = await run(0);
      expect(zero.tokens).toEqual(truncate ? [3, 2] : [5]);
      expect(await run(6)).toEqual(zero);
    }
    const model = make();
    const [{ loss }] = await steps(1, model, [padded(0)], { optimizer: new SGD(model, { lr: 0 }) });
    const logits = noGrad(() => model.forward(tensor([[1, 2, 3, 4]], { dtype: "int32", device: dev })).logits);
    const one = noGrad(() => model.forward(tensor([[5]], { dtype: "int32", device: dev })).logits);
    const four = crossEntropy(logits, tensor([[2, 3, 4, 5]], { dtype: "int32", device: dev }), { reduction: "sum" });
    const last = crossEntropy(one, tensor([[6]], { dtype: "int32", device: dev }), { reduction: "sum" });
    expect(loss).toBeCloseTo((four.dataSync()[0] + last.dataSync()[0]) / 5, 5);
  });

  it("passes over a segment in which no step is valid", async () => {
    const model = make();
    const batch = { inputs: ids([1, 2, 3, 4, 5, 6], 1, 6), targets: ids([2, 3, 4, 5, 6, 0], 1, 6), lengths: [3] };
    const found = await steps(9, model, [batch], { optimizer: new SGD(model), truncate: 2 });
    expect(found.map(({ tokens }) => tokens)).toEqual([2, 1]);
    expect(weights(model).flat().every(Number.isFinite)).toBe(true);
  });

  it("takes any loss, any way of calling, numeric batches, and batches that come late", async () => {
    class Forecaster extends Module {
      readonly rnn = new GRU(1, 5, { device: dev, generator: new Generator(1) });
      readonly head = new Linear(5, 1, { device: dev, generator: new Generator(2) });
      forward(x: Tensor, state?: Record<"h", Tensor>) {
        return scope(() => {
          const { output, state: next } = this.rnn.forward(x, { state });
          return { value: this.head.forward(slice(output, 1, -1)), state: next };
        });
      }
    }
    async function* late(): AsyncGenerator<Batch> {
      for (let k = 0; k < 30; k++) {
        if (k < 3) await setTimeout(1);
        const x = Float32Array.from({ length: 8 }, (_, i) => Math.sin(i + k));
        yield { inputs: { data: x, shape: [2, 4, 1] }, targets: { data: Float32Array.of(x[0], x[4]), shape: [2, 1, 1] } };
      }
    }
    const model = new Forecaster();
    const found = await steps(99, model, late(), {
      optimizer: new Adam(model, { lr: 0.02 }),
      forward: (x: Tensor, { state }: { readonly state?: unknown }) => model.forward(x, state as never),
      loss: (result: ReturnType<Forecaster["forward"]>, { targets }) => meanSquaredError(result.value, targets),
    });
    expect(found).toHaveLength(30);
    expect(found.at(-1)!.loss).toBeLessThan(found[0].loss / 2);
  });

  it("leaves nothing behind but the carried state, whether it ends, is left, or fails", async () => {
    // A device of its own: on the common one the garbage of other tests goes at any time.
    const own = name === "cpu" ? openNative("", 1) : new ReferenceBackend();
    const model = make({ device: own });
    const optimizer: Optimizer = new Adam(model);
    const run = (limit: number, given: Iterable<Batch>, options: Partial<TrainOptions<unknown>> = {}) =>
      steps(limit, model, given, { optimizer, carryState: true, clipNorm: 1, ...options });
    await run(2, batches());
    model.zeroGrad();
    const before = own.memory();
    const same = () => {
      model.zeroGrad();
      expect(own.memory()).toEqual(before);
    };
    await run(5, batches());
    same();
    await run(99, characterBatches(text, { batch: 3, seq: 8 }), { truncate: 3 });
    same();
    const bad = { inputs: ids([1, 2, vocab, 3], 2, 2), targets: ids([1, 1, 1, 1], 2, 2) };
    await expect(run(9, [bad])).rejects.toThrow(`embedding: ids must be in [0, ${vocab - 1}]`);
    same();
    const wrong = { inputs: ids([1, 2], 1, 2), targets: ids([1, vocab], 1, 2) };
    await expect(run(9, [wrong])).rejects.toThrow("crossEntropy: targets must be in");
    same();
    const fails = () => {
      throw new Error("mine");
    };
    await expect(run(9, batches(), { loss: (result) => (sum((result as { logits: Tensor }).logits), fails()) })).rejects.toThrow("mine");
    same();
    await expect(run(9, batches(), { schedule: fails })).rejects.toThrow("mine");
    optimizer.schedule = null;
    same();
    await run(3, batches());
    same();
  });

  it("stops between steps at a signal, and does not wait for a source that is silent", async () => {
    const model = make();
    const optimizer = new Adam(model);
    const stop = new AbortController();
    const given = batches();
    const found: number[] = [];
    for await (const { step } of train(model, given, { optimizer, signal: stop.signal })) {
      found.push(step);
      if (step === 2) stop.abort();
    }
    expect(found).toEqual([1, 2]);
    expect(given.position).toEqual({ epoch: 0, window: 2 });

    const silent = { [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => undefined) }) };
    const late = new AbortController();
    const done = steps(9, model, silent, { optimizer, signal: late.signal });
    late.abort();
    expect(await done).toEqual([]);
  });

  it("closes the source when it is left", async () => {
    let closed = false;
    function* source() {
      try {
        yield* batches();
      } finally {
        closed = true;
      }
    }
    const model = make();
    await steps(2, model, source(), { optimizer: new Adam(model) });
    expect(closed).toBe(true);
  });

  it("yields a loss that is not finite as it is", async () => {
    const model = make();
    model.head.weight.device.write(
      model.head.weight.buffer(),
      Float32Array.from({ length: vocab * 6 }, () => NaN),
    );
    const [{ loss, gradNorm }] = await steps(1, model, batches(), { optimizer: new Adam(model) });
    expect([loss, gradNorm]).toEqual([NaN, NaN]);
  });

  it("repeats itself from the same seeds, dropout included", async () => {
    const run = async () => {
      const generator = new Generator(5);
      const model = make({ dropout: 0.4, generator });
      return (await steps(4, model, batches(), { optimizer: new Adam(model, { lr: 0.01 }), carryState: true })).map(({ loss }) => loss);
    };
    const first = await run();
    expect(await run()).toEqual(first);
  });

  it("puts the model into training, and evaluates without dropout, leaving the mode of each part as it was", async () => {
    const model = make({ dropout: 0.5 });
    model.eval();
    await steps(1, model, batches(), { optimizer: new Adam(model, { lr: 0 }) });
    expect([model.training, model.rnn.training, model.drop.training]).toEqual([true, true, true]);
    model.rnn.eval();
    const modes: boolean[] = [];
    const loss = await evaluate(model, characterBatches(text, { batch: 2, seq: 9, partial: true }), {
      carryState: true,
      forward: (x, options) => {
        modes.push(model.training || model.rnn.training || model.drop.training);
        return model.forward(x, options as never);
      },
    });
    expect(modes.length).toBe(11);
    expect(modes.some(Boolean)).toBe(false);
    expect([model.training, model.rnn.training, model.drop.training]).toEqual([true, false, true]);
    model.eval();
    const at = (shift: number) =>
      tensor(Int32Array.from([...text.subarray(shift, 99 + shift), ...text.subarray(99 + shift, 198 + shift)]), {
        shape: [2, 99],
        device: dev,
      });
    const whole = noGrad(() => crossEntropy(model.forward(at(0)).logits, at(1)));
    expect(loss).toBeCloseTo(whole.dataSync()[0], 5);
  });

  it("turns the event loop while it trains", async () => {
    let turns = 0;
    const timer = setInterval(() => turns++, 0);
    const model = make();
    await steps(60, model, batches(), { optimizer: new Adam(model) });
    clearInterval(timer);
    expect(turns).toBeGreaterThan(0);
  });

  describe("refuses", () => {
    const model = make();
    const optimizer = new Adam(model);
    const good: Batch = { inputs: ids([1, 2], 1, 2), targets: ids([2, 3], 1, 2) };
    const attempt = (given: unknown, options: object = {}) => steps(9, model, given as Batch[], { optimizer, ...options });

    it.each([
      [[good], { clipnorm: 1 }, "train: unknown option clipnorm; did you mean clipNorm?"],
      [[good], { clipNorm: NaN }, "train: clipNorm must be a number"],
      [[good], { truncate: 0 }, "train: truncate must be an integer of at least 1 but is 0"],
      [[{ inputs: good.inputs }], {}, "train: a batch must have targets, a tensor or { data, shape }"],
      [[{ ...good, targets: ids([1, 2, 3, 4], 2, 2) }], {}, "train: targets must have 1 rows as the inputs but are [2, 2]"],
      [[{ ...good, lengths: [3] }], {}, "train: lengths must be 1 integers from 0 to 2 but entry 0 is 3"],
      [[{ ...good, lengths: [1, 1] }], {}, "train: lengths must be 1 integers from 0 to 2 but has 2 entries"],
      [[{ ...good, targets: ids([1], 1, 1) }], { truncate: 1 }, "train: truncate needs targets [1, 2, ...] but they are [1, 1]"],
      [[good], { forward: () => ({}) }, "train: the model's forward must return { logits }, or the option loss must be given"],
    ])("bad options and batches (%#)", async (given, options, message) => {
      await expect(attempt(given, options)).rejects.toThrow(message);
    });

    it("to carry a state that the model does not give", async () => {
      const forward = (x: Tensor) => ({ logits: model.forward(x).logits });
      await expect(attempt([good], { carryState: true, forward })).rejects.toThrow(
        "train: to carry a state, the model's forward must return it as { state }",
      );
      await expect(evaluate(model, [], {})).rejects.toThrow("evaluate: there must be at least one batch with a valid step");
    });
  });
});

describe("the carried state", () => {
  const dev = device("reference");
  const one = (v: number) => tensor([v], { device: dev });

  it.each([
    [() => one(1), [""]],
    [() => ({ h: one(1), c: one(2) }), ["h", "c"]],
    [() => ({ encoder: { h: one(1) }, layers: [one(2), { c: one(3) }] }), ["encoder.h", "layers.0", "layers.1.c"]],
  ])("goes through a dictionary, whatever its form (%#)", (build, names) => {
    const [first, second] = [new CarriedState(), new CarriedState()];
    first.replace(build(), 2);
    const saved = first.stateDict();
    expect(Object.keys(saved)).toEqual(names);
    second.loadStateDict(saved, 2, dev);
    const show = (v: unknown): unknown =>
      v && typeof v === "object" && "dataSync" in v
        ? (v as Tensor).dataSync()[0]
        : Array.isArray(v)
          ? v.map(show)
          : Object.fromEntries(Object.entries(v as object).map(([k, p]) => [k, show(p)]));
    expect(show(second.value)).toEqual(show(first.value));
    expect(second.rows).toBe(2);
    second.loadStateDict({}, 0, dev);
    expect(second.value).toBeNull();
  });
});
