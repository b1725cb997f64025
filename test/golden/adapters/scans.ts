import { QRNN } from "../../../src/nn/layers.js";
import { exp, neg } from "../../../src/ops/elementwise.js";
import { linear } from "../../../src/ops/matmul.js";
import { concat, reshape, select, slice, stack, transpose } from "../../../src/ops/movement.js";
import { scan } from "../../../src/ops/scan.js";
import { sru as recurrence } from "../../../src/ops/sru.js";
import { wkv4 } from "../../../src/ops/wkv4.js";
import { tensor, zeros } from "../../../src/tensor/create.js";
import { differentiate, swapBatch, values, type Adapter } from "../adapter.js";
import type { GoldenCase, Place } from "../case.js";
import { assign, layered, leavesOf } from "./weights.js";

const leavesWith = (c: GoldenCase, place: Place) => leavesOf(c, place, ...Object.keys(c.under("input.")).map((name) => `input.${name}`));

/** elementwise_recurrence_naive of SRU's authors; in both directions, each has its half of all channels. */
export const sru: Adapter = {
  families: ["sru"],

  run(c, place) {
    const {
      hidden_size: H,
      bidirectional,
      k,
      activation,
    } = c.config as { hidden_size: number; bidirectional: boolean; k: 3 | 4; activation: "tanh" };
    const leaves = leavesWith(c, place);
    const x = swapBatch(leaves["input.x"], false);
    const [n, steps, I] = x.shape;
    const directions = bidirectional ? 2 : 1;
    // [I, directions, H, k] to a block of rows for each of k
    const weight = transpose(reshape(leaves["param.weight"], [I, directions, H, k]), [1, 3, 2, 0]);
    const perUnit = (name: string, d: number) => select(reshape(leaves[name], [2, directions, H]), 1, d);
    const padding = c.has("const.mask_pad") ? c.values("const.mask_pad").data : new Float64Array(steps * n);
    const lengths = new Int32Array(n).fill(steps);
    for (let i = 0; i < padding.length; i++) lengths[i % n] -= padding[i];
    const valid = tensor(lengths, { device: place.device });
    const results = Array.from({ length: directions }, (_, d) =>
      recurrence(
        {
          u: linear(x, reshape(select(weight, 0, d), [k * H, I])),
          skip: k === 3 ? slice(x, 2, d * H, (d + 1) * H) : null,
          v: perUnit("param.weight_c", d),
          bias: perUnit("param.bias", d),
        },
        { initial: slice(leaves["state0.c0"], 1, d * H, (d + 1) * H), lengths: valid, reverse: d === 1, activation },
      ),
    );
    const h = concat(results.map((r) => r.output), 2); // prettier-ignore
    return differentiate(c, place, { h: swapBatch(h, false), c_n: concat(results.map((r) => r.state), 1) }, leaves); // prettier-ignore
  },
};

/** QRNNLayer of Salesforce. */
export const qrnn: Adapter = {
  families: ["qrnn"],

  run(c, place) {
    const {
      input_size: I,
      hidden_size: H,
      window,
      output_gate: outputGate,
    } = c.config as { input_size: number; hidden_size: number; window: 1 | 2; output_gate: boolean };
    const leaves = leavesWith(c, place);
    const layer = new QRNN(I, H, { window, outputGate, ...place });
    assign(layer.linear, { weight: leaves["param.linear.weight"], bias: leaves["param.linear.bias"] });
    const x = swapBatch(leaves["input.x"], false);
    const start = c.has("state0.h0") ? { c: layered(leaves["state0.h0"]), x: zeros([1, x.shape[0], I], place) } : undefined;
    const { output, state } = layer.forward(x, { state: start });
    return differentiate(c, place, { y: swapBatch(output, false), h_n: state.c }, leaves);
  },
};

/** naive_recurrent_hgrn of flash-linear-attention: the recurrence alone, its gates as logarithms. */
export const hgrn: Adapter = {
  families: ["hgrn"],

  run(c, place) {
    const leaves = leavesWith(c, place);
    const { output, state } = scan(exp(leaves["input.g"]), leaves["input.x"], { initial: c.has("state0.h") ? leaves["state0.h"] : null });
    return differentiate(c, place, { y: output, h: state }, leaves);
  },
};

/** rwkv_linear_attention_cpu of Transformers. */
export const rwkv4: Adapter = {
  families: ["rwkv4"],

  run(c, place) {
    const leaves = leavesWith(c, place);
    const initial = c.has("state0.num") ? stack(["num", "den", "max"].map((name) => leaves[`state0.${name}`]), 1) : null; // prettier-ignore
    const { output, state } = wkv4(
      { w: neg(exp(leaves["param.time_decay"])), u: leaves["param.time_first"], k: leaves["input.k"], v: leaves["input.v"] },
      { initial },
    );
    const finals = Object.fromEntries(["num", "den", "max"].map((name, i) => [name, select(state, 1, i)]));
    const computed = differentiate(c, place, { y: output, ...finals }, leaves);
    // Nothing of a single step depends on the decay but the state after it.
    const decay = "grad.param.time_decay";
    return { [decay]: values(zeros(leaves["param.time_decay"].shape, place)), ...computed };
  },
};
