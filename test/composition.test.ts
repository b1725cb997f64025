import { describe, expect, it } from "vitest";
import {
  add,
  Bidirectional,
  CarriedState,
  device,
  Dilated,
  Generator,
  grad,
  GRU,
  LSTM,
  mul,
  noGrad,
  Reversed,
  RNN,
  scale,
  scope,
  sigmoid,
  Stacked,
  sub,
  sum,
  tensor,
  uniform,
  zeros,
  type Module,
  type RecurrentLayer,
  type StateTree,
  type Tensor,
} from "../src/index.js";
import { leaves, mapTree } from "../src/nn/stream.js";
import { concat, slice } from "../src/ops/movement.js";
import { acausal, causal, everyNth, kinds, type Settings } from "./compositions.js";
import { devicesUnderTest, nativeAvailable, weightsLike } from "./helpers.js";

// The quickest device: what runs where is held to the reference elsewhere.
const dev = device(devicesUnderTest().at(-1));
const [ROWS, STEPS, INPUTS] = [4, 7, 3];
const lengths = [3, 7, 0, 1];

// float32 sums of at most a few dozen terms of order one, in another order where kernels differ by the number of steps.
const CLOSE = 1e-5;

const settings = (on = dev, dtype: "float32" | "float64" = "float32"): Settings => ({ device: on, dtype, generator: new Generator(7) });
const values = (t: Tensor) => Array.from(t.dataSync());
const draw = (seed: number, ...shape: number[]) => uniform(shape, { low: -1, high: 1, device: dev, generator: new Generator(seed) });

function expectClose(actual: readonly number[], expected: readonly number[], what: string, tolerance = CLOSE): void {
  expect(actual.length, what).toBe(expected.length);
  const worst = Math.max(0, ...actual.map((v, i) => Math.abs(v - expected[i])));
  expect(worst, what).toBeLessThan(tolerance);
}

function expectSameState(actual: StateTree, expected: StateTree): void {
  const wanted = leaves(expected);
  expect(leaves(actual).map(([path]) => path)).toEqual(wanted.map(([path]) => path));
  leaves(actual).forEach(([path, t], i) => {
    expect(t.shape, path).toEqual(wanted[i][1].shape);
    expectClose(values(t), values(wanted[i][1]), `state ${path}`);
  });
}

/** A state of the right shapes that is not zero. */
function someState(layer: RecurrentLayer, rows: number): StateTree {
  const { state } = layer.forward(zeros([rows, 1, layer.inputSize], { device: dev }), { lengths: new Array<number>(rows).fill(0) });
  let seed = 100;
  return mapTree(state, (t) => draw(seed++, ...t.shape));
}

const alone = (lengths: readonly number[], from: number, to: number) => lengths.map((n) => Math.min(Math.max(n - from, 0), to - from));

