import { describe, expect, it } from "vitest";
import {
  debug,
  device,
  GRU,
  init,
  IndRNN,
  Jordan,
  LSTM,
  MGU,
  noGrad,
  RNN,
  tensor,
  CellLayer,
  gru,
  gruBefore,
  sweep,
  type Tensor,
} from "../src/index.js";
import type { Recurrent, RecurrentOptions } from "../src/nn/recurrent.js";
import { concat, flip, slice } from "../src/ops/movement.js";
import { reverseSequence } from "../src/ops/sequence.js";
import { Generator, uniform } from "../src/tensor/random.js";
import { devicesUnderTest } from "./helpers.js";

const values = (t: Tensor) => Array.from(t.dataSync());

/** Equal but for the rounding of float32: a cell with masks may run other kernels than without. */
function expectClose(actual: readonly number[], expected: readonly number[]): void {
  expect(actual.length).toBe(expected.length);
  actual.forEach((v, i) => expect(v).toBeCloseTo(expected[i], 5));
}

describe.each(devicesUnderTest())("what is random in a recurrent layer, on %s", (name) => {
  const dev = device(name);
  const lstm = (options: RecurrentOptions = {}) => new LSTM(3, 5, { device: dev, generator: new Generator(7), ...options });
  const draw = (...shape: number[]) => uniform(shape, { low: -1, high: 1, device: dev, generator: new Generator(shape.length) });
  const run = (layer: Recurrent<string>, x: Tensor, options = {}) => noGrad(() => layer.forward(x, options));
  const x = draw(4, 6, 3);

  it("draws masks of 0 and 1 / (1 - p), one for each step or one for a sequence", () => {
    const options = { layers: 2, bidirectional: true, weightDrop: 0.2, recurrentDropout: 0.5, zoneout: { c: 0.25 } } as const;
    const masks = lstm({ ...options, dropout: 0.5, lockedDropout: { input: 0.75, output: 0.5, hidden: 0.5 } }).drawMasks(4, 6);
    const shapes = (list: readonly Tensor[]) => list.map(({ shape }) => shape);
    expect(masks.input!.shape).toEqual([4, 1, 3]);
    expect(shapes(masks.between!)).toEqual([[4, 6, 10]]);
    expect(masks.output!.shape).toEqual([4, 1, 10]);
    expect(shapes(masks.hidden!)).toEqual(new Array(4).fill([4, 1, 5]));
    expect(shapes(masks.candidate!)).toEqual(new Array(4).fill([4, 6, 5]));
    expect(Object.keys(masks.update!)).toEqual(["c"]);
    expect(shapes(masks.update!.c!)).toEqual(new Array(4).fill([4, 6, 5]));
    expect(shapes(masks.weight!)).toEqual(new Array(4).fill([20, 5]));
    const distinct = (mask: Tensor) => [...new Set(values(mask))].toSorted((a, b) => a - b);
    expect(distinct(masks.input!)).toEqual([0, 4]);
    expect(distinct(masks.between![0])).toEqual([0, 2]);
    expect(distinct(masks.update!.c![0])).toEqual([0, 1]);
    expect(distinct(masks.weight![0])).toEqual([0, Math.fround(1.25)]);
    const mean = values(masks.update!.c![0]).reduce((a, b) => a + b, 0) / 120;
    expect(Math.abs(mean - 0.75)).toBeLessThan(0.15);
    expect(lstm({ lockedDropout: { between: 0.5 }, layers: 2 }).drawMasks(4, 6).between![0].shape).toEqual([4, 1, 5]);
    expect(lstm({ recurrentDropout: { p: 0.5, per: "sequence" } }).drawMasks(4, 6).candidate![0].shape).toEqual([4, 1, 5]);
    expect(lstm().drawMasks(4, 6)).toEqual({});
  });

  it("with probability 1: no input, no candidate, no recurrence, no change", () => {
    const silent = run(lstm({ lockedDropout: { input: 1 } }), x).output;
    expect(values(silent)).toEqual(values(run(lstm(), tensor(new Float32Array(72), { shape: [4, 6, 3], device: dev })).output));
    expect(values(run(lstm({ lockedDropout: { output: 1 } }), x).output).every((v) => v === 0)).toBe(true);
    expect(values(run(lstm({ recurrentDropout: 1 }), x).state.c).every((v) => v === 0)).toBe(true);
    const deaf = lstm();
    init.zeros(deaf.stateDict().weight_hh_l0);
    const wanted = values(run(deaf, x).output);
    for (const options of [{ lockedDropout: { hidden: 1 } }, { weightDrop: 1 }]) {
      const layer = lstm(options);
      expectClose(values(run(layer, x).output), wanted);
    }
    const state = { h: draw(1, 4, 5), c: draw(1, 4, 5) };
    const frozen = run(lstm({ zoneout: 1 }), x, { state });
    for (const s of ["h", "c"] as const) expect(values(frozen.state[s])).toEqual(values(state[s]));
    expect(values(slice(frozen.output, 1, 5, 6))).toEqual(values(state.h));
  });

  it("is off in inference, but for the expectation that zoneout takes", () => {
    const options = { dropout: 0.5, lockedDropout: { input: 0.5, output: 0.5, hidden: 0.5 }, recurrentDropout: 0.5, weightDrop: 0.5 };
    const plain = values(run(lstm({ layers: 2 }).eval(), x).output);
    expect(values(run(lstm({ layers: 2, ...options }).eval(), x).output)).toEqual(plain);
    const [one, p] = [slice(x, 1, 0, 1), 0.25];
    const state = { h: draw(1, 4, 5), c: draw(1, 4, 5) };
    const expected = run(lstm({ zoneout: { h: p } }).eval(), one, { state });
    const whole = run(lstm().eval(), one, { state });
    const [old, next] = [values(state.h), values(whole.state.h)];
    expectClose(
      values(expected.state.h),
      next.map((v, i) => p * old[i] + (1 - p) * v),
    );
    expectClose(values(expected.state.c), values(whole.state.c));
  });

  it("takes given masks as they are, in inference too, and no others", () => {
    const layer = lstm({ zoneout: 0.5, lockedDropout: { hidden: 0.5 } });
    expect(values(run(layer, x, { masks: {} }).output)).toEqual(values(run(lstm(), x).output));
    const masks = layer.drawMasks(4, 6);
    const trained = values(run(layer, x, { masks }).output);
    expect(values(run(layer.eval(), x, { masks }).output)).toEqual(trained);
  });
});

