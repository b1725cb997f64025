// Reductions along one contiguous row, for kernels that work row by row. The order of the sums depends on the number
// of lanes and on nothing else.
#pragma once
#include "parallel.h"
#include "simd.h"

namespace throughtime {
namespace {

// The first n lanes of p, the others `rest`.
THROUGHTIME_INLINE Vec load_or(const float* p, int n, float rest) {
  Vec v = splat(rest);
  for (int i = 0; i < n; i++) v[i] = p[i];
  return v;
}

// Sum over i < n of f(i, lanes): f loads at i, whole vectors first, then the last lanes with `lanes` < kLanes.
// What f gives beyond `lanes` must be 0.
template <class F>
THROUGHTIME_INLINE float row_sum(int64_t n, const F& f) {
  Vec total = {}, other = {};
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    total += f(i, kLanes);
    other += f(i + kLanes, kLanes);
  }
  for (; i + kLanes <= n; i += kLanes) total += f(i, kLanes);
  if (i < n) other += f(i, static_cast<int>(n - i));
  return sum(total + other);
}

THROUGHTIME_INLINE Vec load_lanes(const float* p, int lanes) { return lanes == kLanes ? load(p) : load_part(p, lanes); }
THROUGHTIME_INLINE void store_lanes(float* p, Vec v, int lanes) {
  if (lanes == kLanes)
    store(p, v);
  else
    store_part(p, v, lanes);
}

// v with the lanes from `lanes` on set to 0.
THROUGHTIME_INLINE Vec first_lanes(Vec v, int lanes) {
  for (int i = lanes; i < kLanes; i++) v[i] = 0.0f;
  return v;
}

// Calls f(i, lanes) over a row: whole vectors, then the last lanes.
template <class F>
THROUGHTIME_INLINE void row_map(int64_t n, const F& f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) f(i, kLanes);
  if (i < n) f(i, static_cast<int>(n - i));
}

// Maximum of a row; a NaN is passed over.
THROUGHTIME_INLINE float row_max(const float* x, int64_t n) {
  const float least = -__builtin_inff();
  Vec best = splat(least);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) best = max(load(x + i), best);
  if (i < n) best = max(load_or(x + i, static_cast<int>(n - i), least), best);
  return max(best);
}

// Spreads rows over the threads; each part is worth some 8192 elements.
template <class F>
void for_rows(Device* device, int64_t rows, int64_t width, const F& body) {
  for_range(device, rows, 1 + 8192 / (width + 1), [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; r++) body(static_cast<int64_t>(r));
  });
}

}  // namespace
}  // namespace throughtime
