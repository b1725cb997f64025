import { add, mul, sub } from "../ops/elementwise.js";
import { defineCell, type Cell } from "../ops/sweep.js";
import { checkChoice, checkOptions } from "../tensor/check.js";
import type { Tensor } from "../tensor/tensor.js";
import { activationName, activationOf, memoised, type CellActivations } from "./activation.js";

/** The readings of the gated recurrent unit. */
export interface GRUVariant extends CellActivations {
  /** Where the reset gate acts: `"after"` the recurrent product as PyTorch and cuDNN (default), or `"before"` it as Cho et al. 2014. */
  readonly reset?: "after" | "before";
  /**
   * What the update gate z does when it is 1: `"keep"` the old state as PyTorch and Cho et al. 2014 (default), or
   * `"write"` the new one, as Chung et al. 2014 and most textbooks.
   */
  readonly update?: "keep" | "write";
}

/** The names of the options in `GRUVariant`. */
export const gruVariant = ["reset", "update", "activation", "recurrentActivation"] as const;

export type GRUCell = Cell<"r" | "z" | "n", "h">;

type Gates = Record<"r" | "z" | "n", Tensor>;

const cells = new Map<string, GRUCell>();

/**
 * Gated recurrent unit (Cho et al. 2014), gate order r, z, n as PyTorch:
 *
 *     r = sigmoid(W_r x_t + U_r h_{t-1})   z = sigmoid(W_z x_t + U_z h_{t-1})
 *     n = tanh(W_n x_t + b_in + r * (U_n h_{t-1} + b_hn))     reset after
 *     n = tanh(W_n x_t + b_in + U_n (r * h_{t-1}) + b_hn)     reset before
 *     h_t = (1 - z) * n + z * h_{t-1}                         update keeps
 *     h_t = (1 - z) * h_{t-1} + z * n                         update writes
 */
export function gruCell(variant: GRUVariant = {}): GRUCell {
  checkOptions("GRU", variant, gruVariant);
  const { reset = "after", update = "keep", activation = "tanh", recurrentActivation = "sigmoid" } = variant;
  checkChoice("GRU", "reset", reset, ["after", "before"]);
  checkChoice("GRU", "update", update, ["keep", "write"]);
  const sigma = activationOf("GRU", "recurrentActivation", recurrentActivation);
  const phi = activationOf("GRU", "activation", activation);
  const functions = [sigma, phi].map(activationName).join("_");
  const parts = ["gru", reset === "before" && "before", update === "write" && "write", functions !== "sigmoid_tanh" && functions];
  const name = parts.filter(Boolean).join("_");
  const gate = (which: "r" | "z", wx: Gates, rh: Pick<Gates, "r" | "z">) => sigma(add(wx[which], rh[which]));
  const define = () =>
    defineCell<"r" | "z" | "n", "h">({
      name,
      gates: ["r", "z", "n"],
      states: ["h"],
      ...(reset === "before" && { inner: { gates: ["n"], of: (wx, rh, { h }) => mul(gate("r", wx, rh), h) } }),
      fused: functions === "sigmoid_tanh",
      step(wx, rh, { h }, { drop }) {
        const z = gate("z", wx, rh);
        const recurrent = reset === "before" ? rh.n : mul(gate("r", wx, rh), rh.n);
        const n = drop(phi(add(wx.n, recurrent)));
        return { h: update === "keep" ? add(n, mul(z, sub(h, n))) : add(h, mul(z, sub(n, h))) };
      },
    });
  return memoised(cells, name, define);
}

/** The usual one, as PyTorch has it: reset after, update keeps. */
export const gru = gruCell();
/** The one of Cho et al. 2014: reset before, update keeps. */
export const gruBefore = gruCell({ reset: "before" });
/** Reset after, update writes. */
export const gruWrite = gruCell({ update: "write" });
/** Reset before, update writes. */
export const gruBeforeWrite = gruCell({ reset: "before", update: "write" });
