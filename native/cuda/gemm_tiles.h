// A tile of a product by one block. Each kind of tile says how its operands lie in shared memory, and how it multiplies
// what is there; the walk over the sum is the same for all.
#pragma once
#include "gemm.h"
#include "round.h"

namespace throughtime {
namespace {

constexpr int kTileThreads = 256;

DEVICE_AND_HOST int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Multiplied and added in float32: each thread has a square of the tile, of Size / 16 rows and columns.
template <int Size>
struct FloatTile {
  static constexpr int kRows = Size, kColumns = Size, kDepth = 16, kEach = Size / 16;
  static constexpr int kStride = Size + 4;  // from one k to the next
  static constexpr size_t kShared = 2 * kDepth * kStride * sizeof(float);
  float sum[kEach][kEach];

  DEVICE static float* a_at(float* shared, int row, int k) { return shared + k * kStride + row; }
  DEVICE static float* b_at(float* shared, int column, int k) { return shared + (kDepth + k) * kStride + column; }
  DEVICE static void put(float* place, float x) { *place = x; }

  DEVICE void multiply(const float* shared) {
    const int row = threadIdx.x / 16 * 4, column = threadIdx.x % 16 * 4;
#pragma unroll
    for (int k = 0; k < kDepth; k++) {
      float a[kEach], b[kEach];
#pragma unroll
      for (int i = 0; i < kEach; i += 4) {
        const float4 x = *reinterpret_cast<const float4*>(shared + k * kStride + row + i * 16);
        const float4 y = *reinterpret_cast<const float4*>(shared + (kDepth + k) * kStride + column + i * 16);
        a[i] = x.x, a[i + 1] = x.y, a[i + 2] = x.z, a[i + 3] = x.w;
        b[i] = y.x, b[i + 1] = y.y, b[i + 2] = y.z, b[i + 3] = y.w;
      }
#pragma unroll
      for (int i = 0; i < kEach; i++)
#pragma unroll
        for (int j = 0; j < kEach; j++) sum[i][j] += a[i] * b[j];
    }
  }

  // body(row, column, sum) for each of this thread's.
  template <class F>
  DEVICE void each(const F& body) const {
    const int row = threadIdx.x / 16 * 4, column = threadIdx.x % 16 * 4;
#pragma unroll
    for (int i = 0; i < kEach; i++)
#pragma unroll
      for (int j = 0; j < kEach; j++) body(row + i / 4 * 64 + i % 4, column + j / 4 * 64 + j % 4, sum[i][j]);
  }
};

// On the tensor cores: each warp has 16 rows and 32 columns of a tile of 64 by 64.
struct TensorTile {
  static constexpr int kRows = 64, kColumns = 64;
  float sum[4][4];

  DEVICE static int lane_row() { return threadIdx.x % 32 / 4; }
  DEVICE static int lane_column() { return threadIdx.x % 32 % 4; }
  DEVICE static int row() { return threadIdx.x / 32 % 4 * 16; }
  DEVICE static int column() { return threadIdx.x / 32 / 4 * 32; }

  template <class F>
  DEVICE void each(const F& body) const {
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
      for (int i = 0; i < 4; i++)
        body(row() + lane_row() + i / 2 * 8, column() + j * 8 + 2 * lane_column() + i % 2, sum[j][i]);
  }
};

// Operands as bfloat16, k by k within a row of A or a column of B; the stride keeps a fragment's lanes in different
// banks.
struct Bf16Tile : TensorTile {
  static constexpr int kDepth = 32, kStride = kDepth + 8;
  static constexpr size_t kShared = (kRows + kColumns) * kStride * sizeof(uint16_t);

  DEVICE static uint16_t* a_at(float* shared, int row, int k) {
    return reinterpret_cast<uint16_t*>(shared) + row * kStride + k;
  }
  DEVICE static uint16_t* b_at(float* shared, int column, int k) { return a_at(shared, kRows + column, k); }
  DEVICE static void put(uint16_t* place, float x) { *place = (uint16_t)bf16_bits(x); }

