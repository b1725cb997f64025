// What the sweeps forward share whatever their cell: the weights arranged by tile, W x + b for a chunk of steps,
// initial states, and what no step writes.
#pragma once
#include <cstdio>

#include "gates.h"

namespace throughtime {
namespace {

class ForwardFrame {
 public:
  // in: x, weight_ih, weight_hh, bias_ih, bias_hh, lengths, options, update masks, initial states; out: output, final
  // states, with a projection what is projected, saved if training.
  __attribute__((noinline)) ForwardFrame(const CellShape& shape, const Args& args, Device* device)
      : s(plan_sweep(args.ints, args.in[5], device)), shape(shape), checkpoint(is_checkpointed(args, shape.states)) {
    const int G = shape.gates, OUTER = G - shape.inner;
    precision = precision_of(args, shape.states);
    ranks = ranks_for(device, 2.0 * worth_rows(s.valid()) * G * s.hidden * (s.features + s.hidden));
    x = data(args.in[0]);
    ids = integers(args.in[IDS]);
    if (ids) check_ids(args.in[0]->elements / s.features);
    y = data(args.out[0]);
    const int outputs = 1 + shape.states + args.ints[6];
    saved = args.outputs > outputs ? data(args.out[outputs]) : nullptr;
    for (int i = 0; i < shape.states; i++) {
      initial[i] = data(args.in[OPTIONS + shape.states + i]);
      final[i] = data(args.out[1 + i]);
    }
    input = gates_of(s, args.in[1], s.features, args.in[3], 0, G, precision);
    if (!shape.diagonal) outer = gates_of(s, args.in[2], s.width, args.in[4], 0, OUTER, precision);
    inner = gates_of(s, args.in[2], s.hidden, args.in[4], OUTER, shape.inner, precision);
    row = padded(s.hidden), h_row = padded(s.width);
    wx_row = s.tiles() * G * NR + 16;
    const int row_parts = member_of(s, G, 0, ranks).row_step;
    chunk = chunk_rows((s.n + row_parts - 1) / row_parts);
    for (int i = 0; i < 2; i++) h[i] = scratch_floats(device, s.n * h_row);
    for (int i = 1; i < shape.states; i++) state[i] = scratch_floats(device, s.n * row);
    if (shape.inner) {
      operand = scratch_floats(device, s.n * row);
      keeps = scratch_floats(device, s.n * shape.saved * row);
    }
    wx = scratch_floats(device, row_parts * chunk * wx_row);
    products = scratch_floats(device, ranks * products_size());
    block_size = block_size_of(precision, s.features);
    operand_words = precision ? scratch_floats(device, ranks * operand_size()) : nullptr;
    gemm_blocks = scratch_floats(device, ranks * block_size);
    x_rows = static_cast<const float**>(device->scratch(device, ranks * chunk * sizeof(float*)));
    small = s.n * s.hidden <= 4096 && !input.fresh && !outer.fresh && !inner.fresh;
  }

 protected:
  void wait() const {
    if (ranks > 1) s.device->barrier(s.device);
  }

  // `self` is the class derived from this that knows the cell.
  template <class Self>
  void work(Self& self, int rank) {
    const Member me = member_of(s, shape.gates, rank, ranks);
    for (int64_t from = 0; from < s.longest;) {
      const int64_t to = self.project(me, from);
      const float* w = wx + me.row * chunk * wx_row;
      for (int64_t t = from; t < to; t++) {
        const int64_t rows = me.rows(s.active(t));
        self.step(me, t, rows, w);
        if (me.meets && t + 1 < s.longest) wait();
        w += rows * wx_row;
      }
      from = to;
    }
  }

