// Loop nests over a contiguous result, as loopNest in src/ops/elementwise.ts makes them; see native/cpu/nest.h.
#pragma once
#include "device.h"

namespace throughtime {
namespace {

constexpr int kMostAxes = 12;

// N operands, each with a stride along every axis. Copied into a kernel's parameters.
template <int N>
struct Nest {
  int rank;
  int32_t dims[kMostAxes];
  int32_t strides[N][kMostAxes];

  Nest(Device* device, const int32_t* ints) : rank(ints[0]) {
    if (rank > kMostAxes) device->fail(device, "tensors of so many axes are not supported here");
    for (int d = 0; d < rank; d++) {
      dims[d] = ints[1 + d];
      for (int k = 0; k < N; k++) strides[k][d] = ints[1 + rank * (k + 1) + d];
    }
  }

  // Offsets of the operands at element i of the result.
  DEVICE void offsets(int64_t i, int64_t* at) const {
    for (int k = 0; k < N; k++) at[k] = 0;
    for (int d = rank - 1; d >= 0; d--) {
      const int64_t index = i % dims[d];
      i /= dims[d];
      for (int k = 0; k < N; k++) at[k] += index * strides[k][d];
    }
  }
};

}  // namespace
}  // namespace throughtime
