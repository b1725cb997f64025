// x_t = a * x_{t-1} + b_t for complex numbers whose a does not change in time. Lanes are real and imaginary parts in
// turn, as they lie in memory. ints: N, T, D, reverse; D counts complex numbers.
#include "scan.h"

#include "isa.h"

namespace throughtime {
namespace {

constexpr int64_t kChunk = 64;  // steps that the gradient of a is summed over before it joins the rest

// Real and imaginary parts exchanged.
Vec exchanged(Vec v) {
  Vec out;
  for (int i = 0; i < kLanes; i++) out[i] = v[i ^ 1];
  return out;
}

struct Inputs {
  ScanShape shape;  // whose width counts real numbers
  const float *b, *initial;
  const float *re, *im;  // of a: re re ..., and -im im ..., so that a x = re * x + im * exchanged(x)
};

// `at`: where the inputs begin, in the list of the kernel.
Inputs inputs_of(const Args& args, int at, Device* device) {
  Buffer* const* in = args.in + at;
  const int64_t width = 2 * static_cast<int64_t>(args.ints[2]);
  float* re = static_cast<float*>(device->scratch(device, (2 * width + 1) * sizeof(float)));
  float* im = re + width;
  const float* a = data(in[0]);
  for (int64_t i = 0; i < width; i += 2) {
    re[i] = re[i + 1] = a[i];
    im[i] = -a[i + 1];
    im[i + 1] = a[i + 1];
  }
  const int32_t* lengths = integers(in[3]);
  return {{args.ints[0], args.ints[1], width, args.ints[3] != 0, lengths}, data(in[1]), data(in[2]), re, im};
}

// in: a [D, 2], b [N, T, D, 2], initial [N, D, 2] or none, lengths [N] or none; out: x [N, T, D, 2], last [N, D, 2].
void complex_scan(const Args& args, Device* device) {
  const Inputs in = inputs_of(args, 0, device);
  float *x = data(args.out[0]), *last = data(args.out[1]);
  const int64_t d = in.shape.width, steps = in.shape.steps;
  for_channels(device, in.shape, [&](int64_t row, int64_t from, int64_t width) {
    const int64_t length = in.shape.valid(row);
    float* state = last + row * d + from;
    if (in.initial)
      __builtin_memcpy(state, in.initial + row * d + from, width * sizeof(float));
    else
      __builtin_memset(state, 0, width * sizeof(float));
    for (int64_t s = 0; s < length; s++) {
      const int64_t t = in.shape.at(row, s, length) * d + from;
      row_map(width, [&](int64_t i, int lanes) {
        const Vec before = load_lanes(state + i, lanes);
        const Vec next = load_lanes(in.re + from + i, lanes) * before +
                         (load_lanes(in.im + from + i, lanes) * exchanged(before) + load_lanes(in.b + t + i, lanes));
        store_lanes(state + i, next, lanes);
        store_lanes(x + t + i, next, lanes);
      });
    }
    for (int64_t t = row * steps + length; t < (row + 1) * steps; t++)
      __builtin_memset(x + t * d + from, 0, width * sizeof(float));
  });
}

// in: dx, dlast, a, b, initial, lengths, x, last; out: da, db, dinitial, each or none. With g the gradient of x_t,
// db_t = g, da = sum of conj(x_{t-1}) g, and conj(a) g goes on to x_{t-1}.
void complex_scan_backward(const Args& args, Device* device) {
  const Inputs in = inputs_of(args, 2, device);
  const float *dx = data(args.in[0]), *dlast = data(args.in[1]), *x = data(args.in[6]);
  float *da = data(args.out[0]), *db = data(args.out[1]), *dinitial = data(args.out[2]);
  const int64_t n = in.shape.rows, d = in.shape.width, steps = in.shape.steps;
  const auto room = [&](int64_t floats) {
    return static_cast<float*>(device->scratch(device, (floats + 1) * sizeof(float)));
  };
  // Of g * x and of g * exchanged(x), [N, 2, D]: of all steps, and of a chunk.
  float *carried = room(n * d), *sums = room(n * 2 * d), *chunks = room(n * 2 * d);
  for_channels(device, in.shape, [&](int64_t row, int64_t from, int64_t width) {
    const int64_t length = in.shape.valid(row);
    float *carry = carried + row * d + from, *sum = sums + row * 2 * d + from, *chunk = chunks + row * 2 * d + from;
    if (dlast)
      __builtin_memcpy(carry, dlast + row * d + from, width * sizeof(float));
    else
      __builtin_memset(carry, 0, width * sizeof(float));
    for (int64_t k = 0; k < 2; k++) {
      __builtin_memset(sum + k * d, 0, width * sizeof(float));
      __builtin_memset(chunk + k * d, 0, width * sizeof(float));
    }
    const auto add = [](float* to, Vec v, int lanes) { store_lanes(to, load_lanes(to, lanes) + v, lanes); };
    for (int64_t s = length - 1; s >= 0; s--) {
      const int64_t t = in.shape.at(row, s, length) * d + from;
      const float* before = s > 0        ? x + in.shape.at(row, s - 1, length) * d + from
                            : in.initial ? in.initial + row * d + from
                                         : nullptr;
      row_map(width, [&](int64_t i, int lanes) {
        Vec g = load_lanes(carry + i, lanes);
        if (dx) g += load_lanes(dx + t + i, lanes);
        if (db) store_lanes(db + t + i, g, lanes);
        if (before) {
          const Vec state = load_lanes(before + i, lanes);
          add(chunk + i, g * state, lanes);
          add(chunk + d + i, g * exchanged(state), lanes);
        }
        const Vec back = load_lanes(in.re + from + i, lanes) * g - load_lanes(in.im + from + i, lanes) * exchanged(g);
        store_lanes(carry + i, back, lanes);
      });
      if (s % kChunk > 0) continue;
      for (int64_t k = 0; k < 2; k++)
        row_map(width, [&](int64_t i, int lanes) {
          add(sum + k * d + i, load_lanes(chunk + k * d + i, lanes), lanes);
          store_lanes(chunk + k * d + i, Vec{}, lanes);
        });
    }
    if (dinitial) __builtin_memcpy(dinitial + row * d + from, carry, width * sizeof(float));
    for (int64_t t = row * steps + length; db && t < (row + 1) * steps; t++)
      __builtin_memset(db + t * d + from, 0, width * sizeof(float));
  });
  for (int64_t i = 0; da && i < d; i += 2) {
    float re = 0.0f, im = 0.0f;
    for (int64_t row = 0; row < n; row++) {
      const float *same = sums + row * 2 * d + i, *other = same + d;
      re += same[0] + same[1];
      im += other[1] - other[0];
    }
    da[i] = re;
    da[i + 1] = im;
  }
}

const KernelEntry entries[] = {
    {"complexScan", complex_scan, 0},
    {"complexScan.backward", complex_scan_backward, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_KERNELS(complex_scan, entries)
