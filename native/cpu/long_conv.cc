// Convolutions of each channel by itself as long as the sequence, by fast Fourier transforms of two rows at once (one
// the real, the other the imaginary part). Lanes are channels. ints: N, T, D, taps, and of longConv whether it is
// transposed.
#include "isa.h"
#include "rows.h"

namespace throughtime {
namespace {

// Transforms of `size` points, a power of two, each a vector of real and one of imaginary parts.
struct Fourier {
  int64_t size;
  const float* turns;  // cos and -sin of 2 pi k / size, k < size / 2

  // To the spectrum, in bit-reversed order.
  void forward(float* z) const {
    for (int64_t half = size / 2; half > 0; half /= 2)
      for (int64_t begin = 0; begin < size; begin += 2 * half)
        for (int64_t k = 0; k < half; k++) {
          float *a = z + (begin + k) * 2 * kLanes, *b = a + half * 2 * kLanes;
          const float *turn = turns + k * (size / 2 / half) * 2, c = turn[0], s = turn[1];
          const Vec ar = load(a), ai = load(a + kLanes), br = load(b), bi = load(b + kLanes);
          const Vec dr = ar - br, di = ai - bi;
          store(a, ar + br);
          store(a + kLanes, ai + bi);
          store(b, dr * c - di * s);
          store(b + kLanes, dr * s + di * c);
        }
  }
  // From there, times size.
  void backward(float* z) const {
    for (int64_t half = 1; half < size; half *= 2)
      for (int64_t begin = 0; begin < size; begin += 2 * half)
        for (int64_t k = 0; k < half; k++) {
          float *a = z + (begin + k) * 2 * kLanes, *b = a + half * 2 * kLanes;
          const float *turn = turns + k * (size / 2 / half) * 2, c = turn[0], s = -turn[1];
          const Vec ar = load(a), ai = load(a + kLanes), br = load(b), bi = load(b + kLanes);
          const Vec tr = br * c - bi * s, ti = br * s + bi * c;
          store(a, ar + tr);
          store(a + kLanes, ai + ti);
          store(b, ar - tr);
          store(b + kLanes, ai - ti);
        }
  }
};

struct Shape {
  int64_t rows, steps, width, taps;  // taps within the sequence

