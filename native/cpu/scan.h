// Recurrences that are linear in their state, channel by channel: one driver runs any rule through time, forward and
// backward. A rule says what one step makes of its input streams and of the state before it:
//
//   static constexpr int streams;       inputs of a step, each [N, T, D]
//   static constexpr float start;       the state before the first step where none is given
//   static Vec forward(const Vec* in, Vec prev);
//   static void backward(const Vec* in, Vec prev, Vec g, Vec* din, Vec* dprev);   g: the gradient of the next state
#pragma once
#include "math.h"
#include "rows.h"

namespace throughtime {
namespace {

// Sizes and what all rules are given. Lengths are valid steps of each row, none for all.
struct ScanShape {
  int64_t rows, steps, width;
  bool reverse;
  const int32_t* lengths;

  THROUGHTIME_INLINE int64_t valid(int64_t row) const {
    if (!lengths) return steps;
    const int64_t length = lengths[row];
    return length < 0 ? 0 : length > steps ? steps : length;
  }
  // The place of step s of `length`, in the order in which they are run.
  THROUGHTIME_INLINE int64_t at(int64_t row, int64_t s, int64_t length) const {
    return row * steps + (reverse ? length - 1 - s : s);
  }
};

// Calls body(row, channel, width) for blocks of channels: all of a row where there are rows enough for the threads, so
// that memory is read in order and the state stays in L1. What a channel gives does not depend on its block.
template <class F>
void for_channels(Device* device, const ScanShape& shape, const F& body) {
  constexpr int64_t kWidest = 1024;
  int64_t blocks = (shape.width + kWidest - 1) / kWidest;
  const int64_t vectors = (shape.width + kLanes - 1) / kLanes;
  const int64_t wanted =
      device->threads > shape.rows ? (device->threads + shape.rows - 1) / (shape.rows + !shape.rows) : 1;
  if (blocks < wanted) blocks = wanted;
  if (blocks > vectors) blocks = vectors;
  if (blocks < 1 || shape.rows < 1) return;
  const int64_t each = (vectors + blocks - 1) / blocks * kLanes;
  const size_t work = static_cast<size_t>((shape.steps + 1) * each);
  for_range(device, static_cast<size_t>(shape.rows * blocks), 1 + 8192 / work, [&](size_t begin, size_t end) {
    for (size_t unit = begin; unit < end; unit++) {
      const int64_t row = static_cast<int64_t>(unit) / blocks, from = static_cast<int64_t>(unit) % blocks * each;
      if (from < shape.width) body(row, from, shape.width - from < each ? shape.width - from : each);
    }
  });
}

// Where the streams of a rule lie: element (row, step, channel) of stream k is at[k][(row * T + step) * stride +
// channel].
template <class Rule, class Float>
struct ScanStreams {
  Float* at[Rule::streams];
  int64_t stride;
};

// initial [N, D] or none; h [N, T, D], zero behind a row's end; last [N, D], the state after the last valid step.
template <class Rule>
void scan_forward(Device* device, const ScanShape& shape, const ScanStreams<Rule, const float>& x, const float* initial,
                  float* h, float* last) {
  for_channels(device, shape, [&](int64_t row, int64_t from, int64_t width) {
    const int64_t length = shape.valid(row), d = shape.width;
    const float* prev = initial ? initial + row * d + from : nullptr;
    for (int64_t s = 0; s < length; s++) {
      const int64_t t = shape.at(row, s, length);
      float* next = h + t * d + from;
      row_map(width, [&](int64_t i, int lanes) {
        Vec in[Rule::streams];
        for (int k = 0; k < Rule::streams; k++) in[k] = load_lanes(x.at[k] + t * x.stride + from + i, lanes);
        store_lanes(next + i, Rule::forward(in, prev ? load_lanes(prev + i, lanes) : splat(Rule::start)), lanes);
      });
      prev = next;
    }
    float* final_state = last + row * d + from;
    row_map(width, [&](int64_t i, int lanes) {
      store_lanes(final_state + i, prev ? load_lanes(prev + i, lanes) : splat(Rule::start), lanes);
    });
    for (int64_t t = length; t < shape.steps; t++)
      __builtin_memset(h + (row * shape.steps + t) * d + from, 0, width * sizeof(float));
  });
}

// dh [N, T, D] and dlast [N, D], each or none; dx (a null stream where no gradient is asked for) and dinitial, or none.
template <class Rule>
void scan_backward(Device* device, const ScanShape& shape, const ScanStreams<Rule, const float>& x,
                   const float* initial, const float* h, const float* dh, const float* dlast,
                   const ScanStreams<Rule, float>& dx, float* dinitial) {
  const int64_t d = shape.width;
  // The gradient of the state between two steps.
  float* carried = static_cast<float*>(device->scratch(device, (shape.rows * d + 1) * sizeof(float)));
  for_channels(device, shape, [&](int64_t row, int64_t from, int64_t width) {
    const int64_t length = shape.valid(row);
    float* carry = carried + row * d + from;
    if (dlast)
      __builtin_memcpy(carry, dlast + row * d + from, width * sizeof(float));
    else
      __builtin_memset(carry, 0, width * sizeof(float));
    for (int64_t s = length - 1; s >= 0; s--) {
      const int64_t t = shape.at(row, s, length);
      const float* prev = s > 0     ? h + shape.at(row, s - 1, length) * d + from
                          : initial ? initial + row * d + from
                                    : nullptr;
      row_map(width, [&](int64_t i, int lanes) {
        Vec in[Rule::streams], din[Rule::streams], dprev;
        for (int k = 0; k < Rule::streams; k++) in[k] = load_lanes(x.at[k] + t * x.stride + from + i, lanes);
        Vec g = load_lanes(carry + i, lanes);
        if (dh) g += load_lanes(dh + t * d + from + i, lanes);
        Rule::backward(in, prev ? load_lanes(prev + i, lanes) : splat(Rule::start), g, din, &dprev);
        for (int k = 0; k < Rule::streams; k++)
          if (dx.at[k]) store_lanes(dx.at[k] + t * dx.stride + from + i, din[k], lanes);
        store_lanes(carry + i, dprev, lanes);
      });
    }
    if (dinitial) __builtin_memcpy(dinitial + row * d + from, carry, width * sizeof(float));
    for (int64_t t = row * shape.steps + length; t < (row + 1) * shape.steps; t++)
      for (int k = 0; k < Rule::streams; k++)
        if (dx.at[k]) __builtin_memset(dx.at[k] + t * dx.stride + from, 0, width * sizeof(float));
  });
}

}  // namespace
}  // namespace throughtime
