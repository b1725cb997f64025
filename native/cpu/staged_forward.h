// A cell forward through time with stages around it: masks, clipping, layer normalisation of the recurrent product and
// of a state, a projection. Threads that share rows wait for each other before whatever reads a whole row.
#pragma once
#include "staged_forward_frame.h"

namespace throughtime {
namespace {

template <class Cell>
class StagedForward : StagedForwardFrame {
  static constexpr int G = Cell::gates, INNER = Cell::inner_gates, OUTER = G - INNER, STATES = Cell::states;
  static constexpr int KEEP = Cell::saved, VECTORS = Cell::vectors, NORMED = Cell::normed;

 public:
  StagedForward(const Args& args, Device* device) : StagedForwardFrame(shape_of<Cell>, args, device) {}

  void run() {
    s.device->parallel(
        s.device, ranks,
        [](void* shared, int rank, int) {
          StagedForward& self = *static_cast<StagedForward*>(shared);
          self.begin(rank);
          self.wait();
          self.work(self, rank);
        },
        this);
  }

 private:
  friend ForwardFrame;

  // Where the numbers of a row are at a step, units one after another, but `wx` and what is kept tile by tile.
  struct At {
    int64_t b, place;
    const float *wx, *before, *read, *drop, *next_drop, *update[STATES];
    float *after, *next_read, *state[STATES], *final[STATES], *saved;
    bool last;
  };

  At at(int64_t b, int64_t t, const float* wx) const {
    At at;
    at.b = b, at.place = s.place(b, t);
    at.last = t + 1 == s.length[b];
    at.wx = wx;
    at.before = h[t % 2] + b * h_row;
    at.after = h[(t + 1) % 2] + b * h_row;
    at.read = stages.drop_hidden ? dropped[t % 2] + b * h_row : at.before;
    at.next_read = stages.drop_hidden ? dropped[(t + 1) % 2] + b * h_row : nullptr;
    at.drop = stages.drop_candidate.at(s, b, t);
    at.next_drop = at.last ? nullptr : stages.drop_hidden.at(s, b, t + 1);
    at.saved = saved ? saved + at.place * kept.rows * s.hidden : nullptr;
    for (int i = 0; i < STATES; i++) {
      at.update[i] = stages.update[i].at(s, b, t);
      at.state[i] = i > 0 ? state[i] + b * row : nullptr;
      at.final[i] = final[i] + s.order[b] * (i == 0 ? s.width : s.hidden);
    }
    return at;
  }

  void step(const Member& me, int64_t t, int64_t rows, const float* w) {
    const auto row_at = [&](int64_t i) { return at(me.row + i * me.row_step, t, w + i * wx_row); };
    const float* read_from = stages.drop_hidden ? dropped[t % 2] : h[t % 2];
    if constexpr (Cell::diagonal) {
      for (int64_t i = 0; i < rows; i++)
        for_tiles(me.tiles, s.hidden, row_at(i), [&](const At& at, int64_t unit, int lanes, auto full) {
          constexpr bool Full = decltype(full)::value;
          Vec rh[G];
          for (int g = 0; g < G; g++) {
            rh[g] = load(at.read + unit) * read<Full>(unit_weight + g * s.hidden + unit, lanes);
            if (unit_bias) rh[g] += read<Full>(unit_bias + g * s.hidden + unit, lanes);
          }
          cell_step<Full>(at, rh, unit, lanes);
        });
    } else if constexpr (INNER > 0) {
      for_products<OUTER, false>(me, outer, read_from, h_row, t, rows, row_at,
                                 [&](const At& at, const float* product, int64_t unit, int lanes, auto full) {
                                   inner_operand<decltype(full)::value>(at, t, product, unit, lanes);
                                 });
      if (me.meets) wait();
      for_products<INNER, false>(me, inner, operand, row, t, rows, row_at,
                                 [&](const At& at, const float* product, int64_t unit, int lanes, auto full) {
                                   Vec rh[G];
                                   for (int g = 0; g < INNER; g++) rh[OUTER + g] = load(product + g * NR);
                                   cell_step<decltype(full)::value>(at, rh, unit, lanes);
                                 });
    } else {
      for_products<G, false>(me, outer, read_from, h_row, t, rows, row_at,
                             [&](const At& at, const float* product, int64_t unit, int lanes, auto full) {
                               constexpr bool Full = decltype(full)::value;
                               Vec rh[G];
                               for (int g = 0; g < G; g++) rh[g] = load(product + g * NR);
                               if (!stages.gain) return cell_step<Full>(at, rh, unit, lanes);
                               for (int g = 0; g < G; g++)
                                 write<Full>(sums + at.b * sums_row() + g * s.hidden + unit, rh[g], lanes);
                             });
    }
    if (stages.gain) {
      if (me.meets) wait();
      normalise(me, rows, row_at);
    }
    if constexpr (NORMED > 0)
      if (stages.gain_c) {
        if (me.meets) wait();
        give_output(me, rows, row_at);
      }
    if (!stages.weight_hr) return;
    if (me.meets) wait();
    Member some = me;
    some.tiles = me.share(panels_of(s.width));
    for_products<1, false>(
        some, projection, given, row, t, rows, row_at,
        [&](const At& at, const float* product, int64_t unit, int lanes, auto full) {
          constexpr bool Full = decltype(full)::value;
          emit<Full>(at, blend<Full>(at.update[0], load(product), load(at.before + unit), unit, lanes), unit, lanes);
        });
  }

