// A cell forward through time.
#pragma once
#include "forward_frame.h"

namespace throughtime {
namespace {

template <class Cell>
class Forward : ForwardFrame {
  static constexpr int G = Cell::gates, INNER = Cell::inner_gates, OUTER = G - INNER, STATES = Cell::states;
  static constexpr int KEEP = Cell::saved;

 public:
  Forward(const Args& args, Device* device)
      : ForwardFrame(shape_of<Cell>, args, device), backwards(args.out[0]->version % 2) {}

  void run() {
    if (small) begin(0, 1);
    s.device->parallel(
        s.device, ranks,
        [](void* shared, int rank, int) {
          Forward& self = *static_cast<Forward*>(shared);
          if (!self.small) {
            self.begin(rank, self.ranks);
            self.wait();
          }
          if constexpr (INNER == 0)
            if (self.s.n == 1 && self.s.longest == 1 && self.input.packed && self.s.features > 0 && !self.precision)
              return self.only_step(member_of(self.s, G, rank, self.ranks));
          self.work(self, rank);
        },
        this);
  }

 private:
  friend ForwardFrame;

  void step(const Member& me, int64_t t, int64_t rows, const float* w) {
    if constexpr (INNER > 0) {
      product_step<OUTER, true>(me, outer, h[t % 2], t, rows, w);
      if (me.meets) wait();
      product_step<INNER, false>(me, inner, operand, t, rows, w);
    } else {
      product_step<OUTER, false>(me, outer, h[t % 2], t, rows, w);
    }
  }

  // The one step of one row, as a stream takes it: everything about a tile at once, in a single pass over the weights.
  // Every other call goes backwards, to begin with the weights that the call before left in the cache.
  void only_step(const Member& me) {
    const auto fill = [](float* to, const float* a, const Gates& gates, Group group) {
      Products<G> product;
      product.fill(to, a, 0, 1, gates.panel(group.tile), gates.panel_size(), group.tiles * G,
                   (narrow_panel(gates.hidden) - group.tile) * G, gates.width, gates.panel_bias(group.tile));
    };
    float* product = products + me.rank * products_size();
    const At here = at(0, 0, wx);
    const Groups groups(me.tiles, 1, G, backwards);
    for (int64_t k = 0; k < groups.count(); k++) {
      const Group group = groups[k];
      fill(wx + group.tile * G * NR, x, input, group);
      fill(product, h[0], outer, group);
      for (int j = 0; j < group.tiles; j++)
        for_units(group.tile + j, s.hidden, [&](int64_t unit, int lanes, auto full) {
          units<OUTER, false, decltype(full)::value>(here, product + j * G * NR + unit % NR, unit, lanes);
        });
    }
  }

  // The recurrent product of this member's rows and tiles with COUNT gates, and what the cell makes of it.
  template <int COUNT, bool FIRST_OF_TWO>
  void product_step(const Member& me, const Gates& gates, const float* a, int64_t t, int64_t rows, const float* w) {
    for_products<COUNT>(
        me, gates, a, row, t, rows, [&](int64_t i) { return at(me.row + i * me.row_step, t, w + i * wx_row); },
        [&](const At& at, const float* product, int64_t unit, int lanes, auto full) {
          units<COUNT, FIRST_OF_TWO, decltype(full)::value>(at, product, unit, lanes);
        });
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
    const int64_t kept = checkpoint ? 0 : KEEP;
    at.saved = saved ? saved + place * (kept + STATES - 1) * s.hidden : nullptr;
    at.operand = INNER ? operand + b * row : nullptr;
    at.keeps = INNER ? keeps + b * KEEP * row : nullptr;
    for (int i = 0; i < STATES; i++) {
      at.state[i] = i > 0 ? state[i] + b * row : nullptr;
      at.kept_state[i] = i > 0 && saved ? at.saved + (kept + i - 1) * s.hidden : nullptr;
      at.final[i] = final[i] + s.order[b] * s.hidden;
    }
    at.last = t + 1 == s.length[b];
    return at;
  }

  template <int COUNT, bool FIRST_OF_TWO, bool Full>
  THROUGHTIME_INLINE void units(const At& at, const float* product, int64_t unit, int lanes) {
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
    Cell::forward(wx, rh, prev, next, keep, NoStages());
    store(at.after + unit, next[0]);
    write<Full>(at.y + unit, next[0], lanes);
    for (int i = 1; i < STATES; i++) store(at.state[i] + unit, next[i]);
    if (at.last)
      for (int i = 0; i < STATES; i++) write<Full>(at.final[i] + unit, next[i], lanes);
    if (!at.saved) return;
    float* to = at.saved + tiled(KEEP, unit);
    for (int i = 0; i < KEEP && !checkpoint; i++)
      write<Full, KEEP>(to + i * tile_width(s.hidden, unit), keep[i], lanes);
    for (int i = 1; i < STATES; i++) write<Full>(at.kept_state[i] + unit, next[i], lanes);
  }

  const bool backwards;  // this call, if it is one step
};

}  // namespace
}  // namespace throughtime
