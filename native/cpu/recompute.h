// What a checkpointed sweep did not keep, computed again for a chunk of steps. The states before all of them are known,
// so W x and U h of the chunk are one product each. Their sums are made in the order in which the sweep forward makes
// them: what comes out is the same to the last bit.
#pragma once
#include "gates.h"

namespace throughtime {
namespace {

template <class Cell>
class Recompute {
  static constexpr int G = Cell::gates, INNER = Cell::inner_gates, OUTER = G - INNER, STATES = Cell::states;
  static constexpr int KEEP = Cell::saved;
  static constexpr int64_t WIDTH = 768;  // numbers of a row of either product, at least, that go to the cell at once

 public:
  // `in` are forward's inputs; a chunk has at most `capacity` rows.
  __attribute__((noinline)) void prepare(const Sweep& s, Buffer* const* in, Precision precision, int64_t capacity,
                                         int ranks) {
    if (KEEP == 0) return;
    input = gates_of(s, in[1], s.features, in[3], 0, G, precision);
    outer = gates_of(s, in[2], s.hidden, in[4], 0, OUTER, precision);
    inner = gates_of(s, in[2], s.hidden, in[4], OUTER, INNER, precision);
    this->capacity = capacity;
    keep_row = padded(KEEP * s.hidden);
    // What the second products are taken of needs all units.
    tiles = INNER ? s.tiles() : least(s.tiles(), (WIDTH + G * NR - 1) / (G * NR));
    product_row = tiles * G * NR + 16;
    keeps = scratch_floats(s.device, capacity * keep_row);
    for (float*& buffer : products) buffer = scratch_floats(s.device, ranks * MC * product_row);
    block_size = block_size_of(precision, s.features > s.hidden ? s.features : s.hidden);
    blocks = scratch_floats(s.device, ranks * block_size);
    for (int i = 1; i < STATES; i++)
      states[i] = static_cast<const float**>(s.device->scratch(s.device, ranks * capacity * sizeof(float*)));
  }

  // Packs what is fresh.
  __attribute__((noinline)) void begin(int rank, int ranks) {
    const Gates* const all[] = {&input, &outer, &inner};
    for (const Gates* gates : all)
      if (gates->fresh) gates->pack(Part(panels_of(gates->hidden), rank, ranks));
  }

  // Where a rank lists the rows of state i.
  const float** state_rows(int i, int rank) const { return states[i] + rank * capacity; }
  // What the cell keeps of a row of the chunk, tile by tile.
  float* keep(int64_t r) const { return keeps + r * keep_row; }

  // Fills `keep` of the chunk's rows from their x and the states before the step; `operand` is scratch for what the
  // second products are taken of.
  void run(const Sweep& s, Part rows, const float* const* x, const float* const* const* before, float* operand,
           int64_t operand_row, int rank) {
    if constexpr (KEEP > 0) blocks_of(s, rows, x, before, operand, operand_row, rank);
  }

 private:
  void blocks_of(const Sweep& s, Part rows, const float* const* x, const float* const* const* before, float* operand,
                 int64_t operand_row, int rank) {
    const int64_t count = rows.end - rows.begin, parts = (count + MC - 1) / MC;
    for (int64_t i = 0; i < parts; i++) {
      const Part part(count, i, parts);
      const int64_t first = rows.begin + part.begin;
      const int n = (int)(part.end - part.begin);
      At at = {x + first, {}, keep(first), operand ? operand + first * operand_row : nullptr, operand_row, n};
      for (int k = 0; k < STATES; k++) at.before[k] = before[k] + first;
      for (int64_t tile = 0; tile < s.tiles(); tile += tiles) some_tiles(s, at, tile, rank);
    }
  }

  // Some rows.
  struct At {
    const float* const* x;
    const float* const* before[STATES];
    float *keep, *operand;
    int64_t operand_row;
    int rows;
  };

  __attribute__((noinline)) void some_tiles(const Sweep& s, const At& at, int64_t tile, int rank) {
    const int64_t count = least(tiles, s.tiles() - tile);
    float* const wx = products[0] + rank * MC * product_row;
    float* const rh = products[1] + rank * MC * product_row;
    product(s, input, {nullptr, 0, at.x}, at.rows, tile, count, wx, rank);
    product(s, outer, {nullptr, 0, at.before[0]}, at.rows, tile, count, rh, rank);
    units<OUTER, (INNER > 0)>(s, at, tile, count, wx, rh);
    if constexpr (INNER > 0) {
      product(s, inner, {at.operand, at.operand_row, nullptr}, at.rows, tile, count, rh, rank);
      units<INNER, false>(s, at, tile, count, wx, rh);
    }
  }

  void product(const Sweep& s, const Gates& gates, const Rows& a, int rows, int64_t tile, int64_t count, float* to,
               int rank) {
    if (!gates.packed) {
      for (int r = 0; r < rows; r++) arrange_row(gates, tile, count, a[r], to + r * product_row);
      return;
    }
    float* const block = blocks + rank * block_size;
    if (gates.precision) {
      ReducedProduct p = gates.reduced().product(s.device, tile * gates.count, count * gates.count);
      p.bias = gates.panel_bias(tile);
      return reduced_gemm(p, a, Part(rows, 0, 1), gates.width, to, product_row, block);
    }
    Gemm g = {};
    g.m = rows, g.n = count * gates.count * NR, g.k = gates.width;
    g.a = a;
    g.packed = gates.panel(tile);
    g.bias = gates.panel_bias(tile);
    g.c = to, g.c_stride = product_row;
    gemm_part(g, block, 0, 1);
  }

  // What the cell makes of the products; with COUNT gates in `rh`.
  template <int COUNT, bool FIRST_OF_TWO>
  void units(const Sweep& s, const At& at, int64_t tile, int64_t count, const float* wx, const float* rh) {
    for (int r = 0; r < at.rows; r++, wx += product_row, rh += product_row)
      for (int64_t j = 0; j < count; j++)
        for_units(tile + j, s.hidden, [&](int64_t unit, int lanes, auto full) {
          constexpr bool Full = decltype(full)::value;
          Vec w[G], u[G], prev[STATES], next[STATES], keep[KEEP + 1] = {};
          for (int g = 0; g < G; g++) w[g] = load(wx + (j * G + g) * NR + unit % NR);
          for (int g = 0; g < COUNT; g++)
            u[FIRST_OF_TWO || !INNER ? g : OUTER + g] = load(rh + (j * COUNT + g) * NR + unit % NR);
          for (int i = 0; i < STATES; i++) prev[i] = read<Full>(at.before[i][r] + unit, lanes);
          float* const kept = at.keep + r * keep_row + tiled(KEEP, unit);
          const int64_t width = tile_width(s.hidden, unit);
          if constexpr (FIRST_OF_TWO) {
            Cell::inner(w, u, prev, keep);
            store(at.operand + r * at.operand_row + unit, keep[Cell::operand]);
          } else {
            if constexpr (INNER > 0)
              for (int i = 0; i < KEEP; i++) keep[i] = read<Full, KEEP>(kept + i * width, lanes);
            Cell::forward(w, u, prev, next, keep, NoStages());
          }
          for (int i = 0; i < KEEP; i++) write<Full, KEEP>(kept + i * width, keep[i], lanes);
        });
  }

  Gates input = {}, outer = {}, inner = {};
  int64_t capacity = 0, block_size = 0, keep_row = 0, product_row = 0, tiles = 1;
  float *keeps = nullptr, *products[2] = {}, *blocks = nullptr;
  const float** states[STATES] = {};
};

}  // namespace
}  // namespace throughtime
