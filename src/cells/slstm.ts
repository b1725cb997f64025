import { add, div, equal, exp, maximum, minimum, mul, neg, sigmoid, softplus, sub, tanh } from "../ops/elementwise.js";
import { where } from "../ops/select.js";
import { defineCell } from "../ops/sweep.js";
import { zeros } from "../tensor/create.js";

/**
 * LSTM with exponential gating, normaliser and stabiliser (sLSTM; Beck et al. 2024, "xLSTM: Extended Long Short-Term
 * Memory", eq. 8-18), gate order i, f, z, o, with arguments z_i, z_f, z_z, z_o = W x_t + U h_{t-1}:
 *
 *     l = log sigmoid(z_f) + m_{t-1}      m_t = max(l, z_i), but z_i while n is zero, as at the start
 *     i = exp(z_i - m_t)                  f = exp(l - m_t)
 *     c_t = f * c_{t-1} + i * tanh(z_z)   n_t = f * n_{t-1} + i
 *     h_t = sigmoid(z_o) * c_t / n_t
 */
export const slstm = defineCell({
  name: "slstm",
  gates: ["i", "f", "z", "o"],
  states: ["h", "c", "n", "m"],
  positive: ["n"],
  step(wx, rh, { c, n, m }, { clip }) {
    const zero = zeros([], { device: c.device, dtype: c.dtype as "float32" | "float64" });
    const input = add(wx.i, rh.i);
    const kept = sub(m, softplus(neg(add(wx.f, rh.f))));
    const next = where(equal(n, zero), input, maximum(kept, input));
    const i = exp(sub(input, next));
    const f = exp(minimum(sub(kept, next), zero));
    const cell = clip(add(mul(f, c), mul(i, tanh(add(wx.z, rh.z)))));
    const norm = add(mul(f, n), i);
    return { h: mul(sigmoid(add(wx.o, rh.o)), div(cell, norm)), c: cell, n: norm, m: next };
  },
});