  DEVICE void multiply(const float* shared) {
    const uint32_t* words = reinterpret_cast<const uint32_t*>(shared);
#pragma unroll
    for (int k = 0; k < kDepth; k += 16) {
      const uint32_t* from = words + (row() + lane_row()) * (kStride / 2) + k / 2 + lane_column();
      const uint32_t a[4] = {from[0], from[8 * (kStride / 2)], from[4], from[8 * (kStride / 2) + 4]};
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const uint32_t* to = words + (kRows + column() + j * 8 + lane_row()) * (kStride / 2) + k / 2 + lane_column();
        const uint32_t b[2] = {to[0], to[4]};
        multiply_bf16(sum[j], a, b);
      }
    }
  }
};

// Operands as TF32.
struct Tf32Tile : TensorTile {
  static constexpr int kDepth = 32, kStride = kDepth + 4;
  static constexpr size_t kShared = (kRows + kColumns) * kStride * sizeof(float);

  DEVICE static float* a_at(float* shared, int row, int k) { return shared + row * kStride + k; }
  DEVICE static float* b_at(float* shared, int column, int k) { return a_at(shared, kRows + column, k); }
  DEVICE static void put(float* place, float x) { *place = __uint_as_float(to_tf32(x)); }

  DEVICE void multiply(const float* shared) {
    const uint32_t* words = reinterpret_cast<const uint32_t*>(shared);
#pragma unroll
    for (int k = 0; k < kDepth; k += 8) {
      const uint32_t* from = words + (row() + lane_row()) * kStride + k + lane_column();
      const uint32_t a[4] = {from[0], from[8 * kStride], from[4], from[8 * kStride + 4]};
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const uint32_t* to = words + (kRows + column() + j * 8 + lane_row()) * kStride + k + lane_column();
        const uint32_t b[2] = {to[0], to[4]};
        multiply_tf32(sum[j], a, b);
      }
    }
  }
};

// What a thread brings of an operand's tile, [Size][depth]: neighbouring threads take what lies side by side in memory.
template <int Size, int Depth, class At, class Put>
DEVICE void load_tile(const float* x, int64_t row, int64_t column, int64_t first, int64_t rows, int64_t from,
                      int64_t to, const At& at, const Put& put) {
#pragma unroll
  for (int step = 0; step < Size * Depth / kTileThreads; step++) {
    const int i = threadIdx.x + step * kTileThreads;
    const int r = column == 1 ? i / Depth : i % Size, k = column == 1 ? i % Depth : i / Size;
    const bool inside = first + r < rows && from + k < to;
    put(at(r, k), inside ? x[(first + r) * row + (from + k) * column] : 0.0f);
  }
}

// C, or one part of its sums into `sums` [parts][batch][m][n].
template <class Tile>
KERNEL void __launch_bounds__(kTileThreads) multiply_tiles(Product p, int64_t parts, float* sums) {
  float* shared = shared_memory<float>();
  const int64_t z = blockIdx.z / parts, part = blockIdx.z % parts;
  const int64_t row = (int64_t)blockIdx.y * Tile::kRows, column = (int64_t)blockIdx.x * Tile::kColumns;
  const int64_t length = ceil_div(ceil_div(p.k, parts), Tile::kDepth) * Tile::kDepth;
  const int64_t begin = part * length, end = begin + length < p.k ? begin + length : p.k;
  const float *a = p.a + z * p.a_step, *b = p.b + z * p.b_step;
  Tile tile = {};
  for (int64_t k = begin; k < end; k += Tile::kDepth) {
    load_tile<Tile::kRows, Tile::kDepth>(
        a, p.a_row, p.a_column, row, p.m, k, end, [=](int r, int l) { return Tile::a_at(shared, r, l); },
        [](auto* place, float x) { Tile::put(place, x); });
    load_tile<Tile::kColumns, Tile::kDepth>(
        b, p.b_column, p.b_row, column, p.n, k, end, [=](int c, int l) { return Tile::b_at(shared, c, l); },
        [](auto* place, float x) { Tile::put(place, x); });
    block_sync();
    tile.multiply(shared);
    block_sync();
  }
  tile.each([&](int r, int c, float sum) {
    if (row + r >= p.m || column + c >= p.n) return;
    if (parts > 1) {
      sums[((part * p.batch + z) * p.m + row + r) * p.n + column + c] = sum;
      return;
    }
    float& place = p.c[z * p.c_step + (row + r) * p.c_row + column + c];
    place = sum + (p.bias ? p.bias[column + c] : 0.0f) + (p.accumulate ? place : 0.0f);
  });
}

}  // namespace
}  // namespace throughtime
