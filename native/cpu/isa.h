// Every file of kernels starts with this header and ends with THROUGHTIME_KERNELS(file, entries).
//
// The file is compiled once per instruction set (THROUGHTIME_ISA = base, avx2, avx512) and all copies are linked into
// one library. So whatever is not in an anonymous namespace must carry the instruction set in its name, and the
// templates and inline functions of the standard library stay out: the linker would keep one copy for all.
#pragma once
#include "../kernels.h"

#define THROUGHTIME_JOIN2(a, b, c) a##b##_##c
#define THROUGHTIME_JOIN(a, b, c) THROUGHTIME_JOIN2(a, b, c)

namespace throughtime {
namespace {

// The numbers of a buffer; null if it is absent.
inline float* data(const Buffer* b) { return b ? static_cast<float*>(b->data) : nullptr; }
inline const int32_t* integers(const Buffer* b) { return b ? static_cast<const int32_t*>(b->data) : nullptr; }

}  // namespace
}  // namespace throughtime

// The exported function of a file: `kernels_<file>_<isa>`, known to the registry through kernel_files.h.
#define THROUGHTIME_KERNELS(file, entries)                                      \
  namespace throughtime {                                                       \
  KernelList THROUGHTIME_JOIN(kernels_, file, THROUGHTIME_ISA)();               \
  KernelList THROUGHTIME_JOIN(kernels_, file, THROUGHTIME_ISA)() {              \
    return {entries, static_cast<int>(sizeof(entries) / sizeof((entries)[0]))}; \
  }                                                                             \
  }
