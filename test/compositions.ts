import {
  add,
  Bidirectional,
  CellLayer,
  defineCell,
  Dilated,
  Generator,
  GRU,
  IndRNN,
  Jordan,
  LSTM,
  MGU,
  Module,
  Reversed,
  RNN,
  scale,
  Stacked,
  tanh,
  type Backend,
  type RecurrentLayer,
  type SequenceOptions,
  type Tensor,
} from "../src/index.js";
import { concat, reshape, slice, unstack } from "../src/ops/movement.js";

/** Where and with which weights a layer is made. */
export interface Settings {
  readonly device: Backend;
  readonly dtype: "float32" | "float64";
  readonly generator: Generator;
}

type Make = (inputSize: number, outputSize: number, settings: Settings) => RecurrentLayer;

export interface Composition {
  readonly name: string;
  make(inputSize: number, settings: Settings): RecurrentLayer;
}

const leaky = defineCell({
  name: "leaky_of_compositions",
  gates: ["a"],
  states: ["h", "m"],
  fused: false,
  step(wx, rh, { h, m }) {
    const next = add(scale(m, 0.5), tanh(add(wx.a, rh.a)));
    return { h: add(scale(h, 0.5), next), m: next };
  },
});

/** A module of a user: the running sum of a projection, with a state of another form than those of the library. */
class Sum extends Module {
  private readonly cell: RNN;
  constructor(
    readonly inputSize: number,
    readonly outputSize: number,
    settings: Settings,
  ) {
    super();
    this.cell = new RNN(inputSize, outputSize, { ...settings, bias: false });
  }

  forward(x: Tensor, { state, lengths }: SequenceOptions<{ sum: Tensor }> = {}) {
    const { output, state: last } = this.cell.forward(x, { lengths, state: state && { h: state.sum } });
    return { output: scale(output, 2), state: { sum: last.h } };
  }
}

/** A layer of each kind that runs from the start to the end. */
export const kinds: Readonly<Record<string, Make>> = {
  RNN: (i, o, s) => new RNN(i, o, s),
  LSTM: (i, o, s) => new LSTM(i, o, { ...s, layers: 2, peephole: true }),
  "LSTM with projection": (i, o, s) => new LSTM(i, o + 1, { ...s, projSize: o }),
  GRU: (i, o, s) => new GRU(i, o, { ...s, reset: "before" }),
  MGU: (i, o, s) => new MGU(i, o, s),
  IndRNN: (i, o, s) => new IndRNN(i, o, s),
  Jordan: (i, o, s) => new Jordan(i, o + 2, { ...s, outputSize: o }),
  "CellLayer with two states": (i, o, s) => new CellLayer(leaky, { inputSize: i, hiddenSize: o, ...s }),
  "module of a user": (i, o, s) => new Sum(i, o, s),
};

const names = Object.keys(kinds);
const after = (name: string) => names[(names.indexOf(name) + 1) % names.length];
const [WIDTH] = [3];

/** Stacks of every connection and norm, over layers of two kinds and a third one. */
const stacks: Composition[] = (["plain", "residual", "highway", "dense"] as const).flatMap((connections, c) =>
  (["none", "layer", "batch"] as const).map((norm, n) => {
    const [one, two] = [names[(3 * c + n) % names.length], names[(3 * c + n + 4) % names.length]];
    return {
      name: `Stacked ${one}, ${two}, LSTM: ${connections}, norm ${norm}`,
      make: (i, s) => {
        const same = connections === "residual" || connections === "highway";
        const widths = connections === "dense" ? [i, i + 4, i + 4 + 2] : same ? [i, i, i] : [i, 4, 2];
        const out = same ? [i, i, i] : [4, 2, 3];
        const layers = [one, two, "LSTM"].map((kind, k) => kinds[kind](widths[k], out[k], s));
        return new Stacked(layers, { connections, norm, generator: s.generator });
      },
    };
  }),
);

/** What runs from the start to the end. */
export const causal: Composition[] = [
  ...stacks,
  ...names.flatMap((name) =>
    [2, 3].map((dilation) => ({
      name: `Dilated ${name}, ${dilation}`,
      make: (i: number, s: Settings) => new Dilated(kinds[name](i, WIDTH, s), { dilation }),
    })),
  ),
  { name: "Dilated LSTM, 1", make: (i, s) => new Dilated(new LSTM(i, WIDTH, s), { dilation: 1 }) },
  { name: "Dilated GRU, more than there are steps", make: (i, s) => new Dilated(new GRU(i, WIDTH, s), { dilation: 11 }) },
  {
    name: "Stacked of dilations 1, 2, 4",
    make: (i, s) => new Stacked([1, 2, 4].map((dilation, k) => new Dilated(new RNN(k > 0 ? WIDTH : i, WIDTH, s), { dilation }))),
  },
  {
    name: "Dilated of Stacked",
    make: (i, s) => new Dilated(new Stacked([new LSTM(i, WIDTH, s), new Jordan(WIDTH, 4, { ...s, outputSize: 2 })]), { dilation: 2 }),
  },
  {
    name: "Dilated of Dilated",
    make: (i, s) => new Dilated(new Dilated(new LSTM(i, WIDTH, s), { dilation: 2 }), { dilation: 2 }),
  },
  {
    name: "Stacked of Stacked",
    make: (i, s) => new Stacked([new Stacked([new GRU(i, i, s)], { connections: "highway", generator: s.generator }), new RNN(i, 2, s)]),
  },
];

/** What needs the whole sequence. */
export const acausal: Composition[] = [
  ...(["concat", "sum", "mul", "average"] as const).flatMap((merge) =>
    names.map((name) => ({
      name: `Bidirectional ${name}, ${after(name)}: ${merge}`,
      make: (i: number, s: Settings) => new Bidirectional(kinds[name](i, WIDTH, s), kinds[after(name)](i, WIDTH, s), { merge }),
    })),
  ),
  { name: "Reversed LSTM", make: (i, s) => new Reversed(new LSTM(i, WIDTH, s)) },
  {
    name: "Stacked of Bidirectional and bidirectional",
    make: (i, s) =>
      new Stacked([new Bidirectional(new LSTM(i, 2, s), new GRU(i, 3, s)), new RNN(5, 2, { ...s, bidirectional: true }), new Reversed(new GRU(4, 2, s))], { norm: "layer" }), // prettier-ignore
  },
  {
    name: "Bidirectional of Dilated and Stacked",
    make: (i, s) =>
      new Bidirectional(new Dilated(new LSTM(i, 3, s), { dilation: 2 }), new Stacked([new GRU(i, i, s), new RNN(i, 3, s)]), { merge: "sum" }), // prettier-ignore
  },
];

/** The valid steps of x [N, T, C] alone, row by row. */
export function rowsAlone(x: Tensor, lengths: readonly number[]): Tensor[] {
  return lengths.map((length, n) => slice(slice(x, 0, n, n + 1), 1, 0, length));
}

/** Every d-th step of x [N, T, C] from `phase` on. */
export function everyNth(x: Tensor, d: number, phase: number): Tensor {
  const steps = unstack(x, 1).filter((_, t) => t % d === phase);
  return concat(
    steps.map((t) => reshape(t, [x.shape[0], 1, x.shape[2]])),
    1,
  );
}
