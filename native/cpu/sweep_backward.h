// A cell backward through time, in chunks of steps from the last to the first. The sweep through a chunk gives the
// gradients of the gates at its steps; while they are near, products and sums of them are added to the gradients of the
// weights and biases, and give the gradient of the input.
#pragma once
#include "sweep.h"

namespace throughtime {
namespace {

template <class Cell>
class Backward {
 public:
  static constexpr int G = Cell::gates, INNER = Cell::inner_gates, OUTER = G - INNER, STATES = Cell::states;
  static constexpr int KEEP = Cell::saved, SAVED = KEEP + STATES - 1, INITIAL = OPTIONS + STATES;

  // in: gradients of the output and of the final states (null: zero), then forward's inputs, outputs and saved;
  // out: gradients of the inputs (null: not wanted).
  Backward(const Args& args, Device* device) : s(plan_sweep(args.ints, args.in[1 + STATES + 5], device)) {
    Buffer* const* in = args.in + 1 + STATES;
    Buffer* const* results = in + INITIAL + STATES;
    gates = G * s.hidden;
    ranks = ranks_for(device, 4.0 * s.valid() * gates * (s.features + s.hidden));
    dy = floats(args.in[0]);
    x = floats(in[0]);
    weight_ih = floats(in[1]);
    weight_hh = floats(in[2]);
    y = floats(results[0]);
    saved = floats(results[1 + STATES]);
    dx = floats(args.out[0]);
    dweight_ih = floats(args.out[1]);
    dweight_hh = floats(args.out[2]);
    dbias_ih = floats(args.out[3]);
    dbias_hh = floats(args.out[4]);
    row = padded(s.hidden);
    gates_row = padded(gates);
    for (int i = 0; i < STATES; i++) {
      dfinal[i] = floats(args.in[1 + i]);
      initial[i] = floats(in[INITIAL + i]);
      dinitial[i] = floats(args.out[INITIAL + i]);
      dstate[i] = scratch_floats(device, s.n * row);
    }
    recurrent = device->packed(device, in[2], PACKED_NATURAL, panels_of(s.hidden) * NR * gates, &recurrent_fresh);
    if (dx) input = device->packed(device, in[1], PACKED_NATURAL, panels_of(s.features) * NR * gates, &input_fresh);
    capacity = s.n > KC ? s.n : KC;
    for (Buffers& buffer : buffers) {
      buffer.dwx = scratch_floats(device, capacity * gates_row);
      buffer.drh = Cell::one_gradient ? buffer.dwx : scratch_floats(device, capacity * gates_row);
      if (dweight_ih) buffer.x = scratch_floats(device, panels_of(s.features) * NR * capacity);
      if (dweight_hh) buffer.h = scratch_floats(device, panels_of(s.hidden) * NR * capacity);
      if (INNER) buffer.operand = scratch_floats(device, capacity * row);
      if (INNER) buffer.operand_panels = scratch_floats(device, panels_of(s.hidden) * NR * capacity);
    }
    products = scratch_floats(device, ranks * Products<1>::size);
    zeros = scratch_floats(device, row);
    sums = scratch_floats(device, gates);
    x_rows = static_cast<const float**>(device->scratch(device, ranks * capacity * sizeof(float*)));
    h_rows = static_cast<const float**>(device->scratch(device, ranks * capacity * sizeof(float*)));
    dx_rows = static_cast<float**>(device->scratch(device, ranks * capacity * sizeof(float*)));
    gemm_blocks = scratch_floats(device, (int64_t)ranks * MC * A_STRIDE);
    device->parallel(device, ranks, run, this);
  }

 private:
  static void run(void* self, int rank, int) { static_cast<Backward*>(self)->work(rank); }

  void wait() const {
    if (ranks > 1) s.device->barrier(s.device);
  }

  // Some steps, their valid rows one step after another, and where their gradients and operands are. Chunks take turns
  // with two sets of buffers: while a slow thread is still at the products of one, others may sweep through the next.
  struct Buffers {
    float *dwx, *drh;  // [rows][gates_row] gradients of W x + b and of the recurrent product
    float *x, *h;      // panels of the rows' inputs, and of h before the step
    float* operand;    // [rows][row] what the second products were taken of
    float* operand_panels;
  };
  struct Chunk : Buffers {
    int64_t from, to, rows;
  };

  Chunk chunk_before(int64_t to, int turn) const {
    int64_t from = to - 1;
    while (from > 0 && s.start[to] - s.start[from - 1] <= capacity) from--;
    return {buffers[turn % 2], from, to, s.start[to] - s.start[from]};
  }

