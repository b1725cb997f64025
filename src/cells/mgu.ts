import { add, mul, sigmoid, sub, tanh } from "../ops/elementwise.js";
import { defineCell } from "../ops/sweep.js";
import type { Tensor } from "../tensor/tensor.js";

const forget = (wx: { readonly f: Tensor }, rh: { readonly f: Tensor }) => sigmoid(add(wx.f, rh.f));

/**
 * Minimal gated unit (Zhou, Wu, Zhang & Zhou 2016), gate order f, n:
 *
 *     f = sigmoid(W_f x_t + U_f h_{t-1})
 *     n = tanh(W_n x_t + U_n (f * h_{t-1}))
 *     h_t = (1 - f) * h_{t-1} + f * n
 */
export const mgu = defineCell({
  name: "mgu",
  gates: ["f", "n"],
  states: ["h"],
  inner: { gates: ["n"], of: (wx, rh, { h }) => mul(forget(wx, rh), h) },
  step(wx, rh, { h }, { drop }) {
    const n = drop(tanh(add(wx.n, rh.n)));
    return { h: add(h, mul(forget(wx, rh), sub(n, h))) };
  },
});