describe.each([...causal, ...acausal])("$name", ({ make }) => {
  const layerOf = () => make(INPUTS, settings()).eval();

  it("gives output [N, T, outputSize] and states with the rows on their second axis", () => {
    const layer = layerOf();
    const { output, state } = layer.forward(draw(1, ROWS, STEPS, INPUTS));
    expect(output.shape).toEqual([ROWS, STEPS, layer.outputSize]);
    expect(leaves(state).map(([, t]) => t.shape[1])).toEqual(leaves(state).map(() => ROWS));
  });

  it("gives each row of a ragged batch what it gives for the row alone, then zero, whatever lies in the padding", () => {
    noGrad(() =>
      scope(() => {
        const layer = layerOf();
        const x = draw(1, ROWS, STEPS, INPUTS);
        const data = Float32Array.from(values(x));
        lengths.forEach((length, n) => data.fill(1e3, (n * STEPS + length) * INPUTS, (n + 1) * STEPS * INPUTS));
        const state = someState(layer, ROWS);
        const ragged = layer.forward(tensor(data, { shape: x.shape, device: dev }), { state, lengths });
        lengths.forEach((length, n) => {
          const own = slice(slice(x, 0, n, n + 1), 1, 0, length);
          const row = (tree: StateTree) => mapTree(tree, (t) => slice(t, 1, n, n + 1));
          const wanted = layer.forward(own, { state: row(state) });
          const output = slice(ragged.output, 0, n, n + 1);
          expectClose(values(slice(output, 1, 0, length)), values(wanted.output), `output ${n}`);
          expect(values(slice(output, 1, length)).every((v) => v === 0)).toBe(true);
          expectSameState(row(ragged.state), wanted.state);
        });
      }),
    );
  });

  it("leaves nothing behind but what it returns, in training with gradients", () => {
    const layer = layerOf().train();
    const x = draw(1, ROWS, STEPS, INPUTS);
    const before = dev.memory().buffers;
    scope(() => {
      sum(layer.forward(x, { lengths }).output).backward();
      layer.zeroGrad();
    });
    expect(dev.memory().buffers).toBe(before);
  });

  it.skipIf(!nativeAvailable)("gives on cpu what it gives on reference, and the same gradients", () => {
    const run = (on: typeof dev, dtype: "float32" | "float64") => {
      const layer = make(INPUTS, settings(on, dtype));
      const inputs = draw(1, ROWS, STEPS, INPUTS);
      const x = tensor(values(inputs), { shape: inputs.shape, device: on, dtype });
      x.requiresGrad = true;
      const { output, state } = layer.forward(x, { lengths });
      const parts = [output, ...leaves(state).map(([, t]) => t)];
      const loss = parts.map((t, k) => sum(mul(t, weightsLike(t, k)))).reduce(add);
      const names = ["x", ...layer.namedParameters().keys()];
      const kept = parts.map(values);
      const found = grad(loss, [x, ...layer.parameters()]).map((g) => (g ? values(g) : []));
      return { kept, names, found };
    };
    const [got, wanted] = [run(device("cpu"), "float32"), run(device("reference"), "float64")];
    got.kept.forEach((v, k) => expectClose(v, wanted.kept[k], `result ${k}`));
    // Gradients are sums over up to 28 steps of terms of order one, and batch normalisation divides by small deviations.
    got.found.forEach((v, k) => {
      expect(wanted.found[k].length, got.names[k]).toBeGreaterThan(0);
      expectClose(v, wanted.found[k], got.names[k], 2e-5 * Math.max(1, ...wanted.found[k].map(Math.abs)));
    });
  });
});

describe.each(causal)("$name", ({ make }) => {
  const layerOf = () => make(INPUTS, settings()).eval();

  it("gives for two parts of any length, the state saved and loaded between them, what it gives for the whole", () => {
    noGrad(() =>
      scope(() => {
        const layer = layerOf();
        const x = draw(1, ROWS, STEPS, INPUTS);
        for (const valid of [undefined, lengths]) {
          const whole = layer.forward(x, { lengths: valid });
          for (let cut = 0; cut <= STEPS; cut++) {
            const part = (from: number, to: number, state?: StateTree) =>
              layer.forward(slice(x, 1, from, to), { state, lengths: valid && alone(valid, from, to) });
            const first = part(0, cut);
            const [carried, again] = [new CarriedState(), new CarriedState()];
            carried.replace(
              mapTree(first.state, (t) => t.detach()),
              ROWS,
            );
            again.loadStateDict(carried.stateDict(), ROWS, dev);
            const second = part(cut, STEPS, again.value!);
            expectClose(values(concat([first.output, second.output], 1)), values(whole.output), `output, cut at ${cut}`);
            expectSameState(second.state, whole.state);
            for (const state of [carried, again]) state.reset();
          }
        }
      }),
    );
  });

  it("streams what it gives for the whole, again after a reset and from a fork", () => {
    const layer = layerOf();
    const x = draw(1, 1, STEPS, INPUTS);
    const whole = noGrad(() => values(layer.forward(x).output));
    using stream = layer.stream({ shape: [1, 1, INPUTS] });
    const feed = (to: typeof stream, from: number, until: number) =>
      Array.from({ length: until - from }, (_, t) => [...to.step(values(slice(x, 1, from + t, from + t + 1)))]).flat();
    expectClose(feed(stream, 0, STEPS), whole, "output");
    stream.reset();
    const start = feed(stream, 0, 3);
    using fork = stream.fork();
    expectClose([...start, ...feed(fork, 3, STEPS)], whole, "output of the fork");
    expectClose(feed(stream, 3, STEPS), whole.slice(start.length), "output beside the fork");
  });
});

describe.each(acausal)("$name", ({ make }) => {
  it("refuses to stream, and to be what must be causal", () => {
    const layer = make(INPUTS, settings());
    expect(() => layer.stream({ shape: [1, 1, INPUTS] })).toThrow(/\.stream: a (bidirectional|reverse) layer needs the whole sequence/);
    expect(() => new Dilated(layer, { dilation: 2 })).toThrow(/must run from the start to the end but is (bidirectional|reverse)/);
    expect(() => new Bidirectional(layer, layer)).toThrow(/forwardLayer must run from the start to the end/);
    expect(() => new Reversed(layer)).toThrow(/layer must run from the start to the end/);
  });
});

