import { GRU, LSTM, RNN } from "../nn/layers.js";
import type { Module, Placement } from "../nn/module.js";
import type { RecurrentOptions } from "../nn/recurrent.js";
import { checkOptions } from "../tensor/check.js";
import { showShape, size } from "../tensor/op.js";
import { Generator } from "../tensor/random.js";
import { toOurs, type GatedCell, type NumericArray } from "./layouts.js";
import { bounded, onnxActivations, type OnnxActivation } from "./onnxActivations.js";

/** The weights of an ONNX LSTM, GRU or RNN operator, under its names for them. D directions, 1 or 2. */
export interface OnnxWeights {
  /** [D, gates * H, I] */
  readonly W: NumericArray;
  /** [D, gates * H, H] */
  readonly R: NumericArray;
  /** [D, 2 * gates * H]; those of W, then those of R. */
  readonly B?: NumericArray | null;
  /** [D, 3 * H], the peepholes of an LSTM in the order i, o, f. */
  readonly P?: NumericArray | null;
}

/** The attributes of an ONNX LSTM, GRU or RNN operator, under its names for them. */
export interface OnnxAttributes {
  readonly hidden_size?: number;
  /** Default `forward`. */
  readonly direction?: "forward" | "reverse" | "bidirectional";
  /** Of each direction in turn: f, g, h of an LSTM, f, g of a GRU, f of an RNN. */
  readonly activations?: readonly string[];
  readonly activation_alpha?: readonly number[];
  readonly activation_beta?: readonly number[];
  /** Bound of what enters the activations. */
  readonly clip?: number;
  /** LSTM: f = 1 - i. */
  readonly input_forget?: number;
  /** GRU: the reset gate after the recurrent product. */
  readonly linear_before_reset?: number;
  /** 1 where sequences and states are batch first; the weights are the same. */
  readonly layout?: number;
}

const attributes = [
  "hidden_size",
  "direction",
  "activations",
  "activation_alpha",
  "activation_beta",
  "clip",
  "input_forget",
  "linear_before_reset",
  "layout",
] as const;

/** What the operators share, checked. */
interface Operator {
  readonly where: string;
  readonly inputSize: number;
  readonly hiddenSize: number;
  readonly activations: readonly OnnxActivation[];
  readonly clip: number;
  readonly options: RecurrentOptions;
  /** The state dict, as the given cell of ours has it. */
  state(as: GatedCell): Record<string, NumericArray>;
}

function check(
  where: string,
  cell: "rnn" | "lstm" | "gru",
  gates: number,
  weights: OnnxWeights,
  given: OnnxAttributes,
  placement: Placement,
): Operator {
  checkOptions(`${where}: attributes`, given, attributes);
  const fail = (message: string): never => {
    throw new RangeError(`${where}: ${message}`);
  };
  const { direction = "forward", clip = 0 } = given;
  if (!["forward", "reverse", "bidirectional"].includes(direction))
    fail(`direction must be forward, reverse or bidirectional but is ${JSON.stringify(direction)}`);
  if (!(clip >= 0)) fail(`clip must be at least 0 but is ${clip}`);
  const D = direction === "bidirectional" ? 2 : 1;
  const { W, R, B = null, P = null } = weights;
  const hiddenSize = R.shape.at(-1) ?? 0;
  const inputSize = W.shape.at(-1) ?? 0;
  const rows = gates * hiddenSize;
  if (given.hidden_size !== undefined && given.hidden_size !== hiddenSize)
    fail(`hidden_size must be ${hiddenSize} as R has it but is ${given.hidden_size}`);
  const wanted = { W: [D, rows, inputSize], R: [D, rows, hiddenSize], B: [D, 2 * rows], P: [D, 3 * hiddenSize] };
  for (const [name, a] of Object.entries({ W, R, B, P })) {
    if (!a) continue;
    const shape = wanted[name as keyof typeof wanted];
    if (showShape(a.shape) !== showShape(shape))
      fail(`${name} must be ${showShape(shape)} for direction ${direction} but is ${showShape(a.shape)}`);
    if (a.data.length !== size(shape)) fail(`${name} must have ${size(shape)} values but has ${a.data.length}`);
  }
  if (P && cell !== "lstm") fail("P is of an LSTM only");
  return {
    where,
    inputSize,
    hiddenSize,
    activations: activationsOf(where, cell, D, given),
    clip,
    options: { ...placement, bias: B !== null, bidirectional: D === 2, reverse: direction === "reverse", generator: new Generator(0) },
    state: (as) =>
      Object.assign({}, ...["l0", "l0_reverse"].slice(0, D).map((suffix, d) => direct(weights, d, suffix, cell, as))) as Record<
        string,
        NumericArray
      >,
  };
}

/** Part d of the first axis, without that axis. */
function part({ shape, data }: NumericArray, d: number): NumericArray {
  const rest = shape.slice(1);
  const length = size(rest);
  return { shape: rest, data: Array.from({ length }, (_, i) => data[d * length + i]) };
}

