// What the sweeps backward share whatever their cell: chunks of steps, operands in panels, and the products and sums
// that a chunk adds to the gradients of weights and biases and gives to the gradient of the input.
#pragma once
#include "gemm_bf16.h"
#include "sweep.h"

namespace throughtime {
namespace {

class BackwardFrame {
 public:
  // in: gradients of the output and of the final states (null: zero), then forward's inputs, outputs and saved;
  // out: gradients of the inputs (null: not wanted).
  __attribute__((noinline)) BackwardFrame(const CellShape& shape, const Args& args, Device* device)
      : s(plan_sweep(args.ints, args.in[outputs_of(shape, args) + 5], device)),
        shape(shape),
        checkpoint(is_checkpointed(args, shape.states)),
        precision(precision_of(args, shape.states) == BF16 ? BF16 : FLOAT32) {
    const int outputs = outputs_of(shape, args), first = OPTIONS + shape.states;
    Buffer* const* in = args.in + outputs;
    Buffer* const* results = in + first + shape.states;
    gates = shape.gates * s.hidden;
    ranks = ranks_for(device, 4.0 * s.valid() * gates * (s.features + s.hidden));
    dy = data(args.in[0]);
    x = data(in[0]);
    ids = integers(in[IDS]);
    table_rows = ids ? in[0]->elements / s.features : 0;
    weight_ih = data(in[1]);
    weight_hh = data(in[2]);
    y = data(results[0]);
    saved = data(results[outputs]);
    dx = data(args.out[0]);
    dweight_ih = data(args.out[1]);
    dweight_hh = data(args.out[2]);
    dbias_ih = data(args.out[3]);
    dbias_hh = data(args.out[4]);
    row = padded(s.hidden), h_row = padded(s.width);
    gates_row = padded(gates);
    for (int i = 0; i < shape.states; i++) {
      dfinal[i] = data(args.in[1 + i]);
      initial[i] = data(in[first + i]);
      dinitial[i] = data(args.out[first + i]);
      dstate[i] = scratch_floats(device, s.n * (i == 0 ? h_row : row));
    }
    if (!shape.diagonal) {
      inner = {precision, nullptr, shape.inner * s.hidden, s.width, false};
      recurrent = natural(in[2], outer(), s.width, inner.floats());
      inner.packed = recurrent.packed + recurrent.floats();
    }
    if (dx && weight_ih) input = natural(in[1], gates, s.features);
    capacity = s.n > 256 ? s.n : 256;
    for (Buffers& buffer : buffers) {
      buffer.dwx = scratch_floats(device, capacity * gates_row);
      buffer.drh = shape.one_gradient ? buffer.dwx : scratch_floats(device, capacity * gates_row);
      buffer.given = buffer.drh;
      if (dweight_ih) buffer.x = scratch_floats(device, panel_floats(s.features, capacity));
      if (dweight_hh && !shape.diagonal) buffer.h = scratch_floats(device, panel_floats(s.width, capacity));
      if (shape.inner) buffer.operand = scratch_floats(device, capacity * row);
      if (shape.inner) buffer.operand_panels = scratch_floats(device, panel_floats(s.hidden, capacity));
    }
    products = scratch_floats(device, ranks * Products<1>::size);
    zeros = scratch_floats(device, row > h_row ? row : h_row);
    sums = scratch_floats(device, ranks * sums_row());
    x_rows = static_cast<const float**>(device->scratch(device, ranks * capacity * sizeof(float*)));
    h_rows = static_cast<const float**>(device->scratch(device, ranks * capacity * sizeof(float*)));
    dx_rows = static_cast<float**>(device->scratch(device, ranks * capacity * sizeof(float*)));
    gemm_blocks = scratch_floats(device, ranks * BLOCK);
    if (precision) operand_words = scratch_floats(device, ranks * operand_size());
  }

 protected:
  // The output, the final states, and with a projection what is projected.
  static int outputs_of(const CellShape& shape, const Args& args) { return 1 + shape.states + args.ints[6]; }

  // Rows of a weight in panels of its columns.
  struct Panels {
    Precision precision;
    float* packed;
    int64_t rows, columns;
    bool fresh;
    int64_t size() const { return (precision ? words_of(precision, rows) : rows) * NR; }
    int64_t floats() const { return panels_of(columns) * size(); }
  };