describe.each(devicesUnderTest())("steps that do not count, on %s", (name) => {
  const dev = device(name);
  const makers: Record<string, (options: RecurrentOptions) => Recurrent<string>> = {
    LSTM: (o) => new LSTM(3, 5, o),
    "LSTM projected": (o) => new LSTM(3, 5, { projSize: 2, ...o }),
    GRU: (o) => new GRU(3, 5, o),
    Jordan: (o) => new Jordan(3, 5, { outputSize: 2, ...o }),
  };
  const draw = (...shape: number[]) => uniform(shape, { low: -1, high: 1, device: dev, generator: new Generator(shape.length) });
  const run = (layer: Recurrent<string>, x: Tensor, options = {}) => noGrad(() => layer.forward(x, options));

  describe.each(Object.keys(makers))("%s", (kind) => {
    const make = (options = {}) => makers[kind]({ device: dev, generator: new Generator(7), ...options });

    it.each([false, true])("update 0 copies the states and repeats the output (from the end: %s)", (reverse) => {
      const layer = make({ reverse });
      const x = draw(1, 6, 3);
      const counts = [0, 1, 0, 0, 1, 1];
      const update = tensor([counts], { device: dev });
      const { output, state } = run(layer, x, { update });
      const kept = counts.flatMap((m, t) => (m ? [slice(x, 1, t, t + 1)] : []));
      const short = run(layer, concat(kept, 1));
      const shown = (t: number, of: Tensor) => values(slice(of, 1, t, t + 1));
      const none = new Array<number>(layer.outputSize).fill(0);
      const wanted = reverse
        ? [0, 0, 1, 1, 1, 2].map((t) => shown(t, short.output))
        : [none, ...[0, 0, 0, 1, 2].map((t) => shown(t, short.output))];
      expectClose(values(output), wanted.flat());
      for (const [s, t] of Object.entries(short.state)) expectClose(values(state[s]), values(t));
    });

    it("runs from the end with reverse, ragged batches from each row's last valid step", () => {
      const [forward, backward] = [make(), make({ reverse: true })];
      const x = draw(3, 6, 3);
      expect(values(run(backward, x).output)).toEqual(values(flip(run(forward, flip(x, 1)).output, 1)));
      const lengths = [2, 6, 0];
      const at = tensor(Int32Array.from(lengths), { device: dev });
      const flipped = run(forward, reverseSequence(x, at), { lengths });
      const ragged = run(backward, x, { lengths });
      expect(values(ragged.output)).toEqual(values(reverseSequence(flipped.output, at)));
      for (const [s, t] of Object.entries(flipped.state)) expect(values(ragged.state[s])).toEqual(values(t));
    });
  });
});

