import { describe, expect, it } from "vitest";
import {
  affine,
  clamp,
  device,
  GRU,
  IndRNN,
  Jordan,
  LSTM,
  lstm,
  lstmCell,
  MGU,
  sigmoid as sigmoidOp,
  tanh,
  noGrad,
  RNN,
  type JordanOptions,
  type Tensor,
} from "../src/index.js";
import type { Recurrent } from "../src/nn/recurrent.js";
import { Generator, uniform } from "../src/tensor/random.js";

// Every variant against its equations, written once more with plain numbers and no regard for speed.

type Vector = readonly number[];
type Matrix = readonly Vector[];
type Step = (x: Vector, state: Record<string, Vector>) => Record<string, Vector>;

const [I, H, T] = [2, 3, 4];
const dev = device("reference");

const sigmoid = (v: number) => 1 / (1 + Math.exp(-v));
const functions: Record<string, (v: number) => number> = {
  tanh: Math.tanh,
  sigmoid,
  relu: (v) => Math.max(v, 0),
  linear: (v) => v,
  softsign: (v) => v / (1 + Math.abs(v)),
  softplus: (v) => Math.log(1 + Math.exp(v)),
  hardSigmoid: (v) => Math.min(Math.max(v / 6 + 0.5, 0), 1),
};

const times = (m: Matrix, v: Vector) => m.map((row) => row.reduce((total, w, j) => total + w * v[j], 0));
const plus = (...all: Vector[]) => all[0].map((_, i) => all.reduce((total, v) => total + v[i], 0));
const by = (a: Vector, b: Vector) => a.map((v, i) => v * b[i]);
const not = (a: Vector) => a.map((v) => 1 - v);

function normalised(v: Vector): Vector {
  const mean = v.reduce((a, b) => a + b) / v.length;
  const variance = v.reduce((a, b) => a + (b - mean) ** 2, 0) / v.length;
  return v.map((a) => (a - mean) / Math.sqrt(variance + 1e-5));
}

function rowsOf(t: Tensor): Matrix {
  const data = Array.from(t.dataSync());
  const width = t.shape.at(-1)!;
  return Array.from({ length: t.size / width }, (_, i) => data.slice(i * width, (i + 1) * width));
}

/** Parameters of the one layer: matrices, and vectors as their only row. */
const reader = (layer: Recurrent<string>) => {
  const own = layer.stateDict();
  return {
    has: (name: string) => `${name}_l0` in own,
    matrix: (name: string) => rowsOf(own[`${name}_l0`]),
    vector: (name: string) => rowsOf(own[`${name}_l0`])[0],
  };
};

interface LSTMSettings {
  readonly peephole?: boolean;
  readonly coupled?: "input" | "forget";
  readonly without?: "input" | "forget" | "output";
  readonly projSize?: number;
  readonly layerNorm?: "output" | "carried";
  readonly cellClip?: number;
  readonly activation?: string;
  readonly recurrentActivation?: string;
  readonly stateActivation?: string;
}

function lstmStep(layer: Recurrent<string>, settings: LSTMSettings): Step {
  const { coupled, without, layerNorm, cellClip, activation = "tanh", recurrentActivation = "sigmoid" } = settings;
  const { stateActivation = activation } = settings;
  const { has, matrix, vector } = reader(layer);
  const order = ["i", "f", "g", "o"].filter(
    (gate) =>
      !(gate === "f" && (coupled === "input" || without === "forget")) &&
      !(gate === "i" && (coupled === "forget" || without === "input")) &&
      !(gate === "o" && without === "output"),
  );
  const norm = (name: string, v: Vector) => (layerNorm ? by(normalised(v), vector(name)) : v);
  return (x, { h, c }) => {
    const z = plus(
      norm("gain_ih", times(matrix("weight_ih"), x)),
      vector("bias_ih"),
      norm("gain_hh", times(matrix("weight_hh"), h)),
      vector("bias_hh"),
    );
    const part = (gate: string) => z.slice(order.indexOf(gate) * H, (order.indexOf(gate) + 1) * H);
    const peepholes = order.filter((gate) => gate !== "g");
    const open = (gate: string, seen: Vector) => {
      const peeped = settings.peephole ? by(matrix("weight_peephole")[peepholes.indexOf(gate)], seen) : seen.map(() => 0);
      return plus(part(gate), peeped).map(functions[recurrentActivation]);
    };
    const ones = c.map(() => 1);
    let i = order.includes("i") ? open("i", c) : ones;
    let f = order.includes("f") ? open("f", c) : ones;
    if (coupled === "input") f = not(i);
    if (coupled === "forget") i = not(f);
    const g = part("g").map(functions[activation]);
    let next = plus(by(f, c), by(i, g));
    if (cellClip !== undefined) next = next.map((v) => Math.min(Math.max(v, -cellClip), cellClip));
    const o = order.includes("o") ? open("o", next) : ones;
    const seen = layerNorm ? plus(by(normalised(next), vector("gain_c")), vector("bias_c")) : next;
    const out = by(o, seen.map(functions[stateActivation]));
    return { h: has("weight_hr") ? times(matrix("weight_hr"), out) : out, c: layerNorm === "carried" ? seen : next };
  };
}

