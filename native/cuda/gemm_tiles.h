// How products are cut up: C into tiles, one to a block, and k into stretches.
//
// A stretch is summed in order, and the stretches are added in order. How long they are depends on k alone, and so do
// the bits of an element of C on its row of A and its column of B alone: not on the tile it lies in, nor on whether one
// block takes all stretches or each has a block of its own, which leaves its sums in `partial` for a second pass.
#pragma once
#include "gemm.h"

namespace throughtime {

struct Job : Product {
  int64_t stretch;
  int stretches;
  float* partial;                  // [stretch][batch][m][n], or null
  bool a_wide, b_wide, c_wide;     // whether four neighbours can be moved at once
  const float *a_scale, *b_scale;  // of bytes, by row and column of the product: what one counts
};

struct TileSize {
  int rows, columns;
};
enum TileKind { FEW_ROWS, SMALL, LARGE };

inline int64_t tiles_of(const Product& p, TileSize tile) {
  return ((p.m + tile.rows - 1) / tile.rows) * ((p.n + tile.columns - 1) / tile.columns);
}

// Products on the tensor cores, of TF32, bfloat16 or bytes.
void multiply_on_tensor_cores(Device* device, Job job, bool tf32);

// Queues what adds the sums of the stretches.
void add_stretches(Device* device, const Job& job);

namespace {

inline Job job_of(const Product& p) {
  constexpr int64_t least = 512, most = 16, step = 64;
  Job job = {};
  static_cast<Product&>(job) = p;
  const int64_t shared = (p.k + most - 1) / most;
  job.stretch = shared <= least ? least : (shared + step - 1) / step * step;
  job.stretches = p.k == 0 ? 1 : (int)((p.k + job.stretch - 1) / job.stretch);
  const auto wide = [](const float* data, int64_t row, int64_t column, int64_t step) {
    return reinterpret_cast<uintptr_t>(data) % 16 == 0 && (row == 1 ? column : row) % 4 == 0 && step % 4 == 0;
  };
  job.a_wide = wide(p.a, p.a_row, p.a_column, p.a_step);
  job.b_wide = wide(p.b, p.b_row, p.b_column, p.b_step);
  job.c_wide = wide(p.c, p.c_row, 1, p.c_step);
  return job;
}

// Few rows waste most of a tile; few tiles leave processors idle.
inline TileKind tile_for(Device* device, const Job& job, TileSize large) {
  if (job.m <= 16) return FEW_ROWS;
  const bool fills = job.m > large.rows / 2 && job.n > large.columns / 2;
  return fills && tiles_of(job, large) * job.batch * job.stretches >= cuda(device)->processors ? LARGE : SMALL;
}

template <class Tile>
void launch_tiles(Device* device, Job job, void (*kernel)(Job)) {
  const int64_t tiles = tiles_of(job, {Tile::kRows, Tile::kColumns});
  const bool split = job.stretches > 1 && tiles * job.batch < cuda(device)->processors;
  if (split) job.partial = scratch<float>(device, job.stretches * job.batch * job.m * job.n);
  const dim3 grid((unsigned)tiles, split ? job.stretches : 1, (unsigned)(job.batch < 65535 ? job.batch : 65535));
  launch(device, {grid, dim3(Tile::kThreads), 2 * Tile::kFloats * sizeof(float)}, kernel, job);
  if (split) add_stretches(device, job);
}

struct alignas(16) Four {
  float x[4];
};

// Where the sums of a tile go, from its first element on.
struct Target {
  float* c;
  int64_t row_step;
  int rows, columns;
  const float* bias;
  bool add, wide;

  DEVICE void put(int row, int column, float sum) const {
    if (row >= rows || column >= columns) return;
    float* at = c + row * row_step + column;
    *at = (bias ? bias[column] : 0.0f) + (add ? *at : 0.0f) + sum;
  }
  DEVICE void put(int row, int column, Four sum) const {
    if (row >= rows) return;
    float* at = c + row * row_step + column;
    if (wide && column + 4 <= columns) {
      const Four before = add ? *reinterpret_cast<const Four*>(at) : Four{};
#pragma unroll
      for (int i = 0; i < 4; i++) sum.x[i] = (bias ? bias[column + i] : 0.0f) + before.x[i] + sum.x[i];
      *reinterpret_cast<Four*>(at) = sum;
    } else {
#pragma unroll
      for (int i = 0; i < 4; i++) put(row, column + i, sum.x[i]);
    }
  }
};

DEVICE Target target_of(const Job& p, int64_t z, int stretch, int64_t row, int64_t column, int rows, int columns) {
  if (p.partial)
    return {p.partial + ((stretch * p.batch + z) * p.m + row) * p.n + column,
            p.n,
            rows,
            columns,
            nullptr,
            false,
            p.n % 4 == 0};
  return {p.c + z * p.c_step + row * p.c_row + column,
          p.c_row,
          rows,
          columns,
          stretch == 0 && p.bias ? p.bias + column : nullptr,
          stretch > 0 || p.accumulate,
          p.c_wide};
}

// Rows of A, or columns of B, by `Depth` along k, on their way from global to shared memory. A thread holds eight
// numbers: neighbours along k where those lie together, else two along k of four rows. What is past the end is zero.
template <int Rows, int Depth, int Threads>
struct Panel {
  static constexpr int kUnits = Rows * Depth / 8, kEach = (kUnits + Threads - 1) / Threads;
  Four held[kEach][2];
  const float* at[kEach];

