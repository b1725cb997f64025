import type { Module } from "../../../src/nn/module.js";
import type { LSTM, LSTMState } from "../../../src/nn/layers.js";
import { kerasShape } from "../../../src/io/keras.js";
import { kerasLayer } from "../../../src/io/kerasLayer.js";
import { kerasConfig } from "../../../src/io/kerasConfig.js";
import { fromOurs } from "../../../src/io/layouts.js";
import { add, mul, scale } from "../../../src/ops/elementwise.js";
import { flip, reshape, slice } from "../../../src/ops/movement.js";
import { tensor } from "../../../src/tensor/create.js";
import type { Tensor } from "../../../src/tensor/tensor.js";
import { differentiate, values, type Adapter, type Computed } from "../adapter.js";
import type { GoldenCase, Place, Values } from "../case.js";

type Merge = "concat" | "sum" | "mul" | "ave";

interface Config {
  readonly units: number;
  readonly go_backwards: boolean;
  readonly bidirectional_merge: Merge | null;
  readonly mask: boolean;
}

const configOf = (c: GoldenCase) => c.config as unknown as Config & Record<string, unknown>;

/** The layer of a case, out of its configuration and arrays as those of a file. What it gives is reversed and merged here. */
function build(c: GoldenCase, place: Partial<Place>): Module {
  const { bidirectional_merge: merge, reset_after, ...rest } = configOf(c);
  const weights = c.under("param.");
  const className = { rnn: "SimpleRNN", lstm: "LSTM", gru: "GRU" }[kerasShape(weights)!.cell as "rnn" | "lstm" | "gru"];
  const settings = { ...rest, reset_after: reset_after ?? undefined };
  const layer = { class_name: className, config: settings };
  const config = kerasConfig(merge ? { class_name: "Bidirectional", config: { layer } } : layer);
  return kerasLayer({ weights, config }, place);
}

/** Gradients of our parameters in Keras' layout, one for each array of the case. */
function theirGradients(c: GoldenCase, own: Record<string, Tensor>): Computed {
  const { cell } = kerasShape(c.under("param."))!;
  const theirs = (name: string) => fromOurs(values(own[name].grad!), "keras", cell);
  const result: Computed = {};
  for (const [name, { shape }] of Object.entries(c.under("param."))) {
    const suffix = name.startsWith("backward/") ? "l0_reverse" : "l0";
    const last = name.slice(name.lastIndexOf("/") + 1);
    const parts =
      last === "kernel"
        ? ["weight_ih"]
        : last === "recurrent_kernel"
          ? ["weight_hh"]
          : shape.length === 1
            ? ["bias_ih"]
            : ["bias_ih", "bias_hh"];
    result[`grad.param.${name}`] = { shape, data: parts.flatMap((part) => Array.from(theirs(`${part}_${suffix}`).data)) };
  }
  return result;
}

function merged(output: Tensor, units: number, mode: Merge): Tensor {
  if (mode === "concat") return output;
  const forward = slice(output, 2, 0, units);
  const backward = slice(output, 2, units, 2 * units);
  if (mode === "mul") return mul(forward, backward);
  return scale(add(forward, backward), mode === "ave" ? 0.5 : 1);
}

/**
 * Where the output of a masked layer is not zero: from the first step on that counts, in the order in which it reads, as
 * masked steps repeat the output before them; with two directions only where a step counts.
 */
function shown({ shape: [n, steps], data }: Values, backwards: boolean, repeats: boolean): Float64Array {
  const result = Float64Array.from(data);
  for (let row = 0; row < n; row++)
    for (let k = 1; repeats && k < steps; k++) {
      const at = row * steps + (backwards ? steps - 1 - k : k);
      result[at] ||= result[backwards ? at + 1 : at - 1];
    }
  return result;
}

/** keras.layers.SimpleRNN, LSTM and GRU, and Bidirectional around them. */
export const keras: Adapter = {
  families: ["gru_reset_before", "keras_gru_reset_after", "keras_lstm", "keras_rnn"],

  unsupported(c) {
    try {
      build(c, {});
      return null;
    } catch (error) {
      return (error as Error).message;
    }
  },

  run(c, place) {
    const { units, go_backwards: backwards, bidirectional_merge: merge, mask } = configOf(c);
    const layer = build(c, place) as LSTM;
    const x = c.leaf("input.x", place);
    const start = Object.fromEntries(["h", "c"].flatMap((s) => (c.has(`state0.${s}0`) ? [[s, c.leaf(`state0.${s}0`, place)]] : [])));
    const layered = Object.fromEntries(Object.entries(start).map(([s, t]) => [s, reshape(t, [1, ...t.shape])]));
    const counts = mask ? c.values("input.mask") : null;
    const maskLike = (data: ArrayLike<number>, shape: readonly number[]) =>
      tensor(Float64Array.from(data), { shape, dtype: place.dtype, device: place.device });
    const { output, state } = layer.forward(x, {
      state: "h" in start ? (layered as unknown as LSTMState) : undefined,
      ...(counts && { update: maskLike(counts.data, counts.shape) }),
    });
    const seen = counts ? mul(output, maskLike(shown(counts, backwards, !merge), [...counts.shape, 1])) : output;
    const y = backwards ? flip(seen, 1) : seen;
    const finals = merge ? {} : Object.fromEntries(Object.entries(state).map(([s, t]) => [`${s}_n`, reshape(t, t.shape.slice(1))]));
    const leaves = { "input.x": x, ...Object.fromEntries(Object.entries(start).map(([s, t]) => [`state0.${s}0`, t])) };
    const computed = differentiate(c, place, { y: merge ? merged(y, units, merge) : y, ...finals }, leaves);
    return { ...computed, ...theirGradients(c, layer.stateDict()) };
  },
};
