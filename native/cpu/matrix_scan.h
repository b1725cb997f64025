// The linear recurrence of a matrix in each head (src/ops/matrixScan.ts):
//   S_t = diag(w_t) S_{t-1} + b_t (a_t^T S_{t-1}) + k_t v_t^T        o_t = S_t^T q_t   (or S_{t-1}^T q_t)
//
// Columns of S never meet, so S is taken a tile of columns at a time, [K][tile], which stays in the first cache while
// all steps pass over it. Lanes are columns. The normaliser is a tile of its own with one column, whose values are 1.
// Steps follow each other as they are written above, whatever the decay: no products of decays, nothing to overflow.
#pragma once
#include "isa.h"
#include "math.h"
#include "rows.h"
#include "scan.h"
#include "team.h"

namespace throughtime {
namespace {

constexpr int TILE_VECTORS = kLanes == 16 ? 4 : 2;
constexpr int TILE = TILE_VECTORS * kLanes;
constexpr int64_t CHUNK = 16;  // steps whose states are kept at a time by the backward pass

enum Decay { NO_DECAY, SCALAR_DECAY, VECTOR_DECAY };

// Inputs by place, as src/ops/matrixScanInputs.ts lists them.
enum MatrixInput { IN_Q, IN_K, IN_V, IN_DECAY, IN_A, IN_B, IN_INITIAL, IN_INITIAL_N, IN_LENGTHS, MATRIX_INPUTS };

struct MatrixShape {
  int64_t n, steps, groups, heads, keys, values;
  bool old, normaliser;
  int decay_axes;  // of logDecay: 4 [N, T, H, K], 3 [N, T, H], 2 [H, K], 1 [H], 0 none

  explicit MatrixShape(const Args& args)
      : n(args.ints[0]),
        steps(args.ints[1]),
        groups(args.ints[2]),
        heads(args.ints[3]),
        keys(args.ints[4]),
        values(args.ints[5]),
        old(args.ints[6]),
        normaliser(args.ints[7]),
        decay_axes(args.ints[8]) {}

  Decay decay() const { return decay_axes == 0 ? NO_DECAY : decay_axes % 2 ? SCALAR_DECAY : VECTOR_DECAY; }
  // Tiles of values, and one of the normaliser.
  int64_t value_tiles() const { return (values + TILE - 1) / TILE; }
  int64_t tiles() const { return value_tiles() + normaliser; }
  // Keys, rounded up to whole vectors.
  int64_t key_row() const { return (keys + kLanes - 1) / kLanes * kLanes; }
};

// Where the numbers of a head of a sequence lie, step 0 first; `next` leads to the next step.
struct Numbers {
  const float* at = nullptr;
  int64_t next = 0;
  const float* operator[](int64_t t) const { return at + t * next; }
};

struct Head {
  int64_t n, h, length;
  Numbers q, k, v, decay, a, b;
};

// Numbers of shape [N, T, rows, width]: those of row r.
THROUGHTIME_INLINE Numbers numbers(const float* all, const MatrixShape& s, int64_t n, int64_t rows, int64_t r,
                                   int64_t width) {
  if (!all) return {};
  return {all + (n * s.steps * rows + r) * width, rows * width};
}

// `in` are the inputs of the forward pass.
THROUGHTIME_INLINE Head head_of(const MatrixShape& s, Buffer* const* in, int64_t n, int64_t h) {
  Head head;
  head.n = n, head.h = h;
  head.length = ScanShape{s.n, s.steps, 0, false, integers(in[IN_LENGTHS])}.valid(n);
  const int64_t group = h / (s.heads / s.groups);
  head.q = numbers(data(in[IN_Q]), s, n, s.groups, group, s.keys);
  head.k = numbers(data(in[IN_K]), s, n, s.groups, group, s.keys);
  head.v = numbers(data(in[IN_V]), s, n, s.heads, h, s.values);
  head.a = numbers(data(in[IN_A]), s, n, s.heads, h, s.keys);
  head.b = numbers(data(in[IN_B]), s, n, s.heads, h, s.keys);
  const float* decay = data(in[IN_DECAY]);
  const int64_t width = s.decay() == VECTOR_DECAY ? s.keys : 1;
  head.decay = s.decay_axes > 2 ? numbers(decay, s, n, s.heads, h, width) : Numbers{decay + h * width, 0};
  return head;
}

// exp of `width` numbers.
THROUGHTIME_INLINE void exponentials(float* to, const float* from, int64_t width) {
  row_map(width, [=](int64_t i, int lanes) { store_lanes(to + i, exp(load_lanes(from + i, lanes)), lanes); });
}

// What a scan is made of, for templates.
template <Decay D, bool LOW_RANK, bool OLD>
struct Kind {
  static constexpr Decay decay = D;
  static constexpr bool low_rank = LOW_RANK, old = OLD;
};

// How many decays a step has.
template <class Kind>
THROUGHTIME_INLINE int64_t decays_of(const MatrixShape& s) {
  return Kind::decay == VECTOR_DECAY ? s.keys : Kind::decay == SCALAR_DECAY;
}

// Calls body(Kind) for the kind of a scan.
template <Decay D, class F>
void with_kind_of(const MatrixShape& s, bool low_rank, const F& body) {
  if (low_rank)
    s.old ? body(Kind<D, true, true>()) : body(Kind<D, true, false>());
  else
    s.old ? body(Kind<D, false, true>()) : body(Kind<D, false, false>());
}
template <class F>
void with_kind(const MatrixShape& s, Buffer* const* in, const F& body) {
  const bool low_rank = in[IN_A] != nullptr;
  const Decay decay = s.decay();
  if (decay == NO_DECAY)
    with_kind_of<NO_DECAY>(s, low_rank, body);
  else if (decay == SCALAR_DECAY)
    with_kind_of<SCALAR_DECAY>(s, low_rank, body);
  else
    with_kind_of<VECTOR_DECAY>(s, low_rank, body);
}

// A tile of columns: which, and how many of its lanes are columns. V vectors wide.
template <int V>
struct Columns {
  static constexpr int64_t width = V * kLanes;
  int64_t first, count;
  bool ones;  // the normaliser's

