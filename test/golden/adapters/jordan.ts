import { Jordan } from "../../../src/nn/jordan.js";
import { differentiate, swapBatch, type Adapter } from "../adapter.js";
import { assign, layered, leavesOf } from "./weights.js";

interface Config {
  readonly input_size: number;
  readonly hidden_size: number;
  readonly output_size: number;
  readonly nonlinearity: "tanh" | "relu";
  readonly output_activation: "linear" | "tanh" | "sigmoid";
}

/** Jordan's recurrence over PyTorch's kernels: the output is fed back. */
export const jordan: Adapter = {
  families: ["jordan"],

  run(c, place) {
    const { input_size: I, hidden_size: H, output_size, nonlinearity, output_activation } = c.config as unknown as Config;
    const leaves = leavesOf(c, place, "input.x");
    const of = (name: string) => leaves[`param.${name}`];
    const layer = assign(new Jordan(I, H, { outputSize: output_size, outputActivation: output_activation, nonlinearity, ...place }), {
      weight_ih_l0: of("weight_ih"),
      weight_hh_l0: of("weight_yh"),
      bias_ih_l0: of("bias_ih"),
      bias_hh_l0: of("bias_hh"),
      weight_hr_l0: of("weight_hy"),
      bias_hr_l0: of("bias_y"),
    });
    const state = c.has("state0.y0") ? { y: layered(leaves["state0.y0"]) } : undefined;
    const { output, hidden } = layer.forward(swapBatch(leaves["input.x"], false), { state });
    return differentiate(c, place, { y: swapBatch(output, false), h: swapBatch(hidden, false) }, leaves);
  },
};
