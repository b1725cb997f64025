// The inner products of reduced precision. A kind says what a word of A and a vector of words of B add to the sums.
#pragma once
#include "micro.h"
#include "reduced.h"

#if !defined(__AVX2__) && defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace throughtime {
namespace {

// Two bfloat16 at a time, as float32: a bfloat16 is the upper half of one.
struct Bf16Plain {
  using Sum = Vec;
  static constexpr int rows = 4;
  static THROUGHTIME_INLINE void add(Vec& sum, int32_t left, IVec right) {
    const Vec low = from_bits(right << 16), high = from_bits(right & static_cast<int32_t>(0xffff0000));
    sum += from_bits(splat((int32_t)((uint32_t)left << 16))) * low;
    sum += from_bits(splat(left & static_cast<int32_t>(0xffff0000))) * high;
  }
};

// Bytes of A are unsigned, those of B signed. Sums of two products of a byte fit 16 bits and more only as int32.
struct Int8Plain {
  using Sum = IVec;
  static constexpr int rows = 4;
#if (defined(__AVX512BW__) && THROUGHTIME_LANES == 16) || (defined(__AVX2__) && THROUGHTIME_LANES == 8) || \
    (defined(__SSE2__) && !defined(__AVX__) && THROUGHTIME_LANES == 4)
  typedef int16_t Short __attribute__((vector_size(4 * kLanes), may_alias));
  static THROUGHTIME_INLINE IVec madd(Short a, Short b) {
#if THROUGHTIME_LANES == 16
    return (IVec)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif THROUGHTIME_LANES == 8
    return (IVec)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#else
    return (IVec)_mm_madd_epi16((__m128i)a, (__m128i)b);
#endif
  }
  static THROUGHTIME_INLINE void add(IVec& sum, int32_t left, IVec right) {
    const Short even = (Short)(splat(left & 0x00ff00ff)), odd = (Short)(splat((left >> 8) & 0x00ff00ff));
    const Short b = (Short)right;
    sum += madd(even, (b << 8) >> 8);
    sum += madd(odd, b >> 8);
  }
#else
  static THROUGHTIME_INLINE void add(IVec& sum, int32_t left, IVec right) {
    for (int i = 0; i < 4; i++) sum += splat((left >> 8 * i) & 255) * ((right << (24 - 8 * i)) >> 24);
  }
#endif
};

// Instructions beyond those the file is compiled for are written out: they run only where Device.features has them.
#if defined(__AVX512F__) && THROUGHTIME_LANES == 16
#define THROUGHTIME_REDUCED_NATIVE
struct Bf16Native {
  using Sum = Vec;
  static constexpr int rows = MR;
  static THROUGHTIME_INLINE void add(Vec& sum, int32_t left, IVec right) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(splat(left)), "v"(right));
  }
};
struct Int8Native {
  using Sum = IVec;
  static constexpr int rows = MR;
  static THROUGHTIME_INLINE void add(IVec& sum, int32_t left, IVec right) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(splat(left)), "v"(right));
  }
};
#endif

// Of bfloat16 the sum itself; of bytes what it stands for.
THROUGHTIME_INLINE Vec value_of(Vec sum, const ReducedProduct&, int, int64_t) { return sum; }
THROUGHTIME_INLINE Vec value_of(IVec sum, const ReducedProduct& p, int row, int64_t column) {
  const Vec scale = load(p.b_scale + column) * splat(p.a_scale[row]);
  return __builtin_convertvector(sum - load(p.b_sum + column), Vec) * scale;
}

