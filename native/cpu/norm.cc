// Layer normalisation over rows. ints: rows, features; floats: eps.
#include "isa.h"
#include "rows.h"

namespace throughtime {
namespace {

float* data(const Buffer* b) { return b ? static_cast<float*>(b->data) : nullptr; }

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

// dweight = sum over rows of g * z, dbias = sum over rows of g. Threads share the columns; each column is summed in
// blocks of rows, in order.
void vector_gradients(Device* device, int64_t rows, int64_t n, const float* grads, const float* all, const float* saved,
                      float* dweight, float* dbias) {
  constexpr int64_t kBlock = 64;
  for_range(device, n, 1 + 16384 / (rows + 1), [=](size_t begin, size_t end) {
    row_map(static_cast<int64_t>(end - begin), [=](int64_t at, int lanes) {
      const int64_t i = static_cast<int64_t>(begin) + at;
      Vec by_weight = {}, by_bias = {};
      for (int64_t block = 0; block < rows; block += kBlock) {
        Vec w = {}, b = {};
        for (int64_t r = block; r < block + kBlock && r < rows; r++) {
          const Vec g = load_lanes(grads + r * n + i, lanes);
          w += g * ((load_lanes(all + r * n + i, lanes) - saved[r]) * saved[rows + r]);
          b += g;
        }
        by_weight += w;
        by_bias += b;
      }
      if (dweight) store_lanes(dweight + i, by_weight, lanes);
      if (dbias) store_lanes(dbias + i, by_bias, lanes);
    });
  });
}

// in: g [rows, n], x, weight or none, bias or none, y, saved; out: dx, dweight, dbias, each or none.
void layer_norm_backward(const Args& args, Device* device) {
  const int64_t rows = args.ints[0], n = args.ints[1];
  const float *g = data(args.in[0]), *x = data(args.in[1]), *weight = data(args.in[2]), *saved = data(args.in[5]);
  if (float* dx = data(args.out[0])) input_gradient(device, rows, n, g, x, weight, saved, dx);
  float *dweight = data(args.out[1]), *dbias = data(args.out[2]);
  if (dweight || dbias) vector_gradients(device, rows, n, g, x, saved, dweight, dbias);
}

const KernelEntry entries[] = {
    {"layerNorm", layer_norm, 0},
    {"layerNorm.backward", layer_norm_backward, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_KERNELS(norm, entries)
