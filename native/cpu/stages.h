// What a staged sweep does around its cell, read from the inputs after `lengths`: normalisation, weights of single
// units, projection, masks, clipping. Plain sweeps have none of it.
#pragma once
#include "sweep.h"

namespace throughtime {
namespace {

// Numbers by row and step of the batch, either of which may be all the same.
struct Mask {
  const float* values;
  int64_t by_row, by_step;
  explicit operator bool() const { return values != nullptr; }
  const float* at(const Sweep& s, int64_t row, int64_t step) const {
    return values ? values + s.order[row] * by_row + s.position(row, step) * by_step : nullptr;
  }
};

struct Stages {
  // `in` starts at x, whatever comes before it.
  Stages(const CellShape& shape, const Args& args, Buffer* const* in)
      : weight_ih(in[1]),
        gain(in[6]),
        vectors(data(in[7])),
        weight_hr(in[8]),
        bias_hr(in[9]),
        gain_c(data(in[10])),
        bias_c(data(in[11])),
        drop_hidden{data(in[12]), args.ints[8], args.ints[9]},
        drop_candidate{data(in[13]), args.ints[10], args.ints[11]},
        carry_normalised(args.ints[7] != 0),
        clip(args.floats[0] > 0 ? (float)args.floats[0] : __builtin_inff()) {
    for (int i = 0; i < shape.states; i++)
      update[i] = {data(in[OPTIONS + i]), args.ints[12 + 2 * i], args.ints[13 + 2 * i]};
  }

  // Whether there is anything to do; the sizes of what forward saves depend on it.
  static bool any(const CellShape& shape, const Args& args, Buffer* const* in) {
    for (int i = 6; i < OPTIONS + shape.states; i++)
      if (in[i] && i != IDS) return true;
    return (!in[1] && !in[IDS]) || args.floats[0] > 0;
  }

  Buffer *weight_ih, *gain;
  const float* vectors;  // [vectors][hidden]
  Buffer *weight_hr, *bias_hr;
  const float *gain_c, *bias_c;
  Mask drop_hidden, drop_candidate, update[MAX_STATES];
  bool carry_normalised;
  float clip;
};

// What forward saves of a row at a step, in rows of `hidden`: what the cell keeps, the states it gave, the states that
// were handed on (but h), and what was normalised.
struct Kept {
  int given, handed, gates, c, rows;
  Kept(const CellShape& shape, const Stages& stages)
      : given(shape.saved),
        handed(given + shape.states - 1),
        gates(given + 2 * shape.states - 1),
        c(gates + (stages.gain ? shape.gates : 0)),
        rows(c + (stages.gain_c ? 1 : 0)) {}
};

// The numbers of a few units that the cell asks for.
template <int VECTORS>
struct UnitStages {
  Vec mask, bound, vector[VECTORS + 1];
  THROUGHTIME_INLINE Vec drop(Vec candidate) const { return candidate * mask; }
  THROUGHTIME_INLINE Vec clip(Vec state) const { return min(max(state, -bound), bound); }
  THROUGHTIME_INLINE Vec clip_backward(Vec state, Vec gradient) const { return abs(state) < bound ? gradient : Vec{}; }
};

template <bool Full, int VECTORS>
THROUGHTIME_INLINE UnitStages<VECTORS> unit_stages(const Stages& stages, const float* drop, int64_t hidden,
                                                   int64_t unit, int lanes) {
  UnitStages<VECTORS> e;
  e.mask = drop ? read<Full>(drop + unit, lanes) : splat(1.0f);
  e.bound = splat(stages.clip);
  for (int i = 0; i < VECTORS; i++)
    e.vector[i] = stages.vectors ? read<Full>(stages.vectors + i * hidden + unit, lanes) : Vec{};
  return e;
}

// Calls body(at, unit, lanes, full) for each vector of some tiles.
template <class At, class F>
THROUGHTIME_INLINE void for_tiles(Part tiles, int64_t hidden, const At& at, F body) {
  for (int64_t tile = tiles.begin; tile < tiles.end; tile++)
    for_units<false>(tile, hidden, [&](int64_t unit, int lanes, auto full) { body(at, unit, lanes, full); });
}

// mask * next + (1 - mask) * before, where there is a mask.
template <bool Full>
THROUGHTIME_INLINE Vec blend(const float* mask, Vec next, Vec before, int64_t unit, int lanes) {
  if (!mask) return next;
  const Vec m = read<Full>(mask + unit, lanes);
  return m * next + (1.0f - m) * before;
}

constexpr float NORM_EPS = 1e-5f;

// The sums over a row of n numbers of f(index, lanes), a vector, always added in the same order.
template <class F>
THROUGHTIME_INLINE float sum_row(int64_t n, F f) {
  Vec total = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) total += f(i, kLanes);
  if (i < n) total += f(i, (int)(n - i));
  return sum(total);
}

struct Moments {
  float mean, rstd;
};

// Of a row's n numbers, in two passes.
__attribute__((noinline)) inline Moments moments(const float* x, int64_t n) {
  const float mean = sum_row(n, [&](int64_t i, int lanes) { return load_upto(x + i, lanes); }) / n;
  const float squares = sum_row(n, [&](int64_t i, int lanes) {
    float kept[kLanes] = {};
    if (lanes == kLanes) {
      const Vec d = load(x + i) - mean;
      return d * d;
    }
    for (int k = 0; k < lanes; k++) kept[k] = (x[i + k] - mean) * (x[i + k] - mean);
    return load(kept);
  });
  return {mean, 1.0f / __builtin_sqrtf(squares / n + NORM_EPS)};
}

// Backward through y = x_hat * gain, x_hat = (x - mean) * rstd, of n numbers: the means of dy * gain and of
// dy * gain * x_hat, by which dx = rstd * (dy * gain - first - x_hat * second).
struct NormBackward {
  float first, second, rstd;
  THROUGHTIME_INLINE Vec operator()(Vec dy, Vec gain, Vec x_hat) const {
    return rstd * (dy * gain - first - x_hat * second);
  }
};

__attribute__((noinline)) inline NormBackward norm_backward(const float* dy, const float* gain, const float* x_hat,
                                                            int64_t n, float rstd) {
  const float first =
      sum_row(n, [&](int64_t i, int lanes) { return load_upto(dy + i, lanes) * load_upto(gain + i, lanes); });
  const float second = sum_row(n, [&](int64_t i, int lanes) {
    return load_upto(dy + i, lanes) * load_upto(gain + i, lanes) * load_upto(x_hat + i, lanes);
  });
  return {first / n, second / n, rstd};
}

}  // namespace
}  // namespace throughtime
