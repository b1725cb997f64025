// Operands rearranged for the micro-kernel: B in panels [panel][k][NR], A in rows of a fixed stride or in columns.
#pragma once
#include "micro.h"

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

// One panel of B = the given rows of a matrix, columns j .. j + n, n <= NR: to[p][.] = row p.
inline void pack_panel(float* to, const Rows& rows, int64_t k0, int64_t k, int64_t j, int n) {
  for (int64_t p = 0; p < k; p++, to += NR) {
    const float* from = rows[k0 + p] + j;
    if (n == NR) {
      store(to, load(from));
      store(to + kLanes, load(from + kLanes));
    } else {
      copy(to, from, n);
      clear(to + n, NR - n);
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
inline void pack_columns(float* to, const Rows& rows, int64_t i, int m, int64_t k0, int64_t k) {
  for (int block = 0; block < row_blocks(m); block++) {
    const int first = row_block_start(m, block);
    const int n = row_block_start(m, block + 1) - first;
    for (int64_t p = 0; p < k; p++, to += n) {
      const float* from = rows[k0 + p] + i + first;
      for (int r = 0; r < n; r++) to[r] = from[r];
    }
  }
}

}  // namespace
}  // namespace throughtime