describe("parameters and starting values", () => {
  it("sets the forget gate's bias, wherever that gate stands", () => {
    for (const [options, gate] of [
      [{}, 1],
      [{ coupled: "forget" }, 0],
      [{ without: "output" }, 1],
    ] as const) {
      const { bias_ih_l0: input, bias_hh_l0: recurrent } = new LSTM(3, 4, { ...options, forgetBias: 1 }).stateDict();
      const rows = (t: Tensor) => values(slice(t, 0, gate * 4, gate * 4 + 4));
      expect([rows(input), rows(recurrent)]).toEqual([[1, 1, 1, 1], [0, 0, 0, 0]]); // prettier-ignore
      expect(values(input).filter((v) => v === 1)).toHaveLength(4);
    }
    const { bias_ih_l0: drawn } = new LSTM(3, 4, { generator: new Generator(7) }).stateDict();
    const { bias_ih_l0: set } = new LSTM(3, 4, { generator: new Generator(7), forgetBias: 1 }).stateDict();
    expect(values(set).toSpliced(4, 4)).toEqual(values(drawn).toSpliced(4, 4));
  });

  it("names and shapes what the options add", () => {
    const shapes = (layer: Recurrent<string>) => Object.fromEntries([...layer.namedParameters()].map(([key, { shape }]) => [key, shape]));
    expect(shapes(new LSTM(3, 4, { projSize: 2, peephole: true, coupled: "input", layerNorm: true }))).toEqual({
      weight_ih_l0: [12, 3],
      weight_hh_l0: [12, 2],
      bias_ih_l0: [12],
      bias_hh_l0: [12],
      weight_hr_l0: [2, 4],
      weight_peephole_l0: [2, 4],
      gain_ih_l0: [12],
      gain_hh_l0: [12],
      gain_c_l0: [4],
      bias_c_l0: [4],
    });
    const stacked = shapes(new LSTM(3, 4, { projSize: 2, layers: 2, bidirectional: true, bias: false, layerNorm: true }));
    expect(stacked.weight_ih_l1_reverse).toEqual([16, 4]);
    expect(Object.keys(stacked)).not.toContain("bias_c_l0");
    expect(shapes(new IndRNN(3, 4))).toEqual({ weight_ih_l0: [4, 3], weight_hh_l0: [4], bias_ih_l0: [4] });
    expect(Object.keys(shapes(new Jordan(3, 4, { outputSize: 2, bias: false })))).toEqual(["weight_ih_l0", "weight_hh_l0", "weight_hr_l0"]);
    expect(new LSTM(3, 4, { projSize: 2, bidirectional: true }).outputSize).toBe(4);
  });

  it("draws the recurrent weights of IndRNN from [0, 2^(1/T)]", () => {
    const u = (options: object) => values(new IndRNN(3, 2000, { generator: new Generator(1), ...options }).stateDict().weight_hh_l0);
    expect([Math.min(...u({})) >= 0, Math.max(...u({})) <= 1, Math.max(...u({})) > 0.99]).toEqual([true, true, true]);
    expect(Math.max(...u({ steps: 2 }))).toBeGreaterThan(1.4);
    expect(Math.max(...u({ steps: 2 }))).toBeLessThanOrEqual(Math.fround(Math.SQRT2));
  });

  it("leaves the recurrent weights of IndRNN alone when it draws as Keras does", () => {
    const layer = new IndRNN(3, 4);
    const before = values(layer.stateDict().weight_hh_l0);
    init.keras(layer);
    expect(values(layer.stateDict().weight_hh_l0)).toEqual(before);
  });

  it("gives Jordan's hidden values beside its output", () => {
    const { output, hidden, state } = new Jordan(3, 4, { outputSize: 2, bidirectional: true }).forward(uniform([2, 5, 3]));
    expect([output.shape, hidden.shape, Object.keys(state), state.y.shape]).toEqual([[2, 5, 4], [2, 5, 8], ["y"], [2, 2, 2]]); // prettier-ignore
  });
});

