// Loops spread over the threads of the device, for kernel files only.
#pragma once
#include "isa.h"

namespace throughtime {
namespace {

// Calls body(begin, end) for parts of [0, n), each of at least `grain` but for the last; long ones start at cache
// lines. The parts depend on the number of threads: a result must not depend on where they meet.
template <class F>
void for_range(Device* device, size_t n, size_t grain, const F& body) {
  struct Context {
    const F* body;
    size_t n, part;
  } context = {&body, n, n};
  size_t ranks = n / grain;
  if (ranks > static_cast<size_t>(device->threads)) ranks = device->threads;
  if (ranks <= 1) {
    if (n > 0) body(size_t{0}, n);
    return;
  }
  context.part = (n + ranks - 1) / ranks;
  if (context.part >= 1024) context.part = (context.part + 63) / 64 * 64;
  device->parallel(
      device, static_cast<int>(ranks),
      [](void* shared, int rank, int) {
        const Context& c = *static_cast<const Context*>(shared);
        const size_t begin = rank * c.part;
        if (begin < c.n) (*c.body)(begin, c.n - begin < c.part ? c.n : begin + c.part);
      },
      &context);
}

// Calls body(unit, scratch) for each of `units`, dealt out in turn to at most `ranks` threads. Each thread has `floats`
// of scratch of its own; what it gives must not depend on which thread that is.
template <class F>
void for_units(Device* device, int64_t units, int64_t ranks, int64_t floats, const F& body) {
  if (ranks > device->threads) ranks = device->threads;
  if (ranks > units) ranks = units;
  if (ranks <= 0) return;
  struct Context {
    const F* body;
    float* scratch;
    int64_t units, each;
  } context = {&body, nullptr, units, (floats + 15) / 16 * 16};
  context.scratch = static_cast<float*>(device->scratch(device, ranks * context.each * sizeof(float)));
  const Body run = [](void* shared, int rank, int ranks) {
    const Context& c = *static_cast<const Context*>(shared);
    for (int64_t unit = rank; unit < c.units; unit += ranks) (*c.body)(unit, c.scratch + rank * c.each);
  };
  if (ranks > 1)
    device->parallel(device, static_cast<int>(ranks), run, &context);
  else
    run(&context, 0, 1);
}

}  // namespace
}  // namespace throughtime
