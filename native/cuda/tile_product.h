// The product that a persistent sweep takes at every step: Y = A X for a matrix A [m, k] that stays in shared memory
// and X of kTile columns. Both operands are float32, or bfloat16 for the tensor cores; sums are float32.
//
// The block's threads divide Y, and the sum over k into slices: what each leaves is [slice][kTile][width of m].
#pragma once
#include "device.h"
#include "round.h"

namespace throughtime {

constexpr int kTile = 8;  // columns: rows of a batch
constexpr int kSweepThreads = 256;

namespace {

DEVICE_AND_HOST int64_t whole(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// A as [k][width], X as [k][kTile]; a thread has four rows of Y, all columns, and each slices-th k.
struct FloatProduct {
  int64_t m, k;

  DEVICE_AND_HOST int64_t width() const { return whole(m, 4); }
  DEVICE_AND_HOST int64_t weight_floats() const { return k * width(); }
  DEVICE_AND_HOST int64_t operand_floats() const { return k * kTile; }
  DEVICE_AND_HOST int slices() const { return width() / 4 >= kSweepThreads ? 1 : (int)(kSweepThreads / (width() / 4)); }
  DEVICE_AND_HOST int64_t partial_floats() const { return slices() * kTile * width(); }

  // `value(i, j)` of A.
  template <class F>
  DEVICE void load(float* weights, const F& value) const {
    for (int64_t i = threadIdx.x; i < weight_floats(); i += blockDim.x)
      weights[i] = i % width() < m ? value(i % width(), i / width()) : 0.0f;
  }
  DEVICE void clear(float*) const {}
  DEVICE void put(float* operand, int64_t j, int column, float value) const { operand[j * kTile + column] = value; }

  // Calls body(i) for the quadruples of floats that hold X's rows from `first` to first + count, multiples of 8.
  template <class F>
  DEVICE void for_fours(int64_t first, int64_t count, const F& body) const {
    for (int64_t i = threadIdx.x; i < count * kTile / 4; i += blockDim.x) body(first * kTile / 4 + i);
  }

  DEVICE void multiply(const float* weights, const float* operand, float* partial) const {
    const int64_t fours = width() / 4;
    const int parts = slices(), slice = parts == 1 ? 0 : (int)(threadIdx.x / fours);
    if (slice >= parts) return;
    for (int64_t four = parts == 1 ? threadIdx.x : threadIdx.x % fours; four < fours; four += kSweepThreads) {
      float sum[kTile][4];
#pragma unroll
      for (int r = 0; r < kTile; r++) sum[r][0] = sum[r][1] = sum[r][2] = sum[r][3] = 0.0f;
      for (int64_t j = slice; j < k; j += parts) {
        const float4 w = reinterpret_cast<const float4*>(weights + j * width())[four];
        const float4 low = reinterpret_cast<const float4*>(operand + j * kTile)[0];
        const float4 high = reinterpret_cast<const float4*>(operand + j * kTile)[1];
        const float x[kTile] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
        for (int r = 0; r < kTile; r++)
          sum[r][0] += x[r] * w.x, sum[r][1] += x[r] * w.y, sum[r][2] += x[r] * w.z, sum[r][3] += x[r] * w.w;
      }
#pragma unroll
      for (int r = 0; r < kTile; r++)
        reinterpret_cast<float4*>(partial + (slice * kTile + r) * width())[four] =
            make_float4(sum[r][0], sum[r][1], sum[r][2], sum[r][3]);
    }
  }
};

// A as the fragments of multiply_bf16, [row of tiles][column of tiles][lane][4]; X as [kTile][k and a little], so that
// the lanes of a fragment find their words in different banks. Warps divide the rows of tiles, then the sum.
struct Bf16Product {
  int64_t m, k;

  static constexpr int kWarps = kSweepThreads / 32;
  DEVICE_AND_HOST int64_t width() const { return whole(m, 16); }
  DEVICE_AND_HOST int64_t rows() const { return width() / 16; }
  DEVICE_AND_HOST int64_t columns() const { return (k + 15) / 16; }
  DEVICE_AND_HOST int64_t stride() const { return columns() * 8 + 4; }  // words of a column of X
  DEVICE_AND_HOST int64_t weight_floats() const { return rows() * columns() * 128; }
  DEVICE_AND_HOST int64_t operand_floats() const { return kTile * stride(); }
  DEVICE_AND_HOST int slices() const {
    const int64_t most = rows() >= kWarps ? 1 : kWarps / rows();
    return (int)(most < columns() ? most : columns());
  }
  DEVICE_AND_HOST int64_t partial_floats() const { return slices() * kTile * width(); }

  template <class F>
  DEVICE void load(float* weights, const F& value) const {
    uint32_t* words = reinterpret_cast<uint32_t*>(weights);
    for (int64_t i = threadIdx.x; i < weight_floats(); i += blockDim.x) {
      const int part = i % 4, lane = i / 4 % 32;
      const int64_t tile = i / 128;
      const int64_t row = tile / columns() * 16 + lane / 4 + part % 2 * 8;
      const int64_t column = tile % columns() * 16 + lane % 4 * 2 + part / 2 * 8;
      const float low = row < m && column < k ? value(row, column) : 0.0f;
      const float high = row < m && column + 1 < k ? value(row, column + 1) : 0.0f;
      words[i] = bf16_bits(low) | bf16_bits(high) << 16;
    }
  }
  // Zeros past the last row of X, once for each place that X will be in.
  DEVICE void clear(float* operand) const {
    for (int64_t i = threadIdx.x; i < operand_floats(); i += blockDim.x) reinterpret_cast<uint32_t*>(operand)[i] = 0;
  }
  DEVICE void put(float* operand, int64_t j, int column, float value) const {
    reinterpret_cast<uint16_t*>(operand)[column * stride() * 2 + j] = (uint16_t)bf16_bits(value);
  }

  template <class F>
  DEVICE void for_fours(int64_t first, int64_t count, const F& body) const {
    const int64_t each = count / 8;
    for (int64_t i = threadIdx.x; i < each * kTile; i += blockDim.x)
      body(i / each * (stride() / 4) + first / 8 + i % each);
  }

  DEVICE void multiply(const float* weights, const float* operand, float* partial) const {
    const uint32_t* words = reinterpret_cast<const uint32_t*>(operand);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const int parts = slices();
    for (int64_t task = warp; task < rows() * parts; task += kWarps) {
      const int64_t row = task / parts;
      const int slice = (int)(task % parts);
      float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
      for (int64_t c = slice; c < columns(); c += parts) {
        const float4 four = reinterpret_cast<const float4*>(weights)[(row * columns() + c) * 32 + lane];
        const uint32_t a[4] = {__float_as_uint(four.x), __float_as_uint(four.y), __float_as_uint(four.z),
                               __float_as_uint(four.w)};
        const uint32_t b[2] = {words[g * stride() + c * 8 + t], words[g * stride() + c * 8 + t + 4]};
        multiply_bf16(sum, a, b);
      }
      float* to = partial + slice * kTile * width() + row * 16 + g;
      to[2 * t * width()] = sum[0], to[(2 * t + 1) * width()] = sum[1];
      to[2 * t * width() + 8] = sum[2], to[(2 * t + 1) * width() + 8] = sum[3];
    }
  }
};

}  // namespace
}  // namespace throughtime
