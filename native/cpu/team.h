// How many threads a piece of work is worth, which part each takes, and the arrangements of weights that are kept with
// them.
#pragma once
#include "../kernels.h"
#include "simd.h"

namespace throughtime {
namespace {

// Keys of Device.packed. Arrangements of gates by tile count up from PACKED_GATES, see gates.h; those of reduced
// precision are PACKED_REDUCED + precision.
enum PackedKey {
  PACKED_TRANSPOSED = 1,
  PACKED_NATURAL = 2,
  PACKED_REDUCED = 3,
  PACKED_NATURAL_BF16 = 6,
  PACKED_GATES = 16,
  PACKED_GATES_APART = 1024
};

// The key of an arrangement of a matrix with that many columns: views of one buffer may differ in shape.
THROUGHTIME_INLINE int64_t packed_as(PackedKey key, int64_t columns) { return columns << 16 | key; }

// A thread more pays from some microseconds of work. Tests lower this to divide small problems.
#ifndef THROUGHTIME_FLOPS_A_THREAD
#define THROUGHTIME_FLOPS_A_THREAD 400e3
#endif

THROUGHTIME_INLINE int ranks_for(const Device* device, double flops) {
  const double worth = flops / THROUGHTIME_FLOPS_A_THREAD + 1;
  return worth < device->threads ? (int)worth : device->threads;
}

THROUGHTIME_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// Part `index` of `parts` of [0, n).
struct Part {
  int64_t begin, end;
  Part(int64_t n, int64_t index, int64_t parts) : begin(n * index / parts), end(n * (index + 1) / parts) {}
};

THROUGHTIME_INLINE float* scratch_floats(Device* device, int64_t floats) {
  return static_cast<float*>(device->scratch(device, (size_t)floats * sizeof(float)));
}

}  // namespace
}  // namespace throughtime
