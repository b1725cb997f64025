// The attention of RWKV-4; the kernels of native/cpu/wkv.cc:
//   y_t = (n_{t-1} + e^{u + k_t} v_t) / (d_{t-1} + e^{u + k_t})
//   n_t = e^w n_{t-1} + e^{k_t} v_t        d_t = e^w d_{t-1} + e^{k_t}
// n and d are carried divided by e^m, m their running maximum, so that no k overflows. A thread takes a channel of a
// row through all steps; backward, the states before each step of a chunk are computed again and kept in shared
// memory. ints: N, T, D.
#include "scan.h"

namespace throughtime {
namespace {

constexpr int64_t kChunk = 32;  // steps between the states that are kept for the backward pass
constexpr int kFetched = 8;     // steps whose inputs are fetched together
constexpr int kThreads = 64;
constexpr float kNothing = -1e38f;  // the maximum of no terms

// n, d and m, and their gradients
struct State {
  float n, d, m;
};

struct Inputs {
  ScanShape shape;
  const float *w, *u, *k, *v, *initial;
};

// `at`: where the inputs begin, in the list of the kernel.
Inputs inputs_of(const Args& args, int at) {
  Buffer* const* in = args.in + at;
  return {{args.ints[0], args.ints[1], args.ints[2], false, integers(in[5])},
          data(in[0]),
          data(in[1]),
          data(in[2]),
          data(in[3]),
          data(in[4])};
}

// The state of a row at a channel, in a buffer [N, 3, D].
DEVICE State load_state(const float* p, int64_t row, int64_t width, int64_t d) {
  p += row * 3 * width + d;
  return {p[0], p[width], p[2 * width]};
}
DEVICE void store_state(float* p, int64_t row, int64_t width, int64_t d, const State& s) {
  p += row * 3 * width + d;
  p[0] = s.n, p[width] = s.d, p[2 * width] = s.m;
}

// What a step needs in both directions: `past` and `now` weigh the state and v in y, `keep` and `take` in the next
// state.
struct Step {
  float past, now, keep, take;
  bool of_past;  // whether the maximum is that of the past