  // The weight's first rows, with room for more behind them.
  Panels natural(Buffer* weight, int64_t rows, int64_t columns, int64_t more = 0) const {
    Panels p = {precision, nullptr, rows, columns, false};
    const PackedKey key = precision ? PACKED_NATURAL_BF16 : PACKED_NATURAL;
    p.packed = s.device->packed(s.device, weight, key, p.floats() + more, &p.fresh);
    return p;
  }

  // Room for so many rows in panels of their columns.
  int64_t panel_floats(int64_t columns, int64_t rows) const {
    return Panels{precision, nullptr, rows, columns, false}.floats();
  }

  void wait() const {
    if (ranks > 1) s.device->barrier(s.device);
  }

  // Some steps, their valid rows one step after another, and where their gradients and operands are. Chunks take turns
  // with two sets of buffers: while a slow thread is still at the products of one, others may sweep through the next.
  struct Buffers {
    float *dwx, *drh;  // [rows][gates_row] gradients of W x + b and of the recurrent product
    float* given;      // drh as the cell gave it: of the product after what may be done to it
    float *x, *h;      // panels of the rows' inputs, and of h before the step
    float* operand;    // [rows][row] what the second products were taken of
    float* operand_panels;
  };
  struct Chunk : Buffers {
    int64_t from, to, rows;
    int turn;  // which of the two sets
  };

  Chunk chunk_before(int64_t to, int turn) const {
    int64_t from = to - 1;
    while (from > 0 && s.start[to] - s.start[from - 1] <= capacity) from--;
    return {buffers[turn % 2], from, to, s.start[to] - s.start[from], turn % 2};
  }

  // `self` is the class derived from this that knows the cell.
  template <class Self>
  void work(Self& self, int rank) {
    const Member me = member_of(s, shape.gates, rank, ranks);
    self.begin(rank);
    wait();
    const float* after = nullptr;  // drh of the step after
    int64_t to = s.longest;
    for (int turn = 0; to > 0; turn++) {
      const Chunk chunk = chunk_before(to, turn);
      list(chunk, rank);
      if (dweight_ih) pack_rows_of(chunk.x, chunk, {nullptr, 0, x_rows + rank * capacity}, s.features, rank);
      if (chunk.h) self.pack_h(chunk, rank);
      if (checkpoint) {
        self.recompute(chunk, rank);
        wait();
      }
      for (int64_t t = chunk.to - 1; t >= chunk.from; t--) {
        self.step(me, chunk, t, after);
        if (me.meets) wait();
        if (shape.inner) {
          self.inner_step(me, chunk, t);
          if (me.meets) wait();
        }
        after = chunk.drh + first_row(chunk, t) * gates_row;
      }
      if (!me.meets) wait();
      if (shape.inner && dweight_hh) {
        pack_rows_of(chunk.operand_panels, chunk, {chunk.operand, row, nullptr}, s.hidden, rank);
        wait();
      }
      self.add_products(chunk, rank);
      to = chunk.from;
    }
    self.initial_states(me, after);
    const Part columns(gates, rank, ranks);
    if (dbias_ih && dbias_hh && shape.one_gradient)
      copy(dbias_hh + columns.begin, dbias_ih + columns.begin, columns.end - columns.begin);
  }

  void recompute(const Chunk&, int) {}

  int64_t first_row(const Chunk& chunk, int64_t t) const { return s.start[t] - s.start[chunk.from]; }

  void pack_h(const Chunk& chunk, int rank) const {
    pack_rows_of(chunk.h, chunk, {nullptr, 0, h_rows + rank * capacity}, s.width, rank);
  }

