// The attention of RWKV-4 (Peng et al. 2023): with w the logarithm of the decay, u the weight of the present,
//   y_t = (n_{t-1} + e^{u + k_t} v_t) / (d_{t-1} + e^{u + k_t})
//   n_t = e^w n_{t-1} + e^{k_t} v_t        d_t = e^w d_{t-1} + e^{k_t}
// n and d are carried divided by e^m, m their running maximum, so that no k overflows. Steps are taken in chunks: the
// states before each are kept for the backward pass, which computes those within again. ints: N, T, D.
#include "scan.h"

#include "isa.h"

namespace throughtime {
namespace {

constexpr int64_t kChunk = 32;
constexpr float kNothing = -1e38f;  // the maximum of no terms

// n, d and m, and their gradients
struct State {
  Vec n, d, m;
};

struct Inputs {
  ScanShape shape;
  const float *w, *u, *k, *v, *initial;
};

// `at`: where the inputs begin, in the list of the kernel.
Inputs inputs_of(const Args& args, int at) {
  Buffer* const* in = args.in + at;
  const int32_t* lengths = integers(in[5]);
  return {{args.ints[0], args.ints[1], args.ints[2], false, lengths},
          data(in[0]),
          data(in[1]),
          data(in[2]),
          data(in[3]),
          data(in[4])};
}

// The state of one row at channel d, in a buffer [N, 3, D].
State load_state(const float* p, int64_t width, int lanes) {
  return {load_lanes(p, lanes), load_lanes(p + width, lanes), load_lanes(p + 2 * width, lanes)};
}
void store_state(float* p, int64_t width, const State& s, int lanes) {
  store_lanes(p, s.n, lanes);
  store_lanes(p + width, s.d, lanes);
  store_lanes(p + 2 * width, s.m, lanes);
}

// What a step needs in both directions: `past` and `now` weigh the state and v in y, `keep` and `take` in the next
// state.
struct Step {
  Vec past, now, keep, take;
  IVec of_past;  // whether the maximum is that of the past

