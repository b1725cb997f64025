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

// table [rows, features], or what is added onto it: the sum of the rows of g [count, features] with that id. A block
// has a row of the table and adds what belongs to it in the order of the ids; those of no row are left out.
inline void sum_by_id(Device* device, const int32_t* ids, int64_t count, int64_t rows, int64_t features, const float* g,
                      float* table, bool add) {
  if (features == 0) return;
  for_each_block(device, rows, kBlock, kBlock, [=] __device__(int64_t row) {
    unsigned char* mine = shared_memory<unsigned char>();
    float* to = table + row * features;
    if (!add)
      for (int64_t f = threadIdx.x; f < features; f += blockDim.x) to[f] = 0.0f;
    for (int64_t first = 0; first < count; first += blockDim.x) {
      const int64_t i = first + threadIdx.x;
      const bool match = i < count && ids[i] == row;
      mine[threadIdx.x] = match;
      if (block_or(match))
        for (unsigned k = 0; k < blockDim.x; k++)
          if (mine[k])
            for (int64_t f = threadIdx.x; f < features; f += blockDim.x) to[f] += g[(first + k) * features + f];
      block_sync();
    }
  });
}

}  // namespace
}  // namespace throughtime
