// A cell backward through time: one sweep from the last step to the first gives the gradients of the gates at every
// valid step; the gradients of the weights, the biases and the input are products and sums of those.
#pragma once
#include "sweep.h"

namespace throughtime {
namespace {

template <class Cell>
class Backward {
 public:
  static constexpr int G = Cell::gates, INNER = Cell::inner_gates, OUTER = G - INNER, STATES = Cell::states;
  static constexpr int KEEP = Cell::saved, SAVED = KEEP + STATES - 1;

  // in: gradients of the output and of the final states (null: zero), then forward's inputs, outputs and saved;
  // out: gradients of the inputs (null: not wanted).
  Backward(const Args& args, Device* device) : s(plan_sweep(args.ints, args.in[1 + STATES + 5], device)) {
    Buffer* const* in = args.in + 1 + STATES;
    Buffer* const* results = in + 6 + STATES;
    gates = G * s.hidden;
    valid = s.longest ? s.start[s.longest] : 0;
    ranks = ranks_for(device, 4.0 * valid * gates * (s.features + s.hidden));
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
      initial[i] = floats(in[6 + i]);
      dinitial[i] = floats(args.out[6 + i]);
      dstate[i] = scratch_floats(device, s.n * row);
    }
    recurrent = device->packed(device, in[2], PACKED_NATURAL, panels_of(s.hidden) * NR * gates, &recurrent_fresh);
    if (dx) input = device->packed(device, in[1], PACKED_NATURAL, panels_of(s.features) * NR * gates, &input_fresh);
    dwx = scratch_floats(device, valid * gates_row);
    drh = Cell::one_gradient ? dwx : scratch_floats(device, valid * gates_row);
    products = scratch_floats(device, ranks * Products<1>::size);
    zeros = scratch_floats(device, s.hidden);
    sums = scratch_floats(device, gates);
    x_rows = static_cast<const float**>(device->scratch(device, 2 * valid * sizeof(float*)));
    h_rows = x_rows + valid;
    if (INNER) operands = scratch_floats(device, valid * row);
    dx_rows = static_cast<float**>(device->scratch(device, valid * sizeof(float*)));
    Gemm widest = {};
    widest.n = s.features > s.hidden ? s.features : s.hidden;
    gemm_floats = scratch_floats(device, gemm_scratch(widest, ranks));
    device->parallel(device, ranks, run, this);
  }

 private:
  static void run(void* self, int rank, int) { static_cast<Backward*>(self)->work(rank); }

  void wait() const {
    if (ranks > 1) s.device->barrier(s.device);
  }

  void work(int rank) {
    const Member me = member_of(s, G, rank, ranks);
    begin(rank);
    wait();
    for (int64_t t = s.longest - 1; t >= 0; t--) {
      step(me, t);
      if (me.meets) wait();
      if constexpr (INNER) {
        inner_step(me, t);
        if (me.meets) wait();
      }
    }
    initial_states(me);
    wait();
    results(rank);
  }

  // Packs what is fresh, sets the gradients of the final states, fills what no step writes, and lists the valid rows.
  void begin(int rank) {
    if (rank == 0) clear(zeros, s.hidden);
    if (recurrent_fresh) pack_natural(recurrent, weight_hh, s.hidden, rank);
    if (dx && input_fresh) pack_natural(input, weight_ih, s.features, rank);
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
    const Part steps(s.longest, rank, ranks);
    for (int64_t t = steps.begin; t < steps.end; t++)
      for (int64_t b = 0; b < s.active(t); b++) {
        const int64_t r = s.start[t] + b, place = s.place(b, t);
        const float* h = state_before(0, b, t, 0);
        x_rows[r] = x + place * s.features;
        h_rows[r] = h ? h : zeros;
        if (dx) dx_rows[r] = dx + place * s.features;
      }
  }

  void pack_natural(float* to, const float* weight, int64_t columns, int rank) const {
    Gemm g = {};
    g.n = columns, g.k = gates;
    g.b = {weight, columns, nullptr};
    pack_b(to, gates * NR, g, 0, 0, gates, Part(panels_of(columns), rank, ranks));
  }

  // Value i kept of a unit, state i of a unit after the step at `place`, and before step t (null: zero).
  const float* kept(int64_t place, int i, int64_t unit) const {
    return saved + place * SAVED * s.hidden + tiled(s.hidden, SAVED, i, unit);
  }
  const float* state_at(int i, int64_t place, int64_t unit) const {
    return i == 0 ? y + place * s.hidden + unit : kept(place, KEEP + i - 1, unit);
  }
  const float* state_before(int i, int64_t b, int64_t t, int64_t unit) const {
    if (t > 0) return state_at(i, s.place(b, t - 1), unit);
    return initial[i] ? initial[i] + s.order[b] * s.hidden + unit : nullptr;
  }

