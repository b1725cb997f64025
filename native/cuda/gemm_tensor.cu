// Products on the tensor cores. Shared memory holds 32-bit words, in which neighbours along k lie together: one TF32,
// two bfloat16 or four bytes. Every kind has the same fragments of eight words along k; see simt.h.
#include "gemm_tiles.h"

namespace throughtime {

namespace {

struct alignas(16) Words {
  uint32_t x[4];
};

struct Tf32 {
  using Sum = float;
  static constexpr int kPerWord = 1;
  static DEVICE uint32_t word(float x) { return to_tf32(x); }
  static DEVICE void multiply(float* d, const uint32_t* a, const uint32_t* b) { multiply_tf32(d, a, b); }
};
struct Bf16 {
  using Sum = float;
  static constexpr int kPerWord = 2;
  static DEVICE void multiply(float* d, const uint32_t* a, const uint32_t* b) { multiply_bf16(d, a, b); }
};
// What is loaded are words already.
struct Int8 {
  using Sum = int32_t;
  static constexpr int kPerWord = 1;
  static DEVICE uint32_t word(float x) { return __float_as_uint(x); }
  static DEVICE void multiply(int32_t* d, const uint32_t* a, const uint32_t* b) { multiply_int8(d, a, b); }
};

// A warp has WM x WN elements of C.
template <class Kind, int Rows, int Columns, int Depth, int WM, int WN>
struct TensorTile {
  static constexpr int kRows = Rows, kColumns = Columns, kDepth = Depth;
  static constexpr int kThreads = (Rows / WM) * (Columns / WN) * 32;
  // Four words more than there are: the lanes of a fragment find theirs in different banks.
  static constexpr int kWords = Depth / Kind::kPerWord, kStride = kWords + 4;
  static constexpr int kFloats = (Rows + Columns) * kStride;
  static constexpr int kTilesM = WM / 16, kTilesN = WN / 8;

  typename Kind::Sum sum[kTilesM][kTilesN][4];
  int row, column, g, t;

  DEVICE TensorTile() {
    constexpr int across = Columns / WN;
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    row = warp / across * WM, column = warp % across * WN;
    g = lane / 4, t = lane % 4;
  }

  DEVICE void clear() {
#pragma unroll
    for (int i = 0; i < kTilesM; i++)
#pragma unroll
      for (int j = 0; j < kTilesN; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) sum[i][j][e] = 0;
  }

  // As [row][word].
  template <class P>
  static DEVICE void keep(uint32_t* to, const P& panel, int64_t k_step) {
    panel.keep(
        k_step,
        [=](int row, int k, const Four& low, const Four& high) {
          uint32_t* at = to + row * kStride + k / Kind::kPerWord;
          const float *x = low.x, *y = high.x;
          if constexpr (Kind::kPerWord == 2) {
            *reinterpret_cast<Words*>(at) = {to_bf16(x[0], x[1]), to_bf16(x[2], x[3]), to_bf16(y[0], y[1]),
                                             to_bf16(y[2], y[3])};
          } else {
            *reinterpret_cast<Words*>(at) = {Kind::word(x[0]), Kind::word(x[1]), Kind::word(x[2]), Kind::word(x[3])};
            *reinterpret_cast<Words*>(at + 4) = {Kind::word(y[0]), Kind::word(y[1]), Kind::word(y[2]),
                                                 Kind::word(y[3])};
          }
        },
        [=](int row, int k, const Four& first, const Four& second) {
          uint32_t* at = to + row * kStride + k / Kind::kPerWord;
#pragma unroll
          for (int i = 0; i < 4; i++) {
            if constexpr (Kind::kPerWord == 2)
              at[i * kStride] = to_bf16(first.x[i], second.x[i]);
            else
              at[i * kStride] = Kind::word(first.x[i]), at[i * kStride + 1] = Kind::word(second.x[i]);
          }
        });
  }
  template <class P>
  static DEVICE void keep_a(float* shared, const P& panel, int64_t k_step) {
    keep(reinterpret_cast<uint32_t*>(shared), panel, k_step);
  }
  template <class P>
  static DEVICE void keep_b(float* shared, const P& panel, int64_t k_step) {
    keep(reinterpret_cast<uint32_t*>(shared) + Rows * kStride, panel, k_step);
  }

  DEVICE void multiply(const float* shared, int rows) {
    if (row >= rows) return;
    const uint32_t* a = reinterpret_cast<const uint32_t*>(shared) + (row + g) * kStride + t;
    const uint32_t* b = reinterpret_cast<const uint32_t*>(shared) + (Rows + column + g) * kStride + t;
#pragma unroll
    for (int w = 0; w < kWords; w += 8) {
      uint32_t x[kTilesM][4], y[kTilesN][2];
#pragma unroll
      for (int i = 0; i < kTilesM; i++)
#pragma unroll
        for (int e = 0; e < 4; e++) x[i][e] = a[(i * 16 + e % 2 * 8) * kStride + w + e / 2 * 4];
#pragma unroll
      for (int j = 0; j < kTilesN; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) y[j][e] = b[j * 8 * kStride + w + e * 4];
#pragma unroll
      for (int i = 0; i < kTilesM; i++)
#pragma unroll
        for (int j = 0; j < kTilesN; j++) Kind::multiply(sum[i][j], x[i], y[j]);
    }
  }

