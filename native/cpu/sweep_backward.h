// A cell backward through time, in chunks of steps from the last to the first. The sweep through a chunk gives the
// gradients of the gates at its steps; while they are near, the frame makes the others of them.
#pragma once
#include "backward_frame.h"
#include "recompute.h"

namespace throughtime {
namespace {

template <class Cell>
class Backward : BackwardFrame {
  static constexpr int G = Cell::gates, INNER = Cell::inner_gates, OUTER = G - INNER, STATES = Cell::states;
  static constexpr int KEEP = Cell::saved, SAVED = KEEP + STATES - 1;

 public:
  Backward(const Args& args, Device* device) : BackwardFrame(shape_of<Cell>, args, device) {
    if (checkpoint)
      again.prepare(s, args.in + outputs_of(shape, args), precision_of(args, shape.states), capacity, ranks);
  }

  void run() {
    s.device->parallel(
        s.device, ranks,
        [](void* shared, int rank, int) {
          Backward& self = *static_cast<Backward*>(shared);
          self.work(self, rank);
        },
        this);
  }

 private:
  friend BackwardFrame;

  void begin(int rank) {
    BackwardFrame::begin(rank);
    if (checkpoint) again.begin(rank, ranks);
  }

  __attribute__((noinline)) void recompute(const Chunk& chunk, int rank) {
    const float* const* states[STATES];
    states[0] = h_rows + rank * capacity;
    for (int i = 1; i < STATES; i++) {
      const float** rows = again.state_rows(i, rank);
      states[i] = rows;
      for (int64_t t = chunk.from; t < chunk.to; t++)
        for (int64_t b = 0; b < s.active(t); b++) *rows++ = state_before(i, b, t);
    }
    const Part rows(chunk.rows, rank, ranks);
    again.run(s, rows, x_rows + rank * capacity, states, chunk.operand, row, rank);
  }

  // Where the numbers of a row are at a step, units one after another, but `keep` tile by tile.
  struct At {
    const float *keep, *dy, *before[STATES], *now[STATES];
    float *dstate[STATES], *dwx, *drh;
  };

  At at(const Chunk& chunk, int64_t b, int64_t t) const {
    const int64_t place = s.place(b, t), r = first_row(chunk, t) + b;
    At at;
    at.keep = checkpoint ? again.keep(r) : saved + place * SAVED * s.hidden;
    at.dy = dy ? dy + place * s.hidden : zeros;
    for (int i = 0; i < STATES; i++) {
      at.before[i] = state_before(i, b, t);
      at.now[i] = state_at(i, place);
      at.dstate[i] = dstate_at(i, b);
    }
    at.dwx = chunk.dwx + r * gates_row;
    at.drh = chunk.drh + r * gates_row;
    return at;
  }

  void step(const Member& me, const Chunk& chunk, int64_t t, const float* after) {
    for_products(
        me, recurrent, after, gates_row, t, me.rows(s.active(t)), me.rows(s.active(t + 1)),
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
          Cell::backward(keep, prev, next, dnext, dw, dr, dprev, NoStages(), static_cast<Vec*>(nullptr));
          for (int i = 0; i < STATES; i++) store(at.dstate[i] + unit, dprev[i]);
          store_gates<Full, G>(at, unit, lanes, dw, dr);
        });
  }

  // The gradient of what the second product was taken of, and what the cell makes of it.
  void inner_step(const Member& me, const Chunk& chunk, int64_t t) {
    if constexpr (INNER > 0) inner_step_of(me, chunk, t);
  }
  void inner_step_of(const Member& me, const Chunk& chunk, int64_t t) {
    const int64_t rows = me.rows(s.active(t)), start = first_row(chunk, t);
    struct InnerAt : At {
      float* operand;
    };
    for_products(
        me, inner, chunk.drh + start * gates_row + OUTER * s.hidden, gates_row, t, rows, rows,
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

  Recompute<Cell> again;
};

}  // namespace
}  // namespace throughtime
