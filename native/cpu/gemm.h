// C = A B + bias, blocked for the caches and split over the threads of a region. The sum over k is taken in stretches
// of KC, each added to C in turn; threads share rows and panels of C only, so their number does not change the result.
#pragma once
#include "pack.h"

namespace throughtime {
namespace {

constexpr int KC = 512;  // a panel's stretch fills half a first-level cache
constexpr int MC = 96;   // rows of A kept in the second-level cache
constexpr int A_STRIDE = KC + 16;
constexpr int NC = 64;  // panels of B packed at a time

struct Gemm {
  int64_t m, n, k;
  Rows a;  // A(i, p) = a[i][p], or a[p][i] if a_transposed
  bool a_transposed;
  Rows b;  // B(p, j) = b[p][j], or b[j][p] if b_transposed
  bool b_transposed;
  const float* packed;  // all of B in panels, made beforehand; null: packed on the way
  float* c;             // row i at c + i * c_stride, or at c_rows[i]
  int64_t c_stride;
  float* const* c_rows;
  const float* bias;  // [n] or null
  bool add;           // to what C holds, instead of the bias
  int64_t narrow;     // 0, or the column from which on a panel's first vector is all that is wanted
};

THROUGHTIME_INLINE int64_t panels_of(int64_t n) { return (n + NR - 1) / NR; }

// Floats of scratch a team needs: each thread's block of A, and the shared stretch of B if it is not packed.
inline int64_t gemm_scratch(const Gemm& g, int ranks) {
  return (int64_t)ranks * MC * A_STRIDE + (g.packed ? 0 : least(panels_of(g.n), NC) * NR * KC);
}

__attribute__((noinline)) inline void pack_b(float* to, int64_t panel, const Gemm& g, int64_t j, int64_t k0, int64_t k,
                                             Part panels) {
  const int64_t column = (j + panels.begin) * NR, n = least(g.n, (j + panels.end) * NR) - column;
  to += panels.begin * panel;
  if (!g.b_transposed) return pack_panels(to, panel, g.b, k0, k, column, n);
  for (int64_t c = 0; c < n; c += NR)
    pack_panel_transposed(to + c / NR * panel, g.b, k0, k, column + c, (int)least(NR, n - c));
}

// Rows and panels of one thread: rows while there are enough of them, panels otherwise.
struct Share {
  Part rows, panels;
};
inline Share share(int64_t m, int64_t panels, int rank, int ranks) {
  int by_rows = ranks;
  while (by_rows > 1 && m < (int64_t)by_rows * 2 * MR && panels >= ranks / (by_rows / 2)) by_rows /= 2;
  const int by_panels = ranks / by_rows;
  if (rank >= by_rows * by_panels) return {Part(0, 0, 1), Part(0, 0, 1)};
  return {Part(m, rank / by_panels, by_rows), Part(panels, rank % by_panels, by_panels)};
}

inline void gemm_block(const Gemm& g, const Share& mine, float* block, const float* b, int64_t panel, int64_t j,
                       int64_t k0, int k) {
  float* rows[MC];
  for (int64_t i = mine.rows.begin; i < mine.rows.end; i += MC) {
    const int m = (int)least(MC, mine.rows.end - i);
    for (int r = 0; r < m; r++) rows[r] = g.c_rows ? g.c_rows[i + r] : g.c + (i + r) * g.c_stride;
    const int64_t narrow = g.narrow ? g.narrow : INT64_MAX;
    const Target to = {rows, k0 == 0 ? g.bias : nullptr, (j + mine.panels.begin) * NR, g.n, narrow, g.add || k0 > 0};
    const float* first = b + mine.panels.begin * panel;
    const int panels = (int)(mine.panels.end - mine.panels.begin);
    if (g.a_transposed) {
      pack_columns(block, g.a, g.m, i, m, k0, k);
      multiply<true>(m, block, 0, first, panel, panels, k, first, to);
    } else {
      pack_rows(block, A_STRIDE, g.a, i, m, k0, k);
      multiply<false>(m, block, A_STRIDE, first, panel, panels, k, first, to);
    }
  }
}

// One rank's part of a product whose B is packed; ranks need not meet. `block` holds MC * A_STRIDE floats.
__attribute__((noinline)) inline void gemm_part(const Gemm& g, float* block, int rank, int ranks) {
  const Share mine = share(g.m, panels_of(g.n), rank, ranks);
  for (int64_t k0 = 0; k0 == 0 || k0 < g.k; k0 += KC)
    gemm_block(g, mine, block, g.packed + k0 * NR, g.k * NR, 0, k0, (int)least(KC, g.k - k0));
}

// Called by every rank of a region, or by one thread alone as rank 0 of 1. The ranks pack B together, stretch by
// stretch.
inline void gemm(const Gemm& g, float* scratch, int rank, int ranks, Device* device) {
  float* block = scratch + (int64_t)rank * MC * A_STRIDE;
  if (g.packed) return gemm_part(g, block, rank, ranks);
  float* shared = scratch + (int64_t)ranks * MC * A_STRIDE;
  const int64_t all = panels_of(g.n);
  for (int64_t j = 0; j < all; j += NC) {
    const int64_t panels = least(NC, all - j);
    const Share mine = share(g.m, panels, rank, ranks);
    for (int64_t k0 = 0; k0 == 0 || k0 < g.k; k0 += KC) {
      const int k = (int)least(KC, g.k - k0);
      pack_b(shared, KC * NR, g, j, k0, k, Part(panels, rank, ranks));
      if (ranks > 1) device->barrier(device);
      gemm_block(g, mine, block, shared, KC * NR, j, k0, k);
      if (ranks > 1) device->barrier(device);
    }
  }
}

}  // namespace
}  // namespace throughtime
