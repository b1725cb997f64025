// What the two directions of a sweep share: the shape of a ragged batch, how threads divide a step, and the recurrent
// product. Rows are taken longest first, so that the rows still running at a step are the first `active` ones; a row
// and a step of it have a place in [N, T] (n * T + t) and a place among the valid steps alone (start[s] + row).
#pragma once
#include "gemm.h"
#include "reduced.h"
#include "team.h"

namespace throughtime {
namespace {

// Inputs before the update masks, one a state, and the initial states; the last of them, ids, makes x a table of W x.
constexpr int OPTIONS = 15, IDS = 14, MAX_STATES = 4;

// Whether forward saves the states alone, so that backward computes again what the cell keeps; plain sweeps only.
THROUGHTIME_INLINE bool is_checkpointed(const Args& args, int states) { return args.ints[12 + 2 * states] != 0; }

// What the parts that are the same for every cell must know of one; see cells/cell.h.
struct CellShape {
  int gates, inner, states, saved;
  bool one_gradient, diagonal;
  int rows() const { return saved + states - 1; }  // saved by a plain sweep for a unit at a step
};
template <class Cell>
constexpr CellShape shape_of = {Cell::gates, Cell::inner_gates,  Cell::states,
                                Cell::saved, Cell::one_gradient, Cell::diagonal};

struct Sweep {
  Device* device;
  int64_t n, steps, features, hidden;
  bool reverse;
  int64_t width;          // numbers of h: hidden, or those of its projection
  int64_t longest;        // steps of the first row
  const int32_t* order;   // [n] row -> sequence
  const int32_t* length;  // [n] of rows, falling
  const int64_t* start;   // [longest + 1] valid (row, step) pairs before step s

  int64_t active(int64_t s) const { return s < longest ? start[s + 1] - start[s] : 0; }
  int64_t position(int64_t row, int64_t s) const { return reverse ? length[row] - 1 - s : s; }
  int64_t place(int64_t row, int64_t s) const { return order[row] * steps + position(row, s); }
  int64_t valid() const { return longest ? start[longest] : 0; }
  int64_t tiles() const { return (hidden + NR - 1) / NR; }
};

// The last of the ints of a sweep, after `checkpoint`.
THROUGHTIME_INLINE Precision precision_of(const Args& args, int states) {
  const int place = 13 + 2 * states;
  return place < args.int_count ? (Precision)args.ints[place] : FLOAT32;
}

// Reads ints [N, T, I, H, reverse, width of h] and sorts the batch by length.
__attribute__((noinline)) inline Sweep plan_sweep(const int32_t* ints, const Buffer* lengths, Device* device) {
  Sweep s = {device, ints[0], ints[1], ints[2], ints[3], ints[4] != 0, ints[5], 0, nullptr, nullptr, nullptr};
  int32_t* order = static_cast<int32_t*>(device->scratch(device, (2 * s.n + s.steps + 2) * sizeof(int32_t)));
  int32_t* length = order + s.n;
  int32_t* first = length + s.n;  // counting sort: where the next row of each length goes
  const int32_t* given = integers(lengths);
  const auto length_of = [&](int64_t i) {
    const int64_t l = given ? given[i] : s.steps;
    return (int32_t)(l < 0 ? 0 : least(l, s.steps));
  };
  for (int64_t l = 0; l <= s.steps; l++) first[l] = 0;
  for (int64_t i = 0; i < s.n; i++) first[length_of(i)]++;
  for (int64_t l = s.steps, sum = 0; l >= 0; l--) {
    const int32_t count = first[l];
    first[l] = (int32_t)sum;
    sum += count;
  }
  for (int64_t i = 0; i < s.n; i++) {
    const int32_t l = length_of(i);
    order[first[l]] = (int32_t)i;
    length[first[l]++] = l;
  }
  s.longest = s.n ? length[0] : 0;
  int64_t* start = static_cast<int64_t*>(device->scratch(device, (s.longest + 1) * sizeof(int64_t)));
  start[0] = 0;
  for (int64_t t = 0, rows = s.n; t < s.longest; t++) {
    while (length[rows - 1] <= t) rows--;
    start[t + 1] = start[t] + rows;
  }
  s.order = order, s.length = length, s.start = start;
  return s;
}

// Room past a row's end keeps rows out of each other's cache sets and lets whole vectors be read.
THROUGHTIME_INLINE int64_t padded(int64_t n) { return (n + NR - 1) / NR * NR + 16; }

// One thread's share of every step: each row_step-th row from `row` on, and some of the tiles of NR units.
struct Member {
  int rank;
  int row, row_step;
  Part tiles;
  int part, parts;  // of the tiles, and of whatever else is divided among threads that share rows
  bool meets;       // threads share rows and wait for each other at every step
  bool idle;
  Part share(int64_t n) const { return idle ? Part(0, 0, 1) : Part(n, part, parts); }
  int64_t rows(int64_t active) const { return row < active ? (active - row - 1) / row_step + 1 : 0; }
};

// The rows of a product that take the time of so many: weights for one or two come from the second-level cache.
constexpr int64_t LEAST_ROWS = 3;
THROUGHTIME_INLINE double worth_rows(int64_t rows) { return (double)(rows < LEAST_ROWS ? LEAST_ROWS : rows); }

// Rows are divided while each thread keeps enough of them for full speed (more if it must stream large weights and the
// units can be shared out evenly), then the units. Threads without a share have no tiles.
inline Member member_of(const Sweep& s, int64_t gates, int rank, int ranks) {
  const bool large = gates * s.hidden * s.hidden > 1 << 19, uneven = s.tiles() % ranks != 0 && s.tiles() < 32;
  const int64_t by_rows = s.n / (!large ? 4 : uneven ? 10 : 16);
  const int row_parts = (int)(by_rows < 1 ? 1 : least(by_rows, ranks));
  int tile_parts = (int)least(ranks / row_parts, s.tiles());
  if (2.0 * worth_rows(s.n) * gates * s.hidden * s.hidden < THROUGHTIME_FLOPS_A_THREAD / 4 * row_parts) tile_parts = 1;
  const bool idle = rank >= row_parts * tile_parts;
  const int part = rank / row_parts;
  const Part tiles = idle ? Part(0, 0, 1) : Part(s.tiles(), part, tile_parts);
  return {rank, rank % row_parts, row_parts, tiles, part, tile_parts, tile_parts > 1, idle};
}

constexpr int ROWS_AT_ONCE = 48;  // whose recurrent products fit the first-level cache beside a panel

// Some neighbouring tiles, worked on together.
struct Group {
  int64_t tile;
  int tiles;
};

// A member's tiles, in groups: more than one where a few rows of its panels would not keep the pipeline full. With so
// few rows that the weights' way from memory is what a step takes, each other step goes backwards, to begin with those
// that the step before left in the cache.
class Groups {
 public:
  Groups(Part tiles, int64_t rows, int panels, int64_t step)
      : tiles_(tiles),
        size_(rows > 3 || panels % 4 == 0 ? 1
              : panels % 2 == 0           ? 2
                                          : 4),
        backwards_(rows <= 8 && step % 2) {}
  int64_t count() const { return (tiles_.end - tiles_.begin + size_ - 1) / size_; }
  Group operator[](int64_t i) const {
    const int64_t tile = tiles_.begin + (backwards_ ? count() - 1 - i : i) * size_;
    return {tile, (int)least(size_, tiles_.end - tile)};
  }

