import { showShape, size } from "../tensor/op.js";
import { toOurs, type GatedCell, type NumericArray } from "./layouts.js";

/**
 * The arrays of one Keras layer by Keras' names: `kernel`, `recurrent_kernel`, `bias`, `embeddings`, `gamma`, `beta`; of a
 * Bidirectional with `forward/` and `backward/` before them. A variable's full path is as good:
 * `sequential/bidirectional/forward_lstm/lstm_cell/kernel`.
 */
export type KerasWeights = Readonly<Record<string, NumericArray>>;

type Arrays = Readonly<Partial<Record<string, NumericArray>>>;

/** What the arrays of a recurrent layer say of it. */
export interface KerasShape {
  readonly cell: GatedCell;
  readonly bidirectional: boolean;
  readonly inputSize: number;
  readonly units: number;
  readonly bias: boolean;
  /** Of a GRU with biases: two of them, or one. */
  readonly resetAfter: boolean | null;
  /** Of a convolutional layer, the sizes of its kernel. */
  readonly kernelSize: readonly number[];
}

const fail = (message: string): never => {
  throw new RangeError(`fromKeras: ${message}`);
};

/** Arrays by direction (`""` where there is one only) and their last name. */
function sorted(weights: KerasWeights): Record<string, Record<string, NumericArray>> {
  const sides: Record<string, Record<string, NumericArray>> = {};
  for (const [path, a] of Object.entries(weights)) {
    const parts = path.replace(/:0$/, "").split("/");
    const name = parts.pop()!;
    const side = parts.map((part) => /^(forward|backward)(_|$)/.exec(part)?.[1]).find((found) => found !== undefined) ?? "";
    const arrays = (sides[side] ??= {});
    if (Object.hasOwn(arrays, name)) fail(`the arrays must be of one layer but there are two called ${name}`);
    if (size(a.shape) !== a.data.length)
      fail(`${path} of shape ${showShape(a.shape)} must have ${size(a.shape)} values but has ${a.data.length}`);
    arrays[name] = a;
  }
  const found = Object.keys(sides).sort().join(" ");
  if (found !== "" && found !== "backward forward")
    fail(`a Bidirectional needs arrays of forward/ and backward/ but has those of ${found}`);
  return sides;
}

const cells: Readonly<Record<number, GatedCell>> = { 1: "rnn", 3: "gru", 4: "lstm" };

/** @throws RangeError unless the arrays are those of a recurrent layer and fit each other. */
function shapeOf({ kernel, recurrent_kernel: recurrent, bias, ...rest }: Arrays): Omit<KerasShape, "bidirectional"> {
  const unknown = Object.keys(rest);
  if (unknown.length > 0) fail(`a recurrent layer has kernel, recurrent_kernel and bias but there is ${unknown.join(", ")}`);
  if (!kernel) return fail("kernel is missing");
  const rank = recurrent!.shape.length;
  const [units, width] = recurrent!.shape.slice(-2);
  const cell = cells[width / units] as GatedCell | undefined;
  if (rank < 2 || !cell || (rank > 2 && (cell !== "lstm" || rank > 4)))
    return fail(`recurrent_kernel must be [H, 1, 3 or 4 times H], or [...k, F, 4F] of a ConvLSTM, but is ${showShape(recurrent!.shape)}`);
  if (kernel.shape.length !== rank || kernel.shape.at(-1) !== width)
    fail(
      `kernel must be [${rank === 2 ? "I" : "...k, C"}, ${width}] beside a recurrent_kernel ${showShape(recurrent!.shape)} but is ${showShape(kernel.shape)}`,
    );
  const two = cell === "gru" && bias?.shape.length === 2;
  if (bias && showShape(bias.shape) !== showShape(two ? [2, width] : [width]))
    fail(`bias must be [${width}]${cell === "gru" ? ` or [2, ${width}]` : ""} but is ${showShape(bias.shape)}`);
  return {
    cell,
    inputSize: kernel.shape[rank - 2],
    units,
    bias: bias !== undefined,
    resetAfter: cell === "gru" && bias ? two : null,
    kernelSize: kernel.shape.slice(0, -2),
  };
}

