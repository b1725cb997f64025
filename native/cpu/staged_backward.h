// A cell with stages around it backward through time; see staged_forward.h for what they are.
#pragma once
#include "staged_backward_frame.h"

namespace throughtime {
namespace {

template <class Cell>
class StagedBackward : StagedBackwardFrame {
  static constexpr int G = Cell::gates, INNER = Cell::inner_gates, OUTER = G - INNER, STATES = Cell::states;
  static constexpr int KEEP = Cell::saved, VECTORS = Cell::vectors, NORMED = Cell::normed;

 public:
  StagedBackward(const Args& args, Device* device) : StagedBackwardFrame(shape_of<Cell>, VECTORS, args, device) {}

  void run() {
    s.device->parallel(
        s.device, ranks,
        [](void* shared, int rank, int) {
          StagedBackward& self = *static_cast<StagedBackward*>(shared);
          self.work(self, rank);
        },
        this);
  }

 private:
  friend BackwardFrame;

  // Where the numbers of a row are at a step, units one after another, but what is kept by tile.
  struct At {
    int64_t b, place, row;
    const float *kept, *drop, *read, *update[STATES], *before[STATES], *next_drop;
    float *dstate[STATES], *dwx, *given, *drh, *summed, *dseen, *dcarried, *dprojected;
  };

  At at(const Chunk& chunk, int64_t b, int64_t t) const {
    const More& more = this->more[chunk.turn];
    At at;
    at.b = b, at.place = s.place(b, t), at.row = first_row(chunk, t) + b;
    at.kept = saved + at.place * kept.rows * s.hidden;
    at.drop = stages.drop_candidate.at(s, b, t);
    at.read = stages.drop_hidden.at(s, b, t);
    at.next_drop = t + 1 < s.length[b] ? stages.drop_hidden.at(s, b, t + 1) : nullptr;
    for (int i = 0; i < STATES; i++) {
      at.update[i] = stages.update[i].at(s, b, t);
      at.dstate[i] = dstate_at(i, b);
      at.before[i] = state_before(i, b, t);
    }
    at.dwx = chunk.dwx + at.row * gates_row;
    at.given = chunk.given + at.row * gates_row;
    at.drh = chunk.drh + at.row * gates_row;
    at.summed = more.summed + at.row * summed * row;
    at.dseen = more.dseen + at.row * row;
    at.dcarried = dcarried + b * row;
    at.dprojected = more.dprojected + at.row * h_row;
    return at;
  }

  // State i of a row as handed to step t.
  const float* state_before(int i, int64_t b, int64_t t) const {
    if (t == 0 || i == 0) return BackwardFrame::state_before(i, b, t);
    return saved + (s.place(b, t - 1) * kept.rows + kept.handed + i) * s.hidden;
  }

  void step(const Member& me, const Chunk& chunk, int64_t t, const float* after) {
    const int64_t rows = me.rows(s.active(t)), running = me.rows(s.active(t + 1));
    const auto row_at = [&](int64_t b) { return at(chunk, b, t); };
    const auto cell_step = [&](const At& at, const float* product, int64_t unit, int lanes, auto full) {
      unit_step<decltype(full)::value>(at, product, unit, lanes);
    };
    if (stages.weight_hr) {
      Member some = me;
      some.tiles = me.share(panels_of(s.width));
      for_products<false>(some, recurrent, after, gates_row, t, rows, running, row_at,
                          [&](const At& at, const float* product, int64_t unit, int lanes, auto full) {
                            constexpr bool Full = decltype(full)::value;
                            const Vec dnext = dh<Full>(at, product, unit, lanes);
                            store(at.dprojected + unit, dnew<Full>(at, 0, dnext, unit, lanes));
                          });
      if (me.meets) wait();
      const float* dprojected = this->more[chunk.turn].dprojected + first_row(chunk, t) * h_row;
      for_products<false>(me, projection, dprojected, h_row, t, rows, rows, row_at, cell_step);
    } else if constexpr (Cell::diagonal) {
      for (int64_t i = 0; i < rows; i++)
        for_tiles(me.tiles, s.hidden, row_at(me.row + i * me.row_step),
                  [&](const At& at, int64_t unit, int lanes, auto full) {
                    unit_step<decltype(full)::value>(at, zeros + unit, unit, lanes);
                  });
    } else {
      for_products<false>(me, recurrent, after, gates_row, t, rows, running, row_at, cell_step);
    }
    if constexpr (NORMED > 0)
      if (stages.gain_c) {
        if (me.meets) wait();
        unnormalise_state(me, rows, row_at);
      }
    if (!stages.gain) return;
    if (me.meets) wait();
    unnormalise_product(me, rows, row_at);
  }

