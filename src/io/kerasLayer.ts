import type { CellActivations } from "../cells/activation.js";
import { gru, gruBefore } from "../cells/gru.js";
import { Bidirectional, type BidirectionalOptions } from "../nn/bidirectional.js";
import { Conv1d, Conv2d } from "../nn/conv.js";
import { ConvLSTM1d, ConvLSTM2d } from "../nn/convlstm.js";
import { Embedding } from "../nn/embedding.js";
import { GRU, LSTM, RNN } from "../nn/layers.js";
import { Linear } from "../nn/linear.js";
import type { Module, Placement } from "../nn/module.js";
import { LayerNorm } from "../nn/norm.js";
import { Recurrent } from "../nn/recurrent.js";
import type { RecurrentLayer } from "../nn/recurrentLayer.js";
import { showShape } from "../tensor/op.js";
import { Generator } from "../tensor/random.js";
import { fromKeras, kerasShape, type KerasShape } from "./keras.js";
import { kerasConfig, type KerasConfig } from "./kerasConfig.js";
import { readKeras, type KerasLayer, type ReadKerasOptions } from "./kerasFile.js";

type Settings = Readonly<Record<string, unknown>>;

const show = (value: unknown) => JSON.stringify(value)?.slice(0, 60) ?? String(value);

/** A setting that must be one of a few; its default where an older file does not have it. */
function choice<const T extends string | boolean>(settings: Settings, key: string, allowed: readonly T[]): T {
  const value = settings[key] === undefined ? allowed[0] : settings[key];
  if (!allowed.includes(value as T)) throw new RangeError(`${key} must be ${allowed.map(show).join(" or ")} but is ${show(value)}`);
  return value as T;
}

/** Settings of a recurrent layer that must be as its arrays say. */
function checkRecurrent(settings: Settings, { units, bias, resetAfter }: KerasShape): void {
  choice(settings, "use_bias", [bias]);
  const claimed = settings.units ?? settings.filters ?? units;
  if (claimed !== units) throw new RangeError(`units must be ${units} as its arrays have it but is ${show(claimed)}`);
  if (resetAfter !== null) choice(settings, "reset_after", [resetAfter]);
}

/** Keras' names of the activations a cell may have. */
const activations = {
  tanh: "tanh",
  sigmoid: "sigmoid",
  relu: "relu",
  hard_sigmoid: "hardSigmoid",
  softsign: "softsign",
  softplus: "softplus",
  linear: "linear",
} as const;
const activationNames = Object.keys(activations) as (keyof typeof activations)[];

/** The functions of a gated cell. */
function gated(settings: Settings): CellActivations {
  return {
    activation: activations[choice(settings, "activation", activationNames)],
    recurrentActivation: activations[choice({ recurrent_activation: "sigmoid", ...settings }, "recurrent_activation", activationNames)],
  };
}

const axesOf = (value: unknown, axes: number): number[] => {
  const list = Array.isArray(value) ? (value as unknown[]) : new Array<unknown>(axes).fill(value);
  if (list.length !== axes || !list.every((v) => Number.isSafeInteger(v) && (v as number) > 0))
    throw new RangeError(`kernel_size, strides and dilation_rate must be ${axes} positive integers but one is ${show(value)}`);
  return list as number[];
};

/** Options of a convolution. */
function convolution(settings: Settings, axes: number) {
  choice(settings, "data_format", ["channels_last"]);
  return {
    padding: choice(settings, "padding", ["valid", "same"]),
    stride: axesOf(settings.strides ?? 1, axes),
    dilation: axesOf(settings.dilation_rate ?? 1, axes),
  };
}

type Builder = (settings: Settings, shape: KerasShape, options: object) => Module;

const recurrentBuilders: Readonly<Record<string, { readonly cell: KerasShape["cell"]; readonly axes: number; readonly build: Builder }>> = {
  SimpleRNN: {
    cell: "rnn",
    axes: 0,
    build: (settings, { inputSize, units }, options) =>
      new RNN(inputSize, units, { nonlinearity: activations[choice(settings, "activation", activationNames)], ...options }),
  },
  LSTM: {
    cell: "lstm",
    axes: 0,
    build: (settings, { inputSize, units }, options) => new LSTM(inputSize, units, { ...gated(settings), ...options }),
  },
  GRU: {
    cell: "gru",
    axes: 0,
    build: (settings, { inputSize, units }, options) =>
      new GRU(inputSize, units, {
        reset: choice(settings, "reset_after", [true, false]) ? "after" : "before",
        ...gated(settings),
        ...options,
      }),
  },
  ConvLSTM1D: { cell: "lstm", axes: 1, build: (settings, shape, options) => convLSTM(ConvLSTM1d, 1, settings, shape, options) },
  ConvLSTM2D: { cell: "lstm", axes: 2, build: (settings, shape, options) => convLSTM(ConvLSTM2d, 2, settings, shape, options) },
};

