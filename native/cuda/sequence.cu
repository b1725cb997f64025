// Ragged batches: which steps are valid, and their reversal.
#include "device.h"

namespace throughtime {
namespace {

// in: lengths [rows]; out: mask [rows, steps]; ints: rows, steps.
void sequence_mask(const Args& args, Device* device) {
  const int32_t* lengths = integers(args.in[0]);
  float* mask = data(args.out[0]);
  const int64_t steps = args.ints[1];
  for_each(device, args.ints[0] * steps,
           [=] __device__(int64_t i) { mask[i] = i % steps < lengths[i / steps] ? 1.0f : 0.0f; });
}

// in: x [rows, steps, inner], lengths [rows] or none; out: y like x; ints: rows, steps, inner.
void reverse_sequence(const Args& args, Device* device) {
  const int32_t* x = integers(args.in[0]);
  const int32_t* lengths = args.inputs > 1 ? integers(args.in[1]) : nullptr;
  int32_t* y = integers(args.out[0]);
  const int64_t steps = args.ints[1], inner = args.ints[2];
  for_each(device, args.ints[0] * steps * inner, [=] __device__(int64_t i) {
    const int64_t row = i / inner / steps, t = i / inner % steps;
    const int64_t given = lengths ? lengths[row] : steps, length = given < steps ? given : steps;
    const int64_t from = t < length ? length - 1 - t : t;
    y[i] = x[(row * steps + from) * inner + i % inner];
  });
}

const KernelEntry entries[] = {
    {"sequenceMask", sequence_mask, 0},
    {"reverseSequence", reverse_sequence, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_CUDA_KERNELS(sequence, entries)
