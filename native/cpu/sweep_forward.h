// A cell forward through time.
#pragma once
#include "sweep.h"

namespace throughtime {
namespace {

// Weights of gates first .. first + count, arranged by tile, and their bias.
struct Gates {
  const float* weight;
  float* packed;
  float* bias;
  int first, count;
  bool fresh;
};

inline Gates gates_of(const Sweep& s, Buffer* weight, const float* bias, int first, int count) {
  Gates gates = {floats(weight), nullptr, nullptr, first, count, false};
  if (count == 0) return gates;
  const int64_t panels = s.tiles() * count;
  gates.packed =
      s.device->packed(s.device, weight, PACKED_GATES + first * 8 + count, panels * NR * s.hidden, &gates.fresh);
  if (!bias) return gates;
  gates.bias = scratch_floats(s.device, panels * NR);
  pack_bias(gates.bias, bias, s.hidden, first, count);
  return gates;
}

template <class Cell>
class Forward {
 public:
  static constexpr int G = Cell::gates, INNER = Cell::inner_gates, OUTER = G - INNER, STATES = Cell::states;
  static constexpr int KEEP = Cell::saved, SAVED = KEEP + STATES - 1;

  // in: x, weight_ih, weight_hh, bias_ih, bias_hh, lengths, initial states; out: output, final states, saved if
  // training.
  Forward(const Args& args, Device* device) : s(plan_sweep(args.ints, args.in[5], device)) {
    const int64_t valid = s.longest ? s.start[s.longest] : 0;
    ranks = ranks_for(device, 2.0 * valid * G * s.hidden * (s.features + s.hidden));
    x = floats(args.in[0]);
    weight_ih = floats(args.in[1]);
    bias_ih = floats(args.in[3]);
    y = floats(args.out[0]);
    saved = args.outputs > 1 + STATES ? floats(args.out[1 + STATES]) : nullptr;
    for (int i = 0; i < STATES; i++) {
      initial[i] = floats(args.in[6 + i]);
      final[i] = floats(args.out[1 + i]);
    }
    input =
        device->packed(device, args.in[1], PACKED_TRANSPOSED, panels_of(G * s.hidden) * NR * s.features, &input_fresh);
    outer = gates_of(s, args.in[2], floats(args.in[4]), 0, OUTER);
    inner = gates_of(s, args.in[2], floats(args.in[4]), OUTER, INNER);
    row = padded(s.hidden);
    wx_row = padded(G * s.hidden);
    capacity = chunk_rows(member_of(s, G, 0, ranks));
    for (int i = 0; i < 2; i++) h[i] = scratch_floats(device, s.n * row);
    for (int i = 1; i < STATES; i++) state[i] = scratch_floats(device, s.n * row);
    if (INNER) {
      operand = scratch_floats(device, s.n * row);
      keeps = scratch_floats(device, s.n * KEEP * row);
    }
    wx = scratch_floats(device, ranks * capacity * wx_row);
    products = scratch_floats(device, ranks * Products<G>::size);
    gemm_blocks = scratch_floats(device, (int64_t)ranks * MC * A_STRIDE);
    x_rows = static_cast<const float**>(device->scratch(device, ranks * capacity * sizeof(float*)));
    device->parallel(device, ranks, run, this);
  }

 private:
  static void run(void* self, int rank, int ranks) { static_cast<Forward*>(self)->work(rank, ranks); }

  void wait(int ranks) const {
    if (ranks > 1) s.device->barrier(s.device);
  }

  void work(int rank, int ranks) {
    const Member me = member_of(s, G, rank, ranks);
    begin(rank, ranks);
    wait(ranks);
    for (int64_t from = 0; from < s.longest;) {
      const int64_t to = chunk_end(me, from);
      project(me, from, to);
      if (!me.alone) wait(ranks);
      int64_t done = 0;  // own rows of the chunk behind step t
      for (int64_t t = from; t < to; t++) {
        const int64_t rows = me.rows(s.active(t));
        const float* w =
            me.alone ? wx + (rank * capacity + done) * wx_row : wx + (s.start[t] - s.start[from] + me.row) * wx_row;
        const int64_t w_step = wx_row * (me.alone ? 1 : me.row_step);
        if constexpr (INNER) {
          step<OUTER, true>(me, outer, h[t % 2], t, rows, w, w_step);
          if (me.meets) wait(ranks);
          step<INNER, false>(me, inner, operand, t, rows, w, w_step);
        } else {
          step<OUTER, false>(me, outer, h[t % 2], t, rows, w, w_step);
        }
        if (me.meets) wait(ranks);
        done += rows;
      }
      if (!me.alone && !me.meets) wait(ranks);
      from = to;
    }
  }

