// Products of matrices, for whoever needs one.
#pragma once
#include "device.h"

namespace throughtime {

// In what precision operands are multiplied; sums are float32. As src/ops/precision.ts numbers them.
enum Precision : int { FLOAT32 = 0, BF16 = 1, INT8 = 2 };

// C = A B + bias for A [m, k], B [k, n], C [m, n], row by row: element (i, j) of A is a[i * a_row + j * a_column], so a
// transposed operand has the two exchanged; one of them is 1. With `batch` products, each operand moves on by its step.
struct Product {
  int64_t m, n, k;
  const float* a;
  int64_t a_row, a_column;
  const float* b;
  int64_t b_row, b_column;
  float* c;
  int64_t c_row;
  const float* bias = nullptr;  // [n], added to every row
  bool accumulate = false;      // onto what C holds
  int64_t batch = 1, a_step = 0, b_step = 0, c_step = 0;
  Precision precision = FLOAT32;
};

// Queues the product. Sums are always taken in the same order.
void multiply(Device* device, const Product& product);

}  // namespace throughtime
