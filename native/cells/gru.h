// Gated recurrent unit, reset after the recurrent product, as PyTorch and cuDNN have it:
//   r = s(W_r x_t + U_r h_{t-1})   z = s(W_z x_t + U_z h_{t-1})
//   q = U_n h_{t-1} + b_hn         n = tanh(W_n x_t + b_in + r * q)
//   h_t = (1 - z) * n + z * h_{t-1}
#pragma once
#include "cell.h"

namespace throughtime {

struct Gru {
  enum Gate { R, Z, N };
  enum Keep { Q = 3 };
  static constexpr int gates = 3, inner_gates = 0, states = 1, saved = 4;
  static constexpr bool one_gradient = false;

  template <class V>
  static HD void forward(const V* wx, const V* rh, const V* prev, V* next, V* keep) {
    const V r = sigmoid(wx[R] + rh[R]);
    const V z = sigmoid(wx[Z] + rh[Z]);
    const V q = rh[N];
    const V n = tanh(wx[N] + r * q);
    next[0] = n + z * (prev[0] - n);
    keep[R] = r, keep[Z] = z, keep[N] = n, keep[Q] = q;
  }

  template <class V>
  static HD void backward(const V* keep, const V* prev, const V*, const V* dnext, V* dwx, V* drh, V* dprev) {
    const V r = keep[R], z = keep[Z], n = keep[N], q = keep[Q];
    dwx[N] = dnext[0] * (1.0f - z)      * (1.0f - n * n);
    dwx[R] = dwx[N]   * q               * (r * (1.0f - r));
    dwx[Z] = dnext[0] * (prev[0] - n)   * (z * (1.0f - z));
    drh[R] = dwx[R];
    drh[Z] = dwx[Z];
    drh[N] = dwx[N] * r;
    dprev[0] = dnext[0] * z;
  }
};

}  // namespace throughtime
