// Operands rearranged for the micro-kernel: B in panels [panel][k][NR], A in rows of a fixed stride or in columns.
#pragma once
#include "micro.h"
#include "team.h"

namespace throughtime {
namespace {

// A matrix by its rows: one after another, or wherever a list says.
struct Rows {
  const float* first;
  int64_t stride;
  const float* const* list;
  THROUGHTIME_INLINE const float* operator[](int64_t i) const { return list ? list[i] : first + i * stride; }
};

THROUGHTIME_INLINE void copy(float* to, const float* from, int64_t n) { __builtin_memcpy(to, from, n * sizeof(float)); }
THROUGHTIME_INLINE void clear(float* to, int64_t n) { __builtin_memset(to, 0, n * sizeof(float)); }

// A few floats one by one. The empty statement keeps compilers from making a string instruction of it, which is slow.
THROUGHTIME_INLINE void copy_few(float* to, const float* from, int n) {
  for (int i = 0; i < n; i++) {
    to[i] = from[i];
    asm volatile("");
  }
}
// MR floats in whole vectors.
THROUGHTIME_INLINE void copy_block(float* to, const float* from) {
  static_assert(MR <= 3 * kLanes, "a block of rows is three vectors at most");
  store(to, load(from));
  if constexpr (MR > kLanes) store(to + kLanes, load(from + kLanes));
  if constexpr (MR > 2 * kLanes) store(to + 2 * kLanes, load(from + 2 * kLanes));
}

constexpr int ROWS_TOGETHER = 16;  // of the source, read while they are near

// Panels of B = columns j .. j + n of the given rows: to[panel][p][.] = row p.
inline void pack_panels(float* to, int64_t panel, const Rows& rows, int64_t k0, int64_t k, int64_t j, int64_t n) {
  for (int64_t p0 = 0; p0 < k; p0 += ROWS_TOGETHER)
    for (int64_t c = 0; c < n; c += NR) {
      float* at = to + c / NR * panel + p0 * NR;
      const int64_t end = least(k, p0 + ROWS_TOGETHER);
      for (int64_t p = p0; p < end; p++, at += NR) {
        const float* from = rows[k0 + p] + j + c;
        store(at, load_upto(from, n - c));
        store(at + kLanes, load_upto(from + kLanes, n - c - kLanes));
      }
    }
}

// One panel of B = the transpose of a matrix whose rows j .. j + n are the panel's columns: to[p][i] = row (j + i)[p].
inline void pack_panel_transposed(float* to, const Rows& rows, int64_t k0, int64_t k, int64_t j, int n) {
  const float* from[NR];
  for (int i = 0; i < n; i++) from[i] = rows[j + i] + k0;
  for (int64_t p = 0; p < k; p++, to += NR) {
    for (int i = 0; i < n; i++) to[i] = from[i][p];
    for (int i = n; i < NR; i++) to[i] = 0;
  }
}

// A = rows i .. i + m of a matrix, their stretch k0 .. k0 + k, at a distance that keeps rows out of each other's cache
// sets.
inline void pack_rows(float* to, int64_t stride, const Rows& rows, int64_t i, int m, int64_t k0, int64_t k) {
  for (int r = 0; r < m; r++) copy(to + r * stride, rows[i + r] + k0, k);
}

// A = the transpose of a matrix: columns i .. i + m of its rows k0 .. k0 + k, block by block as `multiply` reads them.
// `width` is how many columns the matrix has. A copy of whole vectors may run on into places of the block that are
// written after it.
inline void pack_columns(float* to, const Rows& rows, int64_t width, int64_t i, int m, int64_t k0, int64_t k) {
  const RowBlocks blocks(m);
  for (int64_t p0 = 0; p0 < k; p0 += ROWS_TOGETHER)
    for (int block = 0; block < blocks.count; block++) {
      const int first = blocks.start(block), n = blocks.rows(block);
      float* at = to + first * k + p0 * n;
      const int64_t end = least(k, p0 + ROWS_TOGETHER);
      for (int64_t p = p0; p < end; p++, at += n) {
        const float* from = rows[k0 + p] + i + first;
        if ((k - p) * n >= 3 * kLanes && i + first + 3 * kLanes <= width)
          copy_block(at, from);
        else
          copy_few(at, from, n);
      }
    }
}

}  // namespace
}  // namespace throughtime