  DEVICE void put(const Target& target, const float* a_scale, const float* b_scale) const {
#pragma unroll
    for (int i = 0; i < kTilesM; i++)
#pragma unroll
      for (int j = 0; j < kTilesN; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
          const int r = row + i * 16 + g + e / 2 * 8, c = column + j * 8 + 2 * t + e % 2;
          float value = (float)sum[i][j][e];
          if (a_scale && r < target.rows && c < target.columns) value *= b_scale[c] * a_scale[r];
          target.put(r, c, value);
        }
  }
};

template <class Tile>
KERNEL void __launch_bounds__(Tile::kThreads) tensor_product(Job p) {
  product_of_tile<Tile>(p);
}

template <class Kind>
void run(Device* device, const Job& job) {
  using FewRows = TensorTile<Kind, 16, 64, 64, 16, 16>;
  using Small = TensorTile<Kind, 64, 64, 16 * Kind::kPerWord, 32, 32>;
  using Large = TensorTile<Kind, 128, 128, 16 * Kind::kPerWord, 64, 32>;
  switch (tile_for(device, job, {Large::kRows, Large::kColumns})) {
    case FEW_ROWS:
      return launch_tiles<FewRows>(device, job, tensor_product<FewRows>);
    case SMALL:
      return launch_tiles<Small>(device, job, tensor_product<Small>);
    case LARGE:
      return launch_tiles<Large>(device, job, tensor_product<Large>);
  }
}

// Rows of k numbers as bytes, x = q * scale with scale = max |x| / 127, which is NaN if a number is not finite. A warp
// takes a row; what is left of its last words is zero.
void to_bytes(Device* device, const float* x, int64_t row_step, int64_t k_step, int64_t batch_step, int64_t rows,
              int64_t batch, int64_t k, int64_t words, uint32_t* to, float* scales) {
  for_each_block(device, rows * batch, kWarp, 0, [=] __device__(int64_t i) {
    const float* from = x + i / rows * batch_step + i % rows * row_step;
    float most = 0.0f, wrong = 0.0f;
    for (int64_t j = threadIdx.x; j < k; j += kWarp) {
      const float v = from[j * k_step];
      most = fabsf(v) > most ? fabsf(v) : most;
      wrong += v * 0.0f;
    }
    most = warp_reduce(most, [](float a, float b) { return a > b ? a : b; });
    wrong = warp_sum(wrong);
    if (threadIdx.x == 0) scales[i] = most / 127.0f + wrong;
    const float inverse = most > 0.0f ? 127.0f / most : 0.0f;
    for (int64_t w = threadIdx.x; w < words; w += kWarp) {
      uint32_t word = 0;
      for (int b = 0; b < 4; b++)
        if (4 * w + b < k) word |= ((uint32_t)(int)rintf(from[(4 * w + b) * k_step] * inverse) & 0xffu) << 8 * b;
      to[i * words + w] = word;
    }
  });
}

void multiply_bytes(Device* device, Job job) {
  const int64_t words = (job.k + 15) / 16 * 4;
  uint32_t* a = scratch<uint32_t>(device, job.batch * job.m * words);
  uint32_t* b = scratch<uint32_t>(device, job.batch * job.n * words);
  float *a_scale = scratch<float>(device, job.batch * job.m), *b_scale = scratch<float>(device, job.batch * job.n);
  to_bytes(device, job.a, job.a_row, job.a_column, job.a_step, job.m, job.batch, job.k, words, a, a_scale);
  to_bytes(device, job.b, job.b_column, job.b_row, job.b_step, job.n, job.batch, job.k, words, b, b_scale);
  job.k = words;
  job.a = reinterpret_cast<const float*>(a), job.a_row = words, job.a_column = 1, job.a_step = job.m * words;
  job.b = reinterpret_cast<const float*>(b), job.b_column = words, job.b_row = 1, job.b_step = job.n * words;
  job.a_scale = a_scale, job.b_scale = b_scale;
  job.a_wide = job.b_wide = true;
  job.stretch = words, job.stretches = 1;
  run<Int8>(device, job);
}

}  // namespace

void multiply_on_tensor_cores(Device* device, Job job, bool tf32) {
  if (tf32) return run<Tf32>(device, job);
  if (job.precision == BF16) return run<Bf16>(device, job);
  multiply_bytes(device, job);
}

}  // namespace throughtime