  // Packs what is fresh, sets the initial states, and fills what no step writes.
  __attribute__((noinline)) void begin(int rank, int ranks) {
    const Part tiles(s.tiles(), rank, ranks);
    if (input.fresh) input.pack(tiles);
    if (outer.fresh) outer.pack(tiles);
    if (inner.fresh) inner.pack(tiles);
    const Part rows(s.n, rank, ranks);
    for (int64_t b = rows.begin; b < rows.end; b++) {
      const int64_t sequence = s.order[b], length = s.length[b];
      clear(y + (sequence * s.steps + length) * s.width, (s.steps - length) * s.width);
      for (int i = 0; i < shape.states; i++) {
        const int64_t width = i == 0 ? s.width : s.hidden;
        float* to = i == 0 ? h[0] + b * h_row : state[i] + b * row;
        if (initial[i])
          copy(to, initial[i] + sequence * width, width);
        else
          clear(to, width);
        if (length == 0) copy(final[i] + sequence * width, to, width);
      }
    }
  }

  // W x + b of several steps goes in one product, of as many rows as are worth it and stay in a cache till they are
  // read.
  int64_t chunk_rows(int64_t step) const {
    const int64_t cached = (1 << 16) / wx_row, rows = cached < 64 ? 64 : least(cached, 256);
    return step > rows ? step : rows;
  }

  // W x + b for this member's rows and tiles from step `from` on; returns the step after the last that is done.
  __attribute__((noinline)) int64_t project(const Member& me, int64_t from) {
    if (!input.packed) return arrange(me, from);
    const float** list = x_rows + me.rank * chunk;
    Gemm g = {};
    int64_t t = from;
    for (; t < s.longest && g.m + me.rows(s.active(t)) <= chunk; t++)
      for (int64_t b = me.row, n = s.active(t); b < n; b += me.row_step) list[g.m++] = x + s.place(b, t) * s.features;
    g.a = {nullptr, 0, list};
    g.n = (me.tiles.end - me.tiles.begin) * shape.gates * NR, g.k = s.features;
    g.narrow = (narrow_panel(s.hidden) - me.tiles.begin) * shape.gates * NR;
    g.packed = input.panel(me.tiles.begin);
    g.bias = input.panel_bias(me.tiles.begin);
    g.c = wx + me.row * chunk * wx_row + me.tiles.begin * shape.gates * NR, g.c_stride = wx_row;
    float* block = gemm_blocks + me.rank * block_size;
    if (precision)
      project_reduced(me, g, block);
    else
      gemm_part(g, block, 0, 1);
    return t;
  }

  // The same where x is W x already, or a table of it.
  __attribute__((noinline)) int64_t arrange(const Member& me, int64_t from) {
    float* to = wx + me.row * chunk * wx_row;
    int64_t t = from, count = 0;
    for (; t < s.longest && count + me.rows(s.active(t)) <= chunk; t++)
      for (int64_t b = me.row, n = s.active(t); b < n; b += me.row_step, count++) {
        const int64_t place = s.place(b, t);
        const float* source = x + (ids ? ids[place] : place) * s.features;
        arrange_row(input, me.tiles.begin, me.tiles.end - me.tiles.begin, source,
                    to + count * wx_row + me.tiles.begin * shape.gates * NR);
      }
    return t;
  }

  __attribute__((noinline)) void check_ids(int64_t rows) const {
    for (int64_t i = 0; i < s.n * s.steps; i++) {
      if (ids[i] >= 0 && ids[i] < rows) continue;
      char message[160];
      snprintf(message, sizeof message, "ids must be in [0, %lld] for a table of %lld rows, but ids[%lld] is %d",
               static_cast<long long>(rows - 1), static_cast<long long>(rows), static_cast<long long>(i), ids[i]);
      s.device->fail(s.device, message);
    }
  }

  __attribute__((noinline)) void project_reduced(const Member& me, const Gemm& g, float* block) const {
    ReducedProduct p = input.reduced().product(s.device, me.tiles.begin * shape.gates, panels_of(g.n));
    p.narrow = (int)(g.narrow / NR);
    p.bias = g.bias;
    reduced_gemm(p, g.a, Part(g.m, 0, 1), g.k, g.c, g.c_stride, block);
  }

