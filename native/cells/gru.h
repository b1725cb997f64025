// Gated recurrent unit, reset after the recurrent product, as PyTorch and cuDNN have it:
//   r = s(W_r x_t + U_r h_{t-1})   z = s(W_z x_t + U_z h_{t-1})
//   q = U_n h_{t-1} + b_hn         n = tanh(W_n x_t + b_in + r * q)
//   h_t = (1 - z) * n + z * h_{t-1}       z keeps (PyTorch), or
//   h_t = (1 - z) * h_{t-1} + z * n       z writes (Cho et al. 2014)
#pragma once
#include "cell.h"

namespace throughtime {

// What z does, and the derivative: `kept` is the share of the old state.
template <bool Writes>
struct UpdateGate {
  template <class V>
  static HD V kept(V z) {
    return Writes ? 1.0f - z : z;
  }
  template <class V>
  static HD V backward(V z, V dkept) {
    return (Writes ? -dkept : dkept) * (z * (1.0f - z));
  }
};

template <bool Writes>
struct Gru : CellDefaults {
  enum Gate { R, Z, N };
  enum Keep { Q = 3 };
  using Update = UpdateGate<Writes>;
  static constexpr int gates = 3, states = 1, saved = 4;
  static constexpr bool one_gradient = false;

  template <class V, class S>
  static HD void forward(const V* wx, const V* rh, const V* prev, V* next, V* keep, const S& stages) {
    const V r = sigmoid(wx[R] + rh[R]);
    const V z = sigmoid(wx[Z] + rh[Z]);
    const V q = rh[N];
    const V n = tanh(wx[N] + r * q);
    const V candidate = stages.drop(n);
    next[0] = candidate + Update::kept(z) * (prev[0] - candidate);
    keep[R] = r, keep[Z] = z, keep[N] = n, keep[Q] = q;
  }

  template <class V, class S>
  static HD void backward(const V* keep, const V* prev, const V*, const V* dnext, V* dwx, V* drh, V* dprev,
                          const S& stages, V*) {
    const V r = keep[R], z = keep[Z], n = keep[N], q = keep[Q], kept = Update::kept(z);
    dwx[N] = stages.drop(dnext[0] * (1.0f - kept)) * (1.0f - n * n);
    dwx[R] = dwx[N] * q * (r * (1.0f - r));
    dwx[Z] = Update::backward(z, dnext[0] * (prev[0] - stages.drop(n)));
    drh[R] = dwx[R];
    drh[Z] = dwx[Z];
    drh[N] = dwx[N] * r;
    dprev[0] = dnext[0] * kept;
  }
};

}  // namespace throughtime
