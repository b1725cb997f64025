// The rows of a weight that belong to some gates, arranged for a sweep: a tile's gates lie together.
#pragma once
#include "reduced_panels.h"
#include "sweep.h"

namespace throughtime {
namespace {

// Panel tile * count + gate of `packed` and of `bias` holds NR units of one gate; what is past the last unit is zero.
struct Gates {
  const float* weight;  // [all gates * hidden][width]
  int64_t hidden, width;
  int first, count;
  float* packed;
  float* bias;  // null: none
  bool fresh;   // `packed` has yet to be filled
  Precision precision;

  ReducedPanels reduced() const { return {precision, packed, (hidden + NR - 1) / NR * count, width}; }

  const float* panel(int64_t tile) const { return packed + tile * count * width * NR; }
  int64_t panel_size() const { return width * NR; }
  const float* panel_bias(int64_t tile) const { return bias ? bias + tile * count * NR : nullptr; }

  __attribute__((noinline)) void pack(Part tiles) const {
    for (int64_t tile = tiles.begin; tile < tiles.end; tile++)
      for (int gate = 0; gate < count; gate++)
        if (precision)
          reduced().pack(tile * count + gate, weight + ((first + gate) * hidden + tile * NR) * width,
                         (int)least(NR, hidden - tile * NR));
        else
          pack_panel_transposed(packed + (tile * count + gate) * panel_size(),
                                {weight + (first + gate) * hidden * width, width, nullptr}, 0, width, tile * NR,
                                (int)least(NR, hidden - tile * NR));
  }

  // Of a product with all panels, that of some panels and of n rows from `row` on.
  __attribute__((noinline)) ReducedProduct part(ReducedProduct p, int64_t panel, int count, int64_t row, int n) const {
    const ReducedPanels all = reduced();
    p.a += row * p.a_stride, p.a_scale += row;
    p.rows = n, p.panels = count, p.columns = (int64_t)count * NR;
    p.narrow = (int)(narrow_panel(hidden) * this->count - panel);
    p.b = all.panel(panel), p.b_scale = all.scale(panel), p.b_sum = all.sum(panel);
    p.after = all.panel(panel + count);
    return p;
  }

  void pack_bias(const float* from) const {
    float* to = bias;
    for (int64_t unit = 0; unit < hidden; unit += NR)
      for (int gate = first; gate < first + count; gate++, to += NR) {
        const int64_t n = least(NR, hidden - unit);
        store(to, load_upto(from + gate * hidden + unit, n));
        store(to + kLanes, load_upto(from + gate * hidden + unit + kLanes, n - kLanes));
      }
  }
};

// A row of W x, gate after gate, with the bias in the order of some tiles: what the product with their panels gives.
__attribute__((noinline)) inline void arrange_row(const Gates& gates, int64_t first, int64_t tiles, const float* from,
                                                  float* to) {
  for (int64_t tile = first; tile < first + tiles; tile++)
    for (int gate = 0; gate < gates.count; gate++, to += NR) {
      const float* bias = gates.bias ? gates.bias + (tile * gates.count + gate) * NR : nullptr;
      const int64_t left = gates.hidden - tile * NR;
      for (int64_t at = 0; at < NR; at += kLanes)
        store(to + at,
              load_upto(from + gate * gates.hidden + tile * NR + at, left - at) + (bias ? load(bias + at) : Vec{}));
    }
}

// Without a weight, the bias alone is arranged.
__attribute__((noinline)) inline Gates gates_of(const Sweep& s, Buffer* weight, int64_t width, Buffer* bias, int first,
                                                int count, Precision precision = FLOAT32) {
  Gates gates = {data(weight), s.hidden, width, first, count, nullptr, nullptr, false, precision};
  if (count == 0) return gates;
  const int64_t panels = s.tiles() * count;
  const int64_t key = PACKED_GATES + first * 8 + count;
  if (weight)
    gates.packed = s.device->packed(
        s.device, weight, key + precision * PACKED_GATES_APART,
        precision ? ReducedPanels::floats(precision, panels, width) : panels * gates.panel_size(), &gates.fresh);
  bool fresh = false;
  if (bias) gates.bias = s.device->packed(s.device, bias, key, panels * NR, &fresh);
  if (fresh) gates.pack_bias(data(bias));
  return gates;
}

}  // namespace
}  // namespace throughtime
