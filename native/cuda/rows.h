// Rows of numbers, a block for each.
#pragma once
#include "device.h"

namespace throughtime {
namespace {

constexpr size_t kRowRoom = kBlock / kWarp * sizeof(float);  // shared memory of a sum

inline int threads_for_row(int64_t n) { return n <= 128 ? 32 : n <= 1024 ? 128 : kBlock; }

// The sum of f(i) for i < n over a block.
template <class F>
DEVICE float sum_row(int64_t n, const F& f) {
  float sum = 0.0f;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += f(i);
  return block_sum(sum, shared_memory<float>());
}

}  // namespace
}  // namespace throughtime
