// Products of matrices: tiles of C by a block each, operands through shared memory. Where there are few tiles and long
// sums, the sums are cut into parts, which a second pass adds in order; sizes alone decide how.
#include "gemm.h"

#include "gemm_tiles.h"

namespace throughtime {

namespace {

// x as its nearest byte times the step of its row, as src/ops/precision.ts says: a block for each row of `length`.
struct Largest {
  DEVICE float operator()(float a, float b) const { return a > b || a != a ? a : b; }
};
void quantise(Device* device, const float* x, int64_t rows, int64_t row, int64_t column, int64_t length, float* y) {
  for_each_block(device, rows, kBlock, kBlock / kWarp * sizeof(float), [=] __device__(int64_t r) {
    float most = 0.0f;
    for (int64_t i = threadIdx.x; i < length; i += blockDim.x) most = Largest()(fabsf(x[r * row + i * column]), most);
    most = block_reduce(most, shared_memory<float>(), Largest());
    const float step = most / 127.0f, inverse = most == 0.0f ? 0.0f : 127.0f / most;
    for (int64_t i = threadIdx.x; i < length; i += blockDim.x)
      y[r * length + i] = rintf(x[r * row + i * column] * inverse) * step;
  });
}

// The parts of a sum, [parts][batch][m][n], onto C.
void add_parts(Device* device, const Product& p, const float* parts, int64_t count) {
  for_each(device, p.batch * p.m * p.n, [=] __device__(int64_t i) {
    const int64_t column = i % p.n, row = i / p.n % p.m, z = i / p.n / p.m;
    float sum = 0.0f;
    for (int64_t part = 0; part < count; part++) sum += parts[part * p.batch * p.m * p.n + i];
    float& c = p.c[z * p.c_step + row * p.c_row + column];
    c = sum + (p.bias ? p.bias[column] : 0.0f) + (p.accumulate ? c : 0.0f);
  });
}

template <class Tile>
void multiply_with(Device* device, const Product& p) {
  constexpr int64_t kEnough = 128, kShortest = 256, kMostParts = 32;
  const int64_t tiles = ceil_div(p.m, Tile::kRows) * ceil_div(p.n, Tile::kColumns) * p.batch;
  int64_t parts = 1;
  while (parts < kMostParts && tiles * parts < kEnough && p.k / (2 * parts) >= kShortest) parts *= 2;
  float* sums = parts > 1 ? scratch<float>(device, parts * p.batch * p.m * p.n) : nullptr;
  const dim3 grid((unsigned)ceil_div(p.n, Tile::kColumns), (unsigned)ceil_div(p.m, Tile::kRows),
                  (unsigned)(p.batch * parts));
  launch(device, {grid, dim3(kTileThreads), Tile::kShared}, multiply_tiles<Tile>, p, parts, sums);
  if (parts > 1) add_parts(device, p, sums, parts);
}

}  // namespace

void multiply(Device* device, const Product& given) {
  Product p = given;
  if (p.m * p.n == 0 || p.batch == 0) return;
  // A grid has 65,535 blocks at most along y and z.
  constexpr int64_t kMost = 32768 / 32;
  if (p.batch > kMost) {
    for (int64_t z = 0; z < given.batch; z += kMost) {
      p.batch = given.batch - z < kMost ? given.batch - z : kMost;
      p.a = given.a + z * p.a_step, p.b = given.b + z * p.b_step, p.c = given.c + z * p.c_step;
      multiply(device, p);
    }
    return;
  }
  const int64_t rows = (int64_t)65535 * 64;
  if (p.m > rows) {
    for (int64_t r = 0; r < given.m; r += rows) {
      p.m = given.m - r < rows ? given.m - r : rows;
      p.a = given.a + r * p.a_row, p.c = given.c + r * p.c_row;
      multiply(device, p);
    }
    return;
  }
  if (p.precision == INT8) {
    float *a = scratch<float>(device, p.m * p.k), *b = scratch<float>(device, p.n * p.k);
    quantise(device, p.a, p.m, p.a_row, p.a_column, p.k, a);
    quantise(device, p.b, p.n, p.b_column, p.b_row, p.k, b);
    p.a = a, p.a_row = p.k, p.a_column = 1, p.b = b, p.b_row = 1, p.b_column = p.k;
    p.precision = FLOAT32;
    return multiply_with<FloatTile<64>>(device, p);
  }
  if (p.precision == BF16) return multiply_with<Bf16Tile>(device, p);
  if (cuda(device)->tf32) return multiply_with<Tf32Tile>(device, p);
  const bool large = p.m >= 128 && p.n >= 128 && ceil_div(p.m, 128) * ceil_div(p.n, 128) * p.batch >= 64;
  large ? multiply_with<FloatTile<128>>(device, p) : multiply_with<FloatTile<64>>(device, p);
}

}  // namespace throughtime