/** One direction under our names. */
function direct({ W, R, B, P }: OnnxWeights, d: number, suffix: string, cell: GatedCell, as: GatedCell): Record<string, NumericArray> {
  const ours = (a: NumericArray) => toOurs(a, "onnx", cell, as);
  const both = B && part(B, d);
  const half = both && [0, 1].map((k) => part({ shape: [2, both.shape[0] / 2], data: both.data }, k));
  const peepholes = P && toOurs(part(P, d), "onnx", "peephole", as === "coupledInput" ? "peepholeInput" : "peephole");
  return {
    [`weight_ih_${suffix}`]: ours(part(W, d)),
    [`weight_hh_${suffix}`]: ours(part(R, d)),
    ...(half && { [`bias_ih_${suffix}`]: ours(half[0]), [`bias_hh_${suffix}`]: ours(half[1]) }),
    ...(peepholes && { [`weight_peephole_${suffix}`]: { shape: [peepholes.shape[0] / R.shape[2], R.shape[2]], data: peepholes.data } }),
  };
}

const defaults = { rnn: ["Tanh"], gru: ["Sigmoid", "Tanh"], lstm: ["Sigmoid", "Tanh", "Tanh"] } as const;

/** The activations of one direction; both must have the same. */
function activationsOf(where: string, cell: keyof typeof defaults, D: number, given: OnnxAttributes): readonly OnnxActivation[] {
  const count = defaults[cell].length;
  const names = given.activations ?? Array.from({ length: D }, () => defaults[cell]).flat();
  if (names.length !== D * count) throw new RangeError(`${where}: activations must be ${D * count} but are ${names.join(", ")}`);
  const list = onnxActivations(where, names, given.activation_alpha, given.activation_beta);
  if (list.some(({ key }, i) => key !== list[i % count].key))
    throw new RangeError(`${where}: both directions must have the same activations but have ${list.map(({ key }) => key).join(", ")}`);
  return list.slice(0, count);
}

function loaded<L extends Module>(layer: L, { state }: Operator, as: GatedCell): L {
  layer.loadStateDict(state(as));
  return layer;
}

/**
 * An LSTM that computes what an ONNX LSTM operator computes, with its weights, whose gates are in the order i, o, f, c.
 * Peepholes, coupled gates, activations, `clip`, `reverse` and `bidirectional` become options of the layer. Sequences and
 * states are the layer's, [N, T, I] and [D, N, H]; `sequence_lens` are its `lengths`.
 *
 * @throws RangeError naming the weight of a wrong shape, or the attribute that is not as ONNX has it; both directions
 * must have the same activations.
 */
export function onnxLSTM(weights: OnnxWeights, attributes: OnnxAttributes = {}, placement: Placement = {}): LSTM {
  const operator = check("onnxLSTM", "lstm", 4, weights, attributes, placement);
  const { inputSize, hiddenSize, options, activations, clip } = operator;
  const [f, g, h] = activations;
  const coupled = Boolean(attributes.input_forget);
  const layer = new LSTM(inputSize, hiddenSize, {
    ...options,
    peephole: Boolean(weights.P),
    coupled: coupled ? "input" : undefined,
    recurrentActivation: bounded(f, clip),
    activation: bounded(g, clip),
    stateActivation: h.activation,
  });
  return loaded(layer, operator, coupled ? "coupledInput" : "lstm");
}

/**
 * A GRU that computes what an ONNX GRU operator computes, with its weights, whose gates are in the order z, r, h:
 * `reset: "after"` for `linear_before_reset`, else `"before"`. The rest as for `onnxLSTM`.
 *
 * @throws RangeError as `onnxLSTM` does.
 */
export function onnxGRU(weights: OnnxWeights, attributes: OnnxAttributes = {}, placement: Placement = {}): GRU {
  const operator = check("onnxGRU", "gru", 3, weights, attributes, placement);
  const { inputSize, hiddenSize, options, activations, clip } = operator;
  const [recurrentActivation, activation] = activations.map((of) => bounded(of, clip));
  const reset = attributes.linear_before_reset ? "after" : "before";
  return loaded(new GRU(inputSize, hiddenSize, { ...options, reset, activation, recurrentActivation }), operator, "gru");
}

/**
 * An RNN that computes what an ONNX RNN operator computes, with its weights. The rest as for `onnxLSTM`.
 *
 * @throws RangeError as `onnxLSTM` does.
 */
export function onnxRNN(weights: OnnxWeights, attributes: OnnxAttributes = {}, placement: Placement = {}): RNN {
  const operator = check("onnxRNN", "rnn", 1, weights, attributes, placement);
  const { inputSize, hiddenSize, options, activations, clip } = operator;
  return loaded(new RNN(inputSize, hiddenSize, { ...options, nonlinearity: bounded(activations[0], clip) }), operator, "rnn");
}
