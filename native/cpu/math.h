// exp, tanh and the logistic function on vectors. Stated errors are the largest found over 10^8 arguments spread over
// all of float32, against double precision, in units in the last place of a normal result.
#pragma once
#include "simd.h"

namespace throughtime {
namespace {

INLINE V bits_to_float(I x) { return (V)x; }

// x = n ln 2 + r with |r| <= ln 2 / 2, by the rounding of adding 1.5 * 2^23. Needs |x| < 2^21.
INLINE V reduce_exp(V x, I* n) {
  const V shift = splat(12582912.0f);
  const V rounded = x * splat(1.44269504f) + shift;
  const V whole = rounded - shift;
  *n = (I)rounded - (I)shift;
  return (x - whole * splat(0.693359375f)) - whole * splat(-2.12194440e-4f);
}

// e^r - 1 for |r| <= ln 2 / 2: minimax polynomial, absolute error 3e-9.
INLINE V expm1_reduced(V r) {
  V q = splat(0.0013950602f);
  q = q * r + splat(0.008368954f);
  q = q * r + splat(0.041666206f);
  q = q * r + splat(0.16666518f);
  q = q * r + splat(0.5f);
  return q * (r * r) + r;
}

// 2^n for -126 <= n <= 127.
INLINE V power_of_two(I n) { return bits_to_float((n + splat_int(127)) << 23); }

// NaN stays NaN: a comparison with NaN is false.
INLINE V at_least(V x, float low) { return x < splat(low) ? splat(low) : x; }
INLINE V at_most(V x, float high) { return x > splat(high) ? splat(high) : x; }

// e^x, subnormal results and infinity included: 1.1 ulp.
INLINE V vexp(V x) {
  I n;
  const V r = reduce_exp(at_most(at_least(x, -104.0f), 89.0f), &n);
  const I half = n >> 1;
  return (expm1_reduced(r) * power_of_two(half) + power_of_two(half)) * power_of_two(n - half);
}

// e^x for -87 <= x <= 88; other arguments are moved to the nearest end.
INLINE V vexp_bounded(V x) {
  I n;
  const V r = reduce_exp(at_most(at_least(x, -87.0f), 88.0f), &n);
  const V scale = power_of_two(n);
  return expm1_reduced(r) * scale + scale;
}

// 1 / (1 + e^-x): 2.5 ulp; 6e-39 below -88.
INLINE V vsigmoid(V x) { return splat(1.0f) / (splat(1.0f) + vexp_bounded(-x)); }

// tanh x = m / (m + 2) with m = e^{2|x|} - 1, so that small arguments stay relatively accurate: 2.6 ulp.
INLINE V vtanh(V x) {
  const I sign_bit = splat_int(INT32_MIN);
  const V magnitude = (V)((I)x & ~sign_bit);
  const V y = at_most(magnitude + magnitude, 20.0f);
  I n;
  const V r = reduce_exp(y, &n);
  const V scale = power_of_two(n);
  const V m = expm1_reduced(r) * scale + (scale - splat(1.0f));
  return (V)((I)(m / (m + splat(2.0f))) | ((I)x & sign_bit));
}

}  // namespace
}  // namespace throughtime