  // Packs what is fresh, sets the initial states, and fills what no step writes.
  void begin(int rank, int ranks) {
    const Part tiles(s.tiles(), rank, ranks);
    if (outer.fresh) pack_gates(outer.packed, outer.weight, s.hidden, outer.first, outer.count, tiles);
    if (INNER && inner.fresh) pack_gates(inner.packed, inner.weight, s.hidden, inner.first, inner.count, tiles);
    if (input_fresh) {
      const Gemm g = projection();
      pack_b(input, s.features * NR, g, 0, 0, s.features, Part(panels_of(G * s.hidden), rank, ranks));
    }
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
  int64_t chunk_rows(const Member& me) const {
    const int64_t step = me.alone ? (s.n + me.row_step - 1) / me.row_step : s.n;
    const int64_t cached = (1 << 18) / wx_row, rows = cached < 64 ? 64 : least(cached, 256);
    return step > rows ? step : rows;
  }
  int64_t chunk_end(const Member& me, int64_t from) const {
    int64_t to = from;
    for (int64_t rows = 0; to < s.longest; to++) {
      rows += me.alone ? me.rows(s.active(to)) : s.active(to);
      if (rows > capacity) break;
    }
    return to;
  }

  Gemm projection() const {
    Gemm g = {};
    g.n = G * s.hidden, g.k = s.features;
    g.b = {weight_ih, s.features, nullptr};
    g.b_transposed = true;
    g.packed = input;
    g.bias = bias_ih;
    g.c_stride = wx_row;
    return g;
  }

  void project(const Member& me, int64_t from, int64_t to) {
    const float** list = x_rows + me.rank * capacity;
    int64_t count = 0;
    for (int64_t t = from; t < to; t++)
      for (int64_t b = me.alone ? me.row : 0, n = s.active(t); b < n; b += me.alone ? me.row_step : 1)
        list[count++] = x + s.place(b, t) * s.features;
    Gemm g = projection();
    g.m = count;
    g.a = {nullptr, 0, list};
    g.c = me.alone ? wx + me.rank * capacity * wx_row : wx;
    gemm(g, gemm_blocks + (me.alone ? me.rank * MC * A_STRIDE : 0), me.alone ? 0 : me.rank, me.alone ? 1 : me.ranks,
         s.device);
  }

  // The recurrent product of this member's rows and tiles with COUNT gates, and what the cell makes of it.
  template <int COUNT, bool FIRST_OF_TWO>
  void step(const Member& me, const Gates& gates, const float* a, int64_t t, int64_t rows, const float* w,
            int64_t w_step) {
    Products<COUNT> product;
    const int64_t at_once = rows <= 3 ? TILES_AT_ONCE : 1;
    for (int64_t tile = me.tiles.begin; tile < me.tiles.end; tile += at_once) {
      const int64_t tiles = least(at_once, me.tiles.end - tile);
      for (int64_t first = 0; first < rows; first += ROWS_AT_ONCE) {
        const int n = (int)least(ROWS_AT_ONCE, rows - first);
        product.fill(products + me.rank * Products<G>::size, a + (me.row + first * me.row_step) * row,
                     me.row_step * row, n, gates.packed + tile * COUNT * s.hidden * NR, s.hidden * NR,
                     (int)tiles * COUNT, s.hidden, gates.bias ? gates.bias + tile * COUNT * NR : nullptr);
        for (int i = 0; i < n; i++) {
          const int64_t b = me.row + (first + i) * me.row_step;
          const Place at = {b, t, s.place(b, t), t + 1 == s.length[b], w + (first + i) * w_step};
          for (int64_t j = 0; j < tiles; j++)
            for_units(tile + j, s.hidden, [&](int64_t unit, int lanes, auto full) {
              cell<COUNT, FIRST_OF_TWO, decltype(full)::value>(at, product.row[i] + j * COUNT * NR + unit % NR, unit,
                                                               lanes);
            });
        }
      }
    }
  }

  struct Place {
    int64_t row, step, place;
    bool last;
    const float* wx;
  };

  template <int COUNT, bool FIRST_OF_TWO, bool Full>
  THROUGHTIME_INLINE void cell(const Place& at, const float* product, int64_t unit, int lanes) {
    Vec wx[G], rh[G], prev[STATES], next[STATES], keep[KEEP + 1] = {};
    for (int g = 0; g < G; g++) wx[g] = load(at.wx + g * s.hidden + unit);
    for (int g = 0; g < COUNT; g++) rh[FIRST_OF_TWO || !INNER ? g : OUTER + g] = load(product + g * NR);
    const int64_t mine = at.row * row + unit;
    prev[0] = load(h[at.step % 2] + mine);
    for (int i = 1; i < STATES; i++) prev[i] = load(state[i] + mine);
    if constexpr (FIRST_OF_TWO) {
      Cell::inner(wx, rh, prev, keep);
      for (int i = 0; i < KEEP; i++) store(keeps + (at.row * KEEP + i) * row + unit, keep[i]);
      store(operand + mine, keep[Cell::operand]);
      return;
    }
    if constexpr (INNER)
      for (int i = 0; i < KEEP; i++) keep[i] = load(keeps + (at.row * KEEP + i) * row + unit);
    Cell::forward(wx, rh, prev, next, keep);
    store(h[(at.step + 1) % 2] + mine, next[0]);
    write<Full>(y + at.place * s.hidden + unit, next[0], lanes);
    for (int i = 1; i < STATES; i++) store(state[i] + mine, next[i]);
    if (at.last)
      for (int i = 0; i < STATES; i++) write<Full>(final[i] + s.order[at.row] * s.hidden + unit, next[i], lanes);
    if (!saved) return;
    float* to = saved + at.place * SAVED * s.hidden + unit;
    for (int i = 0; i < KEEP; i++) write<Full>(to + i * s.hidden, keep[i], lanes);
    for (int i = 1; i < STATES; i++) write<Full>(to + (KEEP + i - 1) * s.hidden, next[i], lanes);
  }

  Sweep s;
  int ranks;
  const float *x, *weight_ih, *bias_ih;
  const float* initial[STATES];
  float *y, *saved;
  float* final[STATES];
  float* input;  // W in panels
  bool input_fresh;
  Gates outer, inner;
  int64_t row, wx_row;       // floats between rows of the buffers below
  float* h[2];               // [n][row] h before even and odd steps
  float* state[STATES];      // [n][row] the other states
  float* operand = nullptr;  // [n][row] what the second product is taken of
  float* keeps = nullptr;    // [n][KEEP][row] kept between the two products
  int64_t capacity;          // rows of a chunk
  float* wx;                 // [ranks][capacity][wx_row], or [capacity][wx_row] of all
  float *products, *gemm_blocks;
  const float** x_rows;
};

}  // namespace
}  // namespace throughtime