  Step(Vec w, Vec u, Vec k, const State& s) {
    const Vec ahead = k + u, top = max(s.m, ahead);
    past = exp(s.m - top);
    now = exp(ahead - top);
    const Vec shifted = s.m + w;
    of_past = shifted > k;
    const Vec most = of_past ? shifted : k;
    keep = exp(shifted - most);
    take = exp(k - most);
  }
};

State advance(const Step& e, Vec w, Vec k, Vec v, const State& s) {
  return {e.keep * s.n + e.take * v, e.keep * s.d + e.take, e.of_past ? s.m + w : k};
}

// in: w, u [D], k, v [N, T, D], initial [N, 3, D] or none, lengths or none; out: y [N, T, D], last [N, 3, D], and for
// training the states before each chunk [N, chunks, 3, D].
void wkv4(const Args& args, Device* device) {
  const Inputs in = inputs_of(args, 0);
  float *y = data(args.out[0]), *last = data(args.out[1]), *saved = args.outputs > 2 ? data(args.out[2]) : nullptr;
  const int64_t d = in.shape.width, steps = in.shape.steps, chunks = (steps + kChunk - 1) / kChunk;
  for_channels(device, in.shape, [&](int64_t row, int64_t from, int64_t width) {
    const int64_t length = in.shape.valid(row);
    row_map(width, [&](int64_t i, int lanes) {
      const int64_t c = from + i;
      store_state(
          last + row * 3 * d + c, d,
          in.initial ? load_state(in.initial + row * 3 * d + c, d, lanes) : State{Vec{}, Vec{}, splat(kNothing)},
          lanes);
    });
    for (int64_t begin = 0; begin < length; begin += kChunk) {
      const int64_t end = length - begin < kChunk ? length : begin + kChunk;
      row_map(width, [&](int64_t i, int lanes) {
        const int64_t c = from + i;
        const Vec w = load_lanes(in.w + c, lanes), u = load_lanes(in.u + c, lanes);
        State state = load_state(last + row * 3 * d + c, d, lanes);
        if (saved) store_state(saved + (row * chunks + begin / kChunk) * 3 * d + c, d, state, lanes);
        for (int64_t t = row * steps + begin; t < row * steps + end; t++) {
          const Vec k = load_lanes(in.k + t * d + c, lanes), v = load_lanes(in.v + t * d + c, lanes);
          const Step e(w, u, k, state);
          store_lanes(y + t * d + c, (e.past * state.n + e.now * v) / (e.past * state.d + e.now), lanes);
          state = advance(e, w, k, v, state);
        }
        store_state(last + row * 3 * d + c, d, state, lanes);
      });
    }
    for (int64_t t = row * steps + length; t < (row + 1) * steps; t++)
      __builtin_memset(y + t * d + from, 0, width * sizeof(float));
  });
}

struct Gradients {
  const float *dy, *dlast, *saved;
  float *dk, *dv, *dinitial;
  float *carried, *sums;  // [N, 3, D]; of w and u, [N, 2, D]
};

// One chunk of one vector of channels: its states again, then back through them.
void retrace(const Inputs& in, const Gradients& g, int64_t row, int64_t c, int lanes, int64_t begin, int64_t end) {
  const int64_t d = in.shape.width, steps = in.shape.steps, chunks = (steps + kChunk - 1) / kChunk;
  const Vec w = load_lanes(in.w + c, lanes), u = load_lanes(in.u + c, lanes);
  State states[kChunk];
  State state = load_state(g.saved + (row * chunks + begin / kChunk) * 3 * d + c, d, lanes);
  for (int64_t s = begin; s < end; s++) {
    const int64_t t = row * steps + s;
    const Vec k = load_lanes(in.k + t * d + c, lanes), v = load_lanes(in.v + t * d + c, lanes);
    states[s - begin] = state;
    state = advance(Step(w, u, k, state), w, k, v, state);
  }
  State grad = load_state(g.carried + row * 3 * d + c, d, lanes);
  Vec dw = {}, du = {};
  for (int64_t s = end - 1; s >= begin; s--) {
    const int64_t t = row * steps + s;
    const Vec k = load_lanes(in.k + t * d + c, lanes), v = load_lanes(in.v + t * d + c, lanes);
    const State before = states[s - begin];
    const Step e(w, u, k, before);
    const State after = advance(e, w, k, v, before);
    // The next state, whose maximum also divides n and d.
    const Vec top = grad.m - grad.n * after.n - grad.d * after.d;
    const Vec through = (grad.n * before.n + grad.d * before.d) * e.keep + (e.of_past ? top : Vec{});
    Vec dk = (grad.n * v + grad.d) * e.take + (e.of_past ? Vec{} : top), dv = grad.n * e.take;
    dw += through;
    grad = {grad.n * e.keep, grad.d * e.keep, through};
    // The output, which does not depend on the maximum it is computed with.
    if (g.dy) {
      const Vec below = e.past * before.d + e.now, y = (e.past * before.n + e.now * v) / below;
      const Vec p = load_lanes(g.dy + t * d + c, lanes) / below;
      const Vec ahead = p * (v - y) * e.now;
      dk += ahead;
      du += ahead;
      dv += p * e.now;
      grad.n += p * e.past;
      grad.d -= p * y * e.past;
      grad.m += p * (before.n - y * before.d) * e.past;
    }
    if (g.dk) store_lanes(g.dk + t * d + c, dk, lanes);
    if (g.dv) store_lanes(g.dv + t * d + c, dv, lanes);
  }
  store_state(g.carried + row * 3 * d + c, d, grad, lanes);
  float* sums = g.sums + row * 2 * d + c;
  store_lanes(sums, load_lanes(sums, lanes) + dw, lanes);
  store_lanes(sums + d, load_lanes(sums + d, lanes) + du, lanes);
}

// in: dy, dlast, the inputs, y, last, saved; out: dw, du, dk, dv, dinitial, each or none.
void wkv4_backward(const Args& args, Device* device) {
  const Inputs in = inputs_of(args, 2);
  const int64_t n = in.shape.rows, steps = in.shape.steps, d = in.shape.width;
  const auto room = [&](int64_t floats) {
    return static_cast<float*>(device->scratch(device, (floats + 1) * sizeof(float)));
  };
  const Gradients g = {data(args.in[0]),  data(args.in[1]),  data(args.in[10]), data(args.out[2]),
                       data(args.out[3]), data(args.out[4]), room(n * 3 * d),   room(n * 2 * d)};
  for_channels(device, in.shape, [&](int64_t row, int64_t from, int64_t width) {
    const int64_t length = in.shape.valid(row);
    const auto rows = [&](float* to, const float* values, int64_t count) {
      for (int64_t k = 0; k < count; k++) {
        const int64_t at = (row * count + k) * d + from;
        if (values)
          __builtin_memcpy(to + at, values + at, width * sizeof(float));
        else
          __builtin_memset(to + at, 0, width * sizeof(float));
      }
    };
    rows(g.carried, g.dlast, 3);
    rows(g.sums, nullptr, 2);
    for (int64_t chunk = (length + kChunk - 1) / kChunk - 1; chunk >= 0; chunk--) {
      const int64_t begin = chunk * kChunk, end = length - begin < kChunk ? length : begin + kChunk;
      row_map(width, [&](int64_t i, int lanes) { retrace(in, g, row, from + i, lanes, begin, end); });
    }
    if (g.dinitial) rows(g.dinitial, g.carried, 3);
    float* const of_steps[] = {g.dk, g.dv};
    for (float* out : of_steps)
      for (int64_t t = row * steps + length; out && t < (row + 1) * steps; t++)
        __builtin_memset(out + t * d + from, 0, width * sizeof(float));
  });
  for (int64_t k = 0; k < 2; k++) {
    float* out = data(args.out[k]);
    for (int64_t i = 0; out && i < d; i++) {
      float total = 0.0f;
      for (int64_t row = 0; row < n; row++) total += g.sums[(row * 2 + k) * d + i];
      out[i] = total;
    }
  }
}

const KernelEntry entries[] = {
    {"wkv4", wkv4, 0},
    {"wkv4.backward", wkv4_backward, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_KERNELS(wkv, entries)