  explicit Shape(const int32_t* v) : rows(v[0]), steps(v[1]), width(v[2]), taps(v[3] < v[1] ? v[3] : v[1]) {}
  int64_t points() const {
    int64_t size = 2;
    while (size < steps + taps - 1) size *= 2;
    return size;
  }
};

Fourier make(Device* device, int64_t size) {
  float* turns = static_cast<float*>(device->scratch(device, size * sizeof(float)));
  for (int64_t k = 0; k < size / 2; k++) {
    const double angle = 6.283185307179586 * static_cast<double>(k) / static_cast<double>(size);
    turns[2 * k] = static_cast<float>(__builtin_cos(angle));
    turns[2 * k + 1] = static_cast<float>(-__builtin_sin(angle));
  }
  return {size, turns};
}

// `count` steps of a sequence and of the next one, or none, to points, with zeros behind.
void fetch(const float* re, const float* im, int64_t count, int64_t apart, int lanes, int64_t size, float* z) {
  for (int64_t t = 0; t < size; t++) {
    store(z + t * 2 * kLanes, t < count ? load_lanes(re + t * apart, lanes) : Vec{});
    store(z + t * 2 * kLanes + kLanes, t < count && im ? load_lanes(im + t * apart, lanes) : Vec{});
  }
}

// Calls body(first channel, lanes, scratch) for vectors of channels, with `floats` of scratch for each thread.
template <class F>
void for_vectors(Device* device, const Shape& shape, int64_t floats, const F& body) {
  const int64_t units = (shape.width + kLanes - 1) / kLanes;
  for_units(device, units, units, floats, [&](int64_t unit, float* scratch) {
    const int64_t from = unit * kLanes, left = shape.width - from;
    body(from, static_cast<int>(left < kLanes ? left : kLanes), scratch);
  });
}

// in: u [N, T, D], k [taps, D]; out: y [N, T, D]. y_t = sum of k_j u_{t-j}, or transposed of k_j u_{t+j}.
void long_conv(const Args& args, Device* device) {
  const Shape shape(args.ints);
  const bool transposed = args.ints[4] != 0;
  const float *u = data(args.in[0]), *k = data(args.in[1]);
  float* y = data(args.out[0]);
  if (shape.steps == 0) return;
  const Fourier fourier = make(device, shape.points());
  const int64_t size = fourier.size, each = size * 2 * kLanes, row = shape.steps * shape.width;
  for_vectors(device, shape, 2 * each, [&](int64_t from, int lanes, float* kernel) {
    float* z = kernel + each;
    fetch(k + from, nullptr, shape.taps, shape.width, lanes, size, kernel);
    fourier.forward(kernel);
    for (int64_t n = 0; n < shape.rows; n += 2) {
      const float* first = u + n * row + from;
      fetch(first, n + 1 < shape.rows ? first + row : nullptr, shape.steps, shape.width, lanes, size, z);
      fourier.forward(z);
      for (int64_t i = 0; i < size; i++) {
        float* p = z + i * 2 * kLanes;
        const Vec re = load(p), im = load(p + kLanes), a = load(kernel + i * 2 * kLanes);
        const Vec b = transposed ? -load(kernel + i * 2 * kLanes + kLanes) : load(kernel + i * 2 * kLanes + kLanes);
        store(p, re * a - im * b);
        store(p + kLanes, re * b + im * a);
      }
      fourier.backward(z);
      const float scale = 1.0f / static_cast<float>(size);
      for (int64_t t = 0; t < shape.steps; t++) {
        float* to = y + n * row + t * shape.width + from;
        store_lanes(to, load(z + t * 2 * kLanes) * scale, lanes);
        if (n + 1 < shape.rows) store_lanes(to + row, load(z + t * 2 * kLanes + kLanes) * scale, lanes);
      }
    }
  });
}

// in: g, u [N, T, D]; out: k [taps, D], the sum over rows and steps of g_t u_{t-j}.
void long_correlation(const Args& args, Device* device) {
  const Shape shape(args.ints);
  const int64_t wanted = args.ints[3];
  const float *g = data(args.in[0]), *u = data(args.in[1]);
  float* k = data(args.out[0]);
  __builtin_memset(k + shape.taps * shape.width, 0, (wanted - shape.taps) * shape.width * sizeof(float));
  if (shape.steps == 0) return;
  const Fourier fourier = make(device, shape.points());
  const int64_t size = fourier.size, each = size * 2 * kLanes, row = shape.steps * shape.width;
  for_vectors(device, shape, 3 * each, [&](int64_t from, int lanes, float* total) {
    float *a = total + each, *b = a + each;
    __builtin_memset(total, 0, each * sizeof(float));
    for (int64_t n = 0; n < shape.rows; n += 2) {
      const float *first = g + n * row + from, *second = u + n * row + from;
      const bool both = n + 1 < shape.rows;
      fetch(first, both ? first + row : nullptr, shape.steps, shape.width, lanes, size, a);
      fetch(second, both ? second + row : nullptr, shape.steps, shape.width, lanes, size, b);
      fourier.forward(a);
      fourier.forward(b);
      for (int64_t i = 0; i < each; i += 2 * kLanes) {
        const Vec ar = load(a + i), ai = load(a + i + kLanes), br = load(b + i), bi = load(b + i + kLanes);
        store(total + i, load(total + i) + (ar * br + ai * bi));
        store(total + i + kLanes, load(total + i + kLanes) + (ai * br - ar * bi));
      }
    }
    fourier.backward(total);
    const float scale = 1.0f / static_cast<float>(size);
    for (int64_t j = 0; j < shape.taps; j++)
      store_lanes(k + j * shape.width + from, load(total + j * 2 * kLanes) * scale, lanes);
  });
}

const KernelEntry entries[] = {
    {"longConv", long_conv, 0},
    {"longCorrelation", long_correlation, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_KERNELS(long_conv, entries)
