// A short convolution of each channel by itself that sees the past only, over what was carried from before and x:
//   p_t = bias + sum over k < K of w[k] * x_{t - K + 1 + k}      y_t = p_t, or p_t * sigmoid(p_t)
// ints: N, T, D, K, silu.
#include "scan.h"

#include "isa.h"

namespace throughtime {
namespace {

constexpr int64_t kChunk = 64;  // steps that a gradient of the weights is summed over before it joins the rest

struct Inputs {
  ScanShape shape;
  int64_t taps;
  bool silu;
  const float *x, *bias, *initial;
  const float* turned;  // weights as [K, D]

  // x at step s of a row, from -(K - 1) on; none where it is zero.
  const float* moment(int64_t row, int64_t s) const {
    if (s >= 0) return x + (row * shape.steps + s) * shape.width;
    return initial ? initial + (row * (taps - 1) + taps - 1 + s) * shape.width : nullptr;
  }
  Vec sum(int64_t row, int64_t s, int64_t d, int lanes) const {
    Vec p = bias ? load_lanes(bias + d, lanes) : Vec{};
    for (int64_t k = 0; k < taps; k++)
      if (const float* past = moment(row, s - taps + 1 + k))
        p += load_lanes(turned + k * shape.width + d, lanes) * load_lanes(past + d, lanes);
    return p;
  }
};

// `at`: where the inputs begin, in the list of the kernel.
Inputs inputs_of(const Args& args, int at, Device* device) {
  Buffer* const* in = args.in + at;
  const int64_t width = args.ints[2], taps = args.ints[3];
  float* turned = static_cast<float*>(device->scratch(device, (width * taps + 1) * sizeof(float)));
  const float* weight = data(in[1]);
  for (int64_t d = 0; d < width; d++)
    for (int64_t k = 0; k < taps; k++) turned[k * width + d] = weight[d * taps + k];
  const int32_t* lengths = integers(in[4]);
  return {{args.ints[0], args.ints[1], width, false, lengths},
          taps,
          args.ints[4] != 0,
          data(in[0]),
          data(in[2]),
          data(in[3]),
          turned};
}

// in: x [N, T, D], weight [D, K], bias [D], initial [N, K - 1, D], lengths [N], from the bias on each or none;
// out: y [N, T, D], last [N, K - 1, D], the last K - 1 of what was seen.
void causal_conv(const Args& args, Device* device) {
  const Inputs x = inputs_of(args, 0, device);
  float *y = data(args.out[0]), *last = data(args.out[1]);
  const int64_t d = x.shape.width, steps = x.shape.steps, past = x.taps - 1;
  for_channels(device, x.shape, [&](int64_t row, int64_t from, int64_t width) {
    const int64_t length = x.shape.valid(row);
    for (int64_t s = 0; s < length; s++) {
      float* out = y + (row * steps + s) * d + from;
      row_map(width, [&](int64_t i, int lanes) {
        const Vec p = x.sum(row, s, from + i, lanes);
        store_lanes(out + i, x.silu ? p * sigmoid(p) : p, lanes);
      });
    }
    for (int64_t s = length; s < steps; s++)
      __builtin_memset(y + (row * steps + s) * d + from, 0, width * sizeof(float));
    for (int64_t j = 0; j < past; j++) {
      float* to = last + (row * past + j) * d + from;
      if (const float* seen = x.moment(row, length - past + j))
        __builtin_memcpy(to, seen + from, width * sizeof(float));
      else
        __builtin_memset(to, 0, width * sizeof(float));
    }
  });
}

struct Gradients {
  const float *dy, *dlast;
  float *dx, *dinitial;
  float *dp, *sums;  // [N, T, D], which may be dx; [N, K + 1, D], of the weights and the bias
  bool weighted;     // whether anything asks for the gradient of the weights
};

void backward_row(const Inputs& x, const Gradients& g, int64_t row, int64_t from, int64_t width, float* chunk) {
  const int64_t length = x.shape.valid(row), d = x.shape.width, steps = x.shape.steps, taps = x.taps, past = taps - 1;
  const auto add = [](float* to, Vec v, int lanes) { store_lanes(to, load_lanes(to, lanes) + v, lanes); };
  const auto dp_at = [&](int64_t s) { return g.dp + (row * steps + s) * d + from; };
  float* sums = g.sums + row * (taps + 1) * d + from;
  for (int64_t k = 0; k <= taps; k++) __builtin_memset(sums + k * d, 0, width * sizeof(float));
  for (int64_t begin = 0; begin < length; begin += kChunk) {
    const int64_t end = length - begin < kChunk ? length : begin + kChunk;
    __builtin_memset(chunk, 0, (taps + 1) * width * sizeof(float));
    for (int64_t s = begin; s < end; s++)
      row_map(width, [&](int64_t i, int lanes) {
        Vec dp = g.dy ? load_lanes(g.dy + (row * steps + s) * d + from + i, lanes) : Vec{};
        if (x.silu) {
          const Vec p = x.sum(row, s, from + i, lanes), open = sigmoid(p);
          dp *= open * (1.0f + p * (1.0f - open));
        }
        store_lanes(dp_at(s) + i, dp, lanes);
        for (int64_t k = 0; g.weighted && k < taps; k++)
          if (const float* seen = x.moment(row, s - past + k))
            add(chunk + k * width + i, dp * load_lanes(seen + from + i, lanes), lanes);
        add(chunk + taps * width + i, dp, lanes);
      });
    for (int64_t k = 0; k <= taps; k++)
      row_map(width,
              [&](int64_t i, int lanes) { add(sums + k * d + i, load_lanes(chunk + k * width + i, lanes), lanes); });
  }
  // What step s of x, or of what was before it, gave to the steps after it and to the last K - 1. In this order dp may
  // be overwritten: nobody after s reads it.
  for (int64_t s = -past; s < length; s++) {
    float* out = s >= 0       ? (g.dx ? dp_at(s) : nullptr)
                 : g.dinitial ? g.dinitial + (row * past + past + s) * d + from
                              : nullptr;
    if (!out) continue;
    const int64_t kept = s - (length - past);
    row_map(width, [&](int64_t i, int lanes) {
      Vec total = kept >= 0 && g.dlast ? load_lanes(g.dlast + (row * past + kept) * d + from + i, lanes) : Vec{};
      for (int64_t k = 0; k < taps; k++) {
        const int64_t to = s + past - k;
        if (to >= 0 && to < length)
          total += load_lanes(x.turned + k * d + from + i, lanes) * load_lanes(dp_at(to) + i, lanes);
      }
      store_lanes(out + i, total, lanes);
    });
  }
  for (int64_t s = length; g.dx && s < steps; s++) __builtin_memset(dp_at(s), 0, width * sizeof(float));
}

// in: dy, dlast, x, weight, bias, initial, lengths, y, last; out: dx, dweight, dbias, dinitial, each or none.
void causal_conv_backward(const Args& args, Device* device) {
  const Inputs x = inputs_of(args, 2, device);
  const int64_t n = x.shape.rows, d = x.shape.width, taps = x.taps;
  const auto room = [&](int64_t floats) {
    return static_cast<float*>(device->scratch(device, (floats + 1) * sizeof(float)));
  };
  float* dx = data(args.out[0]);
  const Gradients g = {data(args.in[0]),
                       data(args.in[1]),
                       dx,
                       data(args.out[3]),
                       dx ? dx : room(n * x.shape.steps * d),
                       room(n * (taps + 1) * d),
                       data(args.out[1]) != nullptr};
  float* chunks = room(n * (taps + 1) * d);
  for_channels(device, x.shape, [&](int64_t row, int64_t from, int64_t width) {
    backward_row(x, g, row, from, width, chunks + row * (taps + 1) * d + (taps + 1) * from);
  });
  float *dweight = data(args.out[1]), *dbias = data(args.out[2]);
  for (int64_t k = 0; k <= taps; k++)
    for (int64_t i = 0; i < d; i++) {
      float total = 0.0f;
      for (int64_t row = 0; row < n; row++) total += g.sums[(row * (taps + 1) + k) * d + i];
      if (k < taps && dweight) dweight[i * taps + k] = total;
      if (k == taps && dbias) dbias[i] = total;
    }
}

const KernelEntry entries[] = {
    {"causalConv", causal_conv, 0},
    {"causalConv.backward", causal_conv_backward, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_KERNELS(causal_conv, entries)