function convLSTM(
  Layer: typeof ConvLSTM1d,
  axes: number,
  settings: Settings,
  { inputSize, units, kernelSize }: KerasShape,
  options: object,
) {
  choice(settings, "activation", ["tanh"]);
  choice(settings, "recurrent_activation", ["sigmoid"]);
  return new Layer(inputSize, units, { kernelSize, ...convolution(settings, axes), ...options });
}

const isRecurrent = (className: string) => Object.hasOwn(recurrentBuilders, className);

function recurrentLayer(className: string, settings: Settings, shape: KerasShape, options: object): Module {
  const { cell, axes, build } = recurrentBuilders[className];
  if (cell !== shape.cell || axes !== shape.kernelSize.length)
    throw new RangeError(`its arrays are not those of a ${className}: recurrent_kernel has ${shape.units} units of a ${shape.cell}`);
  checkRecurrent(settings, shape);
  const backwards = choice(settings, "go_backwards", axes === 0 && !shape.bidirectional ? [false, true] : [false]);
  return build(settings, shape, { bias: shape.bias, bidirectional: shape.bidirectional, ...(backwards && { reverse: true }), ...options });
}

/** Bidirectional around a recurrent layer: both directions alike, merged. */
function bidirectional(settings: Settings, shape: KerasShape, options: object): Module {
  const merge = choice(settings, "merge_mode", shape.kernelSize.length === 0 ? ["concat", "sum", "mul", "ave"] : ["concat"]);
  const forward = kerasConfig(settings.layer);
  if (!isRecurrent(forward.className))
    throw new RangeError(`Bidirectional must be around ${Object.keys(recurrentBuilders).join(", ")} but is around ${forward.className}`);
  if (settings.backward_layer !== undefined) {
    const backward = kerasConfig(settings.backward_layer);
    for (const key of ["activation", "recurrent_activation", "reset_after", "units"])
      if (show(backward.settings[key]) !== show(forward.settings[key]))
        throw new RangeError(
          `both directions must have the same ${key} but have ${show(forward.settings[key])} and ${show(backward.settings[key])}`,
        );
    choice(backward.settings, "go_backwards", [true]);
  }
  if (merge === "concat") return recurrentLayer(forward.className, forward.settings, shape, options);
  choice(forward.settings, "go_backwards", [false]);
  const one = () => recurrentLayer(forward.className, forward.settings, { ...shape, bidirectional: false }, options) as RecurrentLayer;
  return new Bidirectional(one(), one(), { merge: merges[merge] });
}

const merges = { sum: "sum", mul: "mul", ave: "average" } as const satisfies Record<string, BidirectionalOptions["merge"]>;

/** What `fromKeras` gives, under the names of a layer: those of a Bidirectional are of two layers. */
function stateFor(layer: Module, weights: KerasDescription["weights"]) {
  const state = fromKeras(weights);
  if (!(layer instanceof Bidirectional)) return state;
  return Object.fromEntries(
    Object.entries(state).map(([name, value]) => {
      const plain = name.replace(/_reverse$/, "");
      return [`${plain === name ? "forwardLayer" : "backwardLayer"}.${plain}`, value];
    }),
  );
}

function plainLayer(className: string, settings: Settings, weight: readonly number[], bias: boolean, options: object): Module {
  if (className === "Dense" && weight.length === 2) return new Linear(weight[1], weight[0], { bias, ...options });
  if (className === "Embedding" && weight.length === 2) return new Embedding(weight[0], weight[1], options);
  if (className === "LayerNormalization" && weight.length === 1)
    return new LayerNorm(weight[0], { eps: typeof settings.epsilon === "number" ? settings.epsilon : 1e-3, ...options });
  const [out, channels, ...kernelSize] = weight;
  if (className === "Conv1D" && kernelSize.length === 1)
    return new Conv1d(channels, out, { kernelSize, bias, ...convolution(settings, 1), ...options });
  if (className === "Conv2D" && kernelSize.length === 2)
    return new Conv2d(channels, out, { kernelSize, bias, ...convolution(settings, 2), ...options });
  throw new RangeError(`there is no layer here for a ${className} with a weight ${showShape(weight)}`);
}

