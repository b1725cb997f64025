// Integers that choose rows or classes. A bad one is reported by the next read; kernels skip it.
#pragma once
#include "device.h"

namespace throughtime {
namespace {

constexpr int kCheckers = 1024;

struct Least {
  DEVICE long long operator()(long long a, long long b) const { return a < b ? a : b; }
};

// Reports the first of ids[0, count) that is outside [0, bound), unless it is `ignored`; of embeddings none is.
KERNEL void __launch_bounds__(kCheckers) check_ids(const int32_t* ids, int64_t count, int32_t bound, bool targets,
                                                   int32_t ignored, Fault* fault, const char* kernel) {
  long long first = count;
  for (long long i = threadIdx.x; i < count; i += blockDim.x)
    if ((ids[i] < 0 || ids[i] >= bound) && !(targets && ids[i] == ignored)) {
      first = i;
      break;
    }
  first = block_reduce(first, shared_memory<long long>(), Least());
  if (threadIdx.x == 0 && first < count)
    report(fault, targets ? BAD_TARGET : BAD_ID, kernel, first, ids[first], bound, ignored);
}

inline void launch_check(Device* device, const int32_t* ids, int64_t count, int32_t bound, bool targets,
                         int32_t ignored) {
  if (count == 0) return;
  launch(device, {dim3(1), dim3(kCheckers), kCheckers / kWarp * sizeof(long long)}, check_ids, ids, count, bound,
         targets, ignored, cuda(device)->fault, cuda(device)->kernel);
}

}  // namespace
}  // namespace throughtime
