// exp, log, tanh and sigmoid of a vector. Errors are in units of the last place of the true value, over every
// float32 argument whose result is a normal number, and are held by a test. NaN gives NaN.
#pragma once
#include "simd.h"

namespace throughtime {
namespace {

// SCALE * x = n ln 2 + r with |r| <= ln 2 / 2. Gives r; *exponent = n << 23, which is what a float's bits count n by.
template <int SCALE = 1>
THROUGHTIME_INLINE Vec split_ln2(Vec x, IVec* exponent) {
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  const Vec shifted = x * (SCALE * 1.44269504f) + magic;
  const Vec whole = shifted - magic;
  *exponent = bits(shifted) << 23;
  return (x * (float)SCALE - whole * 0.693359375f) - whole * -2.12194440e-4f;
}

// (e^r - 1 - r) / r^2 on the reduced range; 0.06 ulp of e^r.
THROUGHTIME_INLINE Vec exp_tail(Vec r) {
  Vec p = r * 0.0013950809f + 0.008369073f;
  p = p * r + 0.041666202f;
  p = p * r + 0.16666517f;
  return p * r + 0.5f;
}

// 2^n for -126 <= n <= 127.
THROUGHTIME_INLINE Vec power_of_two(IVec exponent) { return from_bits(exponent + 0x3f800000); }

// a / b for 2^-126 < b < 2^126; 1 ulp. Where division is slow, an estimate of 1 / b is corrected by one step.
THROUGHTIME_INLINE Vec quotient(Vec a, Vec b) {
#if defined(__AVX512F__) && THROUGHTIME_LANES == 16
  const Vec estimate = (Vec)_mm512_maskz_rcp14_ps(kAll, (__m512)b);
  const Vec near = a * estimate;
  return near + (a - b * near) * estimate;
#else
  return a / b;
#endif
}

// e^x; 1.1 ulp, with subnormal results, 0 and infinity where they belong.
THROUGHTIME_INLINE Vec exp(Vec x) {
  x = max(splat(-105.0f), min(splat(90.0f), x));
  IVec exponent;
  const Vec r = split_ln2(x, &exponent);
  const Vec p = 1.0f + (r + r * r * exp_tail(r));
  const IVec half = exponent >> 24 << 23;
  return p * power_of_two(half) * power_of_two(exponent - half);
}

// 1 / (1 + e^-x); 2.5 ulp for x > -87, and at most 2e-38 below that.
THROUGHTIME_INLINE Vec sigmoid(Vec x) {
  x = max(splat(-87.0f), min(splat(87.0f), x));
  IVec exponent;
  const Vec r = split_ln2<-1>(x, &exponent);
  const Vec p = 1.0f + (r + r * r * exp_tail(r));
  return quotient(splat(1.0f), 1.0f + p * power_of_two(exponent));
}

// tanh x = m / (m + 2) with m = e^2x - 1, which loses nothing near 0; 2.6 ulp.
THROUGHTIME_INLINE Vec tanh(Vec x) {
  const Vec y = min(splat(10.0f), abs(x));
  IVec exponent;
  const Vec r = split_ln2<2>(y, &exponent);
  const Vec scale = power_of_two(exponent);
  const Vec m = scale * (r + r * r * exp_tail(r)) + (scale - 1.0f);
  return with_sign(quotient(m, m + 2.0f), x);
}

// Natural logarithm; 0.9 ulp. log 0 = -infinity, and NaN below 0.
THROUGHTIME_INLINE Vec log(Vec x) {
  const float infinity = __builtin_inff();
  const IVec tiny = x < 1.17549435e-38f;
  Vec y = tiny ? x * 8388608.0f : x;
  // y = 2^n (1 + f) with 1 + f in [sqrt(1/2), sqrt(2))
  const IVec e = (bits(y) - 0x3f3504f3) >> 23;
  const Vec f = from_bits(bits(y) - (e << 23)) - 1.0f;
  const Vec n = __builtin_convertvector(tiny ? e - 23 : e, Vec);
  Vec p = f * 0.069401436f + -0.118271425f;
  p = p * f + 0.118816815f;
  p = p * f + -0.12378942f;
  p = p * f + 0.14216904f;
  p = p * f + -0.16669488f;
  p = p * f + 0.20002313f;
  p = p * f + -0.24999984f;
  p = p * f + 0.3333331f;
  const Vec square = f * f;
  Vec result = f * square * p + n * -2.12194440e-4f;
  result = n * 0.693359375f + (f + (result - square * 0.5f));
  result = x == infinity ? splat(infinity) : result;
  result = x == 0.0f ? splat(-infinity) : result;
  return x < 0.0f || x != x ? splat(__builtin_nanf("")) : result;
}

// log(1 + e^x) = max(x, 0) + log(1 + e^-|x|); the logarithm is corrected by what 1 + e lost (Kahan), so that tiny
// results keep their precision: 3 ulp.
THROUGHTIME_INLINE Vec softplus(Vec x) {
  const Vec e = exp(-abs(x));
  const Vec u = 1.0f + e;
  const Vec lost = u - 1.0f;
  const Vec tail = lost > 0.0f ? log(u) * (e / (lost > 0.0f ? lost : splat(1.0f))) : e;
  return (x > 0.0f ? x : x < 0.0f ? Vec{} : x) + tail;
}

// sin(x + quarters * pi / 2). x = n pi / 2 + r with pi / 2 in three parts, so that r is exact to 2e-7 for |x| < 8000.
THROUGHTIME_INLINE Vec sine(Vec x, int32_t quarters) {
  const float magic = 12582912.0f;  // see split_ln2
  const Vec shifted = x * 0.636619772f + magic;
  const Vec n = shifted - magic;
  const IVec quadrant = bits(shifted) + quarters;
  const Vec r = ((x - n * 1.5703125f) - n * 4.83751297e-4f) - n * 7.54978995e-8f;
  const Vec z = r * r;
  const Vec sin = r + r * z * ((z * -1.9515295891e-4f + 8.3321608736e-3f) * z - 1.6666654611e-1f);
  const Vec cos =
      1.0f - 0.5f * z + z * z * ((z * 2.443315711809948e-5f - 1.388731625493765e-3f) * z + 4.166664568298827e-2f);
  const Vec value = (quadrant & 1) != 0 ? cos : sin;
  return from_bits(bits(value) ^ ((quadrant & 2) << 30));
}
THROUGHTIME_INLINE Vec sin(Vec x) { return sine(x, 0); }
THROUGHTIME_INLINE Vec cos(Vec x) { return sine(x, 1); }

// erf x = sign(x) * (1 - p(t) e^(-x^2)), t = 1 / (1 + 0.3275911 |x|) (Abramowitz & Stegun 7.1.26); error 2e-7. Near 0,
// where that loses digits, the series.
THROUGHTIME_INLINE Vec erf(Vec x) {
  const Vec y = min(splat(6.0f), abs(x));
  const Vec t = 1.0f / (1.0f + 0.3275911f * y);
  Vec p = t * 1.061405429f - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  const Vec far = with_sign(1.0f - p * t * exp(-y * y), x);
  const Vec square = x * x;
  Vec q = square * -0.0238095238f + 0.1f;
  q = q * square + -0.333333333f;
  const Vec near = 1.12837917f * (x + x * square * q);
  return y < 0.35f ? near : far;
}

}  // namespace
}  // namespace throughtime