/** What a module's parameters are under other names. */
function load(to: Module, parts: Readonly<Record<string, Module>>): void {
  const all = Object.entries(parts).flatMap(([suffix, module]) =>
    Object.entries(module.stateDict()).map(([key, t]) => [key + suffix, t] as const),
  );
  to.loadStateDict(Object.fromEntries(all));
}

describe("Bidirectional", () => {
  const builtIn = { LSTM, GRU, RNN };

  it.each(Object.keys(builtIn) as (keyof typeof builtIn)[])("with concat equals the bidirectional option of %s", (kind) => {
    noGrad(() => {
      const Layer = builtIn[kind];
      const [one, two] = [1, 2].map((seed) => new Layer(INPUTS, 5, { device: dev, generator: new Generator(seed) }));
      const both = new Layer(INPUTS, 5, { device: dev, bidirectional: true });
      load(both, { "": one, _reverse: two });
      const x = draw(1, ROWS, STEPS, INPUTS);
      const start = someState(both, ROWS) as Record<string, Tensor>;
      const side = (i: number) => mapTree(start, (t) => slice(t, 0, i, i + 1)) as never;
      const wanted = both.forward(x, { lengths, state: start as never });
      const got = new Bidirectional(one, two).forward(x, { lengths, state: { forward: side(0), backward: side(1) } });
      expect(values(got.output)).toEqual(values(wanted.output));
      for (const [s, t] of Object.entries(wanted.state)) {
        const [forward, backward] = [got.state.forward, got.state.backward].map((state) => (state as unknown as Record<string, Tensor>)[s]);
        expect(values(concat([forward, backward], 0))).toEqual(values(t));
      }
    });
  });

  it.each([
    ["sum", (a: number, b: number) => a + b],
    ["mul", (a: number, b: number) => a * b],
    ["average", (a: number, b: number) => (a + b) / 2],
  ] as const)("merges by %s", (merge, f) => {
    const [one, two] = [new LSTM(INPUTS, 4, settings()), new GRU(INPUTS, 4, settings())];
    const x = draw(1, ROWS, STEPS, INPUTS);
    const apart = [one.forward(x, { lengths }), new Reversed(two).forward(x, { lengths })].map(({ output }) => values(output));
    const { output } = new Bidirectional(one, two, { merge }).forward(x, { lengths });
    const wanted = apart[0].map((v, i) => f(v, apart[1][i]));
    expectClose(values(output), wanted, merge, 1e-6);
  });

  it("refuses what does not fit", () => {
    const lstm = new LSTM(INPUTS, 4, settings());
    expect(() => new Bidirectional(lstm, new GRU(2, 4, settings()))).toThrow(/both layers must have one inputSize but have 3 and 2/);
    expect(() => new Bidirectional(lstm, new GRU(INPUTS, 5, settings()), { merge: "sum" })).toThrow(
      /outputs of one size but they have 4 and 5/,
    );
    expect(() => new Bidirectional(lstm, lstm, { merge: "ave" as never })).toThrow(/"average"/);
    expect(() => new Bidirectional(lstm, lstm, { mode: "sum" } as never)).toThrow(/did you mean merge/);
    expect(() => new Bidirectional(lstm, {} as never)).toThrow(/backwardLayer must be a recurrent layer/);
    const both = new Bidirectional(lstm, lstm);
    expect(() => both.forward(draw(1, 2, 3, 4))).toThrow(/x must be \[N, T, 3\] but is \[2, 3, 4\]/);
    expect(() => both.forward(draw(1, 2, 3, INPUTS), { lengths: [4, 0] })).toThrow(/integers from 0 to 3/);
    expect(() => both.forward(draw(1, 2, 3, INPUTS), { state: { h: draw(1, 1, 2, 4) } as never })).toThrow(/unknown option h/);
  });
});

describe("Reversed", () => {
  it("equals the reverse option", () => {
    const [plain, reverse] = [{}, { reverse: true }].map((options) => new GRU(INPUTS, 4, { ...settings(), ...options }));
    const x = draw(1, ROWS, STEPS, INPUTS);
    const [got, wanted] = [new Reversed(plain), reverse].map((layer) => layer.forward(x, { lengths }));
    expect(values(got.output)).toEqual(values(wanted.output));
    expect(values(got.state.h)).toEqual(values(wanted.state.h));
  });
});

