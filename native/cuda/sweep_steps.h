// A cell step by step, a product and a kernel or two for each: for cells and sizes that have no persistent sweep.
#pragma once
#include "fused_backward.h"
#include "fused_forward.h"
#include "gemm.h"

namespace throughtime {
namespace {

// A step of a cell for all rows, a thread for each unit of a row.
template <class Cell>
struct StepForward {
  static constexpr int G = Cell::gates, S = Cell::states, K = Cell::saved, KEPT = K + S - 1,
                       OUTER = G - Cell::inner_gates;
  FusedSweep sweep;
  const float *wx, *product;  // [places][G * H], [n][G * H]
  float* state[kMostStates];  // [n][H]
  float *output, *saved, *keeps;
  int64_t step;

  DEVICE bool at(int64_t i, Row* row, int64_t* u) const {
    *row = row_of(sweep, i / sweep.hidden);
    *u = i % sweep.hidden;
    return step < row->length;
  }
  DEVICE void gates(const Row& row, int64_t u, float* w, float* r) const {
    const int64_t place = place_of(sweep, row, step);
#pragma unroll
    for (int g = 0; g < G; g++) {
      w[g] = wx[(place * G + g) * sweep.hidden + u];
      r[g] = product[(row.n * G + g) * sweep.hidden + u];
    }
  }
  DEVICE float& kept(int64_t i, int k) const { return keeps[k * sweep.n * sweep.hidden + i]; }

  // What the second product is taken of, into the first kept values' place `operand`.
  DEVICE void inner(int64_t i) const {
    Row row;
    int64_t u;
    float w[G], r[G], prev[S], keep[K + 1] = {};
    if (at(i, &row, &u)) {
      gates(row, u, w, r);
#pragma unroll
      for (int s = 0; s < S; s++) prev[s] = state[s][i];
      if constexpr (OUTER < G) Cell::inner(w, r, prev, keep);
    }
#pragma unroll
    for (int k = 0; k < K; k++) kept(i, k) = keep[k];
  }

  DEVICE void forward(int64_t i) const {
    Row row;
    int64_t u;
    if (!at(i, &row, &u)) {
      output[(row.n * sweep.steps + step) * sweep.hidden + u] = 0.0f;
      return;
    }
    float w[G], r[G], prev[S], next[S], keep[K + 1] = {};
    gates(row, u, w, r);
#pragma unroll
    for (int s = 0; s < S; s++) prev[s] = state[s][i];
    if (OUTER < G)
#pragma unroll
      for (int k = 0; k < K; k++) keep[k] = kept(i, k);
    Cell::forward(w, r, prev, next, keep, NoStages());
#pragma unroll
    for (int s = 0; s < S; s++) state[s][i] = next[s];
    const int64_t place = place_of(sweep, row, step);
    output[place * sweep.hidden + u] = next[0];
    if (!saved) return;
#pragma unroll
    for (int k = 0; k < K; k++) saved[(place * KEPT + k) * sweep.hidden + u] = keep[k];
#pragma unroll
    for (int s = 1; s < S; s++) saved[(place * KEPT + K + s - 1) * sweep.hidden + u] = next[s];
  }
};

// Rows of U h, for `count` gates from `first` on: of every gate G * hidden apart.
inline void recurrent(Device* device, const FusedSweep& s, int gates, int first, int count, const float* h,
                      const float* bias, Precision precision, float* to) {
  if (count == 0) return;
  const int64_t hidden = s.hidden;
  Product p = {s.n,    count * hidden,      hidden,        h, hidden, 1, s.weight + first * hidden * hidden, 1,
               hidden, to + first * hidden, gates * hidden};
  p.bias = bias ? bias + first * hidden : nullptr;
  p.precision = precision;
  multiply(device, p);
}

template <class Cell>
void forward_steps(Device* device, const FusedForward& a, float* const* state, Precision precision) {
  constexpr int G = Cell::gates, S = Cell::states, OUTER = G - Cell::inner_gates;
  const int64_t numbers = a.n * a.hidden;
  StepForward<Cell> step = {};
  step.sweep = a;
  step.wx = a.wx, step.output = a.output, step.saved = a.saved;
  float* product = scratch<float>(device, numbers * G);
  step.product = product;
  if (OUTER < G) step.keeps = scratch<float>(device, numbers * Cell::saved);
  for (int s = 0; s < S; s++) {
    step.state[s] = state[s];
    const float* from = s < kMostStates ? a.initial[s] : nullptr;
    float* to = state[s];
    for_each(device, numbers, [=] __device__(int64_t i) { to[i] = from ? from[i] : 0.0f; });
  }
  for (step.step = 0; step.step < a.steps; step.step++) {
    recurrent(device, a, G, 0, OUTER, state[0], a.bias, precision, product);
    if constexpr (OUTER < G) {
      for_each(device, numbers, [=] __device__(int64_t i) { step.inner(i); });
      const float* operand = step.keeps + Cell::operand * numbers;
      recurrent(device, a, G, OUTER, G - OUTER, operand, a.bias, precision, product);
    }
    for_each(device, numbers, [=] __device__(int64_t i) { step.forward(i); });
  }
}

// A step backward for all rows.
template <class Cell>
struct StepBackward {
  static constexpr int G = Cell::gates, S = Cell::states, K = Cell::saved, KEPT = K + S - 1,
                       OUTER = G - Cell::inner_gates;
  FusedBackward a;
  float* carry[kMostStates];  // [n][H]
  float* gates;               // [n][G * H], of this step, for the products
  const float* doperand;      // [n][H]
  int64_t step;