interface GRUSettings {
  readonly reset?: "after" | "before";
  readonly update?: "keep" | "write";
  readonly layerNorm?: boolean;
  readonly activation?: string;
  readonly recurrentActivation?: string;
}

function gruStep(layer: Recurrent<string>, settings: GRUSettings): Step {
  const { reset = "after", update = "keep", layerNorm, activation = "tanh", recurrentActivation = "sigmoid" } = settings;
  const { matrix, vector } = reader(layer);
  const norm = (name: string, v: Vector) => (layerNorm ? by(normalised(v), vector(name)) : v);
  return (x, { h }) => {
    const wx = plus(norm("gain_ih", times(matrix("weight_ih"), x)), vector("bias_ih"));
    const rh = plus(norm("gain_hh", times(matrix("weight_hh"), h)), vector("bias_hh"));
    const gate = (k: number) => plus(wx.slice(k * H, (k + 1) * H), rh.slice(k * H, (k + 1) * H)).map(functions[recurrentActivation]);
    const [r, z] = [gate(0), gate(1)];
    const before = plus(times(matrix("weight_hh").slice(2 * H), by(r, h)), vector("bias_hh").slice(2 * H));
    const n = plus(wx.slice(2 * H), reset === "after" ? by(r, rh.slice(2 * H)) : before).map(functions[activation]);
    return { h: update === "keep" ? plus(by(z, h), by(not(z), n)) : plus(by(not(z), h), by(z, n)) };
  };
}

function mguStep(layer: Recurrent<string>): Step {
  const { matrix, vector } = reader(layer);
  return (x, { h }) => {
    const wx = plus(times(matrix("weight_ih"), x), vector("bias_ih"));
    const f = plus(wx.slice(0, H), times(matrix("weight_hh").slice(0, H), h), vector("bias_hh").slice(0, H)).map(sigmoid);
    const n = plus(wx.slice(H), times(matrix("weight_hh").slice(H), by(f, h)), vector("bias_hh").slice(H)).map(Math.tanh);
    return { h: plus(by(not(f), h), by(f, n)) };
  };
}

function indrnnStep(layer: Recurrent<string>, { nonlinearity = "relu", layerNorm = false }): Step {
  const { matrix, vector } = reader(layer);
  return (x, { h }) => {
    const wx = times(matrix("weight_ih"), x);
    const z = plus(layerNorm ? by(normalised(wx), vector("gain_ih")) : wx, vector("bias_ih"), by(vector("weight_hh"), h));
    return { h: z.map(functions[nonlinearity]) };
  };
}

type JordanCase = JordanOptions & { readonly nonlinearity?: "tanh" | "relu" };

function elmanStep(layer: Recurrent<string>, nonlinearity: string): Step {
  const { matrix, vector } = reader(layer);
  return (x, { h }) => ({
    h: plus(times(matrix("weight_ih"), x), vector("bias_ih"), times(matrix("weight_hh"), h), vector("bias_hh")).map(
      functions[nonlinearity],
    ),
  });
}

function jordanStep(layer: Recurrent<string>, { outputActivation = "linear", nonlinearity = "tanh" }: JordanCase): Step {
  const { matrix, vector } = reader(layer);
  return (x, { y }) => {
    const z = plus(times(matrix("weight_ih"), x), vector("bias_ih"), times(matrix("weight_hh"), y), vector("bias_hh"));
    const h = z.map(functions[nonlinearity]);
    return { y: plus(times(matrix("weight_hr"), h), vector("bias_hr")).map(functions[outputActivation]) };
  };
}

const settings = { generator: new Generator(1), device: dev, dtype: "float64" } as const;

