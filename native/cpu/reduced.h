// Products of operands of reduced precision: bfloat16 pairs, or bytes with a scale for each row and each column.
//
// Every 32-bit word holds neighbours along k: two bfloat16, or four bytes. So rows and panels are laid out as those of
// float32 are, with words in place of numbers: rows [words], panels [panel][word][NR]. Sums are float32 of bfloat16,
// and exact integers of bytes; what comes out is float32. As in micro.h, an element of C depends on its row and B
// alone.
//
// The functions are those of reduced.cc, compiled once per instruction set; their names say which.
#pragma once
#include "../kernels.h"
#include "isa.h"

namespace throughtime {

constexpr int STRETCH_WORDS = 512;  // along k, of which a panel's stay near while they are multiplied

enum Precision : int32_t { FLOAT32 = 0, BF16 = 1, INT8 = 2 };

// to[i][column + j] = bias[column + j] + the product of row i and column j, for `columns` columns in all.
struct ReducedProduct {
  Precision precision;
  unsigned features;  // of the processor: Device.features
  int rows, panels;
  int narrow;            // of panels from this one on, only the first vector is wanted
  int64_t words;         // along k
  const int32_t* a;      // word w of row i at a[i * a_stride + w], or at a[w * a_stride + i] if `a_columns`
  int64_t a_stride;      // in words
  bool a_columns;        // of bfloat16 only
  const float* a_scale;  // of bytes: by row
  const int32_t* b;      // [panels][words][NR]
  int64_t panel;         // from one panel to the next, in words
  const float* b_scale;  // of bytes: by column
  const int32_t* b_sum;  // of bytes: what the offset of the row's bytes adds to the sum
  const void* after;     // what will be read next
  float* const* to;
  int64_t column, columns;
  const float* bias;  // by column, or null
  bool add;           // to what is there, instead of the bias
};

#define THROUGHTIME_REDUCED(name) THROUGHTIME_JOIN(name, reduced, THROUGHTIME_ISA)

void THROUGHTIME_REDUCED(multiply_)(const ReducedProduct& product);

// A row of A: k numbers as words, the last one filled up with zeros; *scale is what a byte counts.
void THROUGHTIME_REDUCED(row_)(Precision precision, int32_t* to, float* scale, const float* from, int64_t k);

// A panel of B, whose columns are n rows of a weight, `stride` apart.
void THROUGHTIME_REDUCED(panel_)(Precision precision, int32_t* to, float* scale, int32_t* sum, const float* rows,
                                 int64_t stride, int n, int64_t k);

}  // namespace throughtime