/** What `kerasLayer` needs to know of a layer; what `readKeras` gives has it. */
export type KerasDescription = Pick<KerasLayer, "weights"> & { readonly name?: string; readonly config: KerasConfig | null };

/**
 * A layer of ours that computes what a layer of a .keras file computes, with its weights: RNN, LSTM, GRU, ConvLSTM1d or
 * ConvLSTM2d (bidirectional for a Bidirectional that concatenates; Bidirectional for one that merges otherwise), Linear, Embedding, LayerNorm, Conv1d or Conv2d. Not taken over: dropout
 * (of training only) and the activation of a Dense or convolutional layer, which here is an operation of its own. With
 * `go_backwards` the layer is `reverse`, and its output stays in the order of the input, which Keras gives reversed.
 *
 * @throws RangeError naming the layer, if there is no configuration, or a setting or an array that there is nothing like here.
 */
export function kerasLayer({ name = "", config, weights }: KerasDescription, { device, dtype }: Placement = {}): Module {
  try {
    if (!config)
      throw new RangeError("a file of weights does not say what the layer computes: make it yourself and load fromKeras(weights)");
    const { className, settings } = config;
    const shape = kerasShape(weights);
    const state = fromKeras(weights);
    const options = { device, dtype, generator: new Generator(0) };
    let layer: Module;
    if (className === "Bidirectional" && shape?.bidirectional) layer = bidirectional(settings, shape, options);
    else if (isRecurrent(className) && shape && !shape.bidirectional) layer = recurrentLayer(className, settings, shape, options);
    else if (shape) throw new RangeError(`there is no layer here for a ${className} with these arrays`);
    else
      layer = plainLayer(
        className,
        settings,
        state.weight.shape,
        "bias" in state,
        className === "LayerNormalization" ? { device, dtype } : options,
      );
    layer.loadStateDict(stateFor(layer, weights));
    return layer;
  } catch (cause) {
    throw new RangeError(`kerasLayer: ${name === "" ? "" : `${name}: `}${(cause as Error).message}`, { cause });
  }
}

const isBidirectional = (layer: Module): layer is Bidirectional => layer instanceof Bidirectional;

/** What a layer computes, as far as its class and its cell say it. */
function kind(layer: Module): string {
  if (isBidirectional(layer)) return `Bidirectional (${kind(layer.forwardLayer)}, ${kind(layer.backwardLayer)}, ${layer.merge})`;
  return layer instanceof Recurrent ? `${layer.constructor.name} (${layer["cell"].name})` : layer.constructor.name;
}

/** The same, as far as arrays alone say it: where the reset gate of a GRU acts. */
function kindOf({ weights }: KerasLayer): string | null {
  const { resetAfter = null } = kerasShape(weights) ?? {};
  return resetAfter === null ? null : `GRU (${(resetAfter ? gru : gruBefore).name})`;
}

/**
 * Loads layers of a Keras file into layers of ours, by the names that the file has for them. Nothing is changed unless
 * all of them fit: in a .keras file their configuration too, in a .weights.h5 file their shapes.
 *
 *     await loadKeras("model.keras", { embedding: model.embed, lstm: model.rnn, dense: model.head });
 *
 * @throws naming the file and the layer, as `readKeras`, `fromKeras` and `kerasLayer` do.
 */
export async function loadKeras(path: string, layers: Readonly<Record<string, Module>>, options: ReadKerasOptions = {}): Promise<void> {
  const found = await readKeras(path, options);
  const ready = Object.entries(layers).map(([name, layer]) => {
    const source = found.get(name);
    if (!source) throw new RangeError(`${path}: it has no layer ${name} but ${[...found.keys()].slice(0, 20).join(", ")}`);
    try {
      const state = stateFor(layer, source.weights);
      const wanted = source.config ? kind(kerasLayer(source)) : kindOf(source);
      const given = !source.config && isBidirectional(layer) ? kind(layer.forwardLayer) : kind(layer);
      if (wanted !== null && wanted !== given) throw new RangeError(`it needs ${wanted} but the layer given is ${given}`);
      layer.checkStateDict(state);
      return { layer, state };
    } catch (cause) {
      throw new RangeError(`${path}: ${name}: ${(cause as Error).message.replace(/^kerasLayer: [^:]*: /, "")}`, { cause });
    }
  });
  for (const { layer, state } of ready) layer.loadStateDict(state);
}
