import { describe, expect, test } from "vitest";
import {
  device,
  LSTM,
  onnxGRU,
  onnxLSTM,
  onnxRNN,
  square,
  sum,
  tensor,
  type NumericArray,
  type OnnxAttributes,
  type OnnxWeights,
  type Recurrent,
} from "../src/index.js";
import { fromOurs, layouts, permute, reorderBlocks, toOurs, type GatedCell, type Library } from "../src/io/layouts.js";

const on = { device: "reference", dtype: "float64" } as const;
const H = 3;
const I = 2;

/** Numbers that are all different. */
function numbers(shape: readonly number[], seed = 1): NumericArray {
  const length = shape.reduce((a, b) => a * b, 1);
  return { shape, data: Float64Array.from({ length }, (_, i) => Math.sin(seed * 1000 + i)) };
}

function operator(gates: number, D: number, peephole = false): OnnxWeights {
  return {
    W: numbers([D, gates * H, I], 1),
    R: numbers([D, gates * H, H], 2),
    B: numbers([D, 2 * gates * H], 3),
    ...(peephole && { P: numbers([D, 3 * H], 4) }),
  };
}

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const at = ({ data }: NumericArray, ...places: readonly number[]) => Array.from(data).slice(...places);

/** Gate g of x W^T + h R^T + Wb + Rb, as the operator's specification has it, for its order of gates. */
function gate(
  { W, R, B }: OnnxWeights,
  D: number,
  gates: number,
  d: number,
  g: number,
  x: readonly number[],
  h: readonly number[],
): number[] {
  expect([W.shape[0], W.shape[1]]).toEqual([D, gates * H]);
  return Array.from({ length: H }, (_, j) => {
    const row = d * gates * H + g * H + j;
    const bias = (half: number) => (B ? B.data[(2 * d + half) * gates * H + g * H + j] : 0);
    const dot = (w: readonly number[], v: readonly number[]) => w.reduce((sum, a, k) => sum + a * v[k], 0);
    return dot(at(W, row * I, (row + 1) * I), x) + dot(at(R, row * H, (row + 1) * H), h) + bias(0) + bias(1);
  });
}

const x = [[0.3, -0.7], [0.9, 0.1], [-0.4, 0.5]]; // prettier-ignore
const input = () => tensor(x.flat(), { shape: [1, 3, I], device: device("reference"), dtype: "float64" });

/** The LSTM of the specification in plain loops: gates i, o, f, c; peepholes i, o, f. */
function lstm(weights: OnnxWeights, D: number, d: number, reverse: boolean, inputForget = false): number[][] {
  let h = new Array<number>(H).fill(0);
  let c = h;
  const p = weights.P ? at(weights.P, d * 3 * H, (d + 1) * 3 * H) : new Array<number>(3 * H).fill(0);
  const outputs = (reverse ? x.toReversed() : x).map((xt) => {
    const z = [0, 1, 2, 3].map((g) => gate(weights, D, 4, d, g, xt, h));
    const i = z[0].map((v, j) => sigmoid(v + p[j] * c[j]));
    const f = z[2].map((v, j) => (inputForget ? 1 - i[j] : sigmoid(v + p[2 * H + j] * c[j])));
    c = c.map((v, j) => f[j] * v + i[j] * Math.tanh(z[3][j]));
    h = z[1].map((v, j) => sigmoid(v + p[H + j] * c[j]) * Math.tanh(c[j]));
    return h;
  });
  return reverse ? outputs.reverse() : outputs;
}

const outputOf = (layer: Pick<Recurrent<string>, "forward">) => [...layer.forward(input()).output.dataSync()];
const close = (got: readonly number[], wanted: readonly number[]) => {
  expect(got.length).toBe(wanted.length);
  expect(Math.max(...got.map((v, i) => Math.abs(v - wanted[i])))).toBeLessThan(1e-12);
};