  // Calls body(row, product or null, unit, lanes, full) for this member's rows and units: product is what the rows of
  // `a`, whose first `with` rows count, give with weight gates first .. first + count.
  template <class F>
  void for_products(const Member& me, int64_t t, int64_t rows, const float* a, int64_t with, int first, int count,
                    F body) {
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
        for (int i = 0; i < n; i++)
          for (int j = 0; j < group.tiles; j++)
            for_units(group.tile + j, s.hidden, [&](int64_t unit, int lanes, auto full) {
              body(me.row + (r + i) * me.row_step, i < filled ? product.row[i] + j * NR + unit % NR : nullptr, unit,
                   lanes, full);
            });
      }
    }
  }

  void step(const Member& me, int64_t t) {
    const float* after = t + 1 < s.longest ? drh + s.start[t + 1] * gates_row : nullptr;
    for_products(me, t, me.rows(s.active(t)), after, me.rows(s.active(t + 1)), 0, OUTER,
                 [&](int64_t b, const float* product, int64_t unit, int lanes, auto full) {
                   constexpr bool Full = decltype(full)::value;
                   const int64_t place = s.place(b, t), mine = b * row + unit;
                   Vec keep[KEEP + 1], prev[STATES], next[STATES], dnext[STATES], dw[G] = {}, dr[G] = {}, dprev[STATES];
                   load_step<Full>(b, t, unit, lanes, keep, prev);
                   for (int i = 0; i < STATES; i++) {
                     next[i] = i == 0 ? read<Full>(state_at(i, place, unit), lanes)
                                      : read<Full, SAVED>(state_at(i, place, unit), lanes);
                     dnext[i] = load(dstate[i] + mine);
                   }
                   if (product) dnext[0] += load(product);
                   if (dy) dnext[0] += read<Full>(dy + place * s.hidden + unit, lanes);
                   Cell::backward(keep, prev, next, dnext, dw, dr, dprev);
                   for (int i = 0; i < STATES; i++) store(dstate[i] + mine, dprev[i]);
                   store_gates<Full, G>(b, t, unit, lanes, dw, dr);
                 });
  }

  // The gradient of what the second product was taken of, and what the cell makes of it.
  void inner_step(const Member& me, int64_t t) {
    const int64_t rows = me.rows(s.active(t));
    for_products(me, t, rows, drh + s.start[t] * gates_row, rows, OUTER, INNER,
                 [&](int64_t b, const float* product, int64_t unit, int lanes, auto full) {
                   constexpr bool Full = decltype(full)::value;
                   Vec keep[KEEP + 1], prev[STATES], dw[G], dr[G] = {}, dprev[STATES];
                   load_step<Full>(b, t, unit, lanes, keep, prev);
                   const int64_t at = (s.start[t] + b) * gates_row + unit;
                   for (int g = 0; g < G; g++) dw[g] = read<Full>(dwx + at + g * s.hidden, lanes);
                   for (int g = 0; g < G; g++) dr[g] = read<Full>(drh + at + g * s.hidden, lanes);
                   for (int i = 0; i < STATES; i++) dprev[i] = load(dstate[i] + b * row + unit);
                   const Vec doperand = load(product);
                   store(operands + (s.start[t] + b) * row + unit, keep[Cell::operand]);
                   Cell::inner_backward(keep, prev, &doperand, dw, dr, dprev);
                   for (int i = 0; i < STATES; i++) store(dstate[i] + b * row + unit, dprev[i]);
                   store_gates<Full, OUTER>(b, t, unit, lanes, dw, dr);
                 });
  }

  template <bool Full>
  THROUGHTIME_INLINE void load_step(int64_t b, int64_t t, int64_t unit, int lanes, Vec* keep, Vec* prev) const {
    for (int i = 0; i < KEEP; i++) keep[i] = read<Full, SAVED>(kept(s.place(b, t), i, unit), lanes);
    for (int i = 0; i < STATES; i++) {
      const float* before = state_before(i, b, t, unit);
      prev[i] = !before ? Vec{} : i == 0 ? read<Full>(before, lanes) : read<Full, SAVED>(before, lanes);
    }
  }

  template <bool Full, int COUNT>
  THROUGHTIME_INLINE void store_gates(int64_t b, int64_t t, int64_t unit, int lanes, const Vec* dw, const Vec* dr) {
    const int64_t at = (s.start[t] + b) * gates_row + unit;
    for (int g = 0; g < COUNT; g++) write<Full>(dwx + at + g * s.hidden, dw[g], lanes);
    if (!Cell::one_gradient)
      for (int g = 0; g < COUNT; g++) write<Full>(drh + at + g * s.hidden, dr[g], lanes);
  }

  void initial_states(const Member& me) {
    for (int i = 0; i < STATES; i++) {
      if (!dinitial[i]) continue;
      const int64_t with = i == 0 ? me.rows(s.active(0)) : 0;
      for_products(me, 0, me.rows(s.n), drh, with, 0, OUTER,
                   [&](int64_t b, const float* product, int64_t unit, int lanes, auto full) {
                     const Vec direct = load(dstate[i] + b * row + unit);
                     write<decltype(full)::value>(dinitial[i] + s.order[b] * s.hidden + unit,
                                                  product ? direct + load(product) : direct, lanes);
                   });
    }
  }

  // Products over all valid rows, and column sums.
  void results(int rank) {
    Gemm g = {};
    g.k = valid;
    g.a_transposed = true;
    if (dweight_ih) {
      g.m = gates, g.n = s.features;
      g.a = {dwx, gates_row, nullptr};
      g.b = {nullptr, 0, x_rows};
      g.c = dweight_ih, g.c_stride = s.features;
      gemm(g, gemm_floats, rank, ranks, s.device);
    }
    if (dweight_hh) {
      g.m = OUTER * s.hidden, g.n = s.hidden;
      g.a = {drh, gates_row, nullptr};
      g.b = {nullptr, 0, h_rows};
      g.c = dweight_hh, g.c_stride = s.hidden;
      gemm(g, gemm_floats, rank, ranks, s.device);
    }
    if (INNER && dweight_hh) {
      g.m = INNER * s.hidden;
      g.a.first = drh + OUTER * s.hidden;
      g.b = {operands, row, nullptr};
      g.c = dweight_hh + OUTER * s.hidden * s.hidden;
      gemm(g, gemm_floats, rank, ranks, s.device);
    }
    if (dx) {
      g.m = valid, g.n = s.features, g.k = gates;
      g.a = {dwx, gates_row, nullptr}, g.a_transposed = false;
      g.packed = input;
      g.c_rows = dx_rows;
      gemm(g, gemm_floats, rank, ranks, s.device);
    }
    const Part columns(gates, rank, ranks);
    if (dbias_ih) sum_columns(dbias_ih, dwx, columns);
    if (dbias_hh && dbias_ih && Cell::one_gradient)
      copy(dbias_hh + columns.begin, dbias_ih + columns.begin, columns.end - columns.begin);
    else if (dbias_hh)
      sum_columns(dbias_hh, drh, columns);
  }

  // In stretches of KC rows, each added to the total in turn, as gemm does.
  void sum_columns(float* total, const float* from, Part columns) {
    clear(total + columns.begin, columns.end - columns.begin);
    for (int64_t first = 0; first < valid; first += KC) {
      clear(sums + columns.begin, columns.end - columns.begin);
      for (int64_t r = first; r < least(first + KC, valid); r++)
        for (int64_t j = columns.begin; j < columns.end; j++) sums[j] += from[r * gates_row + j];
      for (int64_t j = columns.begin; j < columns.end; j++) total[j] += sums[j];
    }
  }

  Sweep s;
  int ranks;
  int64_t gates, valid;    // G * H, and the number of valid (row, step) pairs
  int64_t row, gates_row;  // floats between rows of dstate, and of dwx and drh
  const float *dy, *dfinal[STATES];
  const float *x, *weight_ih, *weight_hh, *initial[STATES], *y, *saved;
  float *dx, *dweight_ih, *dweight_hh, *dbias_ih, *dbias_hh, *dinitial[STATES];
  float* recurrent;        // U in panels of its columns
  float* input = nullptr;  // W the same
  bool recurrent_fresh, input_fresh = false;
  float* dstate[STATES];  // [n][row] gradients of the states after the step at hand
  float *dwx, *drh;       // [valid][gates_row]
  float *products, *zeros, *sums, *gemm_floats;
  const float **x_rows, **h_rows;  // [valid]
  float* operands = nullptr;       // [valid][row] what the second products were taken of
  float** dx_rows;
};

}  // namespace
}  // namespace throughtime
