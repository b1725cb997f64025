// State spaces with a constant complex transition; see native/cpu/diagonal_scan.cc. The states of a channel are spread
// over neighbouring lanes, HELD each, and a block takes some channels of one row.
#pragma once
#include "complex.h"
#include "scan.h"

namespace throughtime {
namespace {

constexpr int64_t kChunk = 32;  // steps between the states that are kept for the backward pass
constexpr int kFetched = 8;     // steps whose inputs are fetched together

enum Matrix { A, B, C, P, Q, R, kMatrices };  // each [D, S], of complex numbers

struct Inputs {
  ScanShape shape;
  int64_t states;
  float pairs;
  const float* u;
  const Complex *initial, *of[kMatrices];

  bool low_rank() const { return of[P] != nullptr; }
  int64_t size() const { return shape.width * states; }  // of a row's state
};

inline Complex* complexes(const Buffer* b) { return reinterpret_cast<Complex*>(data(b)); }

// `at`: where the inputs begin, in the list of the kernel.
inline Inputs inputs_of(const Args& args, int at) {
  Buffer* const* in = args.in + at;
  Inputs x = {{args.ints[0], args.ints[1], args.ints[2], args.ints[3] != 0, integers(in[8])},
              args.ints[4],
              static_cast<float>(args.ints[5]),
              data(in[0]),
              complexes(in[7]),
              {}};
  for (int m = 0; m < kMatrices; m++) x.of[m] = complexes(in[1 + m]);
  return x;
}

// What a thread is of: states lane + lanes * j of channel d. Threads beyond the last channel repeat that one.
struct Mine {
  int64_t row, d, length;
  int lane, lanes;
  bool real;

  DEVICE Mine(const Inputs& x, int lanes, int64_t blocks, int64_t block) : lanes(lanes) {
    row = block / blocks;
    const int64_t c = (block % blocks * blockDim.x + threadIdx.x) / lanes;
    lane = threadIdx.x % lanes, real = c < x.shape.width;
    d = real ? c : x.shape.width - 1;
    length = x.shape.valid(row);
  }
};

// Numbers of a thread, zero where it has no state.
template <int HELD>
struct Held {
  Complex at[HELD];
  DEVICE Complex& operator[](int j) { return at[j]; }
  DEVICE const Complex& operator[](int j) const { return at[j]; }

  // From and to [D, S].
  DEVICE void load(const Mine& mine, int64_t states, const Complex* from) {
    for (int j = 0; j < HELD; j++) {
      const int64_t s = mine.lane + mine.lanes * j;
      at[j] = from && s < states ? from[mine.d * states + s] : Complex{0.0f, 0.0f};
    }
  }
  DEVICE void store(const Mine& mine, int64_t states, Complex* to) const {
    for (int j = 0; j < HELD; j++) {
      const int64_t s = mine.lane + mine.lanes * j;
      if (mine.real && s < states) to[mine.d * states + s] = at[j];
    }
  }
  // From and to [S, 2, D].
  DEVICE void load_turned(const Mine& mine, int64_t states, int64_t width, const float* from) {
    for (int j = 0; j < HELD; j++) {
      const int64_t s = mine.lane + mine.lanes * j, i = 2 * s * width + mine.d;
      at[j] = s < states ? Complex{from[i], from[i + width]} : Complex{0.0f, 0.0f};
    }
  }
  DEVICE void store_turned(const Mine& mine, int64_t states, int64_t width, float* to) const {
    for (int j = 0; j < HELD; j++) {
      const int64_t s = mine.lane + mine.lanes * j, i = 2 * s * width + mine.d;
      if (mine.real && s < states) to[i] = at[j].re, to[i + width] = at[j].im;
    }
  }
};

template <bool LOW, int HELD>
struct Matrices {
  Held<HELD> of[LOW ? kMatrices : P];
  DEVICE Matrices(const Inputs& x, const Mine& mine) {
    for (int m = 0; m < (LOW ? kMatrices : P); m++) of[m].load(mine, x.states, x.of[m]);
  }
};

// <p, x>, in all lanes of the channel.
template <int HELD>
DEVICE float read_of(const Inputs& x, const Mine& mine, const Held<HELD>& p, const Held<HELD>& state) {
  float total = 0.0f;
  for (int j = 0; j < HELD; j++) total += inner(p[j], state[j]);
  return x.pairs * sum_of(total, mine.lanes);
}

// z from the state before it; `seen`: what p reads of that, where the rank is low.
template <bool LOW, int HELD>
DEVICE Held<HELD> way(const Matrices<LOW, HELD>& m, const Held<HELD>& before, float u, float seen) {
  Held<HELD> z;
  for (int j = 0; j < HELD; j++) {
    z[j] = m.of[A][j] * before[j] + m.of[B][j] * u;
    if constexpr (LOW) z[j] = z[j] - m.of[Q][j] * seen;
  }
  return z;
}

template <bool LOW, int HELD>
DEVICE void advance(const Inputs& x, const Mine& mine, const Matrices<LOW, HELD>& m, float u, Held<HELD>& state) {
  float seen = 0.0f;
  if constexpr (LOW) seen = read_of(x, mine, m.of[P], state);
  state = way(m, state, u, seen);
  if constexpr (LOW) {
    const float second = read_of(x, mine, m.of[P], state);
    for (int j = 0; j < HELD; j++) state[j] = state[j] - m.of[R][j] * second;
  }
}

// Whether the rank is low, states that a thread holds, threads of a block: body(Kind) is called with those that fit.
template <bool LOW, int HELD, int WARPS>
struct Kind {
  static constexpr bool low = LOW;
  static constexpr int held = HELD, threads = WARPS * (int)kWarp;
};
template <class F>
void with_kind(Device* device, const Inputs& x, const F& body) {
  if (x.states <= 2 * (int64_t)kWarp)
    x.low_rank() ? body(Kind<true, 2, 4>()) : body(Kind<false, 2, 4>());
  else if (x.low_rank() && x.states <= 4 * (int64_t)kWarp)
    body(Kind<true, 4, 2>());
  else if (!x.low_rank() && x.states <= 8 * (int64_t)kWarp)
    body(Kind<false, 8, 1>());
  else
    device->fail(device, "diagonalScan: a channel has 256 complex states at most here, 128 with a term of low rank");
}

}  // namespace
}  // namespace throughtime
