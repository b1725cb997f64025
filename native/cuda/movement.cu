// Copies that change places. Elements are moved as words: float and int32 alike.
#include "nest.h"

namespace throughtime {
namespace {

// ints [offset, nest of x]: expand, transpose, flip, slice
void strided(const Args& args, Device* device) {
  const int32_t* x = integers(args.in[0]) + args.ints[0];
  int32_t* y = integers(args.out[0]);
  const Nest<1> nest(device, args.ints + 1);
  for_each(device, args.out[0]->elements, [=] __device__(int64_t i) {
    int64_t at;
    nest.offsets(i, &at);
    y[i] = x[at];
  });
}

// ints [outer, zeros before, copied, zeros after] a row
void pad(const Args& args, Device* device) {
  const int32_t* x = integers(args.in[0]);
  int32_t* y = integers(args.out[0]);
  const int64_t before = args.ints[1], width = args.ints[2], whole = before + width + args.ints[3];
  for_each(device, args.ints[0] * whole, [=] __device__(int64_t i) {
    const int64_t column = i % whole - before;
    y[i] = column >= 0 && column < width ? x[i / whole * width + column] : 0;
  });
}

// Copies between one buffer of whole rows and one buffer for each part. ints [outer, width of part 0, width of part 1,
// ...]
template <bool Joining>
void parts(const Args& args, Device* device) {
  int32_t* joined = integers(Joining ? args.out[0] : args.in[0]);
  Buffer* const* pieces = Joining ? args.in : args.out;
  const int count = Joining ? args.inputs : args.outputs;
  int64_t whole = 0, before = 0;
  for (int p = 0; p < count; p++) whole += args.ints[1 + p];
  for (int p = 0; p < count; p++) {
    const int64_t width = args.ints[1 + p];
    int32_t *piece = integers(pieces[p]), *at = joined + before;
    for_each(device, args.ints[0] * width, [=] __device__(int64_t i) {
      int32_t& there = at[i / width * whole + i % width];
      if (Joining)
        there = piece[i];
      else
        piece[i] = there;
    });
    before += width;
  }
}

const KernelEntry entries[] = {
    {"expand", strided, 0}, {"transpose", strided, 0},  {"flip", strided, 0},       {"slice", strided, 0},
    {"pad", pad, 0},        {"split", parts<false>, 0}, {"concat", parts<true>, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_CUDA_KERNELS(movement, entries)
