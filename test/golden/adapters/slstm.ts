import { slstm as cell } from "../../../src/cells/slstm.js";
import { ofHeads } from "../../../src/nn/heads.js";
import { sweep } from "../../../src/ops/sweep.js";
import { reshape, slice, stack, transpose } from "../../../src/ops/movement.js";
import type { Tensor } from "../../../src/tensor/tensor.js";
import { differentiate, type Adapter } from "../adapter.js";
import { leavesOf } from "./weights.js";

/** The vanilla sLSTM of NX-AI's xlstm: W x is given, [T, N, 4H]; the file has every state at every step. */
export const slstm: Adapter = {
  families: ["slstm"],

  run(c, place) {
    const leaves = leavesOf(c, place, "input.Wx");
    const { heads, head_dim: size } = c.config as { heads: number; head_dim: number };
    const hidden = heads * size;
    const x = transpose(leaves["input.Wx"], [1, 0, 2]);
    const R = leaves["param.R"];
    // [heads, gates, size, size] -> [gates, heads, size, size]
    const weight = reshape(transpose(reshape(R, [heads, 4, size, size]), [1, 0, 2, 3]), [4 * hidden, size]);
    const inputs = { weightIh: null, weightHh: ofHeads(weight, heads), biasIh: null, biasHh: leaves["param.b"], lengths: null };
    let state = c.has("state0.y") ? { h: leaves["state0.y"], c: leaves["state0.c"], n: leaves["state0.n"], m: leaves["state0.m"] } : {};
    const all: Record<string, Tensor[]> = { y: [], c: [], n: [], m: [] };
    const whole = sweep(cell, { ...inputs, x }, state);
    for (let t = 0; t < x.shape[1]; t++) {
      const stepped = sweep(cell, { ...inputs, x: slice(x, 1, t, t + 1) }, state);
      state = stepped.state;
      all.c.push(stepped.state.c);
      all.n.push(stepped.state.n);
      all.m.push(stepped.state.m);
    }
    const outputs = { y: transpose(whole.output, [1, 0, 2]), c: stack(all.c), n: stack(all.n), m: stack(all.m) };
    return differentiate(c, place, outputs, leaves);
  },
};
