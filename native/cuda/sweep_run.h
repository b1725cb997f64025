// A plain sweep: W x for all steps at once, the cell through time, and backward the products over all steps.
#pragma once
#include "ids.h"
#include "reduce.h"
#include "sweep_steps.h"

namespace throughtime {
namespace {

// W x + b_ih of every place.
inline float* project(Device* device, const SweepArgs& s, int64_t gates) {
  float* wx = scratch<float>(device, s.places() * gates);
  if (s.ids) {
    const SweepArgs a = s;
    launch_check(device, s.ids, s.places(), static_cast<int32_t>(s.table_rows), false, 0);
    for_each(device, s.places() * gates, [=] __device__(int64_t i) {
      const int32_t id = a.ids[i / gates];
      const float row = id >= 0 && id < a.table_rows ? a.x[id * gates + i % gates] : 0.0f;
      wx[i] = row + (a.bias_ih ? a.bias_ih[i % gates] : 0.0f);
    });
    return wx;
  }
  Product p = {s.places(), gates, s.features, s.x, s.features, 1, s.weight_ih, 1, s.features, wx, gates};
  p.bias = s.bias_ih, p.precision = static_cast<Precision>(s.precision);
  multiply(device, p);
  return wx;
}

inline FusedSweep sweep_of(const SweepArgs& s, bool bf16) {
  FusedSweep sweep = {s.n, s.steps, s.hidden, s.reverse, bf16, s.lengths, s.weight_hh, nullptr, {}};
  for (int i = 0; i < kMostStates; i++) sweep.initial[i] = s.initial[i];
  return sweep;
}

template <class Cell>
void run_forward(const Args& args, Device* device) {
  constexpr int S = Cell::states;
  const SweepArgs s(args, args.in, S);
  if (s.n == 0 || s.hidden == 0) return;
  FusedForward a = {};
  static_cast<FusedSweep&>(a) = sweep_of(s, s.precision == BF16);
  a.bias = s.bias_hh, a.output = data(args.out[0]);
  for (int i = 0; i < S; i++) a.final[i] = data(args.out[1 + i]);
  a.saved = args.outputs > 1 + S ? data(args.out[1 + S]) : nullptr;
  a.wx = project(device, s, Cell::gates * s.hidden);
  if constexpr (can_fuse<Cell>) {
    TeamPlan plan;
    if (s.precision != INT8 && plan_team(device, {Cell::gates, S}, a, false, &plan))
      return launch_forward<Cell>(device, a, plan);
  }
  forward_steps<Cell>(device, a, a.final, static_cast<Precision>(s.precision));
}

// The state or, of a cell with a second product, the operand that the gates of a place were given; 0 behind a row's
// end.
struct GivenTo {
  FusedSweep sweep;
  const float* kept;  // [places][rows][hidden], of the operand; null: h
  int64_t rows;
  DEVICE float operator()(int64_t place, int64_t u) const {
    const Row row = row_of(sweep, place / sweep.steps);
    const int64_t t = place % sweep.steps;
    if (t >= row.length) return 0.0f;
    if (kept) return kept[place * rows * sweep.hidden + u];
    const bool first = sweep.reverse ? t == row.length - 1 : t == 0;
    if (!first) return sweep.y[(place + (sweep.reverse ? 1 : -1)) * sweep.hidden + u];
    return sweep.initial[0] ? sweep.initial[0][row.n * sweep.hidden + u] : 0.0f;
  }
};

// [rows of the gates][columns] of a weight's gradient, summed over all places.
inline void weight_gradient(Device* device, int64_t places, const float* dgates, int64_t all, int64_t rows,
                            const float* given, int64_t columns, Precision precision, float* to) {
  Product p = {rows, columns, places, dgates, 1, all, given, columns, 1, to, columns};
  p.precision = precision;
  multiply(device, p);
}

template <class Cell>
void recurrent_gradient(Device* device, const FusedBackward& a, Precision precision, float* to) {
  constexpr int G = Cell::gates, OUTER = G - Cell::inner_gates, KEPT = Cell::saved + Cell::states - 1;
  const int64_t places = a.n * a.steps, hidden = a.hidden;
  const float* dgates = Cell::one_gradient ? a.dwx : a.drh;
  float* given = scratch<float>(device, places * hidden);
  const auto gradient = [&](const GivenTo& to_gates, int first, int count) {
    if (count == 0) return;
    for_each(device, places * hidden, [=] __device__(int64_t i) { given[i] = to_gates(i / hidden, i % hidden); });
    weight_gradient(device, places, dgates + first * hidden, G * hidden, count * hidden, given, hidden, precision,
                    to + first * hidden * hidden);
  };
  gradient({a, nullptr, 0}, 0, OUTER);
  if constexpr (OUTER < G) gradient({a, a.saved + Cell::operand * hidden, KEPT}, OUTER, G - OUTER);
}

// The rows of a table that ids chose, each summed in the order of the places.
inline void table_gradient(Device* device, const SweepArgs& s, const float* dwx, float* table) {
  const int64_t count = s.places(), features = s.features;
  const int32_t* ids = s.ids;
  for_each_block(device, s.table_rows, kBlock, kBlock, [=] __device__(int64_t row) {
    unsigned char* mine = shared_memory<unsigned char>();
    float* to = table + row * features;
    for (int64_t f = threadIdx.x; f < features; f += blockDim.x) to[f] = 0.0f;
    for (int64_t first = 0; first < count; first += blockDim.x) {
      const int64_t i = first + threadIdx.x;
      const bool match = i < count && ids[i] == row;
      mine[threadIdx.x] = match;
      if (block_or(match))
        for (unsigned k = 0; k < blockDim.x; k++)
          if (mine[k])
            for (int64_t f = threadIdx.x; f < features; f += blockDim.x) to[f] += dwx[(first + k) * features + f];
      block_sync();
    }
  });
}

// x with zeros behind the rows' ends, where anything may lie.
inline const float* valid_inputs(Device* device, const SweepArgs& s, const FusedSweep& sweep) {
  if (!s.lengths) return s.x;
  float* copy = scratch<float>(device, s.places() * s.features);
  const SweepArgs a = s;
  for_each(device, s.places() * s.features, [=] __device__(int64_t i) {
    const int64_t place = i / a.features;
    copy[i] = place % a.steps < row_of(sweep, place / a.steps).length ? a.x[i] : 0.0f;
  });
  return copy;
}

template <class Cell>
void run_backward(const Args& args, Device* device) {
  constexpr int S = Cell::states, G = Cell::gates;
  Buffer* const* in = args.in + 1 + S;
  const SweepArgs s(args, in, S);
  // The products of gradients are taken in float32 where forward's were of bytes.
  const Precision precision = s.precision == BF16 ? BF16 : FLOAT32;
  Buffer* const* results = in + kOptions + 2 * S;
  FusedBackward a = {};
  static_cast<FusedSweep&>(a) = sweep_of(s, precision == BF16);
  a.y = data(results[0]);
  a.saved = data(results[1 + S]);
  a.dy = data(args.in[0]);
  for (int i = 0; i < S; i++) {
    a.dfinal[i] = data(args.in[1 + i]);
    a.dinitial[i] = data(args.out[kOptions + S + i]);
  }
  const int64_t places = s.places(), gates = G * s.hidden;
  a.dwx = scratch<float>(device, places * gates);
  a.drh = Cell::one_gradient ? nullptr : scratch<float>(device, places * gates);
  TeamPlan plan;
  if (s.n > 0 && s.hidden > 0) {
    bool done = false;
    if constexpr (can_fuse<Cell>)
      if (plan_team(device, {G, S}, a, true, &plan)) launch_backward<Cell>(device, a, plan), done = true;
    if (!done) backward_steps<Cell>(device, a, precision);
  }
  const float* drh = Cell::one_gradient ? a.dwx : a.drh;
  if (float* dx = data(args.out[0])) {
    if (s.ids) {
      table_gradient(device, s, a.dwx, dx);
    } else {
      Product p = {places, s.features, gates, a.dwx, gates, 1, s.weight_ih, s.features, 1, dx, s.features};
      p.precision = precision;
      multiply(device, p);
    }
  }
  if (float* dw = data(args.out[1]))
    weight_gradient(device, places, a.dwx, gates, gates, valid_inputs(device, s, a), s.features, precision, dw);
  if (float* du = data(args.out[2])) recurrent_gradient<Cell>(device, a, precision, du);
  if (float* db = data(args.out[3])) sum_middle(device, a.dwx, 1, places, gates, db);
  if (float* db = data(args.out[4])) sum_middle(device, drh, 1, places, gates, db);
}

// A sweep states how many values of a unit it saves at a step, and that it takes plain calls only.
constexpr int kPlainOnly = 1 << 16;
template <class Cell>
constexpr int sweep_info = kPlainOnly + Cell::saved + Cell::states - 1;

#define SWEEP(name, Cell) \
  {"sweep." name, run_forward<Cell>, sweep_info<Cell>}, { "sweep." name ".backward", run_backward<Cell>, 0 }

}  // namespace
}  // namespace throughtime