  // The gradient of h after the step: what later steps and the output ask of it.
  template <bool Full>
  THROUGHTIME_INLINE Vec dh(const At& at, const float* product, int64_t unit, int lanes) const {
    Vec through = load(product);
    if (at.next_drop) through *= read<Full>(at.next_drop + unit, lanes);
    const Vec above = dy ? read<Full>(dy + at.place * s.width + unit, lanes) : Vec{};
    return load(at.dstate[0] + unit) + through + above;
  }

  // The gradient of what the cell gave for state i; what zoneout let through goes to the state before.
  template <bool Full>
  THROUGHTIME_INLINE Vec dnew(const At& at, int i, Vec dnext, int64_t unit, int lanes) const {
    Vec passed = {};
    if (at.update[i]) {
      const Vec m = read<Full>(at.update[i] + unit, lanes);
      passed = (1.0f - m) * dnext;
      dnext = m * dnext;
    }
    store(at.dstate[i] + unit, passed);
    return dnext;
  }

  template <bool Full>
  THROUGHTIME_INLINE void load_step(const At& at, int64_t unit, int lanes, Vec* keep, Vec* prev, Vec* given) const {
    const float* from = at.kept + tiled(KEEP, unit);
    for (int i = 0; i < KEEP; i++) keep[i] = read<Full, KEEP>(from + i * tile_width(s.hidden, unit), lanes);
    for (int i = 0; i < STATES; i++) {
      prev[i] = i == 0 && stages.weight_hr ? Vec{} : read<Full>(at.before[i] + unit, lanes);
      given[i] = read<Full>(at.kept + (kept.given + i) * s.hidden + unit, lanes);
    }
  }

  // The cell backward, or only its output if its state is normalised; `product` is what later steps ask of h.
  template <bool Full>
  __attribute__((noinline)) void unit_step(const At& at, const float* product, int64_t unit, int lanes) {
    Vec keep[KEEP + 1], prev[STATES], given[STATES], dnext[STATES], dw[G] = {}, dr[G] = {}, dprev[STATES];
    Vec dvector[VECTORS + 1];
    load_step<Full>(at, unit, lanes, keep, prev, given);
    if (stages.weight_hr) {
      dnext[0] = load(product);
      if (dhidden) dnext[0] += read<Full>(dhidden + at.place * s.hidden + unit, lanes);
    } else {
      dnext[0] = dnew<Full>(at, 0, dh<Full>(at, product, unit, lanes), unit, lanes);
    }
    for (int i = 1; i < STATES; i++) dnext[i] = dnew<Full>(at, i, load(at.dstate[i] + unit), unit, lanes);
    if constexpr (NORMED > 0)
      if (stages.gain_c) {
        Vec seen = read<Full>(at.kept + kept.c * s.hidden + unit, lanes) * read<Full>(stages.gain_c + unit, lanes);
        if (stages.bias_c) seen += read<Full>(stages.bias_c + unit, lanes);
        Vec dseen = Cell::output_backward(keep, seen, dnext, dw);
        if (stages.carry_normalised) dseen += dnext[NORMED];
        write<Full>(at.dseen + unit, dseen, lanes);
        store(at.dcarried + unit, stages.carry_normalised ? Vec{} : dnext[NORMED]);
        for (int g = 0; g < G; g++) write<Full>(at.dwx + g * s.hidden + unit, dw[g], lanes);
        return;
      }
    const auto around = unit_stages<Full, VECTORS>(stages, at.drop, s.hidden, unit, lanes);
    Cell::backward(keep, prev, given, dnext, dw, dr, dprev, around, dvector);
    finish<Full>(at, dw, dr, dprev, dvector, unit, lanes);
  }

  // Through the normalisation of the state, and the cell up to it.
  template <class R>
  void unnormalise_state(const Member& me, int64_t rows, R row_at) {
    for (int64_t i = 0; i < rows; i++) {
      const At at = row_at(me.row + i * me.row_step);
      const float* x_hat = at.kept + kept.c * s.hidden;
      const NormBackward norm = norm_backward(at.dseen, stages.gain_c, x_hat, s.hidden, deviations[at.place * 2 + 1]);
      for_tiles(me.tiles, s.hidden, at, [&](const At& at, int64_t unit, int lanes, auto full) {
        constexpr bool Full = decltype(full)::value;
        Vec keep[KEEP + 1], prev[STATES], given[STATES], dw[G], dr[G] = {}, dprev[STATES], dvector[VECTORS + 1];
        load_step<Full>(at, unit, lanes, keep, prev, given);
        for (int g = 0; g < G; g++) dw[g] = read<Full>(at.dwx + g * s.hidden + unit, lanes);
        const Vec dstate =
            load(at.dcarried + unit) + norm(read<Full>(at.dseen + unit, lanes), read<Full>(stages.gain_c + unit, lanes),
                                            read<Full>(x_hat + unit, lanes));
        const auto around = unit_stages<Full, VECTORS>(stages, at.drop, s.hidden, unit, lanes);
        if constexpr (NORMED > 0) Cell::state_backward(keep, prev, given, dstate, dw, dr, dprev, around, dvector);
        finish<Full>(at, dw, dr, dprev, dvector, unit, lanes);
      });
    }
  }

