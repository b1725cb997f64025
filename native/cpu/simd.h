// Vectors of float and int32 as wide as the instruction set (GCC vector extensions), for kernel files only.
// THROUGHTIME_LANES may be set to another width: the compiler then splits or narrows the operations.
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#ifndef THROUGHTIME_LANES
#if defined(__AVX512F__)
#define THROUGHTIME_LANES 16
#elif defined(__AVX__)
#define THROUGHTIME_LANES 8
#else
#define THROUGHTIME_LANES 4
#endif
#endif

#define THROUGHTIME_INLINE inline __attribute__((always_inline))

namespace throughtime {
namespace {

constexpr int kLanes = THROUGHTIME_LANES;

typedef float Vec __attribute__((vector_size(4 * kLanes), may_alias));
typedef int32_t IVec __attribute__((vector_size(4 * kLanes), may_alias));
typedef float VecAnywhere __attribute__((vector_size(4 * kLanes), may_alias, aligned(4)));
typedef int32_t IVecAnywhere __attribute__((vector_size(4 * kLanes), may_alias, aligned(4)));

THROUGHTIME_INLINE Vec splat(float x) { return x - Vec{}; }
THROUGHTIME_INLINE IVec splat(int32_t x) { return x - IVec{}; }

// Memory need not be aligned.
THROUGHTIME_INLINE Vec load(const float* p) { return *reinterpret_cast<const VecAnywhere*>(p); }
THROUGHTIME_INLINE IVec load(const int32_t* p) { return *reinterpret_cast<const IVecAnywhere*>(p); }
THROUGHTIME_INLINE void store(float* p, Vec v) { *reinterpret_cast<VecAnywhere*>(p) = v; }
THROUGHTIME_INLINE void store(int32_t* p, IVec v) { *reinterpret_cast<IVecAnywhere*>(p) = v; }

// Where part of a vector is moved lane by lane, one function does it for all.
#if (defined(__AVX512F__) && THROUGHTIME_LANES == 16) || (defined(__AVX2__) && THROUGHTIME_LANES == 8)
#define THROUGHTIME_PART THROUGHTIME_INLINE
#else
#define THROUGHTIME_PART inline __attribute__((noinline))
#endif

// The first n lanes, 0 <= n < kLanes; the others are 0, and their memory is not touched.
THROUGHTIME_PART Vec load_part(const float* p, int n) {
#if defined(__AVX512F__) && THROUGHTIME_LANES == 16
  return (Vec)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#elif defined(__AVX2__) && THROUGHTIME_LANES == 8
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return (Vec)_mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane));
#else
  float lanes[kLanes] = {};
  for (int i = 0; i < n; i++) lanes[i] = p[i];
  return load(lanes);
#endif
}
THROUGHTIME_PART void store_part(float* p, Vec v, int n) {
#if defined(__AVX512F__) && THROUGHTIME_LANES == 16
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
#elif defined(__AVX2__) && THROUGHTIME_LANES == 8
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  _mm256_maskstore_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane), (__m256)v);
#else
  for (int i = 0; i < n; i++) p[i] = v[i];
#endif
}

// A vector of the n floats there are: none if n <= 0, all if n >= kLanes.
THROUGHTIME_INLINE Vec load_upto(const float* p, int64_t n) {
  return n >= kLanes ? load(p) : n > 0 ? load_part(p, (int)n) : Vec{};
}

THROUGHTIME_INLINE IVec bits(Vec v) { return reinterpret_cast<IVec>(v); }
THROUGHTIME_INLINE Vec from_bits(IVec v) { return reinterpret_cast<Vec>(v); }

// A NaN in either operand of min and max gives b.
#if defined(__AVX512F__) && THROUGHTIME_LANES == 16
constexpr __mmask16 kAll = 0xffff;  // of the lanes; without a mask GCC 12 warns of what its own headers leave undefined
THROUGHTIME_INLINE Vec min(Vec a, Vec b) { return (Vec)_mm512_maskz_min_ps(kAll, (__m512)a, (__m512)b); }
THROUGHTIME_INLINE Vec max(Vec a, Vec b) { return (Vec)_mm512_maskz_max_ps(kAll, (__m512)a, (__m512)b); }
#elif defined(__AVX2__) && THROUGHTIME_LANES == 8
THROUGHTIME_INLINE Vec min(Vec a, Vec b) { return (Vec)_mm256_min_ps((__m256)a, (__m256)b); }
THROUGHTIME_INLINE Vec max(Vec a, Vec b) { return (Vec)_mm256_max_ps((__m256)a, (__m256)b); }
#else
THROUGHTIME_INLINE Vec min(Vec a, Vec b) { return a < b ? a : b; }
THROUGHTIME_INLINE Vec max(Vec a, Vec b) { return a > b ? a : b; }
#endif
THROUGHTIME_INLINE Vec abs(Vec v) { return from_bits(bits(v) & 0x7fffffff); }
// The magnitude of `v` with the sign of `sign`.
THROUGHTIME_INLINE Vec with_sign(Vec v, Vec sign) {
  return from_bits((bits(v) & 0x7fffffff) | (bits(sign) & static_cast<int32_t>(0x80000000)));
}
THROUGHTIME_INLINE Vec sqrt(Vec v) {
  Vec r;
  for (int i = 0; i < kLanes; i++) r[i] = __builtin_sqrtf(v[i]);
  return r;
}

// Sum and maximum over the lanes, always halved in the same order.
THROUGHTIME_INLINE float sum(Vec v) {
  float x[kLanes];
  store(x, v);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++) x[i] += x[i + half];
  return x[0];
}
THROUGHTIME_INLINE float max(Vec v) {
  float x[kLanes];
  store(x, v);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++) x[i] = x[i] > x[i + half] ? x[i] : x[i + half];
  return x[0];
}

// The same names for one float, so that a template serves vectors and scalars.
THROUGHTIME_INLINE float abs(float x) { return __builtin_fabsf(x); }
THROUGHTIME_INLINE float sqrt(float x) { return __builtin_sqrtf(x); }

}  // namespace
}  // namespace throughtime