 private:
  Part tiles_;
  int64_t size_;
  bool backwards_;
};

// The product of some rows with some panels, for the cell to read: room for ROWS_AT_ONCE rows of G panels.
template <int G>
struct Products {
  static constexpr int64_t size = (int64_t)ROWS_AT_ONCE * G * NR;
  float* row[ROWS_AT_ONCE];

  // As below, of a product of reduced precision.
  __attribute__((noinline)) void fill(float* buffer, ReducedProduct p, const float* bias) {
    for (int i = 0; i < p.rows; i++) row[i] = buffer + (int64_t)i * p.panels * NR;
    p.to = row, p.bias = bias;
    THROUGHTIME_REDUCED(multiply_)(p);
  }

  // row[i][panel * NR + j] = bias + sum over p of a[i * stride + p] B(p, panel * NR + j); of the panels from `narrow`
  // on, only for the units of the first vector.
  __attribute__((noinline)) void fill(float* buffer, const float* a, int64_t stride, int rows, const float* b,
                                      int64_t panel, int panels, int64_t narrow, int64_t k, const float* bias) {
    for (int i = 0; i < rows; i++) row[i] = buffer + (int64_t)i * panels * NR;
    for (int64_t p = 0; p < k; p += KC)
      multiply<false>(rows, a + p, stride, b + p * NR, panel, panels, (int)least(KC, k - p),
                      p + KC < k ? b + (p + KC) * NR : b + panels * panel,
                      {row, p == 0 ? bias : nullptr, 0, (int64_t)panels * NR, narrow * NR, p > 0});
  }
};

// Whole vectors, or a vector's first n lanes, of a row in which a tile has `Count` values a unit. Memory is walked tile
// by tile through all rows, which the processor does not foresee: so what the next tile will want of a row is asked for
// while this one is worked on.
template <bool Full, int Count = 1>
THROUGHTIME_INLINE Vec read(const float* p, int n) {
  __builtin_prefetch(p + Count * NR, 0, 2);
  if (Full || n == kLanes) return load(p);
  return load_part(p, n);
}
template <bool Full, int Count = 1>
THROUGHTIME_INLINE void write(float* p, Vec v, int n) {
  __builtin_prefetch(p + Count * NR, 1, 2);
  if (Full || n == kLanes)
    store(p, v);
  else
    store_part(p, v, n);
}

template <bool B>
struct Truth {
  static constexpr bool value = B;
};

// Calls body(unit, lanes, full) for each vector of a tile. With `Apart`, full::value says at compile time whether it is
// a whole one, and the body is compiled twice; otherwise it is always false.
template <bool Apart = true, class F>
THROUGHTIME_INLINE void for_units(int64_t tile, int64_t hidden, F body) {
#pragma GCC unroll 1
  for (int v = 0; v < 2; v++) {
    const int64_t unit = tile * NR + v * kLanes;
    if (Apart && unit + kLanes <= hidden)
      body(unit, kLanes, Truth<Apart>());
    else if (unit < hidden)
      body(unit, (int)least(kLanes, hidden - unit), Truth<false>());
  }
}

// Several values of every unit, kept tile by tile: where the first of a unit is, and how far on its next ones are.
THROUGHTIME_INLINE int64_t tiled(int64_t count, int64_t unit) { return unit / NR * NR * count + unit % NR; }
THROUGHTIME_INLINE int64_t tile_width(int64_t hidden, int64_t unit) { return least(NR, hidden - unit / NR * NR); }

}  // namespace
}  // namespace throughtime
