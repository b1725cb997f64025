// A cell forward through time.
#pragma once
#include "gates.h"

namespace throughtime {
namespace {

template <class Cell>
class Forward {
 public:
  static constexpr int G = Cell::gates, INNER = Cell::inner_gates, OUTER = G - INNER, STATES = Cell::states;
  static constexpr int KEEP = Cell::saved, SAVED = KEEP + STATES - 1, INITIAL = OPTIONS + STATES;

  // in: x, weight_ih, weight_hh, bias_ih, bias_hh, lengths, initial states; out: output, final states, saved if
  // training.
  Forward(const Args& args, Device* device) : s(plan_sweep(args.ints, args.in[5], device)) {
    ranks = ranks_for(device, 2.0 * s.valid() * G * s.hidden * (s.features + s.hidden));
    x = floats(args.in[0]);
    y = floats(args.out[0]);
    saved = args.outputs > 1 + STATES ? floats(args.out[1 + STATES]) : nullptr;
    for (int i = 0; i < STATES; i++) {
      initial[i] = floats(args.in[INITIAL + i]);
      final[i] = floats(args.out[1 + i]);
    }
    input = gates_of(s, args.in[1], s.features, args.in[3], 0, G);
    outer = gates_of(s, args.in[2], s.hidden, args.in[4], 0, OUTER);
    inner = gates_of(s, args.in[2], s.hidden, args.in[4], OUTER, INNER);
    row = padded(s.hidden);
    wx_row = s.tiles() * G * NR + 16;
    const int row_parts = member_of(s, G, 0, ranks).row_step;
    chunk = chunk_rows((s.n + row_parts - 1) / row_parts);
    for (int i = 0; i < 2; i++) h[i] = scratch_floats(device, s.n * row);
    for (int i = 1; i < STATES; i++) state[i] = scratch_floats(device, s.n * row);
    if (INNER) {
      operand = scratch_floats(device, s.n * row);
      keeps = scratch_floats(device, s.n * KEEP * row);
    }
    wx = scratch_floats(device, row_parts * chunk * wx_row);
    products = scratch_floats(device, ranks * Products<G>::size);
    gemm_blocks = scratch_floats(device, (int64_t)ranks * MC * A_STRIDE);
    x_rows = static_cast<const float**>(device->scratch(device, ranks * chunk * sizeof(float*)));
    small = s.n * s.hidden <= 4096 && !input.fresh && !outer.fresh && !inner.fresh;
    if (small) begin(0, 1);
    device->parallel(device, ranks, run, this);
  }

 private:
  static void run(void* self, int rank, int) { static_cast<Forward*>(self)->work(rank); }

  void wait() const {
    if (ranks > 1) s.device->barrier(s.device);
  }

  void work(int rank) {
    const Member me = member_of(s, G, rank, ranks);
    if (!small) {
      begin(rank, ranks);
      wait();
    }
    for (int64_t from = 0; from < s.longest;) {
      const int64_t to = project(me, from);
      const float* w = wx + me.row * chunk * wx_row;
      for (int64_t t = from; t < to; t++) {
        const int64_t rows = me.rows(s.active(t));
        if constexpr (INNER) {
          step<OUTER, true>(me, outer, h[t % 2], t, rows, w);
          if (me.meets) wait();
          step<INNER, false>(me, inner, operand, t, rows, w);
        } else {
          step<OUTER, false>(me, outer, h[t % 2], t, rows, w);
        }
        if (me.meets && t + 1 < s.longest) wait();
        w += rows * wx_row;
      }
      from = to;
    }
  }

  // Packs what is fresh, sets the initial states, and fills what no step writes.
  void begin(int rank, int ranks) {
    const Part tiles(s.tiles(), rank, ranks);
    if (input.fresh) input.pack(tiles);
    if (outer.fresh) outer.pack(tiles);
    if (inner.fresh) inner.pack(tiles);
    const Part rows(s.n, rank, ranks);
    for (int64_t b = rows.begin; b < rows.end; b++) {
      const int64_t sequence = s.order[b], length = s.length[b];
      clear(y + (sequence * s.steps + length) * s.hidden, (s.steps - length) * s.hidden);
      for (int i = 0; i < STATES; i++) {
        float* to = (i == 0 ? h[0] : state[i]) + b * row;
        if (initial[i])
          copy(to, initial[i] + sequence * s.hidden, s.hidden);
        else
          clear(to, s.hidden);
        if (length == 0) copy(final[i] + sequence * s.hidden, to, s.hidden);
      }
    }
  }

  // W x + b of several steps goes in one product, of as many rows as are worth it and stay in a cache till they are
  // read.
  int64_t chunk_rows(int64_t step) const {
    const int64_t cached = (1 << 18) / wx_row, rows = cached < 64 ? 64 : least(cached, 256);
    return step > rows ? step : rows;
  }

  // W x + b for this member's rows and tiles from step `from` on; returns the step after the last that is done.
  int64_t project(const Member& me, int64_t from) {
    const float** list = x_rows + me.rank * chunk;
    Gemm g = {};
    int64_t t = from;
    for (; t < s.longest && g.m + me.rows(s.active(t)) <= chunk; t++)
      for (int64_t b = me.row, n = s.active(t); b < n; b += me.row_step) list[g.m++] = x + s.place(b, t) * s.features;
    g.a = {nullptr, 0, list};
    g.n = (me.tiles.end - me.tiles.begin) * G * NR, g.k = s.features;
    g.packed = input.panel(me.tiles.begin);
    g.bias = input.panel_bias(me.tiles.begin);
    g.c = wx + me.row * chunk * wx_row + me.tiles.begin * G * NR, g.c_stride = wx_row;
    gemm_part(g, gemm_blocks + me.rank * MC * A_STRIDE, 0, 1);
    return t;
  }

