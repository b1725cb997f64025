import { add, mul, sigmoid, sub, tanh } from "../ops/elementwise.js";
import { defineCell } from "../ops/sweep.js";
import type { Tensor } from "../tensor/tensor.js";

type Gates = Record<"r" | "z" | "n", Tensor>;

const reset = (wx: Gates, rh: Gates) => sigmoid(add(wx.r, rh.r));

/** (1 - z) * n + z * h, with z = sigmoid(W_z x + U_z h): z keeps the old state, as in PyTorch. */
function update(wx: Gates, rh: Gates, n: Tensor, h: Tensor): Tensor {
  const z = sigmoid(add(wx.z, rh.z));
  return add(n, mul(z, sub(h, n)));
}

/**
 * Gated recurrent unit with the reset gate after the recurrent product, as PyTorch and cuDNN have it,
 * gate order r, z, n:
 *
 *     r = sigmoid(W_r x_t + U_r h_{t-1})   z = sigmoid(W_z x_t + U_z h_{t-1})
 *     n = tanh(W_n x_t + b_in + r * (U_n h_{t-1} + b_hn))
 *     h_t = (1 - z) * n + z * h_{t-1}
 */
export const gru = defineCell({
  name: "gru",
  gates: ["r", "z", "n"],
  states: ["h"],
  step: (wx, rh, { h }) => ({ h: update(wx, rh, tanh(add(wx.n, mul(reset(wx, rh), rh.n))), h) }),
});

/**
 * Gated recurrent unit with the reset gate before the recurrent product, as Cho et al. 2014 have it:
 * n = tanh(W_n x_t + b_in + U_n (r * h_{t-1}) + b_hn), the rest as in `gru`.
 */
export const gruBefore = defineCell({
  name: "gru_before",
  gates: ["r", "z", "n"],
  states: ["h"],
  inner: { gates: ["n"], of: (wx, rh, { h }) => mul(reset(wx, rh), h) },
  step: (wx, rh, { h }) => ({ h: update(wx, rh, tanh(add(wx.n, rh.n)), h) }),
});
