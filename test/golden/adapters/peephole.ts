import { LSTM, type LSTMOptions } from "../../../src/nn/layers.js";
import { affine } from "../../../src/ops/elementwise.js";
import { concat, reshape, slice, split, stack } from "../../../src/ops/movement.js";
import { zeros } from "../../../src/tensor/create.js";
import type { Tensor } from "../../../src/tensor/tensor.js";
import { differentiate, swapBatch, type Adapter } from "../adapter.js";
import type { GoldenCase, Place } from "../case.js";
import { assign, blocks, cellStates, layered, leavesOf, single, turned } from "./weights.js";

interface Config {
  readonly input_size: number;
  readonly hidden_size: number;
  readonly direction?: "forward" | "reverse";
  readonly forget_bias?: number;
  readonly cell_clip?: number;
  readonly use_peephole?: boolean;
}

type Leaves = Readonly<Record<string, Tensor>>;

interface Built {
  readonly options: LSTMOptions;
  readonly parameters: Record<string, Tensor>;
}

/** ONNX: gates i, o, f, c and peepholes i, o, f. */
function onnx(leaves: Leaves): Built {
  const gates = (t: Tensor) => blocks(t, 0, 4, [0, 2, 3, 1]);
  const half = leaves["param.B"].size / 2;
  const [input, recurrent] = split(leaves["param.B"], [half, half], 0);
  return {
    options: { peephole: true },
    parameters: {
      weight_ih_l0: gates(leaves["param.W"]),
      weight_hh_l0: gates(leaves["param.R"]),
      bias_ih_l0: gates(input),
      bias_hh_l0: gates(recurrent),
      weight_peephole_l0: blocks(reshape(leaves["param.P"], [3, leaves["param.P"].size / 3]), 0, 3, [0, 2, 1]),
    },
  };
}

/** TensorFlow: one weight over x and h, columns by gate in another order, and a bias of the forget gate that is added inside. */
function stacked(weight: Tensor, bias: Tensor, order: readonly number[], forget: number, { input_size: I, forget_bias = 0 }: Config) {
  const count = order.length;
  const ours = turned(blocks(weight, 1, count, order));
  const parts = split(blocks(bias, 0, count, order), new Array<number>(count).fill(bias.size / count), 0);
  return {
    weight_ih_l0: slice(ours, 1, 0, I),
    weight_hh_l0: slice(ours, 1, I),
    bias_ih_l0: concat(parts.with(forget, affine(parts[forget], 1, forget_bias)), 0),
    bias_hh_l0: zeros([bias.size], bias),
  };
}

/** tf.raw_ops.BlockLSTM: gates i, c, f, o. */
function block(leaves: Leaves, config: Config): Built {
  const diagonals = ["wci", "wcf", "wco"].map((name) => leaves[`param.${name}`]);
  const { cell_clip: clip = -1, use_peephole: on = false } = config;
  return {
    options: { peephole: on, ...(clip > 0 && { cellClip: clip }) },
    parameters: {
      ...stacked(leaves["param.w"], leaves["param.b"], [0, 2, 1, 3], 1, config),
      ...(on && { weight_peephole_l0: stack(diagonals, 0) }),
    },
  };
}

/** tf.contrib's CoupledInputForgetGateLSTMCell: gates j, f, o, of which the forget gate is learned. */
function coupled(leaves: Leaves, config: Config): Built {
  const diagonals = ["W_F_diag", "W_O_diag"].flatMap((name) => (`param.${name}` in leaves ? [leaves[`param.${name}`]] : []));
  return {
    options: { coupled: "forget", peephole: diagonals.length > 0 },
    parameters: {
      ...stacked(leaves["param.W"], leaves["param.B"], [1, 0, 2], 0, config),
      ...(diagonals.length > 0 && { weight_peephole_l0: stack(diagonals, 0) }),
    },
  };
}

const starts: Readonly<Record<string, readonly string[]>> = { h: ["state0.initial_h", "state0.h0"], c: ["state0.initial_c", "state0.c0"] };

function startOf(leaves: Leaves): { h: Tensor; c: Tensor } | undefined {
  const found = Object.entries(starts).flatMap(([s, keys]) => keys.flatMap((key) => (key in leaves ? [[s, layered(leaves[key])]] : [])));
  return found.length > 0 ? (Object.fromEntries(found) as { h: Tensor; c: Tensor }) : undefined;
}

function build(c: GoldenCase, leaves: Leaves): Built {
  const config = c.config as unknown as Config;
  if (c.has("param.P")) return onnx(leaves);
  return c.has("param.w") ? block(leaves, config) : coupled(leaves, config);
}

/** Peepholes and coupled gates as ONNX and TensorFlow have them. */
export const peephole: Adapter = {
  families: ["peephole_lstm", "cifg_lstm"],

  run(c: GoldenCase, place: Place) {
    const { input_size: I, hidden_size: H, direction } = c.config as unknown as Config;
    const inputName = c.has("input.X") ? "input.X" : "input.x";
    const leaves = leavesOf(c, place, inputName);
    const { options, parameters } = build(c, leaves);
    const layer = assign(new LSTM(I, H, { reverse: direction === "reverse", ...options, ...place }), parameters);
    const x = swapBatch(leaves[inputName], false);
    const start = startOf(leaves);
    const { output, state } = layer.forward(x, { state: start });
    const sequence = swapBatch(output, false);
    const [h, last] = [single(state.h), single(state.c)];
    const outputs = { Y: sequence, y: sequence, Y_h: h, Y_c: last, h_n: h, c_n: last };
    return differentiate(c, place, c.has("output.c") ? { ...outputs, c: cellStates(layer, x, start) } : outputs, leaves);
  },
};