  // Packs what is fresh, sets the gradients of the final states, and clears what is added to or written by no step.
  __attribute__((noinline)) void begin(int rank) {
    if (rank == 0) clear(zeros, row > h_row ? row : h_row);
    if (recurrent.fresh) {
      pack_natural(recurrent, weight_hh, rank);
      pack_natural(inner, weight_hh + outer() * s.width, rank);
    }
    if (input.fresh) pack_natural(input, weight_ih, rank);
    const Part weights(gates, rank, ranks);
    const int64_t count = weights.end - weights.begin;
    if (dweight_ih) clear(dweight_ih + weights.begin * s.features, count * s.features);
    const int64_t columns = shape.diagonal ? 1 : s.width;
    if (dweight_hh) clear(dweight_hh + weights.begin * columns, count * columns);
    if (dbias_ih) clear(dbias_ih + weights.begin, count);
    if (dbias_hh) clear(dbias_hh + weights.begin, count);
    const Part rows(s.n, rank, ranks);
    if (ids && dx) {
      const Part mine(table_rows, rank, ranks);
      clear(dx + mine.begin * s.features, (mine.end - mine.begin) * s.features);
    }
    for (int64_t b = rows.begin; b < rows.end; b++) {
      const int64_t sequence = s.order[b], length = s.length[b];
      if (dx && !ids) clear(dx + (sequence * s.steps + length) * s.features, (s.steps - length) * s.features);
      for (int i = 0; i < shape.states; i++) {
        const int64_t width = width_of(i);
        if (dfinal[i])
          copy(dstate_at(i, b), dfinal[i] + sequence * width, width);
        else
          clear(dstate_at(i, b), width);
      }
    }
  }

  __attribute__((noinline)) void list(const Chunk& chunk, int rank) {
    int64_t r = rank * capacity;
    for (int64_t t = chunk.from; t < chunk.to; t++)
      for (int64_t b = 0; b < s.active(t); b++, r++) {
        const int64_t place = s.place(b, t);
        const int64_t at = (ids ? ids[place] : place) * s.features;
        x_rows[r] = x + at;
        h_rows[r] = state_before(0, b, t);
        if (dx) dx_rows[r] = dx + at;
      }
  }

  // This rank's share of the panels of B = the chunk's rows.
  void pack_rows_of(float* to, const Chunk& chunk, const Rows& rows, int64_t columns, int rank) const {
    pack({precision, to, chunk.rows, columns, false}, rows, rank);
  }

  void pack_natural(const Panels& to, const float* weight, int rank) const {
    pack(to, {weight, to.columns, nullptr}, rank);
  }

  void pack(const Panels& to, const Rows& rows, int rank) const {
    Gemm g = {};
    g.n = to.columns, g.k = to.rows;
    g.b = rows;
    const Part mine(panels_of(to.columns), rank, ranks);
    if (precision)
      pack_b_bf16(to.packed, g, mine);
    else
      pack_b(to.packed, to.size(), g, 0, 0, to.rows, mine);
  }

  int64_t width_of(int i) const { return i == 0 ? s.width : s.hidden; }
  float* dstate_at(int i, int64_t b) const { return dstate[i] + b * (i == 0 ? h_row : row); }

  // State i of a row before step t: zeros where it is absent.
  const float* state_before(int i, int64_t b, int64_t t) const {
    if (t > 0) return state_at(i, s.place(b, t - 1));
    return initial[i] ? initial[i] + s.order[b] * width_of(i) : zeros;
  }
  const float* state_at(int i, int64_t place) const {
    const int kept = checkpoint ? 0 : shape.saved;
    return i == 0 ? y + place * s.width : saved + (place * (kept + shape.states - 1) + kept + i - 1) * s.hidden;
  }

  // Room for the rows of an operand of one rank's products in a step, in reduced precision.
  int64_t operand_size() const { return reduced_rows_size(precision, s.n, gates > s.width ? gates : s.width); }

  // The product of a member's first rows of `a` with a weight, without its panels.
  __attribute__((noinline)) ReducedProduct reduce_operand(const Member& me, const Panels& weight, const float* a,
                                                          int64_t stride, int64_t rows) const {
    const ReducedPanels all = {precision, weight.packed, panels_of(weight.columns), weight.rows};
    ReducedProduct p = all.product(s.device, 0, 0);
    reduce_rows(
        p, operand_words + me.rank * operand_size(), [&](int64_t i) { return a + (me.row + i * me.row_step) * stride; },
        (int)rows, weight.rows);
    return p;
  }

