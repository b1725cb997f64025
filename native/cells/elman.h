// Elman 1990, "Finding structure in time": h_t = f(W x_t + U h_{t-1}), f = tanh or the rectifier (Le et al. 2015).
#pragma once
#include "cell.h"

namespace throughtime {

struct ElmanTanh {
  static constexpr int gates = 1, inner_gates = 0, states = 1, saved = 0;
  static constexpr bool one_gradient = true;

  template <class V>
  static HD void forward(const V* wx, const V* rh, const V*, V* next, V*) {
    next[0] = tanh(wx[0] + rh[0]);
  }

  template <class V>
  static HD void backward(const V*, const V*, const V* next, const V* dnext, V* dwx, V*, V* dprev) {
    dwx[0] = dnext[0] * (1.0f - next[0] * next[0]);
    dprev[0] = V{};
  }
};

struct ElmanRelu {
  static constexpr int gates = 1, inner_gates = 0, states = 1, saved = 0;
  static constexpr bool one_gradient = true;

  template <class V>
  static HD void forward(const V* wx, const V* rh, const V*, V* next, V*) {
    const V z = wx[0] + rh[0];
    next[0] = z < V{} ? V{} : z;  // NaN stays NaN
  }

  template <class V>
  static HD void backward(const V*, const V*, const V* next, const V* dnext, V* dwx, V*, V* dprev) {
    dwx[0] = next[0] > V{} ? dnext[0] : next[0] * dnext[0];
    dprev[0] = V{};
  }
};

}  // namespace throughtime
