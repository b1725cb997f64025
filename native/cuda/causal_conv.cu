// A short convolution of each channel by itself that sees the past only; the kernels of native/cpu/causal_conv.cc:
//   p_t = bias + sum over k < K of w[k] * x_{t - K + 1 + k}      y_t = p_t, or p_t * sigmoid(p_t)
// A thread takes some steps of one channel, so that what they share is in the first cache. ints: N, T, D, K, silu.
#include "scan.h"

namespace throughtime {
namespace {

constexpr int64_t kRun = 16;    // steps of a thread
constexpr int64_t kChunk = 64;  // steps that a gradient of the weights is summed over before it joins the rest

struct Inputs {
  ScanShape shape;
  int64_t taps;
  bool silu;
  const float *x, *weight, *bias, *initial;

  int64_t runs() const { return ceil_div(shape.steps, kRun); }
  // x at step s of a row, from -(K - 1) on.
  DEVICE float moment(int64_t row, int64_t s, int64_t d) const {
    if (s >= 0) return x[(row * shape.steps + s) * shape.width + d];
    return initial ? initial[(row * (taps - 1) + taps - 1 + s) * shape.width + d] : 0.0f;
  }
  DEVICE float sum(int64_t row, int64_t s, int64_t d) const {
    float p = bias ? bias[d] : 0.0f;
    for (int64_t k = 0; k < taps; k++) p += weight[d * taps + k] * moment(row, s - taps + 1 + k, d);
    return p;
  }
};

// `at`: where the inputs begin, in the list of the kernel.
Inputs inputs_of(const Args& args, int at) {
  Buffer* const* in = args.in + at;
  return {{args.ints[0], args.ints[1], args.ints[2], false, integers(in[4])},
          args.ints[3],
          args.ints[4] != 0,
          data(in[0]),
          data(in[1]),
          data(in[2]),
          data(in[3])};
}

// body(row, s, d, at, length) for each step of each channel, `at` its place in [N, T, D].
template <class F>
void each_moment(Device* device, const Inputs& x, const F& body) {
  const int64_t runs = x.runs(), width = x.shape.width;
  const ScanShape shape = x.shape;
  for_each(device, shape.rows * runs * width, [=] __device__(int64_t unit) {
    const int64_t d = unit % width, row = unit / width / runs, from = unit / width % runs * kRun;
    const int64_t length = shape.valid(row);
    for (int64_t s = from; s < least(from + kRun, shape.steps); s++)
      body(row, s, d, (row * shape.steps + s) * width + d, length);
  });
}

// in: x [N, T, D], weight [D, K], bias [D], initial [N, K - 1, D], lengths [N], from the bias on each or none;
// out: y [N, T, D], last [N, K - 1, D], the last K - 1 of what was seen.
void causal_conv(const Args& args, Device* device) {
  const Inputs x = inputs_of(args, 0);
  float *y = data(args.out[0]), *last = data(args.out[1]);
  each_moment(device, x, [=] __device__(int64_t row, int64_t s, int64_t d, int64_t at, int64_t length) {
    const float p = s < length ? x.sum(row, s, d) : 0.0f;
    y[at] = x.silu ? p * sigmoid(p) : p;
  });
  const int64_t width = x.shape.width, past = x.taps - 1;
  for_each(device, x.shape.rows * past * width, [=] __device__(int64_t i) {
    const int64_t row = i / width / past, j = i / width % past;
    last[i] = x.moment(row, x.shape.valid(row) - past + j, i % width);
  });
}

// Sums over all rows and steps, of the weights if `weighted`, and of the bias.
void sum_weights(Device* device, const Inputs& x, const float* dp, float* dweight, float* dbias) {
  const int64_t width = x.shape.width, steps = x.shape.steps, taps = x.taps, chunks = ceil_div(steps, kChunk);
  const int64_t from = dweight ? 0 : taps, count = (dbias ? taps + 1 : taps) - from;
  float* parts = scratch<float>(device, x.shape.rows * chunks * count * width);
  for_each(device, x.shape.rows * chunks * count * width, [=] __device__(int64_t unit) {
    const int64_t d = unit % width, k = from + unit / width % count, part = unit / width / count;
    const int64_t row = part / chunks, begin = part % chunks * kChunk;
    const int64_t end = least(begin + kChunk, x.shape.valid(row));
    float total = 0.0f;
    for (int64_t s = begin; s < end; s++) {
      const float g = dp[(row * steps + s) * width + d];
      total += k < taps ? g * x.moment(row, s - taps + 1 + k, d) : g;
    }
    parts[unit] = total;
  });
  float* sums = scratch<float>(device, count * width);
  add_up(device, parts, x.shape.rows * chunks, count * width, sums);
  for_each(device, count * width, [=] __device__(int64_t i) {
    const int64_t d = i % width, k = from + i / width;
    if (k < taps)
      dweight[d * taps + k] = sums[i];
    else
      dbias[d] = sums[i];
  });
}

// in: dy, dlast, x, weight, bias, initial, lengths, y, last; out: dx, dweight, dbias, dinitial, each or none.
void causal_conv_backward(const Args& args, Device* device) {
  const Inputs x = inputs_of(args, 2);
  const float *dy = data(args.in[0]), *dlast = data(args.in[1]);
  float *dx = data(args.out[0]), *dinitial = data(args.out[3]);
  const int64_t width = x.shape.width, steps = x.shape.steps, taps = x.taps, past = taps - 1;
  float* dp = scratch<float>(device, x.shape.rows * steps * width);
  each_moment(device, x, [=] __device__(int64_t row, int64_t s, int64_t d, int64_t at, int64_t length) {
    if (s >= length) return;
    float g = dy ? dy[at] : 0.0f;
    if (x.silu) {
      const float p = x.sum(row, s, d), open = sigmoid(p);
      g *= open * (1.0f + p * (1.0f - open));
    }
    dp[at] = g;
  });
  // What step s of x, or of what was before it, gave to the steps after it and to the last K - 1.
  const auto given = [=] __device__(int64_t row, int64_t s, int64_t d, int64_t length) {
    const int64_t kept = s - (length - past);
    float total = kept >= 0 && dlast ? dlast[(row * past + kept) * width + d] : 0.0f;
    for (int64_t k = 0; k < taps; k++) {
      const int64_t to = s + past - k;
      if (to >= 0 && to < length) total += x.weight[d * taps + k] * dp[(row * steps + to) * width + d];
    }
    return total;
  };
  if (dx)
    each_moment(device, x, [=] __device__(int64_t row, int64_t s, int64_t d, int64_t at, int64_t length) {
      dx[at] = s < length ? given(row, s, d, length) : 0.0f;
    });
  if (dinitial)
    for_each(device, x.shape.rows * past * width, [=] __device__(int64_t i) {
      const int64_t row = i / width / past;
      dinitial[i] = given(row, i / width % past - past, i % width, x.shape.valid(row));
    });
  if (args.out[1] || args.out[2]) sum_weights(device, x, dp, data(args.out[1]), data(args.out[2]));
}

const KernelEntry entries[] = {
    {"causalConv", causal_conv, 0},
    {"causalConv.backward", causal_conv_backward, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_CUDA_KERNELS(causal_conv, entries)
