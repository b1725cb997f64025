import { add, relu, tanh } from "../ops/elementwise.js";
import { defineCell } from "../ops/sweep.js";

/** Elman 1990, "Finding structure in time": h_t = tanh(W x_t + b_ih + U h_{t-1} + b_hh). */
export const elmanTanh = defineCell({
  name: "elman_tanh",
  gates: ["h"],
  states: ["h"],
  step: (wx, rh) => ({ h: tanh(add(wx.h, rh.h)) }),
});

/** The same with a rectifier: h_t = max(W x_t + b_ih + U h_{t-1} + b_hh, 0) (Le, Jaitly & Hinton 2015). */
export const elmanRelu = defineCell({
  name: "elman_relu",
  gates: ["h"],
  states: ["h"],
  step: (wx, rh) => ({ h: relu(add(wx.h, rh.h)) }),
});