describe("the operators' equations in plain loops", () => {
  test.each([false, true])("LSTM, peepholes %s", (peephole) => {
    const weights = operator(4, 1, peephole);
    close(outputOf(onnxLSTM(weights, {}, on)), lstm(weights, 1, 0, false).flat());
    close(outputOf(onnxLSTM(weights, { direction: "reverse", hidden_size: H }, on)), lstm(weights, 1, 0, true).flat());
    close(outputOf(onnxLSTM(weights, { input_forget: 1 }, on)), lstm(weights, 1, 0, false, true).flat());
    const both = operator(4, 2, peephole);
    const [there, back] = [lstm(both, 2, 0, false), lstm(both, 2, 1, true)];
    close(
      outputOf(onnxLSTM(both, { direction: "bidirectional" }, on)),
      there.flatMap((row, t) => [...row, ...back[t]]),
    );
  });

  test.each([0, 1])("GRU, linear_before_reset %i", (linear) => {
    const weights = operator(3, 1);
    let h = new Array<number>(H).fill(0);
    const zero = new Array<number>(H).fill(0);
    const wanted = x.flatMap((xt) => {
      const [z, r] = [0, 1].map((g) => gate(weights, 1, 3, 0, g, xt, h).map(sigmoid));
      const bias = at(weights.B!, 5 * H, 6 * H);
      const input = gate({ ...weights, R: numbers([1, 3 * H, H], 2) }, 1, 3, 0, 2, xt, zero).map((v, j) => v - bias[j]);
      const recurrent = (of: number[]) => gate(weights, 1, 3, 0, 2, [0, 0], of).map((v, j) => v - at(weights.B!, 2 * H, 3 * H)[j]);
      const part = linear ? recurrent(h).map((v, j) => r[j] * v) : recurrent(h.map((v, j) => r[j] * v));
      h = h.map((v, j) => (1 - z[j]) * Math.tanh(input[j] + part[j]) + z[j] * v);
      return h;
    });
    close(outputOf(onnxGRU(weights, { linear_before_reset: linear }, on)), wanted);
  });

  test.each([
    ["Tanh", Math.tanh],
    ["relu", (v: number) => Math.max(v, 0)],
  ] as const)("RNN, %s", (name, phi) => {
    // prettier-ignore
    const weights = { ...operator(1, 1), B: null };
    let h = new Array<number>(H).fill(0);
    const wanted = x.flatMap((xt) => (h = gate(weights, 1, 1, 0, 0, xt, h).map(phi)));
    const layer = onnxRNN(weights, { activations: [name], layout: 1 }, on);
    close(outputOf(layer), wanted);
    expect(Object.keys(layer.stateDict())).toEqual(["weight_ih_l0", "weight_hh_l0"]);
  });

  test("activations become options of the layer", () => {
    const weights = operator(4, 1);
    const layer = onnxLSTM(weights, { activations: ["HardSigmoid", "Softsign", "Softsign"], activation_alpha: [1 / 6] }, on);
    const same = new LSTM(I, H, { recurrentActivation: "hardSigmoid", activation: "softsign", ...on });
    same.loadStateDict(onnxLSTM(weights, {}, on).stateDict());
    close(outputOf(layer), outputOf(same));
  });

  test.each<[string, (w: OnnxWeights, a: OnnxAttributes) => Recurrent<string>, number, OnnxAttributes, string]>([
    ["the usual LSTM", onnxLSTM, 4, {}, "lstm"],
    ["coupled", onnxLSTM, 4, { input_forget: 1 }, "lstm_coupled_input"],
    ["the usual GRU", onnxGRU, 3, { activations: ["sigmoid", "TANH"] }, "gru_before"],
    ["linear before reset", onnxGRU, 3, { linear_before_reset: 1 }, "gru"],
    ["a rectifier", onnxRNN, 1, { activations: ["Relu"] }, "elman_relu"],
  ])("what has kernels of its own keeps them: %s", (_, make, gates, attributes, cell) => {
    expect(make(operator(gates, 1), attributes)["cell"].name).toBe(cell);
  });

  test("a bound far away changes nothing, of gradients and streams either", () => {
    const weights = operator(4, 1, true);
    const [plain, composed] = [onnxLSTM(weights, {}, on), onnxLSTM(weights, { clip: 100 }, on)];
    close(outputOf(composed), outputOf(plain));
    const gradients = [plain, composed].map((layer) => {
      sum(square(layer.forward(input()).output)).backward();
      return layer.parameters().map((p) => [...p.grad!.dataSync()]);
    });
    gradients[0].forEach((wanted, k) => close(gradients[1][k], wanted));
    const stream = composed.stream();
    close(
      x.flatMap((row) => [...stream.step(row)]),
      outputOf(plain),
    );
  });
});

