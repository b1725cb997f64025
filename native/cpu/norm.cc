// Layer normalisation over rows. ints: rows, features; floats: eps.
#include "isa.h"
#include "rows.h"

namespace throughtime {
namespace {

// in: x [rows, n], weight [n] or none, bias [n] or none; out: y [rows, n], and for training saved [2, rows]: the means
// and 1 / sqrt(variance + eps).
void layer_norm(const Args& args, Device* device) {
  const int64_t rows = args.ints[0], n = args.ints[1];
  const float eps = static_cast<float>(args.floats[0]);
  const float *all = data(args.in[0]), *weight = data(args.in[1]), *bias = data(args.in[2]);
  float* result = data(args.out[0]);
  float* saved = args.outputs > 1 ? data(args.out[1]) : nullptr;
  for_rows(device, rows, n, [=](int64_t r) {
    const float* x = all + r * n;
    float* y = result + r * n;
    const float mean =
        row_sum(n, [=](int64_t i, int lanes) { return load_lanes(x + i, lanes); }) / static_cast<float>(n);
    const float squares = row_sum(n, [=](int64_t i, int lanes) {
      const Vec centred = first_lanes(load_lanes(x + i, lanes) - mean, lanes);
      return centred * centred;
    });
    const float inverse = 1.0f / __builtin_sqrtf(squares / static_cast<float>(n) + eps);
    row_map(n, [=](int64_t i, int lanes) {
      Vec v = (load_lanes(x + i, lanes) - mean) * inverse;
      if (weight) v *= load_lanes(weight + i, lanes);
      if (bias) v += load_lanes(bias + i, lanes);
      store_lanes(y + i, v, lanes);
    });
    if (saved) {
      saved[r] = mean;
      saved[rows + r] = inverse;
    }
  });
}

// With z = (x - mean) * inverse and d = g * weight: dx = inverse * (d - mean(d) - z * mean(d * z)).
void input_gradient(Device* device, int64_t rows, int64_t n, const float* grads, const float* all, const float* weight,
                    const float* saved, float* out) {
  for_rows(device, rows, n, [=](int64_t r) {
    const float *g = grads + r * n, *x = all + r * n;
    float* dx = out + r * n;
    const float mean = saved[r], inverse = saved[rows + r];
    const auto d = [=](int64_t i, int lanes) {
      const Vec v = load_lanes(g + i, lanes);
      return weight ? v * load_lanes(weight + i, lanes) : v;
    };
    const float first = row_sum(n, d) / static_cast<float>(n);
    const float second =
        row_sum(n, [=](int64_t i, int lanes) { return d(i, lanes) * (load_lanes(x + i, lanes) - mean) * inverse; }) /
        static_cast<float>(n);
    row_map(n, [=](int64_t i, int lanes) {
      const Vec z = (load_lanes(x + i, lanes) - mean) * inverse;
      store_lanes(dx + i, (d(i, lanes) - first - z * second) * inverse, lanes);
    });
  });
}

// dweight = sum over rows of g * z, dbias = sum over rows of g. Threads share the columns; rows are summed in order, in
// blocks, so that long sums lose less. `partial` holds [2, n].
void vector_gradients(Device* device, int64_t rows, int64_t n, const float* grads, const float* all, const float* saved,
                      float* dweight, float* dbias, float* partial) {
  constexpr int64_t kBlock = 64;
  const auto add = [](float* to, const float* from, int64_t width) {
    row_map(width, [=](int64_t i, int lanes) {
      store_lanes(to + i, load_lanes(to + i, lanes) + load_lanes(from + i, lanes), lanes);
    });
  };
  for_range(device, n, 1 + 16384 / (rows + 1), [=](size_t begin, size_t end) {
    const int64_t width = static_cast<int64_t>(end - begin);
    const size_t bytes = width * sizeof(float);
    float *w = partial + begin, *b = partial + n + begin;
    if (dweight) __builtin_memset(dweight + begin, 0, bytes);
    if (dbias) __builtin_memset(dbias + begin, 0, bytes);
    for (int64_t block = 0; block < rows; block += kBlock) {
      __builtin_memset(w, 0, bytes);
      __builtin_memset(b, 0, bytes);
      for (int64_t r = block; r < block + kBlock && r < rows; r++) {
        const float *g = grads + r * n + begin, *x = all + r * n + begin;
        const float mean = saved[r], inverse = saved[rows + r];
        row_map(width, [=](int64_t i, int lanes) {
          const Vec d = load_lanes(g + i, lanes);
          store_lanes(w + i, load_lanes(w + i, lanes) + d * ((load_lanes(x + i, lanes) - mean) * inverse), lanes);
          store_lanes(b + i, load_lanes(b + i, lanes) + d, lanes);
        });
      }
      if (dweight) add(dweight + begin, w, width);
      if (dbias) add(dbias + begin, b, width);
    }
  });
}

// in: g [rows, n], x, weight or none, bias or none, y, saved; out: dx, dweight, dbias, each or none.
void layer_norm_backward(const Args& args, Device* device) {
  const int64_t rows = args.ints[0], n = args.ints[1];
  const float *g = data(args.in[0]), *x = data(args.in[1]), *weight = data(args.in[2]), *saved = data(args.in[5]);
  if (float* dx = data(args.out[0])) input_gradient(device, rows, n, g, x, weight, saved, dx);
  float *dweight = data(args.out[1]), *dbias = data(args.out[2]);
  if (!dweight && !dbias) return;
  float* partial = static_cast<float*>(device->scratch(device, 2 * n * sizeof(float)));
  vector_gradients(device, rows, n, g, x, saved, dweight, dbias, partial);
}

const KernelEntry entries[] = {
    {"layerNorm", layer_norm, 0},
    {"layerNorm.backward", layer_norm_backward, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_KERNELS(norm, entries)