  void work(int rank) {
    const Member me = member_of(s, G, rank, ranks);
    begin(rank);
    wait();
    const float* after = nullptr;  // drh of the step after
    int64_t to = s.longest;
    for (int turn = 0; to > 0; turn++) {
      const Chunk chunk = chunk_before(to, turn);
      list(chunk, rank);
      if (dweight_ih) pack_rows_of(chunk.x, chunk, {nullptr, 0, x_rows + rank * capacity}, s.features, rank);
      if (dweight_hh) pack_rows_of(chunk.h, chunk, {nullptr, 0, h_rows + rank * capacity}, s.hidden, rank);
      for (int64_t t = chunk.to - 1; t >= chunk.from; t--) {
        step(me, chunk, t, after);
        if (me.meets) wait();
        if constexpr (INNER) {
          inner_step(me, chunk, t);
          if (me.meets) wait();
        }
        after = chunk.drh + (s.start[t] - s.start[chunk.from]) * gates_row;
      }
      if (!me.meets) wait();
      if (INNER && dweight_hh) {
        pack_rows_of(chunk.operand_panels, chunk, {chunk.operand, row, nullptr}, s.hidden, rank);
        wait();
      }
      add_products(chunk, rank);
      to = chunk.from;
    }
    initial_states(me, after);
    const Part columns(gates, rank, ranks);
    if (dbias_ih && dbias_hh && Cell::one_gradient)
      copy(dbias_hh + columns.begin, dbias_ih + columns.begin, columns.end - columns.begin);
  }

  // Packs what is fresh, sets the gradients of the final states, and clears what is added to or written by no step.
  void begin(int rank) {
    if (rank == 0) clear(zeros, row);
    if (recurrent_fresh) pack_natural(recurrent, weight_hh, s.hidden, rank);
    if (dx && input_fresh) pack_natural(input, weight_ih, s.features, rank);
    const Part weights(gates, rank, ranks);
    const int64_t count = weights.end - weights.begin;
    if (dweight_ih) clear(dweight_ih + weights.begin * s.features, count * s.features);
    if (dweight_hh) clear(dweight_hh + weights.begin * s.hidden, count * s.hidden);
    if (dbias_ih) clear(dbias_ih + weights.begin, count);
    if (dbias_hh) clear(dbias_hh + weights.begin, count);
    const Part rows(s.n, rank, ranks);
    for (int64_t b = rows.begin; b < rows.end; b++) {
      const int64_t sequence = s.order[b], length = s.length[b];
      if (dx) clear(dx + (sequence * s.steps + length) * s.features, (s.steps - length) * s.features);
      for (int i = 0; i < STATES; i++)
        if (dfinal[i])
          copy(dstate[i] + b * row, dfinal[i] + sequence * s.hidden, s.hidden);
        else
          clear(dstate[i] + b * row, s.hidden);
    }
  }

  void list(const Chunk& chunk, int rank) {
    int64_t r = rank * capacity;
    for (int64_t t = chunk.from; t < chunk.to; t++)
      for (int64_t b = 0; b < s.active(t); b++, r++) {
        const int64_t place = s.place(b, t);
        x_rows[r] = x + place * s.features;
        h_rows[r] = state_before(0, b, t);
        if (dx) dx_rows[r] = dx + place * s.features;
      }
  }

  // This rank's share of the panels of B = the chunk's rows.
  void pack_rows_of(float* to, const Chunk& chunk, const Rows& rows, int64_t columns, int rank) const {
    Gemm g = {};
    g.n = columns;
    g.b = rows;
    pack_b(to, chunk.rows * NR, g, 0, 0, chunk.rows, Part(panels_of(columns), rank, ranks));
  }

  void pack_natural(float* to, const float* weight, int64_t columns, int rank) const {
    Gemm g = {};
    g.n = columns, g.k = gates;
    g.b = {weight, columns, nullptr};
    pack_b(to, gates * NR, g, 0, 0, gates, Part(panels_of(columns), rank, ranks));
  }

  // State i of a row before step t: zeros where it is absent.
  const float* state_before(int i, int64_t b, int64_t t) const {
    if (t > 0) return state_at(i, s.place(b, t - 1));
    return initial[i] ? initial[i] + s.order[b] * s.hidden : zeros;
  }
  const float* state_at(int i, int64_t place) const {
    return i == 0 ? y + place * s.hidden : saved + (place * SAVED + KEEP + i - 1) * s.hidden;
  }

  // Where the numbers of a row are at a step, units one after another, but `keep` tile by tile.
  struct At {
    const float *keep, *dy, *before[STATES], *now[STATES];
    float *dstate[STATES], *dwx, *drh;
  };

