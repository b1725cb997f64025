// Recurrences that are linear in their state, channel by channel: one driver runs any rule through time, forward and,
// through the gradient of the state, backward. A rule is copied into a kernel and says:
//
//   using In, State, Effect;                    what a step reads; what many steps make of the state before them
//   State start(row, d);                        before the first step
//   In load(const Step&);
//   State next(const In&, State before);
//   void put(const Step&, const In&, State before, State after);
//   void finish(row, d, State);                 after the last valid step
//   void clear(t, d);                           behind a row's end
//   Effect none(d);  Effect then(Effect, const In&);  State apply(Effect, State);
//
// Where there are too few channels to fill a GPU, time is cut into chunks: the effect of each, the states between them
// one after another, then the steps of all chunks at once.
#pragma once
#include "scan.h"

namespace throughtime {
namespace {

// Step s of `length` of a row, which lies at t of all N * T, and a channel.
struct Step {
  int64_t row, d, s, t, length;
};

// Steps whose inputs are fetched before the state passes over them.
constexpr int kAhead = 8;

template <class Rule, class F>
DEVICE void each_step(const ScanShape& shape, const Rule& rule, Step step, int64_t begin, int64_t end, const F& body) {
  for (int64_t from = begin; from < end; from += kAhead) {
    typename Rule::In in[kAhead] = {};
    for (int i = 0; i < kAhead; i++)
      if (from + i < end) {
        step.s = from + i, step.t = shape.at(step.row, step.s, step.length);
        in[i] = rule.load(step);
      }
    for (int i = 0; i < kAhead; i++)
      if (from + i < end) {
        step.s = from + i, step.t = shape.at(step.row, step.s, step.length);
        body(step, in[i]);
      }
  }
}

// Steps of a chunk.
inline int64_t chunk_of(const ScanShape& shape) {
  constexpr int64_t kShortest = 16, kEnough = 1 << 14, kWanted = 1 << 16;
  if (shape.channels() >= kEnough || shape.steps <= kShortest) return shape.steps > 0 ? shape.steps : 1;
  int64_t chunk = ceil_div(shape.steps * shape.channels(), kWanted);
  if (chunk < kShortest) chunk = kShortest;
  // As many steps in a chunk as there are chunks, for those also follow each other.
  while (chunk * chunk < shape.steps) chunk++;
  return chunk;
}

template <class Rule>
void linear_scan(Device* device, const ScanShape& shape, const Rule& rule) {
  const int64_t chunk = chunk_of(shape), chunks = shape.steps > 0 ? ceil_div(shape.steps, chunk) : 1;
  const int64_t width = shape.width;
  typename Rule::State* starts = nullptr;  // [N, chunks, D]
  if (chunks > 1) {
    auto* effects = scratch<typename Rule::Effect>(device, shape.channels() * chunks);
    starts = scratch<typename Rule::State>(device, shape.channels() * chunks);
    for_each(device, shape.channels() * chunks, [=] __device__(int64_t unit) {
      const int64_t row = unit / width / chunks, begin = unit / width % chunks * chunk, length = shape.valid(row);
      const Step step = {row, unit % width, 0, 0, length};
      typename Rule::Effect effect = rule.none(step.d);
      each_step(shape, rule, step, begin, least(begin + chunk, length),
                [&](const Step&, const typename Rule::In& in) { effect = rule.then(effect, in); });
      effects[unit] = effect;
    });
    for_each(device, shape.channels(), [=] __device__(int64_t unit) {
      const int64_t row = unit / width, d = unit % width;
      typename Rule::State state = rule.start(row, d);
      for (int64_t c = 0; c < chunks; c++) {
        const int64_t at = (row * chunks + c) * width + d;
        starts[at] = state;
        state = rule.apply(effects[at], state);
      }
    });
  }
  for_each(device, shape.channels() * chunks, [=] __device__(int64_t unit) {
    const int64_t row = unit / width / chunks, c = unit / width % chunks, length = shape.valid(row);
    const Step step = {row, unit % width, 0, 0, length};
    const int64_t begin = c * chunk, end = least(begin + chunk, length);
    typename Rule::State state = starts ? starts[unit] : rule.start(row, step.d);
    each_step(shape, rule, step, begin, end, [&](const Step& now, const typename Rule::In& in) {
      const typename Rule::State before = state;
      state = rule.next(in, before);
      rule.put(now, in, before, state);
    });
    if (c == (length > 0 ? (length - 1) / chunk : 0)) rule.finish(row, step.d, state);
    for (int64_t s = begin < length ? length : begin; s < least(begin + chunk, shape.steps); s++)
      rule.clear(row * shape.steps + s, step.d);
  });
}

}  // namespace
}  // namespace throughtime
