// One step of a cell whose gates' products are there already: the pointwise part alone, for cells whose products are
// not those of a sweep. ints [rows, units].
#include "isa.h"

#include "math.h"

#include "../cells/lstm.h"
#include "rows.h"

namespace throughtime {
namespace {

constexpr size_t kGrain = 4096;  // units worth a thread of their own

struct Step {
  int64_t units;
  const float *wx, *rh, *c;

  explicit Step(const Args& args, int first)
      : units(args.ints[1]), wx(data(args.in[first])), rh(data(args.in[first + 1])), c(data(args.in[first + 2])) {}

  // Units i to i + lanes of row r: fills next and keep from what the row holds.
  THROUGHTIME_INLINE void forward(int64_t r, int64_t i, int lanes, Vec* prev, Vec* next, Vec* keep) const {
    Vec x[Lstm::gates], h[Lstm::gates];
    for (int gate = 0; gate < Lstm::gates; gate++) {
      const int64_t at = (r * Lstm::gates + gate) * units + i;
      x[gate] = load_lanes(wx + at, lanes), h[gate] = load_lanes(rh + at, lanes);
    }
    prev[Lstm::H] = Vec{}, prev[Lstm::C] = load_lanes(c + r * units + i, lanes);
    Lstm::forward(x, h, prev, next, keep, NoStages());
  }
};

// in: wx, rh [rows, 4 * units], c [rows, units]; out: h, c [rows, units].
void lstm_step(const Args& args, Device* device) {
  const Step step(args, 0);
  float *h = data(args.out[0]), *c = data(args.out[1]);
  for_range(device, args.ints[0], 1 + kGrain / (step.units + 1), [=](size_t begin, size_t end) {
    for (size_t r = begin; r < end; r++)
      row_map(step.units, [=](int64_t i, int lanes) {
        Vec prev[Lstm::states], next[Lstm::states], keep[Lstm::saved];
        step.forward(r, i, lanes, prev, next, keep);
        store_lanes(h + r * step.units + i, next[Lstm::H], lanes);
        store_lanes(c + r * step.units + i, next[Lstm::C], lanes);
      });
  });
}

// The gates are computed again: cheaper than to keep them. in: dh, dc of the new state, each or none, wx, rh, c, and
// the new h and c; out: dwx, drh, dc, each or none.
void lstm_step_backward(const Args& args, Device* device) {
  const Step step(args, 2);
  const float *dh = data(args.in[0]), *dc = data(args.in[1]);
  float *dwx = data(args.out[0]), *drh = data(args.out[1]), *dprev = data(args.out[2]);
  for_range(device, args.ints[0], 1 + kGrain / (step.units + 1), [=](size_t begin, size_t end) {
    for (size_t r = begin; r < end; r++)
      row_map(step.units, [=](int64_t i, int lanes) {
        Vec prev[Lstm::states], next[Lstm::states], keep[Lstm::saved], gates[Lstm::gates], before[Lstm::states];
        step.forward(r, i, lanes, prev, next, keep);
        const int64_t at = r * step.units + i;
        const Vec after[] = {dh ? load_lanes(dh + at, lanes) : Vec{}, dc ? load_lanes(dc + at, lanes) : Vec{}};
        Lstm::backward(keep, prev, next, after, gates, gates, before, NoStages(), static_cast<Vec*>(nullptr));
        for (int gate = 0; gate < Lstm::gates; gate++) {
          const int64_t to = (r * Lstm::gates + gate) * step.units + i;
          if (dwx) store_lanes(dwx + to, gates[gate], lanes);
          if (drh) store_lanes(drh + to, gates[gate], lanes);
        }
        if (dprev) store_lanes(dprev + at, before[Lstm::C], lanes);
      });
  });
}

const KernelEntry entries[] = {
    {"step.lstm", lstm_step, 0},
    {"step.lstm.backward", lstm_step_backward, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_KERNELS(step, entries)
