// A weight in panels of reduced precision, and products with it of rows that are reduced on the way.
#pragma once
#include "gemm.h"
#include "reduced.h"

namespace throughtime {
namespace {

THROUGHTIME_INLINE int64_t words_of(Precision precision, int64_t k) {
  return precision == BF16 ? (k + 1) / 2 : (k + 3) / 4;
}

// Some panels of words; of bytes, all scales and all sums follow the last panel.
struct ReducedPanels {
  Precision precision;
  float* packed;
  int64_t panels, width;

  static int64_t floats(Precision precision, int64_t panels, int64_t width) {
    return panels * NR * (words_of(precision, width) + (precision == INT8 ? 2 : 0));
  }
  int64_t size() const { return words_of(precision, width) * NR; }
  int32_t* panel(int64_t i) const { return reinterpret_cast<int32_t*>(packed) + i * size(); }
  float* scale(int64_t i) const { return packed + panels * size() + i * NR; }
  int32_t* sum(int64_t i) const { return reinterpret_cast<int32_t*>(packed) + panels * (size() + NR) + i * NR; }

  // Panel i holds n rows of a weight from `rows` on.
  void pack(int64_t i, const float* rows, int n) const {
    THROUGHTIME_REDUCED(panel_)(precision, panel(i), scale(i), sum(i), rows, width, n, width);
  }

  // The product with `count` panels from `first` on, without its rows.
  ReducedProduct product(const Device* device, int64_t first, int64_t count) const {
    ReducedProduct p = {};
    p.precision = precision, p.features = device->features;
    p.panels = p.narrow = (int)count;
    p.words = words_of(precision, width), p.panel = size();
    p.b = panel(first), p.b_scale = scale(first), p.b_sum = sum(first);
    p.after = p.b;
    p.columns = count * NR;
    return p;
  }
};

// Rows as words, at a distance that keeps them out of each other's cache sets.
THROUGHTIME_INLINE int64_t reduced_stride(Precision precision, int64_t k) {
  return (words_of(precision, k) + 15) / 16 * 16 + 16;
}
// Floats of scratch for `rows` rows of words and their scales.
THROUGHTIME_INLINE int64_t reduced_rows_size(Precision precision, int64_t rows, int64_t k) {
  return rows * (reduced_stride(precision, k) + 1);
}

// Floats of scratch for MC rows of an operand, of whatever precision.
THROUGHTIME_INLINE int64_t block_size_of(Precision precision, int64_t k) {
  const int64_t plain = (int64_t)MC * A_STRIDE, reduced = precision ? reduced_rows_size(precision, MC, k) : 0;
  return reduced > plain ? reduced : plain;
}

// Reduces m rows into `block`, and makes them those of the product.
template <class R>
void reduce_rows(ReducedProduct& p, float* block, R row, int m, int64_t k) {
  const int64_t stride = reduced_stride(p.precision, k);
  int32_t* words = reinterpret_cast<int32_t*>(block);
  float* scale = block + m * stride;
  for (int i = 0; i < m; i++) THROUGHTIME_REDUCED(row_)(p.precision, words + i * stride, scale + i, row(i), k);
  p.rows = m, p.a = words, p.a_stride = stride, p.a_scale = scale;
}

// C = A B + bias for m rows of A, some at a time. `block` holds reduced_rows_size(.., MC, k) floats.
__attribute__((noinline)) inline void reduced_gemm(ReducedProduct p, const Rows& a, Part rows, int64_t k, float* c,
                                                   int64_t c_stride, float* block) {
  float* to[MC];
  for (int64_t i = rows.begin; i < rows.end; i += MC) {
    const int m = (int)least(MC, rows.end - i);
    reduce_rows(
        p, block, [&](int r) { return a[i + r]; }, m, k);
    for (int r = 0; r < m; r++) to[r] = c + (i + r) * c_stride;
    p.to = to;
    THROUGHTIME_REDUCED(multiply_)(p);
  }
}

}  // namespace
}  // namespace throughtime
