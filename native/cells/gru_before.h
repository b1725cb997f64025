// Gated recurrent unit, reset before the recurrent product (Cho et al. 2014): as in gru.h, but
//   m = r * h_{t-1}                n = tanh(W_n x_t + b_in + U_n m + b_hn)
#pragma once
#include "gru.h"

namespace throughtime {

template <bool Writes>
struct GruBefore : CellDefaults {
  enum Gate { R, Z, N };
  enum Keep { M = 3 };
  using Update = UpdateGate<Writes>;
  static constexpr int gates = 3, inner_gates = 1, operand = M, states = 1, saved = 4;
  static constexpr bool one_gradient = true;

  template <class V>
  static HD void inner(const V* wx, const V* rh, const V* prev, V* keep) {
    keep[R] = sigmoid(wx[R] + rh[R]);
    keep[Z] = sigmoid(wx[Z] + rh[Z]);
    keep[M] = keep[R] * prev[0];
  }

  template <class V, class S>
  static HD void forward(const V* wx, const V* rh, const V* prev, V* next, V* keep, const S& stages) {
    const V n = tanh(wx[N] + rh[N]);
    const V candidate = stages.drop(n);
    next[0] = candidate + Update::kept(keep[Z]) * (prev[0] - candidate);
    keep[N] = n;
  }

  template <class V, class S>
  static HD void backward(const V* keep, const V* prev, const V*, const V* dnext, V* dwx, V*, V* dprev, const S& stages,
                          V*) {
    const V z = keep[Z], n = keep[N], kept = Update::kept(z);
    dwx[N] = stages.drop(dnext[0] * (1.0f - kept)) * (1.0f - n * n);
    dwx[Z] = Update::backward(z, dnext[0] * (prev[0] - stages.drop(n)));
    dprev[0] = dnext[0] * kept;
  }

  template <class V>
  static HD void inner_backward(const V* keep, const V* prev, const V* dm, V* dwx, V*, V* dprev) {
    const V r = keep[R];
    dwx[R] = dm[0] * prev[0] * (r * (1.0f - r));
    dprev[0] += dm[0] * r;
  }
};

}  // namespace throughtime
