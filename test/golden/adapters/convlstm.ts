import { ConvLSTM1d, ConvLSTM2d } from "../../../src/nn/convlstm.js";
import { reshape, select } from "../../../src/ops/movement.js";
import type { Tensor } from "../../../src/tensor/tensor.js";
import { differentiate, values, type Adapter } from "../adapter.js";

interface Config {
  readonly channels: number;
  readonly filters: number;
  readonly kernel_size: number | readonly number[];
  readonly padding: "same" | "valid";
  readonly strides: number | readonly number[];
  readonly dilation: number | readonly number[];
  readonly use_bias: boolean;
}

const ours = { kernel: "weight_ih_l0", recurrent_kernel: "weight_hh_l0", bias: "bias_l0" };

/** keras.layers.ConvLSTM1D and ConvLSTM2D, whose kernels have our layout and gate order. */
export const convlstm: Adapter = {
  families: ["convlstm"],

  run(c, place) {
    const { channels, filters, kernel_size, padding, strides, dilation, use_bias: bias } = c.config as unknown as Config;
    const x = c.leaf("input.x", place);
    const Layer = x.shape.length === 4 ? ConvLSTM1d : ConvLSTM2d;
    const layer = new Layer(channels, filters, { kernelSize: kernel_size, padding, stride: strides, dilation, bias, ...place });
    const given = Object.entries(c.under("param."));
    layer.loadStateDict(Object.fromEntries(given.map(([name, value]) => [ours[name as keyof typeof ours], value])));
    const start = Object.fromEntries(["h", "c"].filter((s) => c.has(`state0.${s}0`)).map((s) => [s, c.leaf(`state0.${s}0`, place)]));
    const layered = (t: Tensor) => reshape(t, [1, ...t.shape]);
    const { output, state } = layer.forward(x, "h" in start ? { state: { h: layered(start.h), c: layered(start.c) } } : {});
    const leaves = { "input.x": x, ...Object.fromEntries(Object.entries(start).map(([s, t]) => [`state0.${s}0`, t])) };
    const outputs = { y: output, h_n: select(state.h, 0, 0), c_n: select(state.c, 0, 0) };
    const computed = differentiate(c, place, outputs, leaves);
    const own = layer.stateDict();
    for (const [name] of given) computed[`grad.param.${name}`] = values(own[ours[name as keyof typeof ours]].grad!);
    return computed;
  },
};