  static DEVICE int unit_of(int u) { return (int)threadIdx.x + u * Threads; }
  static DEVICE bool there(int u) { return kUnits % Threads == 0 || unit_of(u) < kUnits; }

  static DEVICE Four load(const float* from, int left, bool wide) {
    Four four = {};
    if (wide && left >= 4) return *reinterpret_cast<const Four*>(from);
#pragma unroll
    for (int i = 0; i < 4; i++)
      if (i < left) four.x[i] = from[i];
    return four;
  }

  DEVICE void start(const float* from, int64_t row_step, int64_t k_step) {
#pragma unroll
    for (int u = 0; u < kEach; u++) {
      const int unit = unit_of(u);
      at[u] = k_step == 1 ? from + unit / (Depth / 8) * row_step + unit % (Depth / 8) * 8
                          : from + unit % (Rows / 4) * 4 + unit / (Rows / 4) * 2 * k_step;
    }
  }

  // Of `rows` rows, and of `depth` numbers along k that are left; moves on.
  DEVICE void fetch(int64_t k_step, int rows, int depth, bool wide) {
#pragma unroll
    for (int u = 0; u < kEach; u++) {
      if (!there(u)) break;
      const int unit = unit_of(u);
      if (k_step == 1) {
        const int left = unit / (Depth / 8) < rows ? depth - unit % (Depth / 8) * 8 : 0;
        held[u][0] = load(at[u], left, wide), held[u][1] = load(at[u] + 4, left - 4, wide);
      } else {
        const int row = unit % (Rows / 4) * 4, k = unit / (Rows / 4) * 2;
        held[u][0] = load(at[u], k < depth ? rows - row : 0, wide);
        held[u][1] = load(at[u] + k_step, k + 1 < depth ? rows - row : 0, wide);
      }
      at[u] += Depth * k_step;
    }
  }

  // Calls along(row, k, eight numbers) or across(row, k, four rows at k, the same at k + 1).
  template <class F, class G>
  DEVICE void keep(int64_t k_step, const F& along, const G& across) const {
#pragma unroll
    for (int u = 0; u < kEach; u++) {
      if (!there(u)) break;
      const int unit = unit_of(u);
      if (k_step == 1)
        along(unit / (Depth / 8), unit % (Depth / 8) * 8, held[u][0], held[u][1]);
      else
        across(unit % (Rows / 4) * 4, unit / (Rows / 4) * 2, held[u][0], held[u][1]);
    }
  }
};

DEVICE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// A block's share of a product. Tile has kRows, kColumns, kDepth, kThreads and kFloats, and
//   clear()                                     forgets the sums
//   keep_a, keep_b(shared, panel, k_step)       puts a panel into shared memory, kFloats for both
//   multiply(shared, rows)                      adds their product; C has so many rows from the tile's first one on
//   put(target, a_scale, b_scale)               gives the sums away; the scales are those of the tile's first row and
//   column
template <class Tile>
DEVICE void product_of_tile(const Job& p) {
  float* shared = shared_memory<float>();
  const int64_t across = (p.n + Tile::kColumns - 1) / Tile::kColumns;
  const int64_t row = blockIdx.x / across * Tile::kRows, column = blockIdx.x % across * Tile::kColumns;
  const int rows = (int)least(p.m - row, Tile::kRows), columns = (int)least(p.n - column, Tile::kColumns);
  const int first = p.partial ? (int)blockIdx.y : 0, end = p.partial ? first + 1 : p.stretches;
  Panel<Tile::kRows, Tile::kDepth, Tile::kThreads> a;
  Panel<Tile::kColumns, Tile::kDepth, Tile::kThreads> b;
  Tile tile;
  for (int64_t z = blockIdx.z; z < p.batch; z += gridDim.z)
    for (int s = first; s < end; s++) {
      const int64_t from = s * p.stretch;
      int left = (int)least(p.k - from, p.stretch);
      a.start(p.a + z * p.a_step + row * p.a_row + from * p.a_column, p.a_row, p.a_column);
      b.start(p.b + z * p.b_step + column * p.b_column + from * p.b_row, p.b_column, p.b_row);
      const auto fetch = [&] {
        a.fetch(p.a_column, rows, left, p.a_wide);
        b.fetch(p.b_row, columns, left, p.b_wide);
      };
      const auto keep = [&](float* to) {
        Tile::keep_a(to, a, p.a_column);
        Tile::keep_b(to, b, p.b_row);
      };
      tile.clear();
      fetch();
      keep(shared);
      block_sync();
      // The next panels come while these are multiplied.
      for (int buffer = 0; left > 0; buffer ^= 1) {
        left -= Tile::kDepth;
        if (left > 0) fetch();
        tile.multiply(shared + buffer * Tile::kFloats, rows);
        if (left > 0) keep(shared + (buffer ^ 1) * Tile::kFloats);
        block_sync();
      }
      tile.put(target_of(p, z, s, row, column, rows, columns), p.a_scale ? p.a_scale + z * p.m + row : nullptr,
               p.b_scale ? p.b_scale + z * p.n + column : nullptr);
    }
}

}  // namespace
}  // namespace throughtime
