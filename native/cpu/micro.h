// The inner product of every matrix product here: C = start + A B for a few rows of A and a few panels of B.
//
// B lies in panels of NR columns, [panel][k][NR], zero past its last column. A lies either in rows or in columns
// [k][m]. Each element of C is the sum over k in rising order with one accumulator, whatever the number of rows, of
// panels or of threads: so a row's result depends on nothing but the row and B.
#pragma once
#include "simd.h"

namespace throughtime {
namespace {

constexpr int NR = 2 * kLanes;

// Rows at once: 2 * MR accumulators, the registers less a few.
#if THROUGHTIME_LANES == 16
constexpr int MR = 12;
#elif THROUGHTIME_LANES == 8
constexpr int MR = 6;
#elif defined(__aarch64__)
constexpr int MR = 8;  // 12 would fit, but the compiler holds each number of A in a register of its own
#else
constexpr int MR = 4;
#endif

// Where results go: row i to rows[i], starting at `column` (the first column of the first panel), `columns` of them
// valid in all; of panels from the column `narrow` on, only the first vector is wanted. Added to `bias` (by column, may
// be null), or to what is there if `add`.
struct Target {
  float* const* rows;
  const float* bias;
  int64_t column, columns, narrow;
  bool add;
};

// The first panel of which one vector is enough for that many columns.
constexpr int64_t narrow_panel(int64_t columns) { return (columns + kLanes - 1) / NR; }

// With few rows several panels keep enough sums going that none waits for the one before.
constexpr int panels_at_once(int m) { return m == 1 ? 4 : m <= 3 ? 2 : 1; }

// The last panel, where it is not full: rows of `width` sums.
__attribute__((noinline)) inline void finish_part(const float* part, int width, int m, int first, int64_t column,
                                                  const Target& to) {
  for (int i = 0; i < m; i++)
    for (int64_t j = column; j < to.columns; j++) {
      float* c = to.rows[first + i] + j;
      *c = (to.add ? *c : to.bias ? to.bias[j] : 0.0f) + part[i * width + (j - column)];
    }
}

// What B is needed next is asked for while the sums are made: PREFETCH_FLOATS of it every two steps of k, so that a few
// blocks of rows fetch a panel's stretch.
constexpr int PREFETCH_FLOATS = NR < 16 ? 16 : NR;

// One function for each size, so that the registers are shared out for its loop alone: M rows of P panels of V vectors.
template <int M, int P, int V, bool Columns>
__attribute__((noinline)) void micro(const float* a, int64_t stride, const float* b, int64_t panel, int k,
                                     const float* next, int first, const Target& to) {
  Vec sum[M][P][V] = {};
  const float* row[M];
#pragma GCC unroll 16
  for (int i = 0; i < M; i++) row[i] = a + i * stride;
  // What is added to lies far away, and the registers are full of sums when it is wanted.
  if (to.add)
#pragma GCC unroll 1
    for (int i = 0; i < M; i++)
      for (int q = 0; q < P * NR; q += 16) __builtin_prefetch(to.rows[first + i] + to.column + q, 1, 3);
  const auto step = [&](int p) __attribute__((always_inline)) {
    Vec right[P][V];
#pragma GCC unroll 4
    for (int q = 0; q < P; q++)
#pragma GCC unroll 2
      for (int v = 0; v < V; v++) right[q][v] = load(b + q * panel + v * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < M; i++) {
      const Vec left = splat(Columns ? a[i] : row[i][p]);
#pragma GCC unroll 4
      for (int q = 0; q < P; q++)
#pragma GCC unroll 2
        for (int v = 0; v < V; v++) sum[i][q][v] += left * right[q][v];
    }
    b += NR;
    if (Columns) a += M;
  };
  int p = 0;
  for (; p + 2 <= k; p += 2, next += PREFETCH_FLOATS) {
    if (P == 1)
      for (int i = 0; i < PREFETCH_FLOATS; i += 16) __builtin_prefetch(next + i, 0, 2);
    step(p);
    step(p + 1);
  }
  if (p < k) step(p);
#pragma GCC unroll 4
  for (int q = 0; q < P; q++) {
    const int64_t column = to.column + q * NR;
    if (to.columns - column < V * kLanes) {
      float part[M * V * kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < M; i++)
#pragma GCC unroll 2
        for (int v = 0; v < V; v++) store(part + (i * V + v) * kLanes, sum[i][q][v]);
      finish_part(part, V * kLanes, M, first, column, to);
      continue;
    }
    Vec bias[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; v++) bias[v] = to.bias ? load(to.bias + column + v * kLanes) : Vec{};
#pragma GCC unroll 16
    for (int i = 0; i < M; i++) {
      float* c = to.rows[first + i] + column;
#pragma GCC unroll 2
      for (int v = 0; v < V; v++) store(c + v * kLanes, (to.add ? load(c + v * kLanes) : bias[v]) + sum[i][q][v]);
    }
  }
}

// The kernel for m rows and one panel, or as many as go at once.
using Micro = void (*)(const float*, int64_t, const float*, int64_t, int, const float*, int, const Target&);
template <int V, bool Columns, int M = MR>
Micro micro_for(int m, int panels) {
  if constexpr (M > 1)
    if (m < M) return micro_for<V, Columns, M - 1>(m, panels);
  return panels == 1 ? micro<M, 1, V, Columns> : micro<M, panels_at_once(M), V, Columns>;
}

// Blocks of nearly equal size, none above MR: a short last block would wait for its own sums.
struct RowBlocks {
  int count, size, longer;  // the first `longer` have a row more
  explicit RowBlocks(int m) : count((m + MR - 1) / MR), size(m ? m / count : 0), longer(m ? m % count : 0) {}
  int start(int block) const { return block * size + (block < longer ? block : longer); }
  int rows(int block) const { return size + (block < longer); }
};

// All rows and some panels, a panel's stretch of k staying in the first-level cache meanwhile.
template <int V, bool Columns>
void multiply_panels(const RowBlocks& blocks, int m, const float* a, int64_t stride, const float* b, int64_t panel,
                     int panels, int k, const float* after, Target to) {
  const int at_once = blocks.count == 1 ? panels_at_once(m) : 1;
  const Micro one = micro_for<V, Columns>(blocks.size, 1);
  const Micro other = at_once > 1 ? micro_for<V, Columns>(m, at_once) : micro_for<V, Columns>(blocks.rows(0), 1);
  int p = 0;
  for (; p + at_once <= panels; p += at_once, to.column += at_once * NR) {
    const float* here = b + p * panel;
    const float* next = p + 1 < panels ? here + panel : after;
    for (int block = 0, first = 0; block < blocks.count; first += blocks.rows(block++)) {
      const Micro micro = at_once > 1 || block < blocks.longer ? other : one;
      micro(a + first * (Columns ? k : stride), stride, here, panel, k, next, first, to);
      next += k / 2 * PREFETCH_FLOATS;
    }
  }
  for (; p < panels; p++, to.column += NR) one(a, stride, b + p * panel, panel, k, after, 0, to);
}

// All rows and all panels. `after` is where B will be read next. A in columns lies block after block,
// [k][rows of the block].
template <bool Columns>
__attribute__((noinline)) void multiply(int m, const float* a, int64_t stride, const float* b, int64_t panel,
                                        int panels, int k, const float* after, Target to) {
  if (m == 0) return;
  const RowBlocks blocks(m);
  const int64_t last = narrow_panel(to.columns) * NR, narrow = (to.narrow < last ? to.narrow : last) - to.column;
  const int wide = narrow <= 0 ? 0 : narrow < (int64_t)panels * NR ? (int)(narrow / NR) : panels;
  const float* rest = b + wide * panel;
  multiply_panels<2, Columns>(blocks, m, a, stride, b, panel, wide, k, wide < panels ? rest : after, to);
  if (wide == panels) return;
  to.column += (int64_t)wide * NR;
  multiply_panels<1, Columns>(blocks, m, a, stride, rest, panel, panels - wide, k, after, to);
}

}  // namespace
}  // namespace throughtime
