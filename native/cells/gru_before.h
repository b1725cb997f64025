// Gated recurrent unit, reset before the recurrent product (Cho et al. 2014): as in gru.h, but
//   m = r * h_{t-1}                n = tanh(W_n x_t + b_in + U_n m + b_hn)
#pragma once
#include "cell.h"

namespace throughtime {

struct GruBefore {
  enum Gate { R, Z, N };
  enum Keep { M = 3 };
  static constexpr int gates = 3, inner_gates = 1, operand = M, states = 1, saved = 4;
  static constexpr bool one_gradient = true;

  template <class V>
  static HD void inner(const V* wx, const V* rh, const V* prev, V* keep) {
    keep[R] = sigmoid(wx[R] + rh[R]);
    keep[Z] = sigmoid(wx[Z] + rh[Z]);
    keep[M] = keep[R] * prev[0];
  }

  template <class V>
  static HD void forward(const V* wx, const V* rh, const V* prev, V* next, V* keep) {
    const V n = tanh(wx[N] + rh[N]);
    next[0] = n + keep[Z] * (prev[0] - n);
    keep[N] = n;
  }

  template <class V>
  static HD void backward(const V* keep, const V* prev, const V*, const V* dnext, V* dwx, V*, V* dprev) {
    const V z = keep[Z], n = keep[N];
    dwx[N] = dnext[0] * (1.0f - z)    * (1.0f - n * n);
    dwx[Z] = dnext[0] * (prev[0] - n) * (z * (1.0f - z));
    dprev[0] = dnext[0] * z;
  }

  template <class V>
  static HD void inner_backward(const V* keep, const V* prev, const V* dm, V* dwx, V*, V* dprev) {
    const V r = keep[R];
    dwx[R] = dm[0] * prev[0] * (r * (1.0f - r));
    dprev[0] += dm[0] * r;
  }
};

}  // namespace throughtime
