import { add } from "../ops/elementwise.js";
import { defineCell, type Cell } from "../ops/sweep.js";
import { activationName, activationOf, memoised, type Activation } from "./activation.js";

export type ElmanCell = Cell<"h", "h">;

/** Those that have native kernels. */
const kernels: readonly string[] = ["elman_tanh", "elman_relu"];

const cells = new Map<string, ElmanCell>();

/** Elman 1990, "Finding structure in time": h_t = f(W x_t + b_ih + U h_{t-1} + b_hh). */
export function elmanCell(nonlinearity: Activation = "tanh", where = "elmanCell"): ElmanCell {
  const f = activationOf(where, "nonlinearity", nonlinearity);
  const name = `elman_${activationName(f)}`;
  const define = () =>
    defineCell<"h", "h">({
      name,
      gates: ["h"],
      states: ["h"],
      fused: kernels.includes(name),
      step: (wx, rh) => ({ h: f(add(wx.h, rh.h)) }),
    });
  return memoised(cells, name, define);
}

/** The usual one: h_t = tanh(W x_t + b_ih + U h_{t-1} + b_hh). */
export const elmanTanh = elmanCell("tanh");

/** The same with a rectifier: h_t = max(W x_t + b_ih + U h_{t-1} + b_hh, 0) (Le, Jaitly & Hinton 2015). */
export const elmanRelu = elmanCell("relu");
