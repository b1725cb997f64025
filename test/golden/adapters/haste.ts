import { GRU, IndRNN, LSTM } from "../../../src/nn/layers.js";
import type { Recurrent } from "../../../src/nn/recurrent.js";
import { slice, unstack } from "../../../src/ops/movement.js";
import { tensor, zeros } from "../../../src/tensor/create.js";
import type { Tensor } from "../../../src/tensor/tensor.js";
import { differentiate, swapBatch, type Adapter } from "../adapter.js";
import type { GoldenCase, Place } from "../case.js";
import { assign, blocks, cellStates, layered, leavesOf, single, turned } from "./weights.js";

interface Config {
  readonly input_size?: number;
  readonly hidden_size: number;
  readonly zoneout?: number;
  readonly training?: boolean;
}

type Leaves = Readonly<Record<string, Tensor>>;
type Layer = Recurrent<string>;

/** haste's gates in our order: LSTM i, g, f, o and GRU z, r, h. */
const orders: Readonly<Record<number, readonly number[]>> = { 1: [0], 3: [1, 0, 2], 4: [0, 2, 1, 3] };

const configOf = (c: GoldenCase) => c.config as unknown as Config;

/** LSTM, GRU and IndRNN of haste, told apart by their parameters. */
function hasteLayer(c: GoldenCase, place: Place, leaves: Leaves): Layer {
  const { input_size: I = 0, hidden_size: H, zoneout = 0 } = configOf(c);
  const of = (name: string) => leaves[`param.${name}`];
  const layerNorm = c.has("param.gamma");
  const gates = of("kernel").shape[1] / H;
  const ordered = (t: Tensor) => blocks(t, t.shape.length - 1, gates, orders[gates]);
  const gains = layerNorm ? unstack(of("gamma"), 0).map(ordered) : [];
  const options = { layerNorm, zoneout: { h: zoneout }, ...place };
  const input = {
    weight_ih_l0: turned(ordered(of("kernel"))),
    bias_ih_l0: ordered(of("bias")),
    ...(layerNorm && { gain_ih_l0: gains[0] }),
  };
  if (gates === 1)
    return assign<Layer>(new IndRNN(I, H, { nonlinearity: "tanh", ...options }), { ...input, weight_hh_l0: of("recurrent_scale") });
  const recurrent = { weight_hh_l0: turned(ordered(of("recurrent_kernel"))), ...(layerNorm && { gain_hh_l0: gains[1] }) };
  if (gates === 3) return assign<Layer>(new GRU(I, H, options), { ...input, ...recurrent, bias_hh_l0: ordered(of("recurrent_bias")) });
  return assign<Layer>(new LSTM(I, H, options), {
    ...input,
    ...recurrent,
    bias_hh_l0: zeros([4 * H], place),
    ...(layerNorm && { gain_c_l0: of("gamma_h"), bias_c_l0: of("beta_h") }),
  });
}

/** The layer-normalised LSTM of PyTorch's fastrnns: the shifts of its norms are our biases. */
function fastLayer(c: GoldenCase, place: Place, leaves: Leaves): Layer {
  const { input_size: I = 0, hidden_size: H } = configOf(c);
  const of = (name: string) => leaves[`param.${name}`];
  return assign<Layer>(new LSTM(I, H, { layerNorm: "carried", ...place }), {
    weight_ih_l0: of("weight_ih"),
    weight_hh_l0: of("weight_hh"),
    gain_ih_l0: of("layernorm_i.weight"),
    bias_ih_l0: of("layernorm_i.bias"),
    gain_hh_l0: of("layernorm_h.weight"),
    bias_hh_l0: of("layernorm_h.bias"),
    gain_c_l0: of("layernorm_c.weight"),
    bias_c_l0: of("layernorm_c.bias"),
  });
}

/** IndRNN_pytorch's recurrence alone, over x that is projected already: W is the identity. */
function onlyRecurrent(c: GoldenCase, place: Place, leaves: Leaves): Layer {
  const { hidden_size: H } = configOf(c);
  const identity = Array.from({ length: H * H }, (_, i) => (i % (H + 1) === 0 ? 1 : 0));
  return assign<Layer>(new IndRNN(H, H, { nonlinearity: c.config.activation as "relu" | "tanh", bias: false, ...place }), {
    weight_ih_l0: tensor(Float64Array.from(identity), { ...place, shape: [H, H] }),
    weight_hh_l0: leaves["param.indrnn_cell.weight_hh"],
  });
}

/** Layer normalisation, zoneout and independent recurrence: haste, PyTorch's fastrnns, IndRNN_pytorch. */
export const haste: Adapter = {
  families: ["layernorm_lstm", "layernorm_gru", "zoneout", "indrnn"],

  run(c, place) {
    const leaves = leavesOf(c, place, "input.x");
    const kind = c.has("param.kernel") ? hasteLayer : c.has("param.weight_ih") ? fastLayer : onlyRecurrent;
    const layer = kind(c, place, leaves);
    const { training = true } = configOf(c);
    layer.train(training);
    const start = ["h", "c"].flatMap((s) => (c.has(`state0.${s}0`) ? [[s, layered(leaves[`state0.${s}0`])]] : []));
    const state = start.length > 0 ? (Object.fromEntries(start) as Record<string, Tensor>) : undefined;
    const zones = training && c.has("input.zoneout_mask") ? swapBatch(c.leaf("input.zoneout_mask", place, true), false) : null;
    const masks = (mask: Tensor | null) => (mask ? { update: { h: [mask] } } : undefined);
    const x = swapBatch(leaves["input.x"], false);
    const { output, state: last } = layer.forward(x, { state, masks: masks(zones) });
    const sequence = swapBatch(output, false);
    const outputs = { y: sequence, h: sequence, h_n: single(last.h) };
    if (!("c" in last)) return differentiate(c, place, outputs, leaves);
    const cells = c.has("output.c") ? { c: cellStates(layer, x, state, (t) => masks(zones && slice(zones, 1, t, t + 1))) } : {};
    return differentiate(c, place, { ...outputs, c_n: single(last.c), ...(cells as Record<string, Tensor>) }, leaves);
  },
};
