// The files of kernels that are built, one line each: X(name of the .cc file). CMake and the registry read this list.
#pragma once

// clang-format off
#ifndef THROUGHTIME_KERNEL_FILES
#define THROUGHTIME_KERNEL_FILES(X) \
  X(elementwise) \
  X(reduce) \
  X(movement) \
  X(sequence) \
  X(gather) \
  X(softmax) \
  X(norm) \
  X(random) \
  X(optim) \
  X(matmul) \
  X(peak) \
  X(reduced) \
  X(conv) \
  X(step) \
  X(scan) \
  X(selective_scan) \
  X(causal_conv) \
  X(matrix_scan) \
  X(headwise) \
  X(diagonal_scan) \
  X(complex_scan) \
  X(long_conv) \
  X(sru) \
  X(wkv) \
  X(sweep)
#endif
// clang-format on
