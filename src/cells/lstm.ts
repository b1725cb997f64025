import { add, mul, sigmoid, tanh } from "../ops/elementwise.js";
import { defineCell } from "../ops/sweep.js";

/**
 * Long short-term memory (Hochreiter & Schmidhuber 1997) with the forget gate (Gers, Schmidhuber & Cummins 2000),
 * gate order i, f, g, o as PyTorch. z = W x_t + b_ih + U h_{t-1} + b_hh for each gate:
 *
 *     i = sigmoid(z_i)   f = sigmoid(z_f)   g = tanh(z_g)   o = sigmoid(z_o)
 *     c_t = f * c_{t-1} + i * g
 *     h_t = o * tanh(c_t)
 */
export const lstm = defineCell({
  name: "lstm",
  gates: ["i", "f", "g", "o"],
  states: ["h", "c"],
  step(wx, rh, { c }) {
    const i = sigmoid(add(wx.i, rh.i));
    const f = sigmoid(add(wx.f, rh.f));
    const g = tanh(add(wx.g, rh.g));
    const o = sigmoid(add(wx.o, rh.o));
    const next = add(mul(f, c), mul(i, g));
    return { h: mul(o, tanh(next)), c: next };
  },
});
