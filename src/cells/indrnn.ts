import { add, relu, tanh } from "../ops/elementwise.js";
import { defineCell } from "../ops/sweep.js";

/** Independently recurrent network (Li et al. 2018): h_t = max(W x_t + b + u * h_{t-1}, 0), with one recurrent weight a unit. */
export const indrnnRelu = defineCell({
  name: "indrnn_relu",
  gates: ["h"],
  states: ["h"],
  recurrent: "diagonal",
  step: (wx, rh) => ({ h: relu(add(wx.h, rh.h)) }),
});

/** The same with tanh: h_t = tanh(W x_t + b + u * h_{t-1}). */
export const indrnnTanh = defineCell({
  name: "indrnn_tanh",
  gates: ["h"],
  states: ["h"],
  recurrent: "diagonal",
  step: (wx, rh) => ({ h: tanh(add(wx.h, rh.h)) }),
});
