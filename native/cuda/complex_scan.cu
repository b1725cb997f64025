// x_t = a * x_{t-1} + b_t for complex numbers whose a does not change in time; the kernels of
// native/cpu/complex_scan.cc. ints: N, T, D, reverse; D counts complex numbers.
#include "complex.h"
#include "linear_scan.h"

namespace throughtime {
namespace {

constexpr int64_t kChunk = 64;  // steps that the gradient of a is summed over before it joins the rest

inline Complex* complexes(const Buffer* b) { return reinterpret_cast<Complex*>(data(b)); }

// x = a * x + b forward, and with the conjugate of a for the gradient between two steps, where the sum is given out.
template <bool BACKWARD>
struct Rule {
  struct In {
    Complex a, b;
  };
  using State = Complex;
  struct Effect {
    Complex scale, shift;
  };

  int64_t width;
  const Complex *a, *b, *initial;
  Complex *out, *last;

  DEVICE Complex start(int64_t row, int64_t d) const {
    return initial ? initial[row * width + d] : Complex{0.0f, 0.0f};
  }
  DEVICE In load(const Step& step) const {
    const Complex of = a[step.d];
    return {BACKWARD ? conj(of) : of, b ? b[step.t * width + step.d] : Complex{0.0f, 0.0f}};
  }
  DEVICE Complex next(const In& in, Complex x) const { return BACKWARD ? in.a * (x + in.b) : in.a * x + in.b; }
  DEVICE void put(const Step& step, const In& in, Complex before, Complex after) const {
    if (out) out[step.t * width + step.d] = BACKWARD ? before + in.b : after;
  }
  DEVICE void finish(int64_t row, int64_t d, Complex x) const {
    if (last) last[row * width + d] = x;
  }
  DEVICE void clear(int64_t t, int64_t d) const {
    if (out) out[t * width + d] = {0.0f, 0.0f};
  }
  DEVICE Effect none(int64_t) const { return {{1.0f, 0.0f}, {0.0f, 0.0f}}; }
  DEVICE Effect then(const Effect& e, const In& in) const { return {in.a * e.scale, next(in, e.shift)}; }
  // The scale may have grown out of range where there is nothing to grow.
  DEVICE Complex apply(const Effect& e, Complex x) const {
    return x.re == 0.0f && x.im == 0.0f ? e.shift : e.scale * x + e.shift;
  }
};

// in: a [D, 2], b [N, T, D, 2], initial [N, D, 2] or none, lengths [N] or none; out: x [N, T, D, 2], last [N, D, 2].
void complex_scan(const Args& args, Device* device) {
  const ScanShape shape = {args.ints[0], args.ints[1], args.ints[2], args.ints[3] != 0, integers(args.in[3])};
  linear_scan(device, shape,
              Rule<false>{shape.width, complexes(args.in[0]), complexes(args.in[1]), complexes(args.in[2]),
                          complexes(args.out[0]), complexes(args.out[1])});
}

// in: dx, dlast, a, b, initial, lengths, x, last; out: da, db, dinitial, each or none. With g the gradient of x_t,
// db_t = g, da = sum of conj(x_{t-1}) g, and conj(a) g goes on to x_{t-1}.
void complex_scan_backward(const Args& args, Device* device) {
  const ScanShape shape = {args.ints[0], args.ints[1], args.ints[2], args.ints[3] != 0, integers(args.in[5])};
  const Complex *initial = complexes(args.in[4]), *x = complexes(args.in[6]);
  Complex *da = complexes(args.out[0]), *db = complexes(args.out[1]);
  const int64_t width = shape.width, steps = shape.steps, chunks = ceil_div(steps, kChunk);
  Complex* g = db || !da ? db : scratch<Complex>(device, shape.channels() * steps);
  ScanShape backward = shape;
  backward.reverse = !shape.reverse;
  linear_scan(device, backward,
              Rule<true>{width, complexes(args.in[2]), complexes(args.in[0]), complexes(args.in[1]), g,
                         complexes(args.out[2])});
  if (!da) return;
  Complex* parts = scratch<Complex>(device, shape.channels() * chunks);
  for_each(device, shape.channels() * chunks, [=] __device__(int64_t unit) {
    const int64_t d = unit % width, row = unit / width / chunks, begin = unit / width % chunks * kChunk;
    const int64_t length = shape.valid(row), end = least(begin + kChunk, length);
    Complex total = {0.0f, 0.0f};
    for (int64_t s = begin; s < end; s++) {
      Complex before = {0.0f, 0.0f};
      if (s > 0)
        before = x[shape.at(row, s - 1, length) * width + d];
      else if (initial)
        before = initial[row * width + d];
      total = total + conj(before) * g[shape.at(row, s, length) * width + d];
    }
    parts[unit] = total;
  });
  add_up(device, reinterpret_cast<float*>(parts), shape.rows * chunks, 2 * width, data(args.out[0]));
}

const KernelEntry entries[] = {
    {"complexScan", complex_scan, 0},
    {"complexScan.backward", complex_scan_backward, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_CUDA_KERNELS(complex_scan, entries)