  At at(const Chunk& chunk, int64_t b, int64_t t) const {
    const int64_t place = s.place(b, t), r = s.start[t] - s.start[chunk.from] + b;
    At at;
    at.keep = saved + place * SAVED * s.hidden;
    at.dy = dy ? dy + place * s.hidden : zeros;
    for (int i = 0; i < STATES; i++) {
      at.before[i] = state_before(i, b, t);
      at.now[i] = state_at(i, place);
      at.dstate[i] = dstate[i] + b * row;
    }
    at.dwx = chunk.dwx + r * gates_row;
    at.drh = chunk.drh + r * gates_row;
    return at;
  }

  // Calls body(row(b), product, unit, lanes, full) for the units of this member's rows b: `product` is what the rows of
  // `a` give with weight gates first .. first + count, zero for those from `with` on.
  template <class R, class F>
  void for_products(const Member& me, int64_t t, int64_t rows, const float* a, int64_t with, int first, int count,
                    R row, F body) {
    Products<1> product;
    const Groups groups(me.tiles, rows, 1, t);
    for (int64_t k = 0; k < groups.count(); k++) {
      const Group group = groups[k];
      for (int64_t r = 0; r < rows; r += ROWS_AT_ONCE) {
        const int n = (int)least(ROWS_AT_ONCE, rows - r);
        const int filled = (int)least(n, with > r ? with - r : 0);
        product.fill(products + me.rank * Products<1>::size,
                     a + (me.row + r * me.row_step) * gates_row + first * s.hidden, me.row_step * gates_row, filled,
                     recurrent + group.tile * gates * NR + first * s.hidden * NR, gates * NR, group.tiles,
                     count * s.hidden, nullptr);
        for (int i = 0; i < n; i++) {
          const auto& at = row(me.row + (r + i) * me.row_step);
          for (int j = 0; j < group.tiles; j++)
            for_units(group.tile + j, s.hidden, [&](int64_t unit, int lanes, auto full) {
              body(at, i < filled ? product.row[i] + j * NR + unit % NR : zeros, unit, lanes, full);
            });
        }
      }
    }
  }

  void step(const Member& me, const Chunk& chunk, int64_t t, const float* after) {
    for_products(
        me, t, me.rows(s.active(t)), after, me.rows(s.active(t + 1)), 0, OUTER,
        [&](int64_t b) { return at(chunk, b, t); },
        [&](const At& at, const float* product, int64_t unit, int lanes, auto full) {
          constexpr bool Full = decltype(full)::value;
          Vec keep[KEEP + 1], prev[STATES], next[STATES], dnext[STATES], dw[G] = {}, dr[G] = {}, dprev[STATES];
          load_step<Full>(at, unit, lanes, keep, prev);
          for (int i = 0; i < STATES; i++) {
            next[i] = read<Full>(at.now[i] + unit, lanes);
            dnext[i] = load(at.dstate[i] + unit);
          }
          dnext[0] += load(product) + read<Full>(at.dy + unit, lanes);
          Cell::backward(keep, prev, next, dnext, dw, dr, dprev);
          for (int i = 0; i < STATES; i++) store(at.dstate[i] + unit, dprev[i]);
          store_gates<Full, G>(at, unit, lanes, dw, dr);
        });
  }

  // The gradient of what the second product was taken of, and what the cell makes of it.
  void inner_step(const Member& me, const Chunk& chunk, int64_t t) {
    const int64_t rows = me.rows(s.active(t)), start = s.start[t] - s.start[chunk.from];
    struct InnerAt : At {
      float* operand;
    };
    for_products(
        me, t, rows, chunk.drh + start * gates_row, rows, OUTER, INNER,
        [&](int64_t b) {
          return InnerAt{at(chunk, b, t), chunk.operand + (start + b) * row};
        },
        [&](const InnerAt& at, const float* product, int64_t unit, int lanes, auto full) {
          constexpr bool Full = decltype(full)::value;
          Vec keep[KEEP + 1], prev[STATES], dw[G], dr[G], dprev[STATES];
          load_step<Full>(at, unit, lanes, keep, prev);
          for (int g = 0; g < G; g++) dw[g] = read<Full>(at.dwx + g * s.hidden + unit, lanes);
          for (int g = 0; g < G; g++) dr[g] = read<Full>(at.drh + g * s.hidden + unit, lanes);
          for (int i = 0; i < STATES; i++) dprev[i] = load(at.dstate[i] + unit);
          const Vec doperand = load(product);
          store(at.operand + unit, keep[Cell::operand]);
          Cell::inner_backward(keep, prev, &doperand, dw, dr, dprev);
          for (int i = 0; i < STATES; i++) store(at.dstate[i] + unit, dprev[i]);
          store_gates<Full, OUTER>(at, unit, lanes, dw, dr);
        });
  }

