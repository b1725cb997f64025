// Sums over the lanes of as many vectors as a vector has lanes, at once.
#pragma once
#include "simd.h"

namespace throughtime {
namespace {

template <int... I>
struct LaneList {};
template <int N, int... I>
struct LanesUpTo : LanesUpTo<N - 1, N - 1, I...> {};
template <int... I>
struct LanesUpTo<0, I...> {
  using List = LaneList<I...>;
};

// In each segment of S lanes: the halves of x's added into the first half, those of y's into the second.
template <int S, int... I>
THROUGHTIME_INLINE Vec fold(Vec x, Vec y, LaneList<I...>) {
  const IVec low = {(I % S < S / 2 ? I : kLanes + I - S / 2)...};
  const IVec high = {(I % S < S / 2 ? I + S / 2 : kLanes + I)...};
  return __builtin_shuffle(x, y, low) + __builtin_shuffle(x, y, high);
}

template <int S>
THROUGHTIME_INLINE void fold_all(Vec* v) {
  if constexpr (S > 1) {
    for (int i = 0; i < S / 2; i++) v[i] = fold<S>(v[i], v[i + S / 2], typename LanesUpTo<kLanes>::List());
    fold_all<S / 2>(v);
  }
}

// Lane i is the sum of v[i], for kLanes vectors; they are overwritten.
THROUGHTIME_INLINE Vec lane_sums(Vec* v) {
  fold_all<kLanes>(v);
  return v[0];
}

}  // namespace
}  // namespace throughtime
