import {
  add,
  CellLayer,
  defineCell,
  GRU,
  IndRNN,
  Jordan,
  LSTM,
  MGU,
  mul,
  RNN,
  scale,
  sigmoid,
  SLSTM,
  tanh,
  type Tensor,
} from "../src/index.js";
import type { Recurrent, RecurrentOptions } from "../src/nn/recurrent.js";

/** A recurrent layer of some kind with some options, made over common ones. */
export interface Variant {
  readonly name: string;
  make(inputSize: number, hiddenSize: number, options: RecurrentOptions): Recurrent<string>;
}

type Options = Readonly<Record<string, unknown>>;

/** A cell of a user: two states, weights of each unit, a candidate to drop. */
const leaky = defineCell({
  name: "leaky_of_the_tests",
  gates: ["a", "b"],
  states: ["h", "m"],
  vectors: ["rate"],
  fused: false,
  step(wx, rh, { h, m }, { vectors, drop }) {
    const next = add(mul(sigmoid(vectors.rate), m), drop(tanh(add(wx.a, rh.a))));
    return { h: add(scale(h, 0.5), mul(sigmoid(add(wx.b, rh.b)), next)), m: next };
  },
});

const layers: Readonly<Record<string, (i: number, h: number, options: Options) => Recurrent<string>>> = {
  RNN: (i, h, o) => new RNN(i, h, o),
  LSTM: (i, h, o) => new LSTM(i, h, o),
  GRU: (i, h, o) => new GRU(i, h, o),
  MGU: (i, h, o) => new MGU(i, h, o),
  IndRNN: (i, h, o) => new IndRNN(i, h, o),
  SLSTM: (i, h, o) => new SLSTM(i, h, o),
  Jordan: (i, h, o) => new Jordan(i, h, { outputSize: 3, ...o }),
  CellLayer: (i, h, o) => new CellLayer(leaky, { inputSize: i, hiddenSize: h, ...o }),
};

/** The values of each option, beside its default; one option is one key, or keys that go together. */
const axes: Readonly<Record<string, readonly Options[]>> = {
  RNN: [{ nonlinearity: "relu" }],
  LSTM: [
    { peephole: true },
    { coupled: "input" },
    { coupled: "forget" },
    { without: "input" },
    { without: "forget" },
    { without: "output" },
    { projSize: 2 },
    { layerNorm: "output" },
    { layerNorm: "carried" },
    { forgetBias: 1 },
    { cellClip: 0.2 },
    { activation: "softsign", recurrentActivation: "hardSigmoid" },
  ],
  GRU: [{ reset: "before" }, { update: "write" }, { layerNorm: true }, { activation: "relu" }, { recurrentActivation: "hardSigmoid" }],
  MGU: [],
  IndRNN: [{ nonlinearity: "tanh" }, { layerNorm: true }],
  SLSTM: [],
  Jordan: [{ nonlinearity: "relu" }, { outputActivation: "tanh" }, { outputActivation: "sigmoid" }],
  CellLayer: [],
};

/** What makes a training pass random; those that need a candidate value are not for every layer. */
const random: readonly Options[] = [
  { lockedDropout: { input: 0.3, between: 0.3, output: 0.3 } },
  { lockedDropout: { hidden: 0.3 } },
  { recurrentDropout: 0.3 },
  { recurrentDropout: { p: 0.3, per: "sequence" } },
  { zoneout: 0.3 },
  { weightDrop: 0.3 },
];
const withoutCandidate = ["RNN", "IndRNN", "SLSTM", "Jordan"];

const show = (options: Options) =>
  Object.entries(options).flatMap(([key, value]) => (value === true ? [key] : [`${key} ${JSON.stringify(value).replaceAll('"', "")}`]));

function variant(layer: string, ...parts: readonly Options[]): Variant {
  const options = Object.assign({}, ...parts) as Options;
  return { name: [layer, ...show(options)].join(", "), make: (i, h, o) => layers[layer](i, h, { ...options, ...o }) };
}

/** Whether a layer can be made so: what contradicts itself is refused at construction, and said so elsewhere. */
export function possible({ make }: Variant, options: RecurrentOptions = {}): boolean {
  try {
    make(1, 4, options);
    return true;
  } catch {
    return false;
  }
}

/** Every option of every layer alone, and every two that can be combined. */
export function structures(): Variant[] {
  return Object.entries(axes).flatMap(([layer, options]) => [
    variant(layer),
    ...options.map((one) => variant(layer, one)),
    ...options
      .flatMap((one, i) =>
        options
          .slice(i + 1)
          .filter((two) => Object.keys(two).every((key) => !(key in one)))
          .map((two) => variant(layer, one, two)),
      ) // prettier-ignore
      .filter((one) => possible(one)),
  ]);
}

/** Every kind of randomness on every layer, then all of it at once, with each option of the layer too. */
export function randomised(): Variant[] {
  return Object.entries(axes).flatMap(([layer, options]) => {
    const kinds = random.filter((kind) => !("recurrentDropout" in kind && withoutCandidate.includes(layer)));
    const all: Options = Object.assign({}, ...kinds, { lockedDropout: { input: 0.3, between: 0.3, output: 0.3, hidden: 0.3 } });
    const together = [{}, ...options].map((one) => ({
      ...variant(layer, all, one),
      name: `${variant(layer, one).name}, all that is random`,
    }));
    return [...kinds.map((kind) => variant(layer, kind)), ...together];
  });
}

/** Applies `change` to every tensor in nested lists and records. */
export function mapTensors<T>(value: T, change: (t: Tensor) => Tensor): T {
  if (value === undefined || value === null) return value;
  if (typeof value === "object" && "dataSync" in value) return change(value as never) as T;
  if (Array.isArray(value)) return value.map((item: unknown) => mapTensors(item, change)) as T;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, mapTensors(item as unknown, change)])) as T;
}