  // Through the normalisation of the recurrent product.
  template <class R>
  void unnormalise_product(const Member& me, int64_t rows, R row_at) {
    for (int64_t i = 0; i < rows; i++) {
      const At at = row_at(me.row + i * me.row_step);
      const float* x_hat = at.kept + kept.gates * s.hidden;
      const NormBackward norm = norm_backward(at.given, gain, x_hat, gates, deviations[at.place * 2]);
      for_tiles(me.tiles, s.hidden, at, [&](const At& at, int64_t unit, int lanes, auto full) {
        constexpr bool Full = decltype(full)::value;
        for (int g = 0; g < G; g++) {
          const int64_t j = g * s.hidden + unit;
          write<Full>(at.drh + j,
                      norm(read<Full>(at.given + j, lanes), read<Full>(gain + j, lanes), read<Full>(x_hat + j, lanes)),
                      lanes);
        }
      });
    }
  }

  template <bool Full>
  __attribute__((noinline)) void finish(const At& at, const Vec* dw, const Vec* dr, Vec* dprev, const Vec* dvector,
                                        int64_t unit, int lanes) {
    const Vec* drh = Cell::one_gradient ? dw : dr;
    for (int i = 0; i < VECTORS && dvectors; i++) store(at.summed + i * row + unit, dvector[i]);
    if constexpr (Cell::diagonal) {
      const Vec mask = at.read ? read<Full>(at.read + unit, lanes) : splat(1.0f);
      const Vec h = read<Full>(at.before[0] + unit, lanes) * mask;
      for (int g = 0; g < G; g++) {
        store(at.summed + (VECTORS + g) * row + unit, drh[g] * h);
        dprev[0] += drh[g] * read<Full>(unit_weight + g * s.hidden + unit, lanes) * mask;
      }
    }
    for (int i = 0; i < STATES; i++) {
      if (i == 0 && stages.weight_hr) continue;
      store(at.dstate[i] + unit, load(at.dstate[i] + unit) + dprev[i]);
    }
    for (int g = 0; g < G; g++) write<Full>(at.dwx + g * s.hidden + unit, dw[g], lanes);
    if (!Cell::one_gradient)
      for (int g = 0; g < G; g++) write<Full>(at.given + g * s.hidden + unit, dr[g], lanes);
  }

  // The gradient of what the second product was taken of, and what the cell makes of it.
  void inner_step(const Member& me, const Chunk& chunk, int64_t t) {
    if constexpr (INNER > 0) {
      const int64_t rows = me.rows(s.active(t)), start = first_row(chunk, t);
      for_products<false>(
          me, inner, chunk.drh + start * gates_row + OUTER * s.hidden, gates_row, t, rows, rows,
          [&](int64_t b) { return at(chunk, b, t); },
          [&](const At& at, const float* product, int64_t unit, int lanes, auto full) {
            constexpr bool Full = decltype(full)::value;
            Vec keep[KEEP + 1], prev[STATES], given[STATES], dw[G], dr[G], dprev[STATES];
            load_step<Full>(at, unit, lanes, keep, prev, given);
            for (int g = 0; g < G; g++) dw[g] = read<Full>(at.dwx + g * s.hidden + unit, lanes);
            for (int g = 0; g < G; g++) dr[g] = read<Full>(at.drh + g * s.hidden + unit, lanes);
            for (int i = 0; i < STATES; i++) dprev[i] = load(at.dstate[i] + unit);
            const Vec mask = at.read ? read<Full>(at.read + unit, lanes) : splat(1.0f);
            const Vec doperand = load(product) * mask;
            store(chunk.operand + at.row * row + unit, keep[Cell::operand] * mask);
            Cell::inner_backward(keep, prev, &doperand, dw, dr, dprev);
            for (int i = 0; i < STATES; i++) store(at.dstate[i] + unit, dprev[i]);
            for (int g = 0; g < OUTER; g++) write<Full>(at.dwx + g * s.hidden + unit, dw[g], lanes);
            if (!Cell::one_gradient)
              for (int g = 0; g < OUTER; g++) write<Full>(at.drh + g * s.hidden + unit, dr[g], lanes);
          });
    }
  }
};

}  // namespace
}  // namespace throughtime