/** What the arrays of a layer say of it; null if it is not recurrent. @throws RangeError if they do not fit each other. */
export function kerasShape(weights: KerasWeights): KerasShape | null {
  const { "": single, forward, backward } = sorted(weights) as Partial<Record<string, Arrays>>;
  if (single) return "recurrent_kernel" in single ? { ...shapeOf(single), bidirectional: false } : null;
  if (!forward || !backward) return null;
  for (const [side, arrays] of Object.entries({ forward, backward }))
    if (!("recurrent_kernel" in arrays)) fail(`${side}/recurrent_kernel is missing`);
  const shape = { ...shapeOf(forward), bidirectional: true };
  if (JSON.stringify({ ...shapeOf(backward), bidirectional: true }) !== JSON.stringify(shape))
    fail("forward/ and backward/ must have the same shapes");
  return shape;
}

/** Row k of a GRU's two biases; of a single bias all of it as row 0, and zeros as row 1. */
function biasRow({ shape, data }: NumericArray, k: number): NumericArray {
  const width = shape.at(-1)!;
  const row = Float64Array.from({ length: width }, (_, i) => (shape.length === 2 ? data[k * width + i] : k === 0 ? data[i] : 0));
  return { shape: [width], data: row };
}

/** One direction under our names; a ConvLSTM has Keras' layout here too. */
function recurrent(arrays: Arrays, suffix: string): Record<string, NumericArray> {
  const { cell, bias, kernelSize } = shapeOf(arrays);
  if (kernelSize.length > 0)
    return {
      [`weight_ih_${suffix}`]: arrays.kernel!,
      [`weight_hh_${suffix}`]: arrays.recurrent_kernel!,
      ...(bias && { [`bias_${suffix}`]: arrays.bias! }),
    };
  const ours = (a: NumericArray) => toOurs(a, "keras", cell);
  return {
    [`weight_ih_${suffix}`]: ours(arrays.kernel!),
    [`weight_hh_${suffix}`]: ours(arrays.recurrent_kernel!),
    ...(bias && { [`bias_ih_${suffix}`]: ours(biasRow(arrays.bias!, 0)), [`bias_hh_${suffix}`]: ours(biasRow(arrays.bias!, 1)) }),
  };
}

/** Dense and convolutional kernels have the output last, as recurrent ones have their gates. */
function other(arrays: Record<string, NumericArray>): Record<string, NumericArray> {
  const names = Object.keys(arrays).sort().join(" ");
  const { kernel, bias, embeddings, gamma, beta } = arrays;
  if (names === "embeddings") return { weight: embeddings };
  if (names === "beta gamma") return { weight: gamma, bias: beta };
  if (names !== "kernel" && names !== "bias kernel")
    fail(
      `there must be kernel and recurrent_kernel, kernel, embeddings, or gamma and beta but there is ${names === "" ? "nothing" : names}`,
    );
  if (kernel.shape.length < 2) fail(`kernel must have two axes at least but is ${showShape(kernel.shape)}`);
  return { weight: toOurs(kernel, "keras", "rnn"), ...(names === "bias kernel" && { bias }) };
}

/**
 * The arrays of one Keras layer under the names and in the layout of ours, for `loadStateDict`: SimpleRNN, LSTM, GRU
 * (of either `reset_after`), ConvLSTM1D and ConvLSTM2D, and Bidirectional around them; Dense for Linear, Embedding,
 * LayerNormalization, Conv1D and Conv2D. A list of recurrent layers gives the layers of one stack.
 *
 * Keras has one bias where ours have two (but for a GRU with `reset_after`): it becomes `bias_ih`, and `bias_hh` is
 * zero. A layer without bias needs ours with `bias: false`.
 *
 * @throws RangeError naming the array that is missing, unknown or of a shape that does not fit.
 */
export function fromKeras(weights: KerasWeights | readonly KerasWeights[]): Record<string, NumericArray> {
  const stack = Array.isArray(weights) ? (weights as readonly KerasWeights[]) : [weights as KerasWeights];
  const parts = stack.map((layer, k) => {
    const shape = kerasShape(layer);
    const sides = sorted(layer);
    if (shape?.bidirectional) return { ...recurrent(sides.forward, `l${k}`), ...recurrent(sides.backward, `l${k}_reverse`) };
    if (shape) return recurrent(sides[""], `l${k}`);
    if (stack.length > 1) fail(`layer ${k} of a stack must be recurrent`);
    return other(sides[""] ?? {});
  });
  return Object.assign({}, ...parts) as Record<string, NumericArray>;
}
