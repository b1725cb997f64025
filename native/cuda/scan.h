// Recurrences along time: rows of steps of channels, [N, T, D].
#pragma once
#include "device.h"
#include "math.h"
#include "reduce.h"

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

// out[i] = sum over k of parts[k, i]; nothing without an `out`.
inline void add_up(Device* device, const float* parts, int64_t count, int64_t n, float* out) {
  if (out) sum_middle(device, parts, 1, count, n, out);
}

// x [N, T, width], or none, becomes zero behind the rows' ends.
inline void clear_padding(Device* device, const ScanShape& shape, float* x, int64_t width) {
  if (!x || !shape.lengths) return;
  for_each(device, shape.rows * shape.steps * width, [=] __device__(int64_t i) {
    const int64_t t = i / width;
    if (t % shape.steps >= shape.valid(t / shape.steps)) x[i] = 0.0f;
  });
}

// The sum of what `lanes` neighbours hold, a power of 2.
DEVICE float sum_of(float x, int lanes) {
  for (int mask = lanes / 2; mask > 0; mask /= 2) x += shuffle_xor(x, mask);
  return x;
}

// How many lanes share `n` numbers, `held` each; a power of 2, all of a warp at most.
inline int lanes_for(int64_t n, int64_t held) {
  int lanes = 1;
  while (lanes * held < n && lanes < (int)kWarp) lanes *= 2;
  return lanes;
}

}  // namespace
}  // namespace throughtime
