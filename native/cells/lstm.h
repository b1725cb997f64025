// Long short-term memory with forget gate (Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000):
//   i = s(z_i)  f = s(z_f)  g = tanh(z_g)  o = s(z_o)   with z = W x_t + U h_{t-1} by gate and s the logistic function
//   c_t = f * c_{t-1} + i * g
//   h_t = o * tanh(c_t)
// Peepholes (Gers & Schmidhuber 2000) add p_i * c_{t-1} to z_i, p_f * c_{t-1} to z_f, and p_o * c_t to z_o.
// Coupled gates have i = 1 - f or f = 1 - i; Greff et al. 2017 also leave one gate out, which is then 1.
#pragma once
#include "cell.h"

namespace throughtime {

enum class LstmGates { All, CoupledInput, CoupledForget, NoInput, NoForget, NoOutput };

template <LstmGates Kind, bool Peepholes>
struct LstmCell : CellDefaults {
  static constexpr bool HAS_I = Kind != LstmGates::CoupledForget && Kind != LstmGates::NoInput;
  static constexpr bool HAS_F = Kind != LstmGates::CoupledInput && Kind != LstmGates::NoForget;
  static constexpr bool HAS_O = Kind != LstmGates::NoOutput;
  enum Gate { I = 0, F = HAS_I, G = HAS_I + HAS_F, O = G + 1 };
  enum Peephole { PI = 0, PF = HAS_I, PO = HAS_I + HAS_F };
  enum State { H, C };
  static constexpr int gates = 1 + HAS_I + HAS_F + HAS_O, states = 2, saved = gates, normed = C;
  static constexpr int vectors = Peepholes ? gates - 1 : 0;
  static constexpr bool one_gradient = true;

  template <class V>
  static HD V input_gate(const V* keep) {
    if constexpr (HAS_I) return keep[I];
    if constexpr (Kind == LstmGates::CoupledForget) return 1.0f - keep[F];
    return 1.0f - V{};
  }
  template <class V>
  static HD V forget_gate(const V* keep) {
    if constexpr (HAS_F) return keep[F];
    if constexpr (Kind == LstmGates::CoupledInput) return 1.0f - keep[I];
    return 1.0f - V{};
  }
  template <class V>
  static HD V output_gate(const V* keep) {
    if constexpr (HAS_O) return keep[O];
    return 1.0f - V{};
  }
  // The gate's argument, with its peephole.
  template <class V, class S>
  static HD V sum(const V* wx, const V* rh, int gate, int peephole, V c, const S& stages) {
    const V z = wx[gate] + rh[gate];
    if constexpr (Peepholes) return z + stages.vector[peephole] * c;
    return z;
  }

  template <class V, class S>
  static HD void state(const V* wx, const V* rh, const V* prev, V* next, V* keep, const S& stages) {
    if constexpr (HAS_I) keep[I] = sigmoid(sum(wx, rh, I, PI, prev[C], stages));
    if constexpr (HAS_F) keep[F] = sigmoid(sum(wx, rh, F, PF, prev[C], stages));
    keep[G] = tanh(wx[G] + rh[G]);
    next[C] = stages.clip(forget_gate(keep) * prev[C] + input_gate(keep) * stages.drop(keep[G]));
    if constexpr (HAS_O) keep[O] = sigmoid(sum(wx, rh, O, PO, next[C], stages));
  }

  template <class V>
  static HD void output(const V* keep, V seen, V* next) {
    next[H] = output_gate(keep) * tanh(seen);
  }

  template <class V, class S>
  static HD void forward(const V* wx, const V* rh, const V* prev, V* next, V* keep, const S& stages) {
    state(wx, rh, prev, next, keep, stages);
    output(keep, next[C], next);
  }

  template <class V>
  static HD V output_backward(const V* keep, V seen, const V* dnext, V* dwx) {
    const V o = output_gate(keep), y = tanh(seen);
    if constexpr (HAS_O) dwx[O] = dnext[H] * y * (o * (1.0f - o));
    return dnext[H] * o * (1.0f - y * y);
  }

  template <class V, class S>
  static HD void state_backward(const V* keep, const V* prev, const V* next, V dc, V* dwx, V*, V* dprev, const S& stages,
                                V* dvector) {
    if constexpr (HAS_O && Peepholes) dc += dwx[O] * stages.vector[PO];
    dc = stages.clip_backward(next[C], dc);
    const V g = keep[G], f = forget_gate(keep), i = input_gate(keep);
    V di = dc * stages.drop(g), df = dc * prev[C];
    if constexpr (Kind == LstmGates::CoupledInput) di -= df;
    if constexpr (Kind == LstmGates::CoupledForget) df -= di;
    dwx[G] = stages.drop(dc * i) * (1.0f - g * g);
    if constexpr (HAS_I) dwx[I] = di * (i * (1.0f - i));
    if constexpr (HAS_F) dwx[F] = df * (f * (1.0f - f));
    dprev[H] = V{};
    dprev[C] = dc * f;
    if constexpr (HAS_I && Peepholes) dprev[C] += dwx[I] * stages.vector[PI], dvector[PI] = dwx[I] * prev[C];
    if constexpr (HAS_F && Peepholes) dprev[C] += dwx[F] * stages.vector[PF], dvector[PF] = dwx[F] * prev[C];
    if constexpr (HAS_O && Peepholes) dvector[PO] = dwx[O] * next[C];
  }

  template <class V, class S>
  static HD void backward(const V* keep, const V* prev, const V* next, const V* dnext, V* dwx, V* drh, V* dprev,
                          const S& stages, V* dvector) {
    const V dseen = output_backward(keep, next[C], dnext, dwx);
    state_backward(keep, prev, next, dnext[C] + dseen, dwx, drh, dprev, stages, dvector);
  }
};

using Lstm = LstmCell<LstmGates::All, false>;

}  // namespace throughtime