describe("Dilated", () => {
  it.each([1, 2, 3, 5])("runs every %i-th step as a sequence of its own", (dilation) => {
    const layer = new LSTM(INPUTS, 4, { ...settings(), layers: 2 });
    const x = draw(1, ROWS, STEPS, INPUTS);
    const dilated = new Dilated(layer, { dilation }).forward(x);
    for (let phase = 0; phase < dilation; phase++) {
      const wanted = layer.forward(everyNth(x, dilation, phase));
      expectClose(values(everyNth(dilated.output, dilation, phase)), values(wanted.output), `output of phase ${phase}`);
      const slot = (((phase - STEPS) % dilation) + dilation) % dilation;
      expectClose(values(slice(dilated.state.c, 2, slot, slot + 1)), values(wanted.state.c), `state of phase ${phase}`);
    }
  });

  it("refuses what does not fit", () => {
    const dilated = new Dilated(new GRU(INPUTS, 4, settings()), { dilation: 3 });
    const x = draw(1, 2, 5, INPUTS);
    expect(() => new Dilated(new GRU(INPUTS, 4, settings()), { dilation: 0 })).toThrow(
      /dilation must be an integer of at least 1 but is 0/,
    );
    expect(() => new Dilated(new GRU(INPUTS, 4, settings()), {} as never)).toThrow(/dilation must be an integer/);
    expect(() => dilated.forward(x, { state: { h: draw(1, 1, 2, 2, 4) } })).toThrow(/state\.h must be \[\.\., 2, 3, \.\.\], of a dilation of 3, but is \[1, 2, 2, 4\]/); // prettier-ignore
    expect(() => dilated.forward(x, { state: { h: draw(1, 1, 2, 3, 5) } })).toThrow(/state\.h must be/);
    expect(() => dilated.forward(x, { lengths: [5] })).toThrow(/lengths must have 2 entries/);
  });
});

describe("Stacked", () => {
  const layers = () => [new LSTM(INPUTS, INPUTS, settings()), new GRU(INPUTS, INPUTS, settings())] as const;
  const x = draw(1, ROWS, STEPS, INPUTS);

  it("plain equals the layers of one layer, under its dropout too", () => {
    const whole = new LSTM(INPUTS, 4, { ...settings(), layers: 2, dropout: 0.5 });
    const [one, two] = [new LSTM(INPUTS, 4, settings()), new LSTM(4, 4, settings())];
    const own = whole.stateDict();
    one.loadStateDict(Object.fromEntries(Object.entries(own).filter(([key]) => key.endsWith("l0"))));
    two.loadStateDict(Object.fromEntries(Object.entries(own).flatMap(([key, t]) => (key.endsWith("l1") ? [[key.replace("l1", "l0"), t]] : [])))); // prettier-ignore
    const stack = new Stacked([one, two], { dropout: 0.5 });
    const [got, wanted] = [stack.eval(), whole.eval()].map((layer) => values(layer.forward(x, { lengths }).output));
    expectClose(got, wanted, "output");
  });

  it("drops what passes between layers, in training alone", () => {
    const [one, two] = layers();
    const stack = new Stacked([one, two], { dropout: 1 });
    const dropped = stack.forward(x).output;
    expect(values(dropped)).toEqual(values(two.forward(zeros(x.shape, { device: dev })).output));
    expect(values(stack.eval().forward(x).output)).toEqual(values(two.forward(one.forward(x).output).output));
  });

  it("makes residual, highway and dense connections by their equations, the norm off the way past", () => {
    const [one, two] = layers();
    const residual = new Stacked([one, two], { connections: "residual", norm: "layer" });
    const first = add(one.forward(x).output, x);
    const wanted = add(two.forward(residual.norms[0].forward(first)).output, first);
    expectClose(values(residual.forward(x).output), values(wanted), "residual");

    const highway = new Stacked([one], { connections: "highway", highwayBias: -1, generator: new Generator(3) });
    expect(values(highway.gates[0].bias!)).toEqual([-1, -1, -1]);
    const t = sigmoid(highway.gates[0].forward(x));
    const mixed = add(mul(t, one.forward(x).output), mul(sub(t.like(1), t), x));
    expectClose(values(highway.forward(x).output), values(mixed), "highway");

    const wide = new RNN(2 * INPUTS, 2, settings());
    const dense = new Stacked([one, wide], { connections: "dense" });
    const both = concat([x, one.forward(x).output], 2);
    expect(dense.outputSize).toBe(2 * INPUTS + 2);
    expectClose(values(dense.forward(x).output), values(concat([both, wide.forward(both).output], 2)), "dense");
  });

  it("lets the input through at first where connections are highways", () => {
    const stack = new Stacked(layers(), { connections: "highway", highwayBias: -30 });
    expectClose(values(stack.forward(x).output), values(x), "output", 1e-6);
  });

  it("batch-normalises over the valid steps alone", () => {
    const [one, two] = layers();
    const stack = new Stacked([one, two], { norm: "batch" });
    const { output } = one.forward(x, { lengths });
    stack.forward(x, { lengths });
    const count = lengths.reduce((a, b) => a + b);
    const mean = values(scale(sum(output, { axis: [0, 1] }), 0.1 / count));
    expectClose(values(stack.stateDict()["norms.0.running_mean"]), mean, "running mean");
  });

  it("names its parameters by layer", () => {
    const stack = new Stacked(layers(), { connections: "highway", norm: "layer" });
    const own = Object.keys(stack.stateDict());
    expect(own).toContain("layers.1.weight_hh_l0");
    expect(own.filter((key) => !key.startsWith("layers"))).toEqual(["norms.0.weight", "norms.0.bias", "gates.0.weight", "gates.0.bias", "gates.1.weight", "gates.1.bias"]); // prettier-ignore
  });

  it("refuses what does not fit", () => {
    const [one, two] = layers();
    expect(() => new Stacked([])).toThrow(/at least one layer/);
    expect(() => new Stacked([one, {} as never])).toThrow(/layers\[1\] must be a recurrent layer/);
    expect(() => new Stacked([one, new GRU(4, 4, settings())])).toThrow(/layers\[1\] must have inputSize 3 but has 4/);
    expect(() => new Stacked([one, new GRU(INPUTS, 4, settings())], { connections: "residual" })).toThrow(
      /layers\[1\] takes 3 and gives 4/,
    );
    expect(() => new Stacked([one, two], { connections: "dense" })).toThrow(/layers\[1\] must have inputSize 6 but has 3/);
    expect(() => new Stacked([one], { connections: "skip" as never })).toThrow(/connections must be/);
    expect(() => new Stacked([one], { norm: "group" as never })).toThrow(/norm must be/);
    expect(() => new Stacked([one], { dropout: 2 })).toThrow(/p must be/);
    const stack = new Stacked([one, two]);
    const { state } = one.forward(x);
    expect(() => stack.forward(x, { state: [state] as never })).toThrow(/state must be a list of 2 but has 1/);
    expect(() => stack.forward(x, { lengths: [1, 2, 3, 8] })).toThrow(/integers from 0 to 7/);
  });
});