describe("refusals", () => {
  const x = uniform([2, 5, 3]);
  const one = (shape: readonly number[]) => uniform(shape);
  const refused: readonly (readonly [string | RegExp, () => unknown])[] = [
    ["LSTM: projSize must be at most hiddenSize, 4, but is 5", () => new LSTM(3, 4, { projSize: 5 })],
    ["LSTM: projSize must be an integer of at least 1 but is 0", () => new LSTM(3, 4, { projSize: 0 })],
    [/LSTM: coupled gates need both .* so without cannot be "input"/, () => new LSTM(3, 4, { coupled: "input", without: "input" })],
    [/so without cannot be "forget"/, () => new LSTM(3, 4, { coupled: "forget", without: "forget" })],
    ['LSTM: coupled must be "input" or "forget" but is true', () => new LSTM(3, 4, { coupled: true as never })],
    ['LSTM: without must be "input", "forget" or "output" but is "cell"', () => new LSTM(3, 4, { without: "cell" as never })],
    ['LSTM: layerNorm must be true, false, "output" or "carried"', () => new LSTM(3, 4, { layerNorm: "input" as never })],
    ["forgetBias needs a forget gate", () => new LSTM(3, 4, { coupled: "input", forgetBias: 1 })],
    ["forgetBias needs biases", () => new LSTM(3, 4, { bias: false, forgetBias: 1 })],
    ["LSTM: cellClip must be above 0 but is -1", () => new LSTM(3, 4, { cellClip: -1 })],
    [/LSTM: activation must be "tanh", .* but is "cube"/, () => new LSTM(3, 4, { activation: "cube" as never })],
    ["GRU: unknown option peephole", () => new GRU(3, 4, { peephole: true } as never)],
    ['GRU: update must be "keep" or "write" but is "forget"', () => new GRU(3, 4, { update: "forget" as never })],
    [/GRU: layerNorm is over the gates of one product/, () => new GRU(3, 4, { layerNorm: true, reset: "before" })],
    ["MGU: unknown option projSize", () => new MGU(3, 4, { projSize: 2 } as never)],
    ['IndRNN: nonlinearity must be "relu" or "tanh" but is "sigmoid"', () => new IndRNN(3, 4, { nonlinearity: "sigmoid" as never })],
    ["Jordan: outputSize must be an integer of at least 1 but is undefined", () => new Jordan(3, 4, {} as never)],
    ["RNN: recurrentDropout drops a candidate value, which this cell has not", () => new RNN(3, 4, { recurrentDropout: 0.1 })],
    ["RNN: dropout and lockedDropout.between both act", () => new RNN(3, 4, { dropout: 0.1, lockedDropout: { between: 0.1 } })],
    ["RNN: lockedDropout.hidden must be a number in [0, 1] but is 2", () => new RNN(3, 4, { lockedDropout: { hidden: 2 } })],
    ["RNN: lockedDropout: unknown option state", () => new RNN(3, 4, { lockedDropout: { state: 0.1 } as never })],
    ["RNN: zoneout: unknown option c; did you mean h?", () => new RNN(3, 4, { zoneout: { c: 0.1 } })],
    ["RNN: zoneout must be a number in [0, 1] but is 1.5", () => new RNN(3, 4, { zoneout: 1.5 })],
    ['recurrentDropout.per must be "step" or "sequence" but is "batch"', () => new LSTM(3, 4, { recurrentDropout: { p: 0.1, per: "batch" as never } })], // prettier-ignore
    ["RNN: weightDrop must be a number in [0, 1] but is -1", () => new RNN(3, 4, { weightDrop: -1 })],
    ["RNN: bidirectional already has a reverse direction", () => new RNN(3, 4, { bidirectional: true, reverse: true })],
    ["RNN.stream: a reverse layer needs the whole sequence", () => new RNN(3, 4, { reverse: true }).stream()],
    ["RNN.stream: a bidirectional layer needs the whole sequence", () => new RNN(3, 4, { bidirectional: true }).stream()],
    ["CellLayer: the cell's first state must be h but its states are c", () => new CellLayer({ ...gru, states: ["c"] as never }, { inputSize: 3, hiddenSize: 4 })], // prettier-ignore
    ["CellLayer: unknown option hidden", () => new CellLayer(gru, { inputSize: 3, hidden: 4 } as never)],
    ["RNN.forward: update must be [2, 5] but is [2, 4]", () => new RNN(3, 4).forward(x, { update: one([2, 4]) })],
    ["RNN.forward: masks: unknown option state", () => new RNN(3, 4).forward(x, { masks: { state: x } as never })],
    ["RNN.forward: masks.hidden must be a list of 2 but is 1", () => new RNN(3, 4, { layers: 2 }).forward(x, { masks: { hidden: [one([2, 1, 4])] } })], // prettier-ignore
    ["masks.hidden[0] must be [2 or 1, 5 or 1, 4] but is [2, 5, 3]", () => new RNN(3, 4).forward(x, { masks: { hidden: [one([2, 5, 3])] } })], // prettier-ignore
    ["masks.input must be [2 or 1, 5 or 1, 3] but is [3, 1, 3]", () => new RNN(3, 4).forward(x, { masks: { input: one([3, 1, 3]) } })],
    ["masks.update.h[0] must be [2 or 1, 5 or 1, 4] but is [2, 4]", () => new RNN(3, 4).forward(x, { masks: { update: { h: [one([2, 4])] } } })], // prettier-ignore
    ["masks.update: unknown option c", () => new RNN(3, 4).forward(x, { masks: { update: { c: [x] } as never } })],
    ["masks.weight[0] must be [4, 4] but is [4]", () => new RNN(3, 4).forward(x, { masks: { weight: [one([4])] } })],
    ["a mask gets no gradient, but one requires it", () => new RNN(3, 4).forward(x, { masks: { hidden: [uniform([2, 1, 4], { requiresGrad: true })] } })], // prettier-ignore
    ["Jordan.forward: state.y must be [1, 2, 2] but is [1, 2, 4]", () => new Jordan(3, 4, { outputSize: 2 }).forward(x, { state: { y: one([1, 2, 4]) } })], // prettier-ignore
    ["LSTM.forward: state.h must be [1, 2, 2] but is [1, 2, 4]", () => new LSTM(3, 4, { projSize: 2 }).forward(x, { state: { h: one([1, 2, 4]), c: one([1, 2, 4]) } })], // prettier-ignore
    ["sweep.gru_before: a cell with a second product in its step takes neither", () => sweep(gruBefore, { x, weightHh: one([12, 4]), weightIh: one([12, 3]), gainHh: one([12]) }, {})], // prettier-ignore
    ["RNN.drawMasks: steps must be an integer of at least 0 but is -1", () => new RNN(3, 4).drawMasks(2, -1)],
  ];
  it.each(refused)("%s", (message, body) => {
    expect(body).toThrow(message);
  });

  it("refuses initial states that are not finite while debugging, and only then", () => {
    const state = { h: tensor([[[1, NaN, 0, 0]]]) };
    const forward = () => noGrad(() => new RNN(3, 4).forward(uniform([1, 2, 3]), { state }));
    expect(forward).not.toThrow();
    debug();
    try {
      expect(forward).toThrow("RNN.forward: state.h must be finite but is not");
    } finally {
      debug(false);
    }
    expect(forward).not.toThrow();
  });
});
