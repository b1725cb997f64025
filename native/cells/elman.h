// Elman 1990, "Finding structure in time": h_t = f(W x_t + U h_{t-1}), f = tanh or the rectifier (Le et al. 2015).
// IndRNN (Li et al. 2018) is the same with a vector u for U: h_t = f(W x_t + u * h_{t-1}).
#pragma once
#include "cell.h"

namespace throughtime {

struct ElmanTanh : CellDefaults {
  static constexpr int gates = 1, states = 1, saved = 0;
  static constexpr bool one_gradient = true;

  template <class V, class S>
  static HD void forward(const V* wx, const V* rh, const V*, V* next, V*, const S&) {
    next[0] = tanh(wx[0] + rh[0]);
  }

  template <class V, class S>
  static HD void backward(const V*, const V*, const V* next, const V* dnext, V* dwx, V*, V* dprev, const S&, V*) {
    dwx[0] = dnext[0] * (1.0f - next[0] * next[0]);
    dprev[0] = V{};
  }
};

struct ElmanRelu : CellDefaults {
  static constexpr int gates = 1, states = 1, saved = 0;
  static constexpr bool one_gradient = true;

  template <class V, class S>
  static HD void forward(const V* wx, const V* rh, const V*, V* next, V*, const S&) {
    const V z = wx[0] + rh[0];
    next[0] = z < V{} ? V{} : z;  // NaN stays NaN
  }

  template <class V, class S>
  static HD void backward(const V*, const V*, const V* next, const V* dnext, V* dwx, V*, V* dprev, const S&, V*) {
    dwx[0] = next[0] > V{} ? dnext[0] : next[0] * dnext[0];
    dprev[0] = V{};
  }
};

struct IndRnnTanh : ElmanTanh {
  static constexpr bool diagonal = true;
};

struct IndRnnRelu : ElmanRelu {
  static constexpr bool diagonal = true;
};

}  // namespace throughtime
