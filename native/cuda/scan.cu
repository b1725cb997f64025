// scan and maxScan; the kernels of native/cpu/scan.cc. ints: N, T, D, reverse.
#include "linear_scan.h"

namespace throughtime {
namespace {

// What steps make of the state before them: scale * h + shift, or max(scale + m, shift).
struct Effect {
  float scale, shift;
};

// h_t = a_t * h_{t-1} + b_t
struct Linear {
  static constexpr float start = 0.0f;
  DEVICE static float next(float a, float b, float before) { return a * before + b; }
  DEVICE static bool past(float, float, float) { return true; }
  // The gradient of the state before a step, by that of the state after it.
  DEVICE static float weight(float a, float, float) { return a; }
  DEVICE static float da(float g, float, float, float before) { return g * before; }
  DEVICE static float db(float g, float, float, float) { return g; }
  DEVICE static Effect none() { return {1.0f, 0.0f}; }
  DEVICE static Effect then(Effect e, float a, float b) { return {a * e.scale, next(a, b, e.shift)}; }
  // The scale may have grown out of range where there is nothing to grow.
  DEVICE static float apply(Effect e, float h) { return h == 0.0f ? e.shift : next(e.scale, e.shift, h); }
};

// m_t = max(a_t + m_{t-1}, b_t); a tie sends the gradient to b, and a NaN stays.
struct Max {
  static constexpr float start = -__builtin_inff();
  DEVICE static bool past(float a, float b, float before) {
    const float shifted = a + before;
    return shifted > b || shifted != shifted;
  }
  DEVICE static float next(float a, float b, float before) { return past(a, b, before) ? a + before : b; }
  DEVICE static float weight(float a, float b, float before) { return past(a, b, before) ? 1.0f : 0.0f; }
  DEVICE static float da(float g, float a, float b, float before) { return past(a, b, before) ? g : 0.0f; }
  DEVICE static float db(float g, float a, float b, float before) { return past(a, b, before) ? 0.0f : g; }
  DEVICE static Effect none() { return {0.0f, start}; }
  DEVICE static Effect then(Effect e, float a, float b) { return {a + e.scale, next(a, b, e.shift)}; }
  DEVICE static float apply(Effect e, float m) { return next(e.scale, e.shift, m); }
};

template <class Of>
struct Forward {
  struct In {
    float a, b;
  };
  using State = float;
  using Effect = throughtime::Effect;

  int64_t width;
  const float *a, *b, *initial;
  float *h, *last;

  DEVICE float start(int64_t row, int64_t d) const { return initial ? initial[row * width + d] : Of::start; }
  DEVICE In load(const Step& step) const {
    const int64_t i = step.t * width + step.d;
    return {a[i], b[i]};
  }
  DEVICE float next(const In& in, float before) const { return Of::next(in.a, in.b, before); }
  DEVICE void put(const Step& step, const In&, float, float after) const { h[step.t * width + step.d] = after; }
  DEVICE void finish(int64_t row, int64_t d, float state) const { last[row * width + d] = state; }
  DEVICE void clear(int64_t t, int64_t d) const { h[t * width + d] = 0.0f; }
  DEVICE Effect none(int64_t) const { return Of::none(); }
  DEVICE Effect then(Effect e, const In& in) const { return Of::then(e, in.a, in.b); }
  DEVICE float apply(Effect e, float state) const { return Of::apply(e, state); }
};

// The state is the gradient of h between two steps.
template <class Of>
struct Backward {
  struct In {
    float a, b, before, dh;
  };
  using State = float;
  using Effect = throughtime::Effect;

  ScanShape shape;  // whose steps are run from the last to the first
  const float *a, *b, *initial, *h, *dh, *dlast;
  float *da, *db, *dinitial;

  DEVICE float start(int64_t row, int64_t d) const { return dlast ? dlast[row * shape.width + d] : 0.0f; }
  DEVICE In load(const Step& step) const {
    const int64_t width = shape.width, i = step.t * width + step.d;
    float before = Of::start;
    if (step.s + 1 < step.length)
      before = h[shape.at(step.row, step.s + 1, step.length) * width + step.d];
    else if (initial)
      before = initial[step.row * width + step.d];
    return {a[i], b[i], before, dh ? dh[i] : 0.0f};
  }
  DEVICE static float weight(const In& in) { return Of::weight(in.a, in.b, in.before); }
  DEVICE float next(const In& in, float carried) const {
    const float g = in.dh + carried;
    return Of::past(in.a, in.b, in.before) ? g * weight(in) : 0.0f;
  }
  DEVICE void put(const Step& step, const In& in, float carried, float) const {
    const int64_t i = step.t * shape.width + step.d;
    const float g = in.dh + carried;
    if (da) da[i] = Of::da(g, in.a, in.b, in.before);
    if (db) db[i] = Of::db(g, in.a, in.b, in.before);
  }
  DEVICE void finish(int64_t row, int64_t d, float state) const {
    if (dinitial) dinitial[row * shape.width + d] = state;
  }
  DEVICE void clear(int64_t t, int64_t d) const {
    if (da) da[t * shape.width + d] = 0.0f;
    if (db) db[t * shape.width + d] = 0.0f;
  }
  DEVICE Effect none(int64_t) const { return Linear::none(); }
  DEVICE Effect then(Effect e, const In& in) const { return {weight(in) * e.scale, next(in, e.shift)}; }
  DEVICE float apply(Effect e, float carried) const { return Linear::apply(e, carried); }
};

ScanShape shape_of(const Args& args, const Buffer* lengths) {
  return {args.ints[0], args.ints[1], args.ints[2], args.ints[3] != 0, integers(lengths)};
}

// in: a, b [N, T, D], initial [N, D] or none, lengths [N] or none; out: h [N, T, D], last [N, D].
template <class Of>
void run(const Args& args, Device* device) {
  const ScanShape shape = shape_of(args, args.in[3]);
  linear_scan(device, shape,
              Forward<Of>{shape.width, data(args.in[0]), data(args.in[1]), data(args.in[2]), data(args.out[0]),
                          data(args.out[1])});
}

// in: dh, dlast, a, b, initial, lengths, h, last; out: da, db, dinitial, each or none.
template <class Of>
void run_backward(const Args& args, Device* device) {
  ScanShape shape = shape_of(args, args.in[5]);
  shape.reverse = !shape.reverse;
  linear_scan(
      device, shape,
      Backward<Of>{shape, data(args.in[2]), data(args.in[3]), data(args.in[4]), data(args.in[6]), data(args.in[0]),
                   data(args.in[1]), data(args.out[0]), data(args.out[1]), data(args.out[2])});
}

const KernelEntry entries[] = {
    {"scan", run<Linear>, 0},
    {"scan.backward", run_backward<Linear>, 0},
    {"maxScan", run<Max>, 0},
    {"maxScan.backward", run_backward<Max>, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_CUDA_KERNELS(scan, entries)