  void read(Vec* to, const float* row) const {
    for (int i = 0; i < V; i++) to[i] = load_upto(row + first + i * kLanes, count - i * kLanes);
  }
  // The values of a step; for the normaliser they are 1.
  void values(Vec* to, const float* row) const {
    if (!ones) return read(to, row);
    to[0] = Vec{};
    to[0][0] = 1.0f;
  }
  void write(float* row, const Vec* from) const {
    for (int i = 0; i < V; i++) {
      const int64_t left = count - i * kLanes;
      if (left >= kLanes)
        store(row + first + i * kLanes, from[i]);
      else if (left > 0)
        store_part(row + first + i * kLanes, from[i], (int)left);
    }
  }
  // Between a matrix [K][stride] and its tile; a matrix that is absent is zero.
  void take(float* tile, const float* matrix, int64_t stride, int64_t keys) const {
    for (int64_t j = 0; j < keys; j++) {
      Vec row[V] = {};
      if (matrix) read(row, matrix + j * stride);
      for (int i = 0; i < V; i++) store(tile + j * width + i * kLanes, row[i]);
    }
  }
  void give(float* matrix, const float* tile, int64_t stride, int64_t keys) const {
    for (int64_t j = 0; j < keys; j++) {
      Vec row[V];
      for (int i = 0; i < V; i++) row[i] = load(tile + j * width + i * kLanes);
      write(matrix + j * stride, row);
    }
  }
};

// Calls body(Columns) for tile i: the last one of the values is no wider than it must be.
template <class F>
THROUGHTIME_INLINE void with_columns(const MatrixShape& s, int64_t i, const F& body) {
  if (i == s.value_tiles()) return body(Columns<1>{0, 1, true});
  const int64_t first = i * TILE, count = least(TILE, s.values - first);
  if (count <= kLanes) return body(Columns<1>{first, count, false});
  if (count <= 2 * kLanes) return body(Columns<2>{first, count, false});
  if constexpr (TILE_VECTORS > 2) body(Columns<TILE_VECTORS>{first, count, false});
}

// The numbers of one step, and the decays of its keys, or one for all.
struct Step {
  const float *q, *k, *a, *b, *w;
};
THROUGHTIME_INLINE Step step_of(const Head& head, int64_t t, const float* w) {
  return {head.q[t], head.k[t], head.a[t], head.b[t], w};
}

// `COUNT` steps over a tile, from `before` to `now`, which may be one: each entry of S is fetched once for all of them.
// Adds to o[step] what q reads; sum[step] is what a reads, of which there is one step at a time.
template <class Kind, int V, int COUNT>
THROUGHTIME_INLINE void advance(float* now, const float* before, int64_t keys, const Step* step, const Vec (*v)[V],
                                Vec (*o)[V], Vec (*sum)[V]) {
  static_assert(COUNT == 1 || !Kind::low_rank, "what a reads of S is known one step after the other");
  constexpr int64_t W = V * kLanes;
  if constexpr (Kind::low_rank)
    for (int64_t j = 0; j < keys; j++) {
      const Vec a = splat(step[0].a[j]);
      for (int i = 0; i < V; i++) sum[0][i] += a * load(before + j * W + i * kLanes);
    }
  for (int64_t j = 0; j < keys; j++) {
    Vec state[V];
    for (int i = 0; i < V; i++) state[i] = load(before + j * W + i * kLanes);
    for (int t = 0; t < COUNT; t++) {
      const Vec q = splat(step[t].q[j]), k = splat(step[t].k[j]);
      const Vec w = Kind::decay == NO_DECAY ? Vec{} : splat(step[t].w[Kind::decay == VECTOR_DECAY ? j : 0]);
      const Vec b = Kind::low_rank ? splat(step[t].b[j]) : Vec{};
      for (int i = 0; i < V; i++) {
        if (Kind::old) o[t][i] += q * state[i];
        if (Kind::decay != NO_DECAY) state[i] *= w;
        if (Kind::low_rank) state[i] += b * sum[t][i];
        state[i] += k * v[t][i];
        if (!Kind::old) o[t][i] += q * state[i];
      }
    }
    for (int i = 0; i < V; i++) store(now + j * W + i * kLanes, state[i]);
  }
}

}  // namespace
}  // namespace throughtime
