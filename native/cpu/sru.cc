// The simple recurrent unit (Lei, Zhang, Wang, Dai & Artzi 2018), element by element. From U = W x, blocks x~, f, r:
//   f_t = s(U_f + v_f * c_{t-1} + b_f)     c_t = x~_t + f_t * (c_{t-1} - x~_t)
//   r_t = s(U_r + v_r * c_{t-1} + b_r)     h_t = skip_t + r_t * (g(c_t) - skip_t)
// ints: N, T, D, reverse, blocks of U (4 if the last is the skip), tanh.
#include "scan.h"

#include "isa.h"

namespace throughtime {
namespace {

constexpr int64_t kChunk = 64;  // steps that a gradient of v and b is summed over before it joins the rest

struct Inputs {
  ScanShape shape;
  int64_t blocks;
  bool squash;
  const float *u, *skip, *v, *bias, *initial;
};

// `at`: where the inputs begin, in the list of the kernel.
Inputs inputs_of(const Args& args, int at) {
  Buffer* const* in = args.in + at;
  const int32_t* lengths = integers(in[5]);
  return {{args.ints[0], args.ints[1], args.ints[2], args.ints[3] != 0, lengths},
          args.ints[4],
          args.ints[5] != 0,
          data(in[0]),
          data(in[1]),
          data(in[2]),
          data(in[3]),
          data(in[4])};
}

// One step of some channels.
struct Step {
  Vec x, skip, forget, reset, prev, next, value;