describe("operators that there is nothing like here", () => {
  const refused: [string, (w: OnnxWeights, a: OnnxAttributes) => unknown, number, OnnxAttributes, string][] = [
    ["a bound below 0", onnxLSTM, 4, { clip: -3 }, "onnxLSTM: clip must be at least 0 but is -3"],
    [
      "a direction",
      onnxGRU,
      3,
      { direction: "backward" as never },
      'onnxGRU: direction must be forward, reverse or bidirectional but is "backward"',
    ],
    ["an activation", onnxGRU, 3, { activations: ["Sigmoid", "Gelu"] }, "onnxGRU: activations must be of sigmoid, tanh, relu, softsign"],
    ["too few activations", onnxLSTM, 4, { activations: ["Sigmoid"] }, "onnxLSTM: activations must be 3 but are Sigmoid"],
    [
      "an attribute that is none",
      onnxRNN,
      1,
      { hiddenSize: 3 } as never,
      "onnxRNN: attributes: unknown option hiddenSize; did you mean hidden_size?",
    ],
    ["another hidden size", onnxRNN, 1, { hidden_size: 4 }, "onnxRNN: hidden_size must be 3 as R has it but is 4"],
    [
      "one direction where there are two",
      onnxLSTM,
      4,
      { direction: "bidirectional" },
      "onnxLSTM: W must be [2, 12, 2] for direction bidirectional but is [1, 12, 2]",
    ],
  ];
  test.each(refused)("%s", (_, build, gates, attributes, message) => {
    expect(() => build(operator(gates, 1), attributes)).toThrow(message);
  });

  test("directions with activations of their own", () => {
    const activations = ["Sigmoid", "Tanh", "Sigmoid", "Relu"];
    expect(() => onnxGRU(operator(3, 2), { direction: "bidirectional", activations })).toThrow(
      "onnxGRU: both directions must have the same activations but have sigmoid(0,0), tanh(0,0), sigmoid(0,0), relu(0,0)",
    );
  });

  test.each<[Partial<OnnxWeights>, string]>([
    [{ W: numbers([1, 9, I]) }, "onnxLSTM: W must be [1, 12, 2] for direction forward but is [1, 9, 2]"],
    [{ R: numbers([1, 12, 4]) }, "onnxLSTM: W must be [1, 16, 2]"],
    [{ B: numbers([1, 12]) }, "onnxLSTM: B must be [1, 24] for direction forward but is [1, 12]"],
    [{ P: numbers([9]) }, "onnxLSTM: P must be [1, 9] for direction forward but is [9]"],
    [{ W: { shape: [1, 12, I], data: [1] } }, "onnxLSTM: W must have 24 values but has 1"],
  ])("weights that do not fit: %#", (part, message) => {
    expect(() => onnxLSTM({ ...operator(4, 1), ...part })).toThrow(message);
  });

  test("peepholes of a GRU", () => {
    expect(() => onnxGRU({ ...operator(3, 1), P: numbers([1, 9]) })).toThrow("onnxGRU: P is of an LSTM only");
  });
});

describe("the table of layouts", () => {
  const entries = Object.entries(layouts).flatMap(([library, { gatesIn, ...cells }]) =>
    Object.entries(cells).map(([cell, gates]) => [library as Library, cell as GatedCell, gates, gatesIn] as const),
  );

  test.each(entries)("%s %s: there and back, the gate's block where its letter is", (library, cell, gates, gatesIn) => {
    const rows: NumericArray = {
      shape: [gates.length * 2, 3],
      data: Float64Array.from({ length: gates.length * 6 }, (_, i) => gates.charCodeAt(Math.floor(i / 6))),
    };
    const theirs = gatesIn === "rows" ? rows : permute(rows, [1, 0]);
    const ours = toOurs(theirs, library, cell);
    const letters = String.fromCharCode(...Array.from({ length: gates.length }, (_, g) => ours.data[g * 6]));
    expect(letters).toBe(layouts.throughtime[cell]);
    expect(fromOurs(ours, library, cell)).toEqual({ shape: theirs.shape, data: Float64Array.from(theirs.data) });
  });

  test("gates that one side has not: left out, and zero on the way back", () => {
    const onnx: NumericArray = { shape: [4], data: [1, 2, 3, 4] };
    const ours = toOurs(onnx, "onnx", "lstm", "coupledInput");
    expect([...Array.from(ours.data)]).toEqual([1, 4, 2]);
    expect([...Array.from(fromOurs(ours, "onnx", "lstm", "coupledInput").data)]).toEqual([1, 2, 0, 4]);
  });

  test("a convolution's kernel, and shapes and cells that do not fit", () => {
    const kernel = numbers([2, 3, 4, 8]);
    expect(toOurs(kernel, "keras", "lstm").shape).toEqual([8, 4, 2, 3]);
    expect(fromOurs(toOurs(kernel, "keras", "lstm"), "keras", "lstm")).toEqual(kernel);
    expect(() => reorderBlocks(numbers([5]), "ab", "ba")).toThrow("the first axis must be a multiple of 2 gates but the shape is [5]");
    expect(() => toOurs(numbers([6]), "keras", "peephole")).toThrow("layouts: keras has no peephole");
  });
});
