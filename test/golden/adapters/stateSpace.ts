import { transpose } from "../../../src/ops/movement.js";
import { selectiveScan } from "../../../src/ops/selectiveScan.js";
import { differentiate, type Adapter } from "../adapter.js";
import { leavesOf } from "./weights.js";

/** selective_scan_ref of Mamba, channels before steps. */
export const selective: Adapter = {
  families: ["selective_scan"],

  run(c, place) {
    const leaves = leavesOf(c, place, ...Object.keys(c.under("input.")).map((name) => `input.${name}`));
    const maybe = (name: string) => leaves[name] ?? null;
    // [B, D, L] and [B, G, N, L], the last axis to the second; what does not change in time has two axes.
    const timed = (name: string) => {
      const t = leaves[name];
      return t.shape.length === 2 ? t : transpose(t, t.shape.length === 3 ? [0, 2, 1] : [0, 3, 1, 2]);
    };
    const matrix = (name: "B" | "C") => timed(`input.${name}` in leaves ? `input.${name}` : `param.${name}`);
    const { output, state } = selectiveScan(
      {
        u: timed("input.u"),
        delta: timed("input.delta"),
        A: leaves["param.A"],
        B: matrix("B"),
        C: matrix("C"),
        D: maybe("param.D"),
        z: "input.z" in leaves ? timed("input.z") : null,
        deltaBias: maybe("param.delta_bias"),
      },
      { softplus: c.config.delta_softplus as boolean, initial: maybe("state0.h") },
    );
    return differentiate(c, place, { y: transpose(output, [0, 2, 1]), last_state: state }, leaves);
  },
};