  Step(const Inputs& in, int64_t t, int64_t d, int lanes, Vec before) : prev(before) {
    const int64_t width = in.shape.width;
    const float* u = in.u + t * in.blocks * width + d;
    x = load_lanes(u, lanes);
    skip = in.blocks == 4 ? load_lanes(u + 3 * width, lanes) : load_lanes(in.skip + t * width + d, lanes);
    const auto gate = [&](int64_t k) {
      return sigmoid(load_lanes(u + (1 + k) * width, lanes) + load_lanes(in.v + k * width + d, lanes) * before +
                     load_lanes(in.bias + k * width + d, lanes));
    };
    forget = gate(0);
    reset = gate(1);
    next = x + forget * (before - x);
    value = in.squash ? tanh(next) : next;
  }
};

// in: u [N, T, blocks * D], skip [N, T, D] or none, v [2, D], bias [2, D], initial [N, D] or none, lengths or none;
// out: h [N, T, D], last [N, D], and for training c [N, T, D].
void sru(const Args& args, Device* device) {
  const Inputs in = inputs_of(args, 0);
  float *h = data(args.out[0]), *last = data(args.out[1]), *saved = args.outputs > 2 ? data(args.out[2]) : nullptr;
  const int64_t d = in.shape.width, steps = in.shape.steps;
  for_channels(device, in.shape, [&](int64_t row, int64_t from, int64_t width) {
    const int64_t length = in.shape.valid(row);
    float* c = last + row * d + from;
    if (in.initial)
      __builtin_memcpy(c, in.initial + row * d + from, width * sizeof(float));
    else
      __builtin_memset(c, 0, width * sizeof(float));
    for (int64_t s = 0; s < length; s++) {
      const int64_t t = in.shape.at(row, s, length);
      row_map(width, [&](int64_t i, int lanes) {
        const Step step(in, t, from + i, lanes, load_lanes(c + i, lanes));
        store_lanes(c + i, step.next, lanes);
        if (saved) store_lanes(saved + t * d + from + i, step.next, lanes);
        store_lanes(h + t * d + from + i, step.skip + step.reset * (step.value - step.skip), lanes);
      });
    }
    for (int64_t t = row * steps + length; t < (row + 1) * steps; t++)
      __builtin_memset(h + t * d + from, 0, width * sizeof(float));
  });
}

// in: dh, dlast, the inputs, h, last, c; out: du, dskip, dv, dbias, dinitial, each or none.
void sru_backward(const Args& args, Device* device) {
  const Inputs in = inputs_of(args, 2);
  const float *dh = data(args.in[0]), *dlast = data(args.in[1]), *c = data(args.in[10]);
  float *du = data(args.out[0]), *dskip = data(args.out[1]), *dinitial = data(args.out[4]);
  const int64_t n = in.shape.rows, steps = in.shape.steps, d = in.shape.width, stride = in.blocks * d;
  const auto room = [&](int64_t floats) {
    return static_cast<float*>(device->scratch(device, (floats + 1) * sizeof(float)));
  };
  float *carried = room(n * d), *sums = room(n * 4 * d), *chunks = room(n * 4 * d);  // sums of v and b, [N, 4, D]
  for_channels(device, in.shape, [&](int64_t row, int64_t from, int64_t width) {
    const int64_t length = in.shape.valid(row);
    float *carry = carried + row * d + from, *sum = sums + row * 4 * d + from, *chunk = chunks + row * 4 * d + from;
    const auto add = [](float* to, Vec v, int lanes) { store_lanes(to, load_lanes(to, lanes) + v, lanes); };
    if (dlast)
      __builtin_memcpy(carry, dlast + row * d + from, width * sizeof(float));
    else
      __builtin_memset(carry, 0, width * sizeof(float));
    for (int64_t k = 0; k < 4; k++) {
      __builtin_memset(sum + k * d, 0, width * sizeof(float));
      __builtin_memset(chunk + k * d, 0, width * sizeof(float));
    }
    for (int64_t s = length - 1; s >= 0; s--) {
      const int64_t t = in.shape.at(row, s, length);
      const float* before = s > 0        ? c + in.shape.at(row, s - 1, length) * d + from
                            : in.initial ? in.initial + row * d + from
                                         : nullptr;
      row_map(width, [&](int64_t i, int lanes) {
        const Step step(in, t, from + i, lanes, before ? load_lanes(before + i, lanes) : Vec{});
        const Vec g = dh ? load_lanes(dh + t * d + from + i, lanes) : Vec{};
        const Vec dr = g * (step.value - step.skip) * step.reset * (1.0f - step.reset);
        Vec dvalue = g * step.reset;
        if (in.squash) dvalue *= 1.0f - step.value * step.value;
        const Vec dc = load_lanes(carry + i, lanes) + dvalue;
        const Vec df = dc * (step.prev - step.x) * step.forget * (1.0f - step.forget);
        const Vec skipped = g * (1.0f - step.reset);
        if (du) {
          float* out = du + t * stride + from + i;
          store_lanes(out, dc * (1.0f - step.forget), lanes);
          store_lanes(out + d, df, lanes);
          store_lanes(out + 2 * d, dr, lanes);
          if (in.blocks == 4) store_lanes(out + 3 * d, skipped, lanes);
        }
        if (dskip) store_lanes(dskip + t * d + from + i, skipped, lanes);
        add(chunk + i, df * step.prev, lanes);
        add(chunk + d + i, dr * step.prev, lanes);
        add(chunk + 2 * d + i, df, lanes);
        add(chunk + 3 * d + i, dr, lanes);
        const float* v = in.v + from + i;
        store_lanes(carry + i, dc * step.forget + df * load_lanes(v, lanes) + dr * load_lanes(v + d, lanes), lanes);
      });
      if (s % kChunk > 0) continue;
      for (int64_t k = 0; k < 4; k++)
        row_map(width, [&](int64_t i, int lanes) {
          add(sum + k * d + i, load_lanes(chunk + k * d + i, lanes), lanes);
          store_lanes(chunk + k * d + i, Vec{}, lanes);
        });
    }
    if (dinitial) __builtin_memcpy(dinitial + row * d + from, carry, width * sizeof(float));
    for (int64_t t = row * steps + length; t < (row + 1) * steps; t++) {
      for (int64_t k = 0; du && k < in.blocks; k++)
        __builtin_memset(du + t * stride + k * d + from, 0, width * sizeof(float));
      if (dskip) __builtin_memset(dskip + t * d + from, 0, width * sizeof(float));
    }
  });
  for (int64_t k = 0; k < 4; k++) {
    float* out = data(args.out[2 + k / 2]);
    for (int64_t i = 0; out && i < d; i++) {
      float total = 0.0f;
      for (int64_t row = 0; row < n; row++) total += sums[(row * 4 + k) * d + i];
      out[k % 2 * d + i] = total;
    }
  }
}

const KernelEntry entries[] = {
    {"sru", sru, 0},
    {"sru.backward", sru_backward, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_KERNELS(sru, entries)
