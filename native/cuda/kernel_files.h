// The files of CUDA kernels, one line each: X(name of the .cu file). CMake and machine.cu read this list.
#pragma once

// clang-format off
#define THROUGHTIME_CUDA_FILES(X) \
  X(elementwise) \
  X(reduce) \
  X(movement) \
  X(sequence) \
  X(gather) \
  X(random) \
  X(softmax) \
  X(norm) \
  X(optim) \
  X(conv) \
  X(long_conv) \
  X(matmul) \
  X(step) \
  X(sweep) \
  X(scan) \
  X(causal_conv) \
  X(selective_scan) \
  X(complex_scan) \
  X(diagonal_scan) \
  X(sru) \
  X(wkv) \
  X(matrix_scan)
// clang-format on