describe("composed layers", () => {
  const on = { device: device("reference"), dtype: "float64", generator: new Generator(7) } as const;
  const some: Record<string, RecurrentLayer> = {
    "Stacked, dense, batch norm": new Stacked([new GRU(2, 2, on), new Dilated(new RNN(4, 2, on), { dilation: 2 })], { connections: "dense", norm: "batch" }), // prettier-ignore
    "Stacked, highway, layer norm": new Stacked([new LSTM(2, 2, on), kinds["module of a user"](2, 2, on)], { connections: "highway", norm: "layer", generator: on.generator }), // prettier-ignore
    "Bidirectional, mul": new Bidirectional(new Dilated(new LSTM(2, 2, on), { dilation: 3 }), new GRU(2, 2, on), { merge: "mul" }),
  };

  it.each(Object.keys(some))("%s: has the gradients that finite differences give, of states too", (name) => {
    const layer = some[name];
    const x = uniform([3, 4, 2], { ...on, requiresGrad: true });
    const start = noGrad(() => mapTree(layer.forward(x, { lengths: [4, 1, 2] }).state, (t) => t.detach()));
    const initial = leaves(start).map(([, t]) => t);
    for (const t of initial) t.requiresGrad = true;
    const loss = () => {
      const { output, state } = layer.forward(x, { lengths: [2, 0, 4], state: start });
      return [output, ...leaves(state).map(([, t]) => t)].map((t, k) => sum(mul(t, weightsLike(t, k)))).reduce(add);
    };
    const inputs = [x, ...initial, ...layer.parameters()];
    const found = grad(loss(), inputs).map((g) => values(g!));
    noGrad(() =>
      inputs.forEach((input, k) => {
        const at = values(input);
        const write = (data: readonly number[]) => input.device.write(input.buffer(), Float64Array.from(data));
        const numeric = at.map((v, i) => {
          const [more, less] = [1e-5, -1e-5].map((step) => {
            write(at.with(i, v + step));
            return scope(() => values(loss())[0]);
          });
          return (more - less) / 2e-5;
        });
        write(at);
        // Central differences of a smooth function: an error of order step^2, and rounding of order 1e-16 / step.
        expectClose(found[k], numeric, `input ${k}`, 1e-7);
      }),
    );
  });
});