  // What the second product is taken of.
  template <bool Full>
  __attribute__((noinline)) void inner_operand(const At& at, int64_t t, const float* product, int64_t unit, int lanes) {
    if constexpr (INNER > 0) {
      Vec wx[G], rh[G], prev[STATES], keep[KEEP + 1] = {};
      load_before(at, unit, wx, prev);
      for (int g = 0; g < OUTER; g++) rh[g] = load(product + g * NR);
      Cell::inner(wx, rh, prev, keep);
      for (int i = 0; i < KEEP; i++) store(keeps + (at.b * KEEP + i) * row + unit, keep[i]);
      const float* mask = stages.drop_hidden.at(s, at.b, t);
      const Vec whole = keep[Cell::operand];
      store(operand + at.b * row + unit, mask ? whole * read<Full>(mask + unit, lanes) : whole);
    }
  }

  THROUGHTIME_INLINE void load_before(const At& at, int64_t unit, Vec* wx, Vec* prev) const {
    for (int g = 0; g < G; g++) wx[g] = read<true, G>(at.wx + tiled(G, unit) + g * NR, kLanes);
    prev[0] = stages.weight_hr ? Vec{} : load(at.before + unit);
    for (int i = 1; i < STATES; i++) prev[i] = load(at.state[i] + unit);
  }

  template <bool Full>
  __attribute__((noinline)) void cell_step(const At& at, const Vec* rh, int64_t unit, int lanes) {
    Vec wx[G], prev[STATES], next[STATES], keep[KEEP + 1] = {};
    load_before(at, unit, wx, prev);
    const auto around = unit_stages<Full, VECTORS>(stages, at.drop, s.hidden, unit, lanes);
    float* keep_at = keeps + at.b * KEEP * row + unit;
    if constexpr (NORMED > 0)
      if (stages.gain_c) {
        Cell::state(wx, rh, prev, next, keep, around);
        for (int i = 0; i < KEEP; i++) store(keep_at + i * row, keep[i]);
        write<Full>(raw + at.b * row + unit, next[NORMED], lanes);
        return;
      }
    if constexpr (INNER > 0)
      for (int i = 0; i < KEEP; i++) keep[i] = load(keep_at + i * row);
    Cell::forward(wx, rh, prev, next, keep, around);
    finish<Full>(at, prev, next, next, keep, unit, lanes);
  }

