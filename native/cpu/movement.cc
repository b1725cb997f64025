// Copies that change places. Elements are moved as words: float and int32 alike.
#include "isa.h"
#include "nest.h"
#include "parallel.h"

namespace throughtime {
namespace {

constexpr size_t kGrain = 32768;  // elements worth a thread of their own
constexpr int64_t kTile = 16;     // a tile of both operands fits in the first cache

uint32_t* words(Buffer* b) { return static_cast<uint32_t*>(b->data); }
void copy(uint32_t* y, const uint32_t* x, size_t n) { __builtin_memcpy(y, x, n * sizeof(uint32_t)); }

// Rows of the last two axes in tiles, so that a column of x is read while its cache lines are there.
void strided_tiles(const Nest<1>& nest, const uint32_t* x, uint32_t* y, size_t n, Device* device) {
  const int64_t rows = nest.dims[nest.rank - 2], columns = nest.dims[nest.rank - 1];
  const int64_t down = nest.strides[0][nest.rank - 2], across = nest.step[0];
  const int64_t bands = (rows + kTile - 1) / kTile;
  const size_t planes = n / (rows * columns);
  for_range(device, planes * bands, 1 + kGrain / (kTile * columns), [=](size_t begin, size_t end) {
    for (size_t unit = begin; unit < end; unit++) {
      const size_t plane = unit / bands;
      const int64_t top = unit % bands * kTile, bottom = top + kTile < rows ? top + kTile : rows;
      int64_t at;
      nest.offsets(plane, nest.rank - 2, &at);
      const uint32_t* from = x + at;
      uint32_t* to = y + plane * rows * columns;
      for (int64_t left = 0; left < columns; left += kTile) {
        const int64_t right = left + kTile < columns ? left + kTile : columns;
        for (int64_t r = top; r < bottom; r++)
          for (int64_t c = left; c < right; c++) to[r * columns + c] = from[r * down + c * across];
      }
    }
  });
}

// ints [offset, nest of x]: expand, transpose, flip, slice
void strided(const Args& args, Device* device) {
  const uint32_t* x = words(args.in[0]) + args.ints[0];
  uint32_t* y = words(args.out[0]);
  const size_t n = args.out[0]->elements;
  if (n == 0) return;
  const Nest<1> nest(args.ints + 1);
  const int64_t step = nest.step[0];
  if (nest.rank >= 2 && step != 0 && step != 1) return strided_tiles(nest, x, y, n, device);
  for_range(device, n, kGrain, [=](size_t begin, size_t end) {
    nest.rows(begin, end, [=](size_t first, const int64_t* at, size_t length) {
      const uint32_t* from = x + at[0];
      uint32_t* to = y + first;
      if (step == 1) return copy(to, from, length);
      for (size_t i = 0; i < length; i++) to[i] = from[static_cast<int64_t>(i) * step];
    });
  });
}

// ints [outer, zeros before, copied, zeros after] a row
void pad(const Args& args, Device* device) {
  const uint32_t* x = words(args.in[0]);
  uint32_t* y = words(args.out[0]);
  const size_t before = args.ints[1], width = args.ints[2], after = args.ints[3], whole = before + width + after;
  for_range(device, args.ints[0], 1 + kGrain / (whole + 1), [=](size_t begin, size_t end) {
    for (size_t o = begin; o < end; o++) {
      uint32_t* to = y + o * whole;
      __builtin_memset(to, 0, before * sizeof(uint32_t));
      copy(to + before, x + o * width, width);
      __builtin_memset(to + before + width, 0, after * sizeof(uint32_t));
    }
  });
}

// Copies between one buffer of whole rows and one buffer for each part. ints [outer, width of part 0, width of part 1,
// ...]
template <bool Joining>
void parts(const Args& args, Device* device) {
  uint32_t* joined = words(Joining ? args.out[0] : args.in[0]);
  Buffer* const* pieces = Joining ? args.in : args.out;
  const int count = Joining ? args.inputs : args.outputs;
  const int32_t* widths = args.ints + 1;
  size_t whole = 0;
  for (int p = 0; p < count; p++) whole += widths[p];
  for_range(device, args.ints[0], 1 + kGrain / (whole + 1), [=](size_t begin, size_t end) {
    for (size_t o = begin; o < end; o++) {
      uint32_t* at = joined + o * whole;
      for (int p = 0; p < count; p++) {
        uint32_t* piece = words(pieces[p]) + o * widths[p];
        if (Joining)
          copy(at, piece, widths[p]);
        else
          copy(piece, at, widths[p]);
        at += widths[p];
      }
    }
  });
}

const KernelEntry entries[] = {
    {"expand", strided, 0}, {"transpose", strided, 0},  {"flip", strided, 0},       {"slice", strided, 0},
    {"pad", pad, 0},        {"split", parts<false>, 0}, {"concat", parts<true>, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_KERNELS(movement, entries)
