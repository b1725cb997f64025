import { describe, expect, it } from "vitest";
import { add, device, Generator, grad, GRU, LSTM, mul, RNN, scope, sum, type Tensor } from "../src/index.js";
import type { RecurrentOptions } from "../src/nn/recurrent.js";
import { empty } from "../src/tensor/tensor.js";
import { devicesUnderTest, nativeAvailable, sameBits, weightsLike } from "./helpers.js";
import { possible, randomised, structures, type Variant } from "./recurrentVariants.js";

const on = { cpu: "float32", cuda: "float32", reference: "float64" } as const;
type Name = keyof typeof on;
const placeOf = (name: Name) => ({ device: device(name), dtype: on[name] });

/** A leaf of numbers that are the same on every call. */
function leaf(name: Name, shape: readonly number[], k: number): Tensor {
  const { device: backend, dtype } = placeOf(name);
  const values = weightsLike(empty(backend, shape, dtype), k);
  values.requiresGrad = true;
  return values;
}

interface Batch {
  readonly hidden?: number;
  readonly lengths?: readonly number[];
  readonly steps?: number;
}

/** Everything that a training pass computes, by name. */
function pass(name: Name, { make }: Variant, options: RecurrentOptions, { hidden = 13, lengths = [5, 0, 3, 1], steps = 5 }: Batch = {}) {
  const n = lengths.length;
  const layer = make(3, hidden, { ...placeOf(name), generator: new Generator(3), ...options });
  const x = leaf(name, [n, steps, 3], 1);
  const state = Object.fromEntries(Object.entries(layer.initialState(n)).map(([s, { shape }], k) => [s, leaf(name, shape, 2 + k)]));
  const { output, state: last } = layer.forward(x, { state, lengths });
  const outputs = { output, ...last };
  const terms = Object.values(outputs).map((t, k) => sum(mul(t, weightsLike(t, 10 + k))));
  const values = Object.entries(outputs).map(([key, t]) => [key, t.dataSync()] as const);
  terms.reduce((a, b) => add(a, b)).backward();
  const leaves = Object.entries({ x, ...state, ...layer.stateDict() });
  return [...values, ...leaves.flatMap(([key, t]) => (t.grad ? [[`gradient of ${key}`, t.grad.dataSync()] as const] : []))];
}

function expectSame(name: Name, variant: Variant, options: RecurrentOptions, batch?: Batch) {
  scope(() => {
    const kept = pass(name, variant, options, batch);
    const computed = pass(name, variant, { ...options, checkpoint: true }, batch);
    expect(computed.map(([key]) => key)).toEqual(kept.map(([key]) => key));
    expect(kept.length).toBeGreaterThan(5);
    computed.forEach(([key, values], i) => expect(sameBits(values, kept[i][1]), key).toBe(true));
  });
}

const plain: Variant[] = [
  { name: "LSTM", make: (i, h, o) => new LSTM(i, h, o) },
  { name: "GRU", make: (i, h, o) => new GRU(i, h, o) },
  { name: "GRU, reset before", make: (i, h, o) => new GRU(i, h, { ...o, reset: "before" }) },
  { name: "RNN", make: (i, h, o) => new RNN(i, h, o) },
];

// The sums are the same in the same order, so there is no tolerance.
describe.each(devicesUnderTest())("with checkpoint: true nothing changes on %s", (name) => {
  const settings: RecurrentOptions[] = [
    { bidirectional: true, bias: false },
    { layers: 2, reverse: true },
  ];
  // The reference composes every sweep, whatever its options.
  it.each(name === "cpu" ? [...structures(), ...randomised()] : [...plain, ...randomised().slice(0, 8)])("$name", (variant) => {
    for (const options of settings.filter((one) => possible(variant, one))) expectSame(name, variant, options);
  });
});