  // Room for the rows of an operand of one rank's recurrent products, in reduced precision.
  int64_t operand_size() const { return reduced_rows_size(precision, s.n, s.hidden > s.width ? s.hidden : s.width); }

  // A member's rows of `a` in the precision of the gates.
  __attribute__((noinline)) ReducedProduct reduce_operand(const Member& me, const Gates& gates, const float* a,
                                                          int64_t stride, int64_t rows) const {
    ReducedProduct p = gates.reduced().product(s.device, 0, 0);
    reduce_rows(
        p, operand_words + me.rank * operand_size(), [&](int64_t i) { return a + (me.row + i * me.row_step) * stride; },
        (int)rows, gates.width);
    return p;
  }

  // Room for the products of ROWS_AT_ONCE rows with every gate of a tile.
  int64_t products_size() const { return (int64_t)ROWS_AT_ONCE * shape.gates * NR; }

  // Calls body(row(i), product, unit, lanes, full) for the units of this member's rows i: `product` is what the rows of
  // `a`, `stride` apart, give with the COUNT gates of the units, NR floats a gate.
  template <int COUNT, bool Apart = true, class R, class F>
  void for_products(const Member& me, const Gates& gates, const float* a, int64_t stride, int64_t t, int64_t rows,
                    R row, F body) {
    Products<COUNT> product;
    const Groups groups(me.tiles, rows, COUNT, t);
    ReducedProduct reduced = {};
    if (gates.precision && groups.count() > 0) reduced = reduce_operand(me, gates, a, stride, rows);
    for (int64_t k = 0; k < groups.count(); k++) {
      const Group group = groups[k];
      for (int64_t first = 0; first < rows; first += ROWS_AT_ONCE) {
        const int n = (int)least(ROWS_AT_ONCE, rows - first);
        float* buffer = products + me.rank * products_size();
        if (gates.precision)
          product.fill(buffer, gates.part(reduced, group.tile * COUNT, group.tiles * COUNT, first, n),
                       gates.panel_bias(group.tile));
        else
          product.fill(buffer, a + (me.row + first * me.row_step) * stride, me.row_step * stride, n,
                       gates.panel(group.tile), gates.panel_size(), group.tiles * COUNT,
                       (narrow_panel(gates.hidden) - group.tile) * COUNT, gates.width, gates.panel_bias(group.tile));
        for (int i = 0; i < n; i++) {
          const auto at = row(first + i);
          for (int j = 0; j < group.tiles; j++)
            for_units<Apart>(group.tile + j, gates.hidden, [&](int64_t unit, int lanes, auto full) {
              body(at, product.row[i] + j * COUNT * NR + unit % NR, unit, lanes, full);
            });
        }
      }
    }
  }

  Sweep s;
  const CellShape shape;
  const bool checkpoint;
  int ranks;
  const float* x;
  const int32_t* ids;  // [N][T] rows of x, a table of W x; null: x is [N][T]
  const float* initial[MAX_STATES];
  float *y, *saved;
  float* final[MAX_STATES];
  Gates input = {}, outer = {}, inner = {};  // W; U of the gates before and after OUTER
  Precision precision;                       // of both
  int64_t row, h_row, wx_row;                // floats between rows of the buffers below
  float* h[2];                               // [n][h_row] h before even and odd steps
  float* state[MAX_STATES];                  // [n][row] the other states
  float* operand = nullptr;                  // [n][row] what the second product is taken of
  float* keeps = nullptr;                    // [n][KEEP][row] kept between the two products
  int64_t chunk;                             // rows of W x + b made at once
  float* wx;                                 // [row parts][chunk][wx_row], a row as [tile][gate][NR]
  int64_t block_size;
  float *products, *gemm_blocks;  // [ranks][products_size], [ranks][block_size]
  float* operand_words;           // [ranks][operand_size]
  const float** x_rows;           // [ranks][chunk]
  bool small;                     // begun before the region
};

}  // namespace
}  // namespace throughtime