// M rows from `first` on and P panels of V vectors from `panel` on, words k0 .. k0 + k.
template <class Kind, int M, int P, int V, bool Columns>
__attribute__((noinline)) void micro_reduced(const ReducedProduct& p, int first, int panel, int64_t k0, int k,
                                             const char* next) {
  typename Kind::Sum sum[M][P][V] = {};
  const int64_t stride = p.a_stride;
  const int32_t* a = p.a + (Columns ? k0 * stride + first : first * stride + k0);
  const int32_t* b = p.b + panel * p.panel + k0 * NR;
  for (int w = 0; w < k; w++, b += NR, a += Columns ? stride : 1, next += 2 * PREFETCH_FLOATS) {
    IVec right[P][V];
#pragma GCC unroll 4
    for (int q = 0; q < P; q++)
#pragma GCC unroll 2
      for (int v = 0; v < V; v++) right[q][v] = load(b + q * p.panel + v * kLanes);
    if (P == 1) __builtin_prefetch(next, 0, 2);
#pragma GCC unroll 16
    for (int i = 0; i < M; i++) {
      const int32_t left = a[Columns ? i : i * stride];
#pragma GCC unroll 4
      for (int q = 0; q < P; q++)
#pragma GCC unroll 2
        for (int v = 0; v < V; v++) {
          typename Kind::Sum s = sum[i][q][v];
          Kind::add(s, left, right[q][v]);
          sum[i][q][v] = s;
        }
    }
  }
  const bool add = p.add || k0 > 0;
#pragma GCC unroll 16
  for (int i = 0; i < M; i++)
#pragma GCC unroll 4
    for (int q = 0; q < P; q++)
#pragma GCC unroll 2
      for (int v = 0; v < V; v++) {
        const int64_t from = (panel + q) * NR + v * kLanes, n = p.columns - from;
        if (n <= 0) continue;
        float* c = p.to[first + i] + p.column + from;
        const float* base = add ? c : p.bias ? p.bias + p.column + from : nullptr;
        Vec value = value_of(sum[i][q][v], p, first + i, from);
        if (n >= kLanes) {
          if (base) value += load(base);
          store(c, value);
        } else {
          if (base) value += load_part(base, (int)n);
          store_part(c, value, (int)n);
        }
      }
}

using MicroReduced = void (*)(const ReducedProduct&, int, int, int64_t, int, const char*);
template <class Kind, int V, bool Columns, int M = Kind::rows>
MicroReduced micro_reduced_for(int m, int panels) {
  if constexpr (M > 1)
    if (m < M) return micro_reduced_for<Kind, V, Columns, M - 1>(m, panels);
  if constexpr (Columns)
    return micro_reduced<Kind, M, 1, V, true>;
  else
    return panels == 1 ? micro_reduced<Kind, M, 1, V, false> : micro_reduced<Kind, M, panels_at_once(M), V, false>;
}

// All rows and the panels panel .. end, words k0 .. k0 + k.
template <class Kind, int V, bool Columns>
void multiply_stretch(const ReducedProduct& p, int panel, int end, int64_t k0, int k) {
  const int blocks = (p.rows + Kind::rows - 1) / Kind::rows, size = p.rows / blocks, longer = p.rows % blocks;
  const int at_once = blocks == 1 && !Columns ? panels_at_once(p.rows) : 1;
  for (; panel + at_once <= end; panel += at_once) {
    const int32_t* here = p.b + panel * p.panel + k0 * NR;
    const char* next =
        panel + 1 < p.panels ? reinterpret_cast<const char*>(here + p.panel) : static_cast<const char*>(p.after);
    for (int block = 0, first = 0; block < blocks; block++) {
      const int m = size + (block < longer);
      micro_reduced_for<Kind, V, Columns>(m, at_once)(p, first, panel, k0, k, next);
      first += m;
      next += (int64_t)k * 2 * PREFETCH_FLOATS;
    }
  }
  for (; panel < end; panel++)
    micro_reduced_for<Kind, V, Columns>(p.rows, 1)(p, 0, panel, k0, k, static_cast<const char*>(p.after));
}

// All rows and panels, a panel's stretch of words staying near meanwhile. Sums of bytes are not parted.
template <class Kind, bool Columns>
void multiply_kind(const ReducedProduct& p) {
  const int64_t stretch = p.precision == INT8 ? p.words : STRETCH_WORDS;
  const int64_t last = narrow_panel(p.columns), narrow = p.narrow < last ? p.narrow : last;
  const int wide = (int)(narrow < 0 ? 0 : narrow < p.panels ? narrow : p.panels);
  for (int64_t k0 = 0; k0 == 0 || k0 < p.words; k0 += stretch) {
    const int k = (int)(p.words - k0 < stretch ? p.words - k0 : stretch);
    multiply_stretch<Kind, 2, Columns>(p, 0, wide, k0, k);
    multiply_stretch<Kind, 1, Columns>(p, wide, p.panels, k0, k);
  }
}

}  // namespace
}  // namespace throughtime
