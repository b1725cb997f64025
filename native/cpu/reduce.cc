// Reductions over the middle of [outer, n, inner]. ints: outer, n, inner.
#include "isa.h"
#include "parallel.h"
#include "simd.h"

namespace throughtime {
namespace {

constexpr size_t kGrain = 16384;  // elements worth a thread of their own

template <class T>
T* data(Buffer* b) {
  return static_cast<T*>(b->data);
}

// Sums are taken in blocks, and the blocks' sums added pairwise: the order is fixed by the shape, whatever the threads,
// and the error grows with the logarithm of n.
constexpr int64_t kRowBlock = 1024;   // elements of a block where inner is 1
constexpr int64_t kColumnBlock = 64;  // entries of a block elsewhere
constexpr int64_t kColumns = 1024;    // of a block at a time, so that their sums stay in the first cache

float row_block(const float* x, int64_t n) {
  Vec total[4] = {};
  int64_t j = 0;
  for (; j + 4 * kLanes <= n; j += 4 * kLanes)
    for (int k = 0; k < 4; k++) total[k] += load(x + j + k * kLanes);
  for (; j + kLanes <= n; j += kLanes) total[0] += load(x + j);
  if (j < n) total[1] += load_part(x + j, static_cast<int>(n - j));
  return sum((total[0] + total[1]) + (total[2] + total[3]));
}

// y[c] = sum of x[j * inner + c] over j < n
void column_block(const float* x, int64_t n, int64_t inner, int64_t columns, float* y) {
  for (int64_t c = 0; c < columns; c++) y[c] = x[c];
  int64_t j = 1;
  for (; j + 4 <= n; j += 4) {
    const float *x0 = x + j * inner, *x1 = x0 + inner, *x2 = x1 + inner, *x3 = x2 + inner;
    for (int64_t c = 0; c < columns; c++) y[c] += (x0[c] + x1[c]) + (x2[c] + x3[c]);
  }
  for (; j < n; j++)
    for (int64_t c = 0; c < columns; c++) y[c] += x[j * inner + c];
}

void sum_floats(const Args& args, Device* device, int64_t outer, int64_t n, int64_t inner) {
  const float* x = data<float>(args.in[0]);
  float* y = data<float>(args.out[0]);
  const int64_t length = inner == 1 ? kRowBlock : kColumnBlock;
  const int64_t blocks = (n + length - 1) / length;
  const int64_t strips = (inner + kColumns - 1) / kColumns;
  float* parts = blocks == 1 ? y : static_cast<float*>(device->scratch(device, outer * blocks * inner * sizeof(float)));
  const int64_t block_work = length * (inner < kColumns ? inner : kColumns);
  for_range(device, outer * blocks * strips, 1 + kGrain / block_work, [=](size_t begin, size_t end) {
    for (int64_t unit = begin; unit < static_cast<int64_t>(end); unit++) {
      const int64_t first = unit % strips * kColumns, part = unit / strips;
      const int64_t o = part / blocks, from = part % blocks * length;
      const int64_t count = n - from < length ? n - from : length;
      const int64_t columns = inner - first < kColumns ? inner - first : kColumns;
      const float* block = x + (o * n + from) * inner + first;
      if (inner == 1)
        parts[part] = row_block(block, count);
      else
        column_block(block, count, inner, columns, parts + part * inner + first);
    }
  });
  if (blocks == 1) return;
  for_range(device, outer * strips, 1 + kGrain / (blocks * (inner < kColumns ? inner : kColumns)),
            [=](size_t begin, size_t end) {
              for (int64_t unit = begin; unit < static_cast<int64_t>(end); unit++) {
                const int64_t first = unit % strips * kColumns, o = unit / strips;
                const int64_t columns = inner - first < kColumns ? inner - first : kColumns;
                float* mine = parts + o * blocks * inner + first;
                for (int64_t step = 1; step < blocks; step *= 2)
                  for (int64_t i = 0; i + step < blocks; i += 2 * step) {
                    float *a = mine + i * inner, *b = mine + (i + step) * inner;
                    for (int64_t c = 0; c < columns; c++) a[c] += b[c];
                  }
                __builtin_memcpy(y + o * inner + first, mine, columns * sizeof(float));
              }
            });
}

void sum(const Args& args, Device* device) {
  const int64_t outer = args.ints[0], n = args.ints[1], inner = args.ints[2];
  if (n == 0) {
    __builtin_memset(args.out[0]->data, 0, args.out[0]->elements * 4);
  } else if (args.in[0]->dtype == F32) {
    sum_floats(args, device, outer, n, inner);
  } else {
    const int32_t* x = data<int32_t>(args.in[0]);
    int32_t* y = data<int32_t>(args.out[0]);
    for (int64_t o = 0; o < outer; o++)
      for (int64_t i = 0; i < inner; i++) {
        uint32_t total = 0;
        for (int64_t j = 0; j < n; j++) total += x[(o * n + j) * inner + i];
        y[o * inner + i] = total;
      }
  }
}

// Whether x takes the place of `best`: it is larger, or the first NaN.
template <class T>
bool beats(T x, T best) {
  return x > best || (x != x && best == best);
}
IVec beats(Vec x, Vec best) { return x > best || (x != x && best == best); }

// The largest element of each lane, and where it was.
struct Lanes {
  Vec value;
  IVec index;
  void see(Vec x, IVec at) {
    const IVec better = beats(x, value);
    value = better ? x : value;
    index = better ? at : index;
  }
};

// Position of the first largest of n elements `step` apart.
template <class T>
int64_t largest(const T* x, int64_t n, int64_t step) {
  int64_t best = 0;
  for (int64_t j = 1; j < n; j++)
    if (beats(x[j * step], x[best * step])) best = j;
  return best;
}

int64_t largest_of_row(const float* x, int64_t n) {
  if (n < kLanes) return largest(x, n, 1);
  IVec at;
  for (int i = 0; i < kLanes; i++) at[i] = i;
  Lanes lanes = {load(x), at};
  int64_t j = kLanes;
  for (; j + kLanes <= n; j += kLanes) lanes.see(load(x + j), at + static_cast<int32_t>(j));
  int64_t best = lanes.index[0];
  for (int i = 1; i < kLanes; i++) {
    const int64_t other = lanes.index[i];
    if (beats(x[other], x[best]) || (other < best && !beats(x[best], x[other]))) best = other;
  }
  for (; j < n; j++)
    if (beats(x[j], x[best])) best = j;
  return best;
}

// Calls put(place in the result, index, value) for the largest element along the middle axis.
template <class T, class F>
void each_largest(const Args& args, Device* device, const F& put) {
  const int64_t n = args.ints[1], inner = args.ints[2];
  const T* x = data<T>(args.in[0]);
  const bool rows = inner == 1 && args.in[0]->dtype == F32;
  for_range(device, args.ints[0] * inner, 1 + kGrain / n, [=](size_t begin, size_t end) {
    for (size_t place = begin; place < end; place++) {
      const T* first = x + place / inner * n * inner + place % inner;
      const int64_t index = rows ? largest_of_row(reinterpret_cast<const float*>(first), n) : largest(first, n, inner);
      put(place, index, first[index * inner]);
    }
  });
}

void argmax(const Args& args, Device* device) {
  int32_t* y = data<int32_t>(args.out[0]);
  const auto put = [=](size_t place, int64_t index, float) { y[place] = static_cast<int32_t>(index); };
  if (args.in[0]->dtype == F32)
    each_largest<float>(args, device, put);
  else
    each_largest<int32_t>(args, device, put);
}

template <class T>
void max_of(const Args& args, Device* device) {
  T* y = data<T>(args.out[0]);
  each_largest<T>(args, device, [=](size_t place, int64_t, T value) { y[place] = value; });
}

void max(const Args& args, Device* device) {
  args.in[0]->dtype == F32 ? max_of<float>(args, device) : max_of<int32_t>(args, device);
}

const KernelEntry entries[] = {
    {"sum", sum, 0},
    {"argmax", argmax, 0},
    {"max", max, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_KERNELS(reduce, entries)
