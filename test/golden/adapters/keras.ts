import { GRU, LSTM, RNN, type LSTMState } from "../../../src/nn/layers.js";
import { add, mul, scale } from "../../../src/ops/elementwise.js";
import { flip, reshape, slice } from "../../../src/ops/movement.js";
import type { Tensor } from "../../../src/tensor/tensor.js";
import { differentiate, values, type Adapter, type Computed } from "../adapter.js";
import type { GoldenCase, Values } from "../case.js";

type Merge = "concat" | "sum" | "mul" | "ave";

interface Config {
  readonly input_size: number;
  readonly units: number;
  readonly reset_after: boolean | null;
  readonly use_bias: boolean;
  readonly go_backwards: boolean;
  readonly bidirectional_merge: Merge | null;
  readonly activation: string;
  readonly recurrent_activation: string;
  readonly mask: boolean;
}

const configOf = (c: GoldenCase) => c.config as unknown as Config;

/** Keras' gate blocks in our order: its GRU has z, r, h where ours has r, z, n; the others agree. */
const blocks = (gates: number): readonly number[] => (gates === 3 ? [1, 0, 2] : Array.from({ length: gates }, (_, g) => g));

/** Reorders blocks of `units` along the last axis. The orders above are their own inverses. */
function reorder({ shape, data }: Values, gates: number): Values {
  const width = shape.at(-1)!;
  const units = width / gates;
  const order = blocks(gates);
  const from = (i: number) => Math.floor(i / width) * width + order[Math.floor((i % width) / units)] * units + (i % units);
  return { shape, data: Float64Array.from(data, (_, i) => data[from(i)]) };
}

function transposed({ shape: [rows, columns], data }: Values): Values {
  return { shape: [columns, rows], data: Float64Array.from(data, (_, i) => data[(i % rows) * columns + Math.floor(i / rows)]) };
}

const zerosLike = ({ shape, data }: Values): Values => ({ shape, data: new Float64Array(data.length) });

/** Row k of a [2, n] bias, or, of a single one, all of it as row 0 and zeros as row 1. */
function biasRow(bias: Values, k: number): Values {
  if (bias.shape.length === 1) return k === 0 ? bias : zerosLike(bias);
  const n = bias.shape[1];
  return { shape: [n], data: Array.from(bias.data).slice(k * n, (k + 1) * n) };
}

/** Keras' kernels of one direction under our names. */
function ourParameters(params: Record<string, Values>, prefix: string, suffix: string, gates: number): Record<string, Values> {
  const weight = (name: string) => transposed(reorder(params[prefix + name], gates));
  const result: Record<string, Values> = { [`weight_ih_${suffix}`]: weight("kernel"), [`weight_hh_${suffix}`]: weight("recurrent_kernel") };
  const bias = params[`${prefix}bias`] as Values | undefined;
  if (!bias) return result;
  const rows = [0, 1].map((k) => reorder(biasRow(bias, k), gates));
  return { ...result, [`bias_ih_${suffix}`]: rows[0], [`bias_hh_${suffix}`]: rows[1] };
}

/** Gradients of our parameters in Keras' layout. */
function theirGradients(c: GoldenCase, own: Record<string, Tensor>, prefix: string, suffix: string, gates: number): Computed {
  const grad = (name: string) => values(own[`${name}_${suffix}`].grad!);
  const kernel = (name: string) => reorder(transposed(grad(name)), gates);
  const key = `grad.param.${prefix}`;
  const result: Computed = { [`${key}kernel`]: kernel("weight_ih"), [`${key}recurrent_kernel`]: kernel("weight_hh") };
  if (!c.has(`${key}bias`)) return result;
  const { shape } = c.values(`${key}bias`);
  const rows = (shape.length === 1 ? ["bias_ih"] : ["bias_ih", "bias_hh"]).map((name) => reorder(grad(name), gates));
  return { ...result, [`${key}bias`]: { shape, data: rows.flatMap(({ data }) => Array.from(data)) } };
}

function merged(output: Tensor, units: number, mode: Merge): Tensor {
  if (mode === "concat") return output;
  const forward = slice(output, 2, 0, units);
  const backward = slice(output, 2, units, 2 * units);
  if (mode === "mul") return mul(forward, backward);
  return scale(add(forward, backward), mode === "ave" ? 0.5 : 1);
}

/** keras.layers.SimpleRNN, LSTM and GRU, and Bidirectional around them. */
export const keras: Adapter = {
  families: ["gru_reset_before", "keras_gru_reset_after", "keras_lstm", "keras_rnn"],

  unsupported(c) {
    const { mask, activation, recurrent_activation: gate } = configOf(c);
    if (mask) return "a masked step repeats the output before it, ours gives zero";
    if (activation !== "tanh") return `activation ${activation} is not there yet`;
    return gate === "sigmoid" ? null : `recurrent_activation ${gate} is not there yet`;
  },

  run(c, place) {
    const { input_size: I, units, reset_after: after, use_bias: bias, go_backwards: backwards, bidirectional_merge: merge } = configOf(c);
    const sides = merge ? [{ prefix: "forward/", suffix: "l0" }, { prefix: "backward/", suffix: "l0_reverse" }] : [{ prefix: "", suffix: "l0" }]; // prettier-ignore
    const params = c.under("param.");
    const gates = params[`${sides[0].prefix}kernel`].shape[1] / units;
    const options = { bias, bidirectional: merge !== null, ...place };
    const layer =
      gates === 1
        ? new RNN(I, units, options)
        : gates === 4
          ? new LSTM(I, units, options)
          : new GRU(I, units, { ...options, reset: after ? "after" : "before" });
    layer.loadStateDict(
      Object.assign({}, ...sides.map(({ prefix, suffix }) => ourParameters(params, prefix, suffix, gates))) as Record<string, Values>,
    );

    const x = c.leaf("input.x", place);
    const start = Object.fromEntries(["h", "c"].flatMap((s) => (c.has(`state0.${s}0`) ? [[s, c.leaf(`state0.${s}0`, place)]] : [])));
    const layered = Object.fromEntries(Object.entries(start).map(([s, t]) => [s, reshape(t, [1, ...t.shape])]));
    const { output, state } = (layer as LSTM).forward(backwards ? flip(x, 1) : x, {
      state: "h" in start ? (layered as unknown as LSTMState) : undefined,
    });
    const finals = merge ? {} : Object.fromEntries(Object.entries(state).map(([s, t]) => [`${s}_n`, reshape(t, t.shape.slice(1))]));
    const leaves = { "input.x": x, ...Object.fromEntries(Object.entries(start).map(([s, t]) => [`state0.${s}0`, t])) };
    const computed = differentiate(c, place, { y: merge ? merged(output, units, merge) : output, ...finals }, leaves);
    return Object.assign(
      computed,
      ...sides.map(({ prefix, suffix }) => theirGradients(c, layer.stateDict(), prefix, suffix, gates)),
    ) as Computed;
  },
};
