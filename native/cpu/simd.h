// Vectors of LANES floats by GCC's vector extensions: operators work lane by lane, a comparison gives an I of 0 or -1,
// and `mask ? a : b` chooses by lane. Everything here has internal linkage, because each instruction set compiles it anew.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

// More lanes than the instruction set has are allowed (a vector is then several registers): tests use that.
#ifndef THROUGHTIME_LANES
#if defined(__AVX512F__)
#define THROUGHTIME_LANES 16
#elif defined(__AVX__)
#define THROUGHTIME_LANES 8
#else
#define THROUGHTIME_LANES 4
#endif
#endif

namespace throughtime {
namespace {

constexpr int LANES = THROUGHTIME_LANES;

typedef float V __attribute__((vector_size(4 * LANES)));
typedef int32_t I __attribute__((vector_size(4 * LANES)));
typedef float UnalignedV __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t UnalignedI __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define INLINE __attribute__((always_inline)) inline

INLINE V splat(float x) { return x - V{}; }
INLINE I splat_int(int32_t x) { return x - I{}; }

INLINE V load(const float* p) { return *reinterpret_cast<const UnalignedV*>(p); }
INLINE void store(float* p, V v) { *reinterpret_cast<UnalignedV*>(p) = v; }
INLINE I load_int(const int32_t* p) { return *reinterpret_cast<const UnalignedI*>(p); }
INLINE void store_int(int32_t* p, I v) { *reinterpret_cast<UnalignedI*>(p) = v; }

// The first n lanes of memory, 0 <= n < LANES; the other lanes are zero and their memory is not touched.
INLINE V load_part(const float* p, int n) {
#if defined(__AVX512F__) && THROUGHTIME_LANES == 16
  return (V)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#elif defined(__AVX2__) && THROUGHTIME_LANES == 8
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return (V)_mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane));
#else
  float lanes[LANES] = {};
  for (int i = 0; i < n; i++) lanes[i] = p[i];
  return load(lanes);
#endif
}

// Writes the first n lanes, 0 <= n < LANES, and nothing after them.
INLINE void store_part(float* p, V v, int n) {
#if defined(__AVX512F__) && THROUGHTIME_LANES == 16
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
#elif defined(__AVX2__) && THROUGHTIME_LANES == 8
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  _mm256_maskstore_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane), (__m256)v);
#else
  for (int i = 0; i < n; i++) p[i] = v[i];
#endif
}

// n lanes, where n may be LANES or more.
INLINE V load_upto(const float* p, int n) { return n >= LANES ? load(p) : load_part(p, n); }
INLINE void store_upto(float* p, V v, int n) {
  if (n >= LANES)
    store(p, v);
  else
    store_part(p, v, n);
}

// In lane order, so that the result does not depend on the instruction set's way to add across.
INLINE float sum_lanes(V v) {
  float total = v[0];
  for (int i = 1; i < LANES; i++) total += v[i];
  return total;
}

}  // namespace
}  // namespace throughtime
