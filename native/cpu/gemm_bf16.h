// C = A B of bfloat16, whose neighbours along k may lie one below another in either operand. Shared out as in gemm.h,
// and as there the number of threads does not change the result.
#pragma once
#include "reduced_panels.h"

namespace throughtime {
namespace {

constexpr int PAIRS_STRIDE = MC + 16;  // words: an odd number of cache lines
constexpr int64_t BF16_BLOCK = (int64_t)STRETCH_WORDS * PAIRS_STRIDE;
static_assert(BF16_BLOCK >= MC * (STRETCH_WORDS + 17), "a block holds rows of a stretch, and their scales, as well");

// The bfloat16 of each number, in the upper half of its word.
THROUGHTIME_INLINE IVec bfloat16_high(Vec x) {
  const IVec u = bits(x);
  return x == x ? u + 0x7fff + ((u >> 16) & 1) : u | 0x400000;
}

// Words of two rows, of which the first goes to the lower halves: to[w * stride + c] is column c of the rows
// k0 + 2 w and k0 + 2 w + 1. Whole vectors are written.
__attribute__((noinline)) inline void pack_pairs(int32_t* to, int64_t stride, const Rows& rows, int64_t k0, int64_t k,
                                                 int64_t j, int64_t n) {
  for (int64_t p = 0; p < k; p += 2, to += stride) {
    const float *first = rows[k0 + p] + j, *second = p + 1 < k ? rows[k0 + p + 1] + j : nullptr;
    for (int64_t c = 0; c < n; c += kLanes) {
      const IVec low = bfloat16_high(load_upto(first + c, n - c));
      const IVec high = second ? bfloat16_high(load_upto(second + c, n - c)) : IVec{};
      store(to + c, ((low >> 16) & 0xffff) | (high & static_cast<int32_t>(0xffff0000)));
    }
  }
}

// Some panels of B = g.b, [panel][word][NR].
__attribute__((noinline)) inline void pack_b_bf16(float* to, const Gemm& g, Part panels) {
  const ReducedPanels all = {BF16, to, panels_of(g.n), g.k};
  const int64_t end = least(g.n, panels.end * NR);
  if (g.b_transposed) {
    for (int64_t i = panels.begin; i < panels.end; i++) all.pack(i, g.b[i * NR], (int)least(NR, end - i * NR));
    return;
  }
  for (int64_t p = 0; p < g.k; p += ROWS_TOGETHER)
    for (int64_t i = panels.begin; i < panels.end; i++)
      pack_pairs(all.panel(i) + p / 2 * NR, NR, g.b, p, least(ROWS_TOGETHER, g.k - p), i * NR, least(NR, end - i * NR));
}

// The product's A = columns i .. i + m of the rows k0 .. k0 + k, as words in `block`.
inline void pair_columns(ReducedProduct& p, float* block, const Rows& rows, int64_t i, int m, int64_t k0, int64_t k) {
  int32_t* words = reinterpret_cast<int32_t*>(block);
  pack_pairs(words, PAIRS_STRIDE, rows, k0, k, i, m);
  p.rows = m, p.a = words, p.a_stride = PAIRS_STRIDE, p.a_columns = true;
}

// As gemm_part, of panels that pack_b_bf16 has made. `block` holds BF16_BLOCK words.
__attribute__((noinline)) inline void gemm_part_bf16(const Gemm& g, const Device* device, float* block, int rank,
                                                     int ranks) {
  const Share mine = share(g.m, panels_of(g.n), rank, ranks);
  const ReducedPanels all = {BF16, const_cast<float*>(g.packed), panels_of(g.n), g.k};
  const int64_t first = mine.panels.begin, column = first * NR;
  ReducedProduct whole = all.product(device, first, mine.panels.end - first);
  whole.column = column, whole.columns = least(whole.columns, g.n - column);
  float* to[MC];
  for (int64_t k0 = 0; k0 < g.k; k0 += 2 * STRETCH_WORDS) {
    const int64_t k = least(2 * STRETCH_WORDS, g.k - k0);
    for (int64_t i = mine.rows.begin; i < mine.rows.end; i += MC) {
      const int m = (int)least(MC, mine.rows.end - i);
      ReducedProduct p = whole;
      p.words = words_of(BF16, k), p.b += k0 / 2 * NR;
      if (g.a_transposed)
        pair_columns(p, block, g.a, i, m, k0, k);
      else
        reduce_rows(
            p, block, [&](int r) { return g.a[i + r] + k0; }, m, k);
      for (int r = 0; r < m; r++) to[r] = g.c_rows ? g.c_rows[i + r] : g.c + (i + r) * g.c_stride;
      p.to = to, p.add = g.add || k0 > 0;
      THROUGHTIME_REDUCED(multiply_)(p);
    }
  }
}

}  // namespace
}  // namespace throughtime