const lstms: LSTMSettings[] = [false, true].flatMap((peephole) => [
  { peephole },
  ...(["input", "forget"] as const).map((coupled) => ({ peephole, coupled })),
  ...(["input", "forget", "output"] as const).map((without) => ({ peephole, without })),
  { peephole, coupled: "input", without: "output" },
  { peephole, projSize: 2 },
  { peephole, layerNorm: "output" },
  { peephole, layerNorm: "carried", coupled: "forget" },
  { peephole, cellClip: 0.1 },
  { peephole, projSize: 2, layerNorm: "carried", cellClip: 0.3 },
  { peephole, activation: "softsign", stateActivation: "relu" },
  ...Object.keys(functions).map((activation) => ({ peephole, activation, recurrentActivation: "hardSigmoid" })),
]);
const grus: GRUSettings[] = (["after", "before"] as const).flatMap((reset) =>
  (["keep", "write"] as const).flatMap((update) => [
    { reset, update },
    { reset, update, activation: "relu", recurrentActivation: "softsign" },
    ...(reset === "after" ? [{ update, layerNorm: true }] : []),
  ]),
);
const elmans = Object.keys(functions);
const indrnns = [{ nonlinearity: "relu" }, { nonlinearity: "tanh" }, { layerNorm: true }] as const;
const jordans: JordanCase[] = [
  { outputSize: 2 },
  { outputSize: 4, outputActivation: "tanh", nonlinearity: "relu" },
  { outputSize: 1, outputActivation: "sigmoid" },
];

type Maker = readonly [name: string, make: () => Recurrent<string>, step: (layer: Recurrent<string>) => Step];
const named = (layer: string, options: object) => `${layer} ${JSON.stringify(options).replaceAll('"', "")}`;
const makers: Maker[] = [
  ...elmans.map((f): Maker => [
    `RNN ${f}`,
    () => new RNN(I, H, { nonlinearity: f as "tanh", ...settings }),
    (layer) => elmanStep(layer, f),
  ]),
  ...lstms.map((o): Maker => [named("LSTM", o), () => new LSTM(I, H, { ...(o as object), ...settings }), (layer) => lstmStep(layer, o)]),
  ...grus.map((o): Maker => [named("GRU", o), () => new GRU(I, H, { ...(o as object), ...settings }), (layer) => gruStep(layer, o)]),
  ["MGU", () => new MGU(I, H, settings), mguStep],
  ...indrnns.map((o): Maker => [named("IndRNN", o), () => new IndRNN(I, H, { ...o, ...settings }), (layer) => indrnnStep(layer, o)]),
  ...jordans.map((o): Maker => [named("Jordan", o), () => new Jordan(I, H, { ...o, ...settings }), (layer) => jordanStep(layer, o)]),
];

describe("equations", () => {
  it.each(makers)("%s", (_, make, stepOf) => {
    const layer = make();
    // Gains, shifts and all else away from their first values, so that each of them counts.
    const moved = (shape: readonly number[]) => uniform(shape, { ...settings, low: -1.5, high: 1.5 });
    layer.loadStateDict(Object.fromEntries([...layer.namedParameters()].map(([name, { shape }]) => [name, moved(shape)])));
    const x = moved([1, T, I]);
    const start = Object.fromEntries(Object.entries(layer.initialState(1)).map(([s, { shape }]) => [s, moved(shape)]));
    const { output, state } = noGrad(() => layer.forward(x, { state: start }));
    const step = stepOf(layer);
    let now: Record<string, Vector> = Object.fromEntries(Object.entries(start).map(([s, t]) => [s, Array.from(t.dataSync())]));
    const expected = rowsOf(x).map((xt) => {
      now = step(xt, now);
      return now.h ?? now.y;
    });
    const same = (actual: Tensor, wanted: Vector) => {
      expect(actual.size).toBe(wanted.length);
      Array.from(actual.dataSync()).forEach((v, i) => {
        expect(v).toBeCloseTo(wanted[i], 12);
      });
    };
    same(output, expected.flat());
    for (const [s, t] of Object.entries(state)) same(t, now[s]);
  });

  it("takes functions of one's own, and knows its own functions", () => {
    const own = (x: Tensor) => clamp(affine(x, 0.2, 0.5), 0, 1);
    const options = { generator: new Generator(2), device: dev, dtype: "float64" } as const;
    const layer = new LSTM(I, H, { ...options, recurrentActivation: own });
    const x = uniform([1, T, I], options);
    const { output } = noGrad(() => layer.forward(x));
    functions.own = (v) => Math.min(Math.max(0.2 * v + 0.5, 0), 1);
    const step = lstmStep(layer, { recurrentActivation: "own" });
    let now: Record<string, Vector> = { h: new Array<number>(H).fill(0), c: new Array<number>(H).fill(0) };
    const expected = rowsOf(x).flatMap((xt) => (now = step(xt, now)).h);
    Array.from(output.dataSync()).forEach((v, i) => expect(v).toBeCloseTo(expected[i], 12));
    expect(lstmCell({ activation: tanh, recurrentActivation: sigmoidOp })).toBe(lstm);
    expect(lstmCell({ activation: "relu" })).toBe(lstmCell({ activation: "relu" }));
    expect(lstmCell({ recurrentActivation: own }).name).toBe("lstm_own_tanh_tanh");
  });
});
