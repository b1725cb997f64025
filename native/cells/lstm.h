// Long short-term memory with forget gate (Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000):
//   i = s(z_i)  f = s(z_f)  g = tanh(z_g)  o = s(z_o)   with z = W x_t + U h_{t-1} by gate and s the logistic function
//   c_t = f * c_{t-1} + i * g
//   h_t = o * tanh(c_t)
#pragma once
#include "cell.h"

namespace throughtime {

struct Lstm {
  enum Gate { I, F, G, O };
  enum State { H, C };
  static constexpr int gates = 4, inner_gates = 0, states = 2, saved = 4;
  static constexpr bool one_gradient = true;

  template <class V>
  static HD void forward(const V* wx, const V* rh, const V* prev, V* next, V* keep) {
    const V i = sigmoid(wx[I] + rh[I]);
    const V f = sigmoid(wx[F] + rh[F]);
    const V g = tanh   (wx[G] + rh[G]);
    const V o = sigmoid(wx[O] + rh[O]);
    next[C] = f * prev[C] + i * g;
    next[H] = o * tanh(next[C]);
    keep[I] = i, keep[F] = f, keep[G] = g, keep[O] = o;
  }

  template <class V>
  static HD void backward(const V* keep, const V* prev, const V* next, const V* dnext, V* dwx, V*, V* dprev) {
    const V i = keep[I], f = keep[F], g = keep[G], o = keep[O];
    const V y  = tanh(next[C]);
    const V dc = dnext[C] + dnext[H] * o * (1.0f - y * y);
    dwx[I] = dc * g         * (i * (1.0f - i));
    dwx[F] = dc * prev[C]   * (f * (1.0f - f));
    dwx[G] = dc * i         * (1.0f - g * g);
    dwx[O] = dnext[H] * y   * (o * (1.0f - o));
    dprev[H] = V{};
    dprev[C] = dc * f;
  }
};

}  // namespace throughtime
