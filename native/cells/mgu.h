// Minimal gated unit (Zhou et al. 2016):
//   f = s(W_f x_t + U_f h_{t-1})   m = f * h_{t-1}
//   n = tanh(W_n x_t + b_in + U_n m + b_hn)
//   h_t = (1 - f) * h_{t-1} + f * n
#pragma once
#include "cell.h"

namespace throughtime {

struct Mgu : CellDefaults {
  enum Gate { F, N };
  enum Keep { M = 2 };
  static constexpr int gates = 2, inner_gates = 1, operand = M, states = 1, saved = 3;
  static constexpr bool one_gradient = true;

  template <class V>
  static HD void inner(const V* wx, const V* rh, const V* prev, V* keep) {
    keep[F] = sigmoid(wx[F] + rh[F]);
    keep[M] = keep[F] * prev[0];
  }

  template <class V, class S>
  static HD void forward(const V* wx, const V* rh, const V* prev, V* next, V* keep, const S& stages) {
    const V n = tanh(wx[N] + rh[N]);
    next[0] = prev[0] + keep[F] * (stages.drop(n) - prev[0]);
    keep[N] = n;
  }

  template <class V, class S>
  static HD void backward(const V* keep, const V* prev, const V*, const V* dnext, V* dwx, V*, V* dprev, const S& stages,
                          V*) {
    const V f = keep[F], n = keep[N];
    dwx[N] = stages.drop(dnext[0] * f) * (1.0f - n * n);
    dwx[F] = dnext[0] * (stages.drop(n) - prev[0]);  // with respect to f; inner_backward completes it
    dprev[0] = dnext[0] * (1.0f - f);
  }

  template <class V>
  static HD void inner_backward(const V* keep, const V* prev, const V* dm, V* dwx, V*, V* dprev) {
    const V f = keep[F];
    dwx[F] = (dwx[F] + dm[0] * prev[0]) * (f * (1.0f - f));
    dprev[0] += dm[0] * f;
  }
};

}  // namespace throughtime