  DEVICE Step(float w, float u, float k, const State& s) {
    const float ahead = k + u, top = max(s.m, ahead);
    past = exp(s.m - top);
    now = exp(ahead - top);
    const float shifted = s.m + w;
    of_past = shifted > k;
    const float most = of_past ? shifted : k;
    keep = exp(shifted - most);
    take = exp(k - most);
  }
};

DEVICE State advance(const Step& e, float w, float k, float v, const State& s) {
  return {e.keep * s.n + e.take * v, e.keep * s.d + e.take, e.of_past ? s.m + w : k};
}

// in: w, u [D], k, v [N, T, D], initial [N, 3, D] or none, lengths or none; out: y [N, T, D], last [N, 3, D], and for
// training the states before each chunk [N, chunks, 3, D].
void wkv4(const Args& args, Device* device) {
  const Inputs in = inputs_of(args, 0);
  float *y = data(args.out[0]), *last = data(args.out[1]), *saved = args.outputs > 2 ? data(args.out[2]) : nullptr;
  const int64_t width = in.shape.width, steps = in.shape.steps, chunks = ceil_div(steps, kChunk);
  for_each(device, in.shape.channels(), [=] __device__(int64_t unit) {
    const int64_t row = unit / width, d = unit % width, length = in.shape.valid(row);
    const float w = in.w[d], u = in.u[d];
    State state = in.initial ? load_state(in.initial, row, width, d) : State{0.0f, 0.0f, kNothing};
    for (int64_t from = 0; from < length; from += kFetched) {
      if (saved && from % kChunk == 0) store_state(saved, row * chunks + from / kChunk, width, d, state);
      const int64_t first = (row * steps + from) * width + d;
      float k[kFetched] = {}, v[kFetched] = {};
      for (int i = 0; i < kFetched; i++)
        if (from + i < length) k[i] = in.k[first + i * width], v[i] = in.v[first + i * width];
      for (int i = 0; i < kFetched; i++) {
        if (from + i >= length) break;
        const Step e(w, u, k[i], state);
        y[first + i * width] = (e.past * state.n + e.now * v[i]) / (e.past * state.d + e.now);
        state = advance(e, w, k[i], v[i], state);
      }
    }
    store_state(last, row, width, d, state);
  });
  clear_padding(device, in.shape, y, width);
}

// One step backward; grad: the gradient of the state after it, then of that before it.
DEVICE void retreat(float w, float u, float k, float v, float dy, const State& before, State& grad, float& dw,
                    float& du, float& dk, float& dv) {
  const Step e(w, u, k, before);
  const State after = advance(e, w, k, v, before);
  // The next state, whose maximum also divides n and d.
  const float top = grad.m - grad.n * after.n - grad.d * after.d;
  const float through = (grad.n * before.n + grad.d * before.d) * e.keep + (e.of_past ? top : 0.0f);
  dk = (grad.n * v + grad.d) * e.take + (e.of_past ? 0.0f : top);
  dv = grad.n * e.take;
  dw += through;
  grad = {grad.n * e.keep, grad.d * e.keep, through};
  // The output, which does not depend on the maximum it is computed with.
  const float below = e.past * before.d + e.now, y = (e.past * before.n + e.now * v) / below, p = dy / below;
  const float ahead = p * (v - y) * e.now;
  dk += ahead;
  du += ahead;
  dv += p * e.now;
  grad.n += p * e.past;
  grad.d -= p * y * e.past;
  grad.m += p * (before.n - y * before.d) * e.past;
}

// in: dy, dlast, the inputs, y, last, saved; out: dw, du, dk, dv, dinitial, each or none.
void wkv4_backward(const Args& args, Device* device) {
  const Inputs in = inputs_of(args, 2);
  const float *dy = data(args.in[0]), *dlast = data(args.in[1]), *saved = data(args.in[10]);
  float *dks = data(args.out[2]), *dvs = data(args.out[3]), *dinitial = data(args.out[4]);
  const int64_t n = in.shape.rows, steps = in.shape.steps, width = in.shape.width, chunks = ceil_div(steps, kChunk);
  float *dws = scratch<float>(device, n * width), *dus = scratch<float>(device, n * width);  // of each row
  const int64_t channels = in.shape.channels();
  for_each_block(device, ceil_div(channels, kThreads), kThreads, kChunk * kThreads * sizeof(State),
                 [=] __device__(int64_t block) {
                   const int64_t unit = block * kThreads + threadIdx.x;
                   if (unit >= channels) return;
                   const int64_t row = unit / width, d = unit % width, length = in.shape.valid(row);
                   const float w = in.w[d], u = in.u[d];
                   State* states = shared_memory<State>() + threadIdx.x;
                   State grad = dlast ? load_state(dlast, row, width, d) : State{0.0f, 0.0f, 0.0f};
                   float dw = 0.0f, du = 0.0f;
                   for (int64_t begin = (length - 1) / kChunk * kChunk; begin >= 0 && length > 0; begin -= kChunk) {
                     const int64_t end = least(begin + kChunk, length), first = row * steps * width + d;
                     State state = load_state(saved, row * chunks + begin / kChunk, width, d);
                     for (int64_t s = begin; s < end; s++) {
                       const float k = in.k[first + s * width], v = in.v[first + s * width];
                       states[(s - begin) * kThreads] = state;
                       state = advance(Step(w, u, k, state), w, k, v, state);
                     }
                     float sum_w = 0.0f, sum_u = 0.0f;
                     for (int64_t s = end - 1; s >= begin; s--) {
                       const int64_t at = first + s * width;
                       float dk, dv;
                       retreat(w, u, in.k[at], in.v[at], dy ? dy[at] : 0.0f, states[(s - begin) * kThreads], grad,
                               sum_w, sum_u, dk, dv);
                       if (dks) dks[at] = dk;
                       if (dvs) dvs[at] = dv;
                     }
                     dw += sum_w, du += sum_u;
                   }
                   if (dinitial) store_state(dinitial, row, width, d, grad);
                   dws[unit] = dw, dus[unit] = du;
                 });
  clear_padding(device, in.shape, dks, width);
  clear_padding(device, in.shape, dvs, width);
  add_up(device, dws, n, width, data(args.out[0]));
  add_up(device, dus, n, width, data(args.out[1]));
}

const KernelEntry entries[] = {
    {"wkv4", wkv4, 0},
    {"wkv4.backward", wkv4_backward, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_CUDA_KERNELS(wkv, entries)
