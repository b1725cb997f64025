// Reductions over the middle of [outer, n, inner]. ints: outer, n, inner.
#include "reduce.h"

namespace throughtime {
namespace {

// Numbers that are added one after another: of a row by a block's threads together, elsewhere by one thread.
constexpr int64_t kRowChunk = 16384, kColumnChunk = 64;

template <class T>
T* numbers(const Buffer* b) {
  return static_cast<T*>(b->data);
}

int64_t chunks_of(int64_t n, int64_t inner) {
  const int64_t chunk = inner == 1 ? kRowChunk : kColumnChunk;
  return n == 0 ? 1 : (n + chunk - 1) / chunk;
}

// One pass: y [outer, chunks, inner]. T is float, or unsigned for integers, which wrap.
template <class T>
void sum_chunks(Device* device, const T* x, int64_t outer, int64_t n, int64_t inner, T* y) {
  const int64_t chunks = chunks_of(n, inner);
  if (inner == 1) {
    for_each_block(device, outer * chunks, kBlock, kBlock / kWarp * sizeof(T), [=] __device__(int64_t unit) {
      const T* row = x + unit / chunks * n;
      const int64_t from = unit % chunks * kRowChunk, to = from + kRowChunk < n ? from + kRowChunk : n;
      T sum = 0;
      for (int64_t j = from + threadIdx.x; j < to; j += blockDim.x) sum += row[j];
      sum = block_reduce(sum, shared_memory<T>(), Plus());
      if (threadIdx.x == 0) y[unit] = sum;
    });
    return;
  }
  for_each(device, outer * chunks * inner, [=] __device__(int64_t unit) {
    const int64_t i = unit % inner, chunk = unit / inner % chunks, o = unit / inner / chunks;
    const int64_t from = chunk * kColumnChunk, to = from + kColumnChunk < n ? from + kColumnChunk : n;
    T sum = 0;
    for (int64_t j = from; j < to; j++) sum += x[(o * n + j) * inner + i];
    y[unit] = sum;
  });
}

template <class T>
void sum_all(Device* device, const T* x, int64_t outer, int64_t n, int64_t inner, T* y) {
  while (chunks_of(n, inner) > 1) {
    const int64_t chunks = chunks_of(n, inner);
    T* parts = scratch<T>(device, outer * chunks * inner);
    sum_chunks(device, x, outer, n, inner, parts);
    x = parts, n = chunks;
  }
  sum_chunks(device, x, outer, n, inner, y);
}

void sum(const Args& args, Device* device) {
  const int64_t outer = args.ints[0], n = args.ints[1], inner = args.ints[2];
  if (args.in[0]->dtype == F32)
    sum_all(device, data(args.in[0]), outer, n, inner, data(args.out[0]));
  else
    sum_all(device, numbers<uint32_t>(args.in[0]), outer, n, inner, numbers<uint32_t>(args.out[0]));
}

// The largest number so far, the first of equals; a NaN is larger than any.
template <class T>
struct Best {
  T value;
  int32_t index;  // negative: none yet
};
struct Better {
  template <class T>
  DEVICE static bool beats(T x, T best) {
    return x > best || (x != x && best == best);
  }
  template <class T>
  DEVICE Best<T> operator()(Best<T> a, Best<T> b) const {
    if (b.index < 0) return a;
    if (a.index < 0 || beats(b.value, a.value)) return b;
    if (beats(a.value, b.value)) return a;
    return a.index < b.index ? a : b;
  }
};

// put(place in the result, the largest)
template <class T, class F>
void each_largest(const Args& args, Device* device, const F& put) {
  const int64_t n = args.ints[1], inner = args.ints[2];
  const T* x = numbers<T>(args.in[0]);
  const int64_t places = (int64_t)args.ints[0] * inner;
  if (inner > 1 || n < (int64_t)kWarp) {
    for_each(device, places, [=] __device__(int64_t place) {
      const T* first = x + place / inner * n * inner + place % inner;
      Best<T> best = {first[0], 0};
      for (int64_t j = 1; j < n; j++) best = Better()(best, Best<T>{first[j * inner], (int32_t)j});
      put(place, best);
    });
    return;
  }
  for_each_block(device, places, kBlock, kBlock / kWarp * sizeof(Best<T>), [=] __device__(int64_t place) {
    Best<T> best = {T(), -1};
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x) best = Better()(best, Best<T>{x[place * n + j], (int32_t)j});
    best = block_reduce(best, shared_memory<Best<T>>(), Better());
    if (threadIdx.x == 0) put(place, best);
  });
}

template <class T>
void argmax_of(const Args& args, Device* device) {
  int32_t* y = integers(args.out[0]);
  each_largest<T>(args, device, [=] __device__(int64_t place, Best<T> best) { y[place] = best.index; });
}
void argmax(const Args& args, Device* device) {
  args.in[0]->dtype == F32 ? argmax_of<float>(args, device) : argmax_of<int32_t>(args, device);
}

template <class T>
void max_of(const Args& args, Device* device) {
  T* y = numbers<T>(args.out[0]);
  each_largest<T>(args, device, [=] __device__(int64_t place, Best<T> best) { y[place] = best.value; });
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

void sum_middle(Device* device, const float* x, int64_t outer, int64_t n, int64_t inner, float* y) {
  sum_all(device, x, outer, n, inner, y);
}

}  // namespace throughtime

THROUGHTIME_CUDA_KERNELS(reduce, entries)