describe.skipIf(!nativeAvailable)("with checkpoint: true nothing changes in the plain sweeps", () => {
  it.each(plain)("$name over several chunks of steps, stretches of sums and groups of units", (variant) => {
    const lengths = Array.from({ length: 33 }, (_, i) => (7 * i) % 24);
    expectSame("cpu", variant, { bidirectional: true }, { hidden: 290, lengths, steps: 23 });
    expectSame("cpu", variant, { layers: 2 }, { hidden: 7, lengths: [400], steps: 400 });
    expectSame("cpu", variant, {}, { hidden: 16, lengths: new Array<number>(300).fill(2), steps: 2 });
    expectSame("cpu", variant, {}, { lengths: [0, 0], steps: 3 });
  });
});

describe.skipIf(!nativeAvailable)("with checkpoint: true less is kept", () => {
  /** Bytes alive between forward and backward. */
  const held = ({ make }: Variant, options: RecurrentOptions) =>
    scope(() => {
      const layer = make(3, 16, { ...placeOf("cpu"), ...options });
      const x = leaf("cpu", [4, 10, 3], 1);
      const before = device("cpu").memory().bytes;
      const { output } = layer.forward(x);
      const bytes = device("cpu").memory().bytes - before;
      output.backward({ gradient: output.like(1) });
      return bytes;
    });
  const numbers = 4 * 10 * 16;

  it.each([
    [plain[0], 4],
    [plain[1], 4],
    [plain[2], 4],
    [plain[3], 0],
  ])("$0.name: $1 numbers of a unit at each step", (variant, saved) => {
    const spared = held(variant, { layers: 2 }) - held(variant, { layers: 2, checkpoint: true });
    expect(spared).toBe(2 * saved * numbers * 4);
  });

  it("a layer whose pass is repeated keeps its inputs and outputs", () => {
    const options: RecurrentOptions = { zoneout: 0.3 };
    // Gates, what the cell gave for h and c, and the c that was handed on.
    expect(held(plain[0], options) - held(plain[0], { ...options, checkpoint: true })).toBe((4 + 2 + 1) * numbers * 4);
  });
});

describe.each(devicesUnderTest())("checkpoint on %s", (name) => {
  it("frees everything with the tape", () => {
    for (const checkpoint of [true, false]) {
      const layer = new LSTM(3, 5, { ...placeOf(name), checkpoint, zoneout: 0.2 });
      const step = () => scope(() => sum(layer.forward(leaf(name, [2, 4, 3], 1).detach()).output).backward());
      step();
      layer.zeroGrad();
      const before = device(name).memory();
      step();
      layer.zeroGrad();
      expect(device(name).memory()).toEqual(before);
    }
  });

  it("gives gradients of gradients", () => {
    const second = (checkpoint: boolean) =>
      scope(() => {
        const layer = new GRU(3, 5, { ...placeOf(name), checkpoint, generator: new Generator(1) });
        const x = leaf(name, [2, 4, 3], 1);
        const { output } = layer.forward(x);
        const [dx] = grad(sum(mul(output, weightsLike(output, 2))), [x], { createGraph: true });
        return grad(sum(mul(dx!, dx!)), [x])[0]!.dataSync();
      });
    expect(sameBits(second(true), second(false))).toBe(true);
  });

  it("can be gone through twice", () => {
    scope(() => {
      const layer = new LSTM(3, 5, { ...placeOf(name), checkpoint: true, projSize: 2 });
      const x = leaf(name, [2, 4, 3], 1);
      const loss = sum(layer.forward(x).output);
      loss.backward({ retainGraph: true });
      const once = x.grad!.dataSync().slice();
      loss.backward();
      expect(Array.from(x.grad!.dataSync())).toEqual(Array.from(once, (g) => 2 * g));
    });
  });

  it("is true or false", () => {
    expect(() => new LSTM(3, 5, { checkpoint: 1 as unknown as boolean })).toThrow("LSTM: checkpoint must be true or false but is 1");
  });
});