  // Of that product, some rows and panels.
  __attribute__((noinline)) ReducedProduct part(ReducedProduct p, const Panels& weight, Group group, int64_t row,
                                                int n) const {
    p.a += row * p.a_stride;
    p.rows = n, p.panels = group.tiles, p.columns = (int64_t)group.tiles * NR;
    p.narrow = (int)(narrow_panel(weight.columns) - group.tile);
    p.b += group.tile * p.panel;
    p.after = p.b + group.tiles * p.panel;
    return p;
  }

  // Calls body(row(b), product, unit, lanes, full) for this member's rows b and tiles of the columns of `weight`:
  // `product` is what the rows of `a`, `stride` apart, give with the weight; zero for the rows from `with` on.
  template <bool Apart = true, class R, class F>
  void for_products(const Member& me, const Panels& weight, const float* a, int64_t stride, int64_t t, int64_t rows,
                    int64_t with, R row, F body) {
    Products<1> product;
    const Groups groups(me.tiles, rows, 1, t);
    const int64_t panel = weight.size();
    ReducedProduct reduced = {};
    if (precision && groups.count() > 0) reduced = reduce_operand(me, weight, a, stride, least(rows, with));
    for (int64_t k = 0; k < groups.count(); k++) {
      const Group group = groups[k];
      for (int64_t r = 0; r < rows; r += ROWS_AT_ONCE) {
        const int n = (int)least(ROWS_AT_ONCE, rows - r);
        const int filled = (int)least(n, with > r ? with - r : 0);
        float* buffer = products + me.rank * Products<1>::size;
        if (precision)
          product.fill(buffer, part(reduced, weight, group, r, filled), nullptr);
        else
          product.fill(buffer, a + (me.row + r * me.row_step) * stride, me.row_step * stride, filled,
                       weight.packed + group.tile * panel, panel, group.tiles,
                       narrow_panel(weight.columns) - group.tile, weight.rows, nullptr);
        for (int i = 0; i < n; i++) {
          const auto& at = row(me.row + (r + i) * me.row_step);
          for (int j = 0; j < group.tiles; j++)
            for_units<Apart>(group.tile + j, weight.columns, [&](int64_t unit, int lanes, auto full) {
              body(at, i < filled ? product.row[i] + j * NR + unit % NR : zeros, unit, lanes, full);
            });
        }
      }
    }
  }

  // Room for one rank's sums of columns: of the gates, or of h, which a projection may make wider.
  int64_t sums_row() const { return gates_row > h_row ? gates_row : h_row; }

  // Gates whose product is taken of h, times H.
  int64_t outer() const { return (shape.gates - shape.inner) * s.hidden; }

  __attribute__((noinline)) void initial_states(const Member& me, const float* after) {
    for (int i = 0; i < shape.states; i++) {
      if (!dinitial[i]) continue;
      float* to = dinitial[i];
      const float* from = dstate[i];
      const int64_t width = width_of(i), stride = i == 0 ? h_row : row;
      const int64_t with = i == 0 ? me.rows(s.active(0)) : 0;
      for_products(
          me, recurrent, after, gates_row, 0, me.rows(s.n), with, [&](int64_t b) { return b; },
          [&](int64_t b, const float* product, int64_t unit, int lanes, auto full) {
            write<decltype(full)::value>(to + s.order[b] * width + unit, load(from + b * stride + unit) + load(product),
                                         lanes);
          });
    }
  }

  // Adds this rank's share of what a chunk contributes to the gradients of weights and biases; its share of dx.
  __attribute__((noinline)) void add_products(const Chunk& chunk, int rank) {
    const auto add = [&](float* to, int64_t columns, const float* gradients, int64_t m, const float* panels) {
      add_product(to, columns, {gradients, gates_row, nullptr}, m, panels, chunk.rows, rank);
    };
    const int64_t outer = this->outer();
    if (dweight_ih) add(dweight_ih, s.features, chunk.dwx, gates, chunk.x);
    if (chunk.h) add(dweight_hh, s.width, chunk.drh, outer, chunk.h);
    if (shape.inner && dweight_hh)
      add(dweight_hh + outer * s.hidden, s.hidden, chunk.drh + outer, shape.inner * s.hidden, chunk.operand_panels);
    if (input.packed) {
      Gemm g = {};
      g.m = chunk.rows, g.n = s.features, g.k = gates;
      g.a = {chunk.dwx, gates_row, nullptr};
      g.packed = input.packed;
      g.c_rows = dx_rows + rank * capacity;
      multiply_part(g, rank);
    }
    const Part columns(gates, rank, ranks);
    if (dx && !weight_ih) ids ? add_to_table(chunk, columns, rank) : copy_dx(chunk, rank);
    if (dbias_ih) add_columns(dbias_ih, chunk.dwx, gates_row, chunk.rows, columns, rank);
    if (dbias_hh && !(dbias_ih && shape.one_gradient))
      add_columns(dbias_hh, chunk.given, gates_row, chunk.rows, columns, rank);
  }

