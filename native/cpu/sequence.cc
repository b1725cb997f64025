// Ragged batches: which steps are valid, and their reversal.
#include <algorithm>

#include "isa.h"

namespace throughtime {
namespace {

// in: lengths [rows]; out: mask [rows, steps]; ints: rows, steps.
void sequence_mask(const Args& args, Device*) {
  const int32_t* lengths = static_cast<const int32_t*>(args.in[0]->data);
  float* mask = static_cast<float*>(args.out[0]->data);
  const int64_t rows = args.ints[0], steps = args.ints[1];
  for (int64_t n = 0; n < rows; n++)
    for (int64_t t = 0; t < steps; t++) mask[n * steps + t] = t < lengths[n] ? 1.0f : 0.0f;
}

// in: x [rows, steps, inner], lengths [rows] or none; out: y like x; ints: rows, steps, inner.
void reverse_sequence(const Args& args, Device*) {
  const uint32_t* x = static_cast<const uint32_t*>(args.in[0]->data);  // moved as words: float and int32 alike
  const int32_t* lengths = args.inputs > 1 ? static_cast<const int32_t*>(args.in[1]->data) : nullptr;
  uint32_t* y = static_cast<uint32_t*>(args.out[0]->data);
  const int64_t rows = args.ints[0], steps = args.ints[1], inner = args.ints[2];
  for (int64_t n = 0; n < rows; n++) {
    const int64_t length = lengths ? std::min<int64_t>(lengths[n], steps) : steps;
    for (int64_t t = 0; t < steps; t++) {
      const int64_t from = t < length ? length - 1 - t : t;
      __builtin_memcpy(y + (n * steps + t) * inner, x + (n * steps + from) * inner, inner * sizeof(uint32_t));
    }
  }
}

const KernelEntry entries[] = {
    {"sequenceMask", sequence_mask, 0},
    {"reverseSequence", reverse_sequence, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_KERNELS(sequence, entries)
