// The multiply-adds a thread can do, for benchmarks to be held against: `info` operations a round.
#include "isa.h"

#include "simd.h"

namespace throughtime {
namespace {

constexpr int SUMS = 12;  // enough to hide the latency, few enough for the registers

// out: [threads], so that the work is not left out. ints: rounds.
void peak(const Args& args, Device* device) {
  struct Context {
    float* out;
    int32_t rounds;
  } context = {static_cast<float*>(args.out[0]->data), args.ints[0]};
  device->parallel(
      device, static_cast<int>(args.out[0]->elements),
      [](void* shared, int rank, int) {
        const Context& c = *static_cast<const Context*>(shared);
        Vec sum[SUMS], factor = splat(0.999f), term = splat(0.001f);
        for (int i = 0; i < SUMS; i++) sum[i] = splat(static_cast<float>(i));
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