  // This rank's share of to += the transpose of m columns of `gradients` times k rows in panels.
  __attribute__((noinline)) void add_product(float* to, int64_t columns, const Rows& gradients, int64_t m,
                                             const float* panels, int64_t k, int rank) {
    Gemm g = {};
    g.m = m, g.n = columns, g.k = k;
    g.a = gradients, g.a_transposed = true;
    g.packed = panels;
    g.c = to, g.c_stride = columns;
    g.add = true;
    multiply_part(g, rank);
  }

  void multiply_part(const Gemm& g, int rank) {
    float* block = gemm_blocks + rank * BLOCK;
    if (precision)
      gemm_part_bf16(g, s.device, block, rank, ranks);
    else
      gemm_part(g, block, rank, ranks);
  }

  __attribute__((noinline)) void copy_dx(const Chunk& chunk, int rank) {
    const Part rows(chunk.rows, rank, ranks);
    for (int64_t r = rows.begin; r < rows.end; r++)
      copy(dx_rows[rank * capacity + r], chunk.dwx + r * gates_row, gates);
  }

  // Ranks share columns, so that a row of the table is always summed in the same order.
  __attribute__((noinline)) void add_to_table(const Chunk& chunk, Part columns, int rank) {
    for (int64_t r = 0; r < chunk.rows; r++) {
      float* to = dx_rows[rank * capacity + r];
      const float* from = chunk.dwx + r * gates_row;
      for (int64_t j = columns.begin; j < columns.end; j++) to[j] += from[j];
    }
  }

  // total[j] += the sum over the rows of from[j]
  __attribute__((noinline)) void add_columns(float* total, const float* from, int64_t stride, int64_t rows,
                                             Part columns, int rank) {
    float* sum = sums + rank * sums_row();
    clear(sum + columns.begin, columns.end - columns.begin);
    for (int64_t r = 0; r < rows; r++)
      for (int64_t j = columns.begin; j < columns.end; j++) sum[j] += from[r * stride + j];
    for (int64_t j = columns.begin; j < columns.end; j++) total[j] += sum[j];
  }

  Sweep s;
  const CellShape shape;
  bool checkpoint;
  const Precision precision;  // of every product; int8 has no gradient
  int ranks;
  int64_t gates;                  // G * H
  int64_t row, h_row, gates_row;  // floats between rows of dstate (of h: h_row), and of dwx and drh
  const float *dy, *dfinal[MAX_STATES];
  const int32_t* ids;  // [N][T] rows of x and dx, tables of W x; null: they are [N][T]
  int64_t table_rows;
  const float *x, *weight_ih, *weight_hh, *initial[MAX_STATES], *y, *saved;
  float *dx, *dweight_ih, *dweight_hh, *dbias_ih, *dbias_hh, *dinitial[MAX_STATES];
  Panels recurrent = {}, inner = {}, input = {};  // U of the gates before and after the inner ones, and W
  float* dstate[MAX_STATES];                      // [n][row] gradients of the states after the step at hand
  int64_t capacity;                               // rows of a chunk, at most
  Buffers buffers[2] = {};
  static constexpr int64_t BLOCK = BF16_BLOCK > MC* A_STRIDE ? BF16_BLOCK : MC* A_STRIDE;
  float *products, *zeros, *sums, *gemm_blocks;
  float* operand_words = nullptr;  // [ranks][operand_size]
  const float **x_rows, **h_rows;  // [ranks][capacity]
  float** dx_rows;
};

}  // namespace
}  // namespace throughtime
