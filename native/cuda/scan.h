// Recurrences along time: rows of steps of channels, [N, T, D].
#pragma once
#include "device.h"
#include "math.h"

namespace throughtime {
namespace {

// Sizes and what all scans are given. Lengths are valid steps of each row, none for all.
struct ScanShape {
  int64_t rows, steps, width;
  bool reverse;
  const int32_t* lengths;

  DEVICE int64_t valid(int64_t row) const {
    if (!lengths) return steps;
    const int64_t length = lengths[row];
    return length < 0 ? 0 : length > steps ? steps : length;
  }
  // The place of step s of `length`, in the order in which they are run.
  DEVICE int64_t at(int64_t row, int64_t s, int64_t length) const {
    return row * steps + (reverse ? length - 1 - s : s);
  }
  int64_t channels() const { return rows * width; }
};

DEVICE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// out[i] = sum over k of parts[k, i], in an order that count alone decides; nothing without an `out`.
inline void add_up(Device* device, const float* parts, int64_t count, int64_t n, float* out) {
  constexpr int64_t kTogether = 32;
  for (bool last = !out; !last;) {
    const int64_t sums = count > kTogether ? ceil_div(count, kTogether) : 1;
    last = sums == 1;
    float* to = last ? out : scratch<float>(device, sums * n);
    for_each(device, sums * n, [=] __device__(int64_t at) {
      const int64_t i = at % n, from = at / n * kTogether, end = least(from + kTogether, count);
      float total = 0.0f;
      for (int64_t k = from; k < end; k++) total += parts[k * n + i];
      to[at] = total;
    });
    parts = to, count = sums;
  }
}

}  // namespace
}  // namespace throughtime
