// Loop nests [rank, dims..., strides of operand 0..., strides of operand 1..., ...] over a contiguous result, as
// loopNest in src/ops/elementwise.ts makes them. For kernel files only.
#pragma once
#include "isa.h"

namespace throughtime {
namespace {

template <int N>
struct Nest {
  int rank;
  const int32_t* dims;
  const int32_t* strides[N];
  int64_t step[N];  // along the innermost axis

  explicit Nest(const int32_t* ints) : rank(ints[0]), dims(ints + 1) {
    for (int k = 0; k < N; k++) {
      strides[k] = dims + rank * (k + 1);
      step[k] = rank ? strides[k][rank - 1] : 1;
    }
  }

  size_t row() const { return rank ? dims[rank - 1] : 1; }

  // Offsets of the operands at element i of the result, counted in axes up to `axes`.
  void offsets(size_t i, int axes, int64_t* at) const {
    for (int k = 0; k < N; k++) at[k] = 0;
    for (int d = axes - 1; d >= 0; d--) {
      const int64_t index = i % dims[d];
      i /= dims[d];
      for (int k = 0; k < N; k++) at[k] += index * strides[k][d];
    }
  }

  // Calls body(first element of the result, offsets of the operands, length) for each row in [begin, end).
  template <class F>
  void rows(size_t begin, size_t end, const F& body) const {
    const size_t width = row();
    while (begin < end) {
      int64_t at[N];
      offsets(begin, rank, at);
      const size_t left = width - begin % width;
      const size_t length = left < end - begin ? left : end - begin;
      body(begin, at, length);
      begin += length;
    }
  }
};

}  // namespace
}  // namespace throughtime