  // The recurrent product of this member's rows and tiles with COUNT gates, and what the cell makes of it.
  template <int COUNT, bool FIRST_OF_TWO>
  void step(const Member& me, const Gates& gates, const float* a, int64_t t, int64_t rows, const float* w) {
    Products<COUNT> product;
    const Groups groups(me.tiles, rows, COUNT, t);
    for (int64_t i = 0; i < groups.count(); i++) {
      const Group group = groups[i];
      for (int64_t first = 0; first < rows; first += ROWS_AT_ONCE) {
        const int n = (int)least(ROWS_AT_ONCE, rows - first);
        product.fill(products + me.rank * Products<G>::size, a + (me.row + first * me.row_step) * row,
                     me.row_step * row, n, gates.panel(group.tile), gates.panel_size(), group.tiles * COUNT, s.hidden,
                     gates.panel_bias(group.tile));
        for (int i = 0; i < n; i++) {
          const At at = this->at(me.row + (first + i) * me.row_step, t, w + (first + i) * wx_row);
          for (int j = 0; j < group.tiles; j++)
            for_units(group.tile + j, s.hidden, [&](int64_t unit, int lanes, auto full) {
              cell<COUNT, FIRST_OF_TWO, decltype(full)::value>(at, product.row[i] + j * COUNT * NR + unit % NR, unit,
                                                               lanes);
            });
        }
      }
    }
  }

  // Where the numbers of a row are at a step, units one after another, but `wx` and `saved` tile by tile.
  struct At {
    const float *wx, *before;
    float *after, *y, *saved, *operand, *keeps, *state[STATES], *kept_state[STATES], *final[STATES];
    bool last;
  };

  At at(int64_t b, int64_t t, const float* wx) const {
    const int64_t place = s.place(b, t);
    At at;
    at.wx = wx;
    at.before = h[t % 2] + b * row;
    at.after = h[(t + 1) % 2] + b * row;
    at.y = y + place * s.hidden;
    at.saved = saved ? saved + place * SAVED * s.hidden : nullptr;
    at.operand = INNER ? operand + b * row : nullptr;
    at.keeps = INNER ? keeps + b * KEEP * row : nullptr;
    for (int i = 0; i < STATES; i++) {
      at.state[i] = i > 0 ? state[i] + b * row : nullptr;
      at.kept_state[i] = i > 0 && saved ? at.saved + (KEEP + i - 1) * s.hidden : nullptr;
      at.final[i] = final[i] + s.order[b] * s.hidden;
    }
    at.last = t + 1 == s.length[b];
    return at;
  }

  template <int COUNT, bool FIRST_OF_TWO, bool Full>
  THROUGHTIME_INLINE void cell(const At& at, const float* product, int64_t unit, int lanes) {
    Vec wx[G], rh[G], prev[STATES], next[STATES], keep[KEEP + 1] = {};
    for (int g = 0; g < G; g++) wx[g] = read<true, G>(at.wx + tiled(G, unit) + g * NR, kLanes);
    for (int g = 0; g < COUNT; g++) rh[FIRST_OF_TWO || !INNER ? g : OUTER + g] = load(product + g * NR);
    prev[0] = load(at.before + unit);
    for (int i = 1; i < STATES; i++) prev[i] = load(at.state[i] + unit);
    if constexpr (FIRST_OF_TWO) {
      Cell::inner(wx, rh, prev, keep);
      for (int i = 0; i < KEEP; i++) store(at.keeps + i * row + unit, keep[i]);
      store(at.operand + unit, keep[Cell::operand]);
      return;
    }
    if constexpr (INNER)
      for (int i = 0; i < KEEP; i++) keep[i] = load(at.keeps + i * row + unit);
    Cell::forward(wx, rh, prev, next, keep);
    store(at.after + unit, next[0]);
    write<Full>(at.y + unit, next[0], lanes);
    for (int i = 1; i < STATES; i++) store(at.state[i] + unit, next[i]);
    if (at.last)
      for (int i = 0; i < STATES; i++) write<Full>(at.final[i] + unit, next[i], lanes);
    if (!at.saved) return;
    float* to = at.saved + tiled(KEEP, unit);
    for (int i = 0; i < KEEP; i++) write<Full, KEEP>(to + i * tile_width(s.hidden, unit), keep[i], lanes);
    for (int i = 1; i < STATES; i++) write<Full>(at.kept_state[i] + unit, next[i], lanes);
  }

  Sweep s;
  int ranks;
  const float* x;
  const float* initial[STATES];
  float *y, *saved;
  float* final[STATES];
  Gates input, outer, inner;  // W; U of the gates before and after OUTER
  int64_t row, wx_row;        // floats between rows of the buffers below
  float* h[2];                // [n][row] h before even and odd steps
  float* state[STATES];       // [n][row] the other states
  float* operand = nullptr;   // [n][row] what the second product is taken of
  float* keeps = nullptr;     // [n][KEEP][row] kept between the two products
  int64_t chunk;              // rows of W x + b made at once
  float* wx;                  // [row parts][chunk][wx_row], a row as [tile][gate][NR]
  float *products, *gemm_blocks;
  const float** x_rows;  // [ranks][chunk]
  bool small;            // begun before the region
};

}  // namespace
}  // namespace throughtime
