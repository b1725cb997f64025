// Products of float32, and the choice of who takes a product.
#include "gemm.h"

#include "blas.h"
#include "gemm_tiles.h"

namespace throughtime {

namespace {

// A thread has TM x TN elements of C, in groups of up to four neighbours; LX lanes of a warp lie side by side.
template <int Rows, int Columns, int Depth, int TM, int TN, int LX, int Blocks>
struct FloatTile {
  static constexpr int kRows = Rows, kColumns = Columns, kDepth = Depth, kBlocks = Blocks;
  static constexpr int kThreads = (Rows / TM) * (Columns / TN), kStrideA = Rows + 4, kStrideB = Columns + 4;
  static constexpr int kFloats = Depth * (kStrideA + kStrideB);
  static constexpr int VM = TM < 4 ? TM : 4, VN = TN < 4 ? TN : 4;
  static constexpr int kGroupM = Rows / TM * VM, kGroupN = Columns / TN * VN;

  float sum[TM][TN];
  int row, column;

  DEVICE FloatTile() {
    constexpr int across = Columns / TN / LX;
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    row = (warp / across * (32 / LX) + lane / LX) * VM;
    column = (warp % across * LX + lane % LX) * VN;
  }

  DEVICE void clear() {
#pragma unroll
    for (int i = 0; i < TM; i++)
#pragma unroll
      for (int j = 0; j < TN; j++) sum[i][j] = 0.0f;
  }

  // As [k][row].
  template <int Stride, class P>
  static DEVICE void keep(float* to, const P& panel, int64_t k_step) {
    panel.keep(
        k_step,
        [=](int row, int k, const Four& low, const Four& high) {
#pragma unroll
          for (int i = 0; i < 4; i++) to[(k + i) * Stride + row] = low.x[i], to[(k + 4 + i) * Stride + row] = high.x[i];
        },
        [=](int row, int k, const Four& first, const Four& second) {
          *reinterpret_cast<Four*>(to + k * Stride + row) = first;
          *reinterpret_cast<Four*>(to + (k + 1) * Stride + row) = second;
        });
  }
  template <class P>
  static DEVICE void keep_a(float* shared, const P& panel, int64_t k_step) {
    keep<kStrideA>(shared, panel, k_step);
  }
  template <class P>
  static DEVICE void keep_b(float* shared, const P& panel, int64_t k_step) {
    keep<kStrideB>(shared + Depth * kStrideA, panel, k_step);
  }

  template <int V>
  static DEVICE void read(const float* from, float* to) {
    if constexpr (V == 4) {
      const Four four = *reinterpret_cast<const Four*>(from);
#pragma unroll
      for (int i = 0; i < 4; i++) to[i] = four.x[i];
    } else {
#pragma unroll
      for (int i = 0; i < V; i++) to[i] = from[i];
    }
  }

  DEVICE void multiply(const float* shared, int rows) {
    if (row >= rows) return;
    const float *a = shared + row, *b = shared + Depth * kStrideA + column;
#pragma unroll(Depth <= 16 ? Depth : 16)
    for (int k = 0; k < Depth; k++) {
      float x[TM], y[TN];
#pragma unroll
      for (int g = 0; g < TM / VM; g++) read<VM>(a + k * kStrideA + g * kGroupM, x + g * VM);
#pragma unroll
      for (int g = 0; g < TN / VN; g++) read<VN>(b + k * kStrideB + g * kGroupN, y + g * VN);
#pragma unroll
      for (int i = 0; i < TM; i++)
#pragma unroll
        for (int j = 0; j < TN; j++) sum[i][j] += x[i] * y[j];
    }
  }

  DEVICE void put(const Target& target, const float*, const float*) const {
#pragma unroll
    for (int i = 0; i < TM; i++)
#pragma unroll
      for (int j = 0; j < TN; j += VN) {
        const int r = row + i / VM * kGroupM + i % VM, c = column + j / VN * kGroupN;
        if constexpr (VN == 4)
          target.put(r, c, Four{{sum[i][j], sum[i][j + 1], sum[i][j + 2], sum[i][j + 3]}});
        else
          target.put(r, c, sum[i][j]);
      }
  }
};

template <class Tile>
KERNEL void __launch_bounds__(Tile::kThreads, Tile::kBlocks) float_product(Job p) {
  product_of_tile<Tile>(p);
}

using FewRows = FloatTile<16, 32, 64, 2, 1, 32, 4>;
using Small = FloatTile<64, 64, 16, 8, 4, 8, 4>;
using Large = FloatTile<128, 128, 16, 8, 8, 8, 2>;

}  // namespace

void add_stretches(Device* device, const Job& job) {
  const Job p = job;
  const int64_t each = p.batch * p.m * p.n;
  for_each(device, each, [=] __device__(int64_t i) {
    const int64_t column = i % p.n, row = i / p.n % p.m, z = i / (p.m * p.n);
    float* c = p.c + z * p.c_step + row * p.c_row + column;
    float sum = (p.bias ? p.bias[column] : 0.0f) + (p.accumulate ? *c : 0.0f);
    for (int s = 0; s < p.stretches; s++) sum += p.partial[s * each + i];
    *c = sum;
  });
}

void multiply(Device* device, const Product& product) {
  if (product.m * product.n == 0 || product.batch == 0) return;
  const bool tf32 = product.precision == FLOAT32 && cuda(device)->tf32;
  if (multiply_by_library(device, product, tf32)) return;
  const Job job = job_of(product);
  if (tf32 || product.precision != FLOAT32) return multiply_on_tensor_cores(device, job, tf32);
  switch (tile_for(device, job, {Large::kRows, Large::kColumns})) {
    case FEW_ROWS:
      return launch_tiles<FewRows>(device, job, float_product<FewRows>);
    case SMALL:
      return launch_tiles<Small>(device, job, float_product<Small>);
    case LARGE:
      return launch_tiles<Large>(device, job, float_product<Large>);
  }
}

}  // namespace throughtime
