// The files of CUDA kernels, one line each: X(name of the .cu file). CMake and machine.cu read this list.
#pragma once

// clang-format off
#define THROUGHTIME_CUDA_FILES(X) \
  X(elementwise) \
  X(scan) \
  X(causal_conv) \
  X(selective_scan) \
  X(complex_scan) \
  X(diagonal_scan) \
  X(sru) \
  X(wkv)
// clang-format on
