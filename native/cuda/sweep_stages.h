// What the stages around a cell do to one number, or to a row of them.
#pragma once
#include "math.h"
#include "rows.h"
#include "sweep_plan.h"

#include "../cells/cell.h"

namespace throughtime {
namespace {

// What the cell asks for of a unit.
template <int Vectors>
struct UnitStages {
  float mask, bound, vector[Vectors + 1];
  bool bounded;

  DEVICE UnitStages(const SweepPlan& p, int64_t row, int64_t position, int64_t unit)
      : mask(p.stages.drop_candidate.at(row, position, unit)), bound(p.stages.clip), bounded(p.stages.clip > 0.0f) {
#pragma unroll
    for (int i = 0; i < Vectors; i++) vector[i] = p.stages.vectors ? p.stages.vectors[i * p.hidden + unit] : 0.0f;
  }
  DEVICE float drop(float candidate) const { return candidate * mask; }
  // NaN stays.
  DEVICE float clip(float state) const {
    return bounded && state < -bound ? -bound : bounded && state > bound ? bound : state;
  }
  DEVICE float clip_backward(float state, float gradient) const {
    return bounded && !(fabsf(state) < bound) ? 0.0f : gradient;
  }
};

// mask * next + (1 - mask) * before, where there is a mask.
DEVICE float blend(const Mask& mask, float next, float before, int64_t row, int64_t position, int64_t unit) {
  if (!mask.values) return next;
  const float m = mask.at(row, position, unit);
  return m * next + (1.0f - m) * before;
}

constexpr float kNormEps = 1e-5f;

struct Moments {
  float mean, rstd;
};

// Of a row of n numbers, in two passes.
DEVICE Moments moments(const float* x, int64_t n) {
  const float mean = sum_row(n, [=](int64_t i) { return x[i]; }) / static_cast<float>(n);
  const float squares = sum_row(n, [=](int64_t i) { return (x[i] - mean) * (x[i] - mean); });
  return {mean, 1.0f / sqrt(squares / static_cast<float>(n) + kNormEps)};
}

// Backward through y = x_hat * gain, x_hat = (x - mean) * rstd: with the means of dy * gain and of dy * gain * x_hat,
// dx = rstd * (dy * gain - first - x_hat * second).
struct NormBackward {
  float first, second, rstd;
  DEVICE float operator()(float dy, float gain, float x_hat) const {
    return rstd * (dy * gain - first - x_hat * second);
  }
};

DEVICE NormBackward norm_backward(const float* dy, const float* gain, const float* x_hat, int64_t n, float rstd) {
  const float first = sum_row(n, [=](int64_t i) { return dy[i] * gain[i]; });
  const float second = sum_row(n, [=](int64_t i) { return dy[i] * gain[i] * x_hat[i]; });
  return {first / static_cast<float>(n), second / static_cast<float>(n), rstd};
}

}  // namespace
}  // namespace throughtime
