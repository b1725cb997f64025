// The simple recurrent unit, element by element; the kernels of native/cpu/sru.cc. From U = W x, blocks x~, f, r:
//   f_t = s(U_f + v_f * c_{t-1} + b_f)     c_t = x~_t + f_t * (c_{t-1} - x~_t)
//   r_t = s(U_r + v_r * c_{t-1} + b_r)     h_t = skip_t + r_t * (g(c_t) - skip_t)
// A thread takes a channel of a row through all steps. ints: N, T, D, reverse, blocks of U (4 if the last is the
// skip), tanh.
#include "scan.h"

namespace throughtime {
namespace {

constexpr int64_t kChunk = 64;  // steps that a gradient of v and b is summed over before it joins the rest
constexpr int kFetched = 4;     // steps whose inputs are fetched together

// What a step reads of x and, backward, of the gradient and the states.
struct Moment {
  float u[3], skip, dh, before;
};

struct Inputs {
  ScanShape shape;
  int64_t blocks;
  bool squash;
  const float *u, *skip, *v, *bias, *initial;

  DEVICE Moment load(int64_t t, int64_t d) const {
    const int64_t width = shape.width;
    const float* at = u + t * blocks * width + d;
    return {{at[0], at[width], at[2 * width]}, blocks == 4 ? at[3 * width] : skip[t * width + d], 0.0f, 0.0f};
  }
  DEVICE float start(int64_t row, int64_t d) const { return initial ? initial[row * shape.width + d] : 0.0f; }
};

// `at`: where the inputs begin, in the list of the kernel.
Inputs inputs_of(const Args& args, int at) {
  Buffer* const* in = args.in + at;
  return {{args.ints[0], args.ints[1], args.ints[2], args.ints[3] != 0, integers(in[5])},
          args.ints[4],
          args.ints[5] != 0,
          data(in[0]),
          data(in[1]),
          data(in[2]),
          data(in[3]),
          data(in[4])};
}

// v and b of the two gates of a channel.
struct Gates {
  float vf, vr, bf, br;
  DEVICE Gates(const Inputs& in, int64_t d) {
    const int64_t width = in.shape.width;
    vf = in.v[d], vr = in.v[width + d], bf = in.bias[d], br = in.bias[width + d];
  }
};

struct Step {
  float forget, reset, next, value;
  DEVICE Step(const Inputs& in, const Gates& of, const Moment& m, float before) {
    forget = sigmoid(m.u[1] + of.vf * before + of.bf);
    reset = sigmoid(m.u[2] + of.vr * before + of.br);
    next = m.u[0] + forget * (before - m.u[0]);
    value = in.squash ? tanh(next) : next;
  }
};

// in: u [N, T, blocks * D], skip [N, T, D] or none, v [2, D], bias [2, D], initial [N, D] or none, lengths or none;
// out: h [N, T, D], last [N, D], and for training c [N, T, D].
void sru(const Args& args, Device* device) {
  const Inputs in = inputs_of(args, 0);
  float *h = data(args.out[0]), *last = data(args.out[1]), *saved = args.outputs > 2 ? data(args.out[2]) : nullptr;
  const int64_t width = in.shape.width;
  for_each(device, in.shape.channels(), [=] __device__(int64_t unit) {
    const int64_t row = unit / width, d = unit % width, length = in.shape.valid(row);
    const Gates gates(in, d);
    float c = in.start(row, d);
    for (int64_t from = 0; from < length; from += kFetched) {
      Moment now[kFetched] = {};
      for (int i = 0; i < kFetched; i++)
        if (from + i < length) now[i] = in.load(in.shape.at(row, from + i, length), d);
      for (int i = 0; i < kFetched; i++) {
        if (from + i >= length) break;
        const int64_t at = in.shape.at(row, from + i, length) * width + d;
        const Step step(in, gates, now[i], c);
        c = step.next;
        if (saved) saved[at] = c;
        h[at] = now[i].skip + step.reset * (step.value - now[i].skip);
      }
    }
    last[unit] = c;
  });
  clear_padding(device, in.shape, h, width);
}

// in: dh, dlast, the inputs, h, last, c; out: du, dskip, dv, dbias, dinitial, each or none.
void sru_backward(const Args& args, Device* device) {
  const Inputs in = inputs_of(args, 2);
  const float *dh = data(args.in[0]), *dlast = data(args.in[1]), *c = data(args.in[10]);
  float *du = data(args.out[0]), *dskip = data(args.out[1]), *dinitial = data(args.out[4]);
  const int64_t n = in.shape.rows, width = in.shape.width;
  float* sums = scratch<float>(device, n * 4 * width);  // of v and b, [N, 4, D]
  for_each(device, in.shape.channels(), [=] __device__(int64_t unit) {
    const int64_t row = unit / width, d = unit % width, length = in.shape.valid(row);
    const Gates gates(in, d);
    float carried = dlast ? dlast[unit] : 0.0f, total[4] = {}, sum[4] = {};
    for (int64_t from = length - 1; from >= 0; from -= kFetched) {
      Moment now[kFetched] = {};
      for (int i = 0; i < kFetched; i++)
        if (from - i >= 0) {
          const int64_t s = from - i, t = in.shape.at(row, s, length);
          now[i] = in.load(t, d);
          now[i].dh = dh ? dh[t * width + d] : 0.0f;
          now[i].before = s > 0 ? c[in.shape.at(row, s - 1, length) * width + d] : in.start(row, d);
        }
      for (int i = 0; i < kFetched; i++) {
        if (from - i < 0) break;
        const int64_t t = in.shape.at(row, from - i, length);
        const Moment& m = now[i];
        const Step step(in, gates, m, m.before);
        const float dr = m.dh * (step.value - m.skip) * step.reset * (1.0f - step.reset);
        const float dvalue = m.dh * step.reset * (in.squash ? 1.0f - step.value * step.value : 1.0f);
        const float dc = carried + dvalue;
        const float df = dc * (m.before - m.u[0]) * step.forget * (1.0f - step.forget);
        const float skipped = m.dh * (1.0f - step.reset);
        if (du) {
          float* out = du + t * in.blocks * width + d;
          out[0] = dc * (1.0f - step.forget), out[width] = df, out[2 * width] = dr;
          if (in.blocks == 4) out[3 * width] = skipped;
        }
        if (dskip) dskip[t * width + d] = skipped;
        sum[0] += df * m.before, sum[1] += dr * m.before, sum[2] += df, sum[3] += dr;
        carried = dc * step.forget + df * gates.vf + dr * gates.vr;
        if ((from - i) % kChunk > 0) continue;
        for (int k = 0; k < 4; k++) total[k] += sum[k], sum[k] = 0.0f;
      }
    }
    if (dinitial) dinitial[unit] = carried;
    for (int k = 0; k < 4; k++) sums[(row * 4 + k) * width + d] = total[k];
  });
  clear_padding(device, in.shape, du, in.blocks * width);
  clear_padding(device, in.shape, dskip, width);
  if (!args.out[2] && !args.out[3]) return;
  float* total = scratch<float>(device, 4 * width);
  float *dv = data(args.out[2]), *dbias = data(args.out[3]);
  add_up(device, sums, n, 4 * width, total);
  for_each(device, 2 * width, [=] __device__(int64_t i) {
    if (dv) dv[i] = total[i];
    if (dbias) dbias[i] = total[2 * width + i];
  });
}

const KernelEntry entries[] = {
    {"sru", sru, 0},
    {"sru.backward", sru_backward, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_CUDA_KERNELS(sru, entries)
