// The multiply-adds a thread can do, for benchmarks to be held against: `info` operations a round.
#include "isa.h"

#include "simd.h"

namespace throughtime {
namespace {

constexpr int SUMS = 12;  // enough to hide the latency, few enough for the registers

// out: [at least threads], so that the work is not left out. ints: rounds, threads.
void peak(const Args& args, Device* device) {
  struct Context {
    float* out;
    int32_t rounds;
  } context = {static_cast<float*>(args.out[0]->data), args.ints[0]};
  device->parallel(
      device, args.ints[1],
      [](void* shared, int rank, int) {
        const Context& c = *static_cast<const Context*>(shared);
        Vec sum[SUMS], factor = splat(0.999f), term = splat(0.001f);
        for (int i = 0; i < SUMS; i++) sum[i] = splat(2.0f + 0.37f * static_cast<float>(i));
        for (int32_t round = 0; round < c.rounds; round++) {
#pragma GCC unroll 12
          for (int i = 0; i < SUMS; i++) sum[i] = sum[i] * factor + term;
        }
        Vec total = {};
        for (int i = 0; i < SUMS; i++) total += sum[i];
        c.out[rank] = throughtime::sum(total);
      },
      &context);
}

const KernelEntry entries[] = {{"peak", peak, 2 * kLanes* SUMS}};

}  // namespace
}  // namespace throughtime

THROUGHTIME_KERNELS(peak, entries)