  DEVICE float state_before(int s, const Row& row, int64_t u) const {
    if (step == 0) return a.initial[s] ? a.initial[s][row.n * a.hidden + u] : 0.0f;
    const int64_t place = place_of(a, row, step - 1);
    return s == 0 ? a.y[place * a.hidden + u] : a.saved[(place * KEPT + K + s - 1) * a.hidden + u];
  }
  DEVICE void load(const Row& row, int64_t u, float* keep, float* prev) const {
    const float* from = a.saved + place_of(a, row, step) * KEPT * a.hidden + u;
#pragma unroll
    for (int k = 0; k < K; k++) keep[k] = from[k * a.hidden];
#pragma unroll
    for (int s = 0; s < S; s++) prev[s] = state_before(s, row, u);
  }
  DEVICE void store(int64_t n, int64_t place, int64_t u, const float* dw, const float* dr) const {
#pragma unroll
    for (int g = 0; g < G; g++) {
      a.dwx[(place * G + g) * a.hidden + u] = dw[g];
      if (!Cell::one_gradient) a.drh[(place * G + g) * a.hidden + u] = dr[g];
      gates[(n * G + g) * a.hidden + u] = Cell::one_gradient ? dw[g] : dr[g];
    }
  }

  DEVICE void backward(int64_t i) const {
    const Row row = row_of(a, i / a.hidden);
    const int64_t u = i % a.hidden;
    float dw[G] = {}, dr[G] = {};
    if (step >= row.length) return store(row.n, row.n * a.steps + step, u, dw, dr);
    float keep[K + 1], prev[S], next[S], dnext[S], dprev[S];
    load(row, u, keep, prev);
    const int64_t place = place_of(a, row, step);
#pragma unroll
    for (int s = 0; s < S; s++) {
      next[s] = s == 0 ? a.y[place * a.hidden + u] : a.saved[(place * KEPT + K + s - 1) * a.hidden + u];
      dnext[s] = carry[s][i];
    }
    if (a.dy) dnext[0] += a.dy[place * a.hidden + u];
    Cell::backward(keep, prev, next, dnext, dw, dr, dprev, NoStages(), static_cast<float*>(nullptr));
#pragma unroll
    for (int s = 0; s < S; s++) carry[s][i] = dprev[s];
    store(row.n, place, u, dw, dr);
  }

  DEVICE void inner_backward(int64_t i) const {
    const Row row = row_of(a, i / a.hidden);
    const int64_t u = i % a.hidden;
    if (step >= row.length) return;
    float dw[G], dr[G], keep[K + 1], prev[S], dprev[S];
    load(row, u, keep, prev);
    const int64_t place = place_of(a, row, step);
#pragma unroll
    for (int g = 0; g < G; g++) {
      dw[g] = a.dwx[(place * G + g) * a.hidden + u];
      dr[g] = gates[(row.n * G + g) * a.hidden + u];
    }
#pragma unroll
    for (int s = 0; s < S; s++) dprev[s] = carry[s][i];
    if constexpr (OUTER < G) Cell::inner_backward(keep, prev, doperand + i, dw, dr, dprev);
#pragma unroll
    for (int s = 0; s < S; s++) carry[s][i] = dprev[s];
    store(row.n, place, u, dw, dr);
  }
};

// dh += (gradients of some gates) U
inline void recurrent_backward(Device* device, const FusedSweep& s, int gates, int first, int count,
                               const float* dgates, Precision precision, bool accumulate, float* dh) {
  if (count == 0) return;
  const int64_t hidden = s.hidden;
  Product p = {s.n,
               hidden,
               count * hidden,
               dgates + first * hidden,
               gates * hidden,
               1,
               s.weight + first * hidden * hidden,
               hidden,
               1,
               dh,
               hidden};
  p.accumulate = accumulate, p.precision = precision;
  multiply(device, p);
}

template <class Cell>
void backward_steps(Device* device, const FusedBackward& a, Precision precision) {
  constexpr int G = Cell::gates, S = Cell::states, OUTER = G - Cell::inner_gates;
  const int64_t numbers = a.n * a.hidden;
  StepBackward<Cell> step = {};
  step.a = a;
  step.gates = scratch<float>(device, numbers * G);
  float* doperand = OUTER < G ? scratch<float>(device, numbers) : nullptr;
  step.doperand = doperand;
  for (int s = 0; s < S; s++) {
    step.carry[s] = a.dinitial[s] ? a.dinitial[s] : scratch<float>(device, numbers);
    const float* from = a.dfinal[s];
    float* to = step.carry[s];
    for_each(device, numbers, [=] __device__(int64_t i) { to[i] = from ? from[i] : 0.0f; });
  }
  for (step.step = a.steps - 1; step.step >= 0; step.step--) {
    for_each(device, numbers, [=] __device__(int64_t i) { step.backward(i); });
    if constexpr (OUTER < G) {
      recurrent_backward(device, a, G, OUTER, G - OUTER, step.gates, precision, false, doperand);
      for_each(device, numbers, [=] __device__(int64_t i) { step.inner_backward(i); });
    }
    recurrent_backward(device, a, G, 0, OUTER, step.gates, precision, true, step.carry[0]);
  }
}

}  // namespace
}  // namespace throughtime
