// Rounding to fewer bits.
#pragma once
#include "simt.h"

namespace throughtime {
namespace {

// The nearest bfloat16, of two the even one; NaN stays NaN.
DEVICE uint32_t bf16_bits(float x) {
  const uint32_t bits = __float_as_uint(x);
  if (x != x) return 0x7fc0u;
  return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}

}  // namespace
}  // namespace throughtime