  template <bool Full>
  THROUGHTIME_INLINE void load_step(const At& at, int64_t unit, int lanes, Vec* keep, Vec* prev) const {
    const float* from = at.keep + tiled(KEEP, unit);
    for (int i = 0; i < KEEP; i++) keep[i] = read<Full, KEEP>(from + i * tile_width(s.hidden, unit), lanes);
    for (int i = 0; i < STATES; i++) prev[i] = read<Full>(at.before[i] + unit, lanes);
  }

  template <bool Full, int COUNT>
  THROUGHTIME_INLINE void store_gates(const At& at, int64_t unit, int lanes, const Vec* dw, const Vec* dr) {
    for (int g = 0; g < COUNT; g++) write<Full>(at.dwx + g * s.hidden + unit, dw[g], lanes);
    if (!Cell::one_gradient)
      for (int g = 0; g < COUNT; g++) write<Full>(at.drh + g * s.hidden + unit, dr[g], lanes);
  }

  void initial_states(const Member& me, const float* after) {
    for (int i = 0; i < STATES; i++) {
      if (!dinitial[i]) continue;
      const int64_t with = i == 0 ? me.rows(s.active(0)) : 0;
      for_products(
          me, 0, me.rows(s.n), after, with, 0, OUTER, [&](int64_t b) { return b; },
          [&](int64_t b, const float* product, int64_t unit, int lanes, auto full) {
            write<decltype(full)::value>(dinitial[i] + s.order[b] * s.hidden + unit,
                                         load(dstate[i] + b * row + unit) + load(product), lanes);
          });
    }
  }

  // Adds this rank's share of what a chunk contributes to the gradients of weights and biases; its share of dx.
  void add_products(const Chunk& chunk, int rank) {
    float* block = gemm_blocks + rank * MC * A_STRIDE;
    const auto add = [&](float* to, int64_t columns, const float* gradients, int64_t m, const float* panels) {
      Gemm g = {};
      g.m = m, g.n = columns, g.k = chunk.rows;
      g.a = {gradients, gates_row, nullptr}, g.a_transposed = true;
      g.packed = panels;
      g.c = to, g.c_stride = columns;
      g.add = true;
      gemm_part(g, block, rank, ranks);
    };
    const int64_t outer = OUTER * s.hidden;
    if (dweight_ih) add(dweight_ih, s.features, chunk.dwx, gates, chunk.x);
    if (dweight_hh) add(dweight_hh, s.hidden, chunk.drh, outer, chunk.h);
    if (INNER && dweight_hh)
      add(dweight_hh + outer * s.hidden, s.hidden, chunk.drh + outer, INNER * s.hidden, chunk.operand_panels);
    if (dx) {
      Gemm g = {};
      g.m = chunk.rows, g.n = s.features, g.k = gates;
      g.a = {chunk.dwx, gates_row, nullptr};
      g.packed = input;
      g.c_rows = dx_rows + rank * capacity;
      gemm_part(g, block, rank, ranks);
    }
    const Part columns(gates, rank, ranks);
    if (dbias_ih) add_columns(dbias_ih, chunk.dwx, chunk.rows, columns);
    if (dbias_hh && !(dbias_ih && Cell::one_gradient)) add_columns(dbias_hh, chunk.drh, chunk.rows, columns);
  }

  void add_columns(float* total, const float* from, int64_t rows, Part columns) {
    clear(sums + columns.begin, columns.end - columns.begin);
    for (int64_t r = 0; r < rows; r++)
      for (int64_t j = columns.begin; j < columns.end; j++) sums[j] += from[r * gates_row + j];
    for (int64_t j = columns.begin; j < columns.end; j++) total[j] += sums[j];
  }

  Sweep s;
  int ranks;
  int64_t gates;           // G * H
  int64_t row, gates_row;  // floats between rows of dstate, and of dwx and drh
  const float *dy, *dfinal[STATES];
  const float *x, *weight_ih, *weight_hh, *initial[STATES], *y, *saved;
  float *dx, *dweight_ih, *dweight_hh, *dbias_ih, *dbias_hh, *dinitial[STATES];
  float* recurrent;        // U in panels of its columns
  float* input = nullptr;  // W the same
  bool recurrent_fresh, input_fresh = false;
  float* dstate[STATES];  // [n][row] gradients of the states after the step at hand
  int64_t capacity;       // rows of a chunk, at most
  Buffers buffers[2] = {};
  float *products, *zeros, *sums, *gemm_blocks;
  const float **x_rows, **h_rows;  // [ranks][capacity]
  float** dx_rows;
};

}  // namespace
}  // namespace throughtime