  template <class R>
  void normalise(const Member& me, int64_t rows, R row_at) {
    for (int64_t i = 0; i < rows; i++) {
      const At at = row_at(i);
      const float* from = sums + at.b * sums_row();
      const Moments m = moments(from, G * s.hidden);
      if (deviations && me.part == 0) deviations[at.place * 2] = m.rstd;
      for_tiles(me.tiles, s.hidden, at, [&](const At& at, int64_t unit, int lanes, auto full) {
        constexpr bool Full = decltype(full)::value;
        Vec rh[G];
        for (int g = 0; g < G; g++) {
          const Vec x_hat = (read<Full>(from + g * s.hidden + unit, lanes) - m.mean) * m.rstd;
          if (saved) write<Full>(at.saved + (kept.gates + g) * s.hidden + unit, x_hat, lanes);
          const int64_t vector = tiled(G, unit) + g * NR;
          rh[g] = x_hat * load(gain + vector);
          if (shift) rh[g] += load(shift + vector);
        }
        cell_step<Full>(at, rh, unit, lanes);
      });
    }
  }

  // The cell's output from its normalised state.
  template <class R>
  void give_output(const Member& me, int64_t rows, R row_at) {
    for (int64_t i = 0; i < rows; i++) {
      const At at = row_at(i);
      const float* from = raw + at.b * row;
      const Moments m = moments(from, s.hidden);
      if (deviations && me.part == 0) deviations[at.place * 2 + 1] = m.rstd;
      for_tiles(me.tiles, s.hidden, at, [&](const At& at, int64_t unit, int lanes, auto full) {
        constexpr bool Full = decltype(full)::value;
        Vec prev[STATES], next[STATES], handed[STATES], keep[KEEP + 1];
        prev[0] = stages.weight_hr ? Vec{} : load(at.before + unit);
        for (int k = 1; k < STATES; k++) prev[k] = next[k] = load(at.state[k] + unit);
        for (int k = 0; k < KEEP; k++) keep[k] = load(keeps + (at.b * KEEP + k) * row + unit);
        next[NORMED] = read<Full>(from + unit, lanes);
        const Vec x_hat = (next[NORMED] - m.mean) * m.rstd;
        if (saved) write<Full>(at.saved + kept.c * s.hidden + unit, x_hat, lanes);
        Vec seen = x_hat * read<Full>(stages.gain_c + unit, lanes);
        if (stages.bias_c) seen += read<Full>(stages.bias_c + unit, lanes);
        if constexpr (NORMED > 0) Cell::output(keep, seen, next);
        for (int k = 0; k < STATES; k++) handed[k] = next[k];
        if (stages.carry_normalised) handed[NORMED] = seen;
        finish<Full>(at, prev, next, handed, keep, unit, lanes);
      });
    }
  }

  // Hands on the states of a step, and saves what backward needs: `given` by the cell, `handed` on but for zoneout.
  template <bool Full>
  __attribute__((noinline)) void finish(const At& at, const Vec* prev, const Vec* given, const Vec* handed,
                                        const Vec* keep, int64_t unit, int lanes) {
    if (at.saved) {
      float* to = at.saved + tiled(KEEP, unit);
      for (int i = 0; i < KEEP; i++) write<Full, KEEP>(to + i * tile_width(s.hidden, unit), keep[i], lanes);
      for (int i = 0; i < STATES; i++) write<Full>(at.saved + (kept.given + i) * s.hidden + unit, given[i], lanes);
    }
    for (int i = 1; i < STATES; i++) {
      const Vec next = blend<Full>(at.update[i], handed[i], prev[i], unit, lanes);
      store(at.state[i] + unit, next);
      if (at.saved) write<Full>(at.saved + (kept.handed + i) * s.hidden + unit, next, lanes);
      if (at.last) write<Full>(at.final[i] + unit, next, lanes);
    }
    if (!stages.weight_hr)
      return emit<Full>(at, blend<Full>(at.update[0], given[0], prev[0], unit, lanes), unit, lanes);
    store(this->given + at.b * row + unit, given[0]);
    write<Full>(hidden + at.place * s.hidden + unit, given[0], lanes);
  }

  // Hands on h, and gives it out.
  template <bool Full>
  THROUGHTIME_INLINE void emit(const At& at, Vec next, int64_t unit, int lanes) {
    store(at.after + unit, next);
    write<Full>(y + at.place * s.width + unit, next, lanes);
    if (at.next_drop) store(at.next_read + unit, next * read<Full>(at.next_drop + unit, lanes));
    if (at.last) write<Full>(at.final[0] + unit, next, lanes);
  }
};

}  // namespace
}  // namespace throughtime
