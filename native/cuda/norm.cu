// Layer normalisation over rows, a block for each. ints: rows, features; floats: eps.
#include "math.h"
#include "reduce.h"
#include "rows.h"

namespace throughtime {
namespace {

template <class F>
DEVICE float row_mean(int64_t n, const F& f) {
  return sum_row(n, f) / static_cast<float>(n);
}

// in: x [rows, n], weight [n] or none, bias [n] or none; out: y [rows, n], and for training saved [2, rows]: the means
// and 1 / sqrt(variance + eps).
void layer_norm(const Args& args, Device* device) {
  const int64_t rows = args.ints[0], n = args.ints[1];
  const float eps = static_cast<float>(args.floats[0]);
  const float *all = data(args.in[0]), *weight = data(args.in[1]), *bias = data(args.in[2]);
  float *y = data(args.out[0]), *saved = args.outputs > 1 ? data(args.out[1]) : nullptr;
  for_each_block(device, rows, threads_for_row(n), kRowRoom, [=] __device__(int64_t r) {
    const float* x = all + r * n;
    const float mean = row_mean(n, [=](int64_t i) { return x[i]; });
    const float variance = row_mean(n, [=](int64_t i) { return (x[i] - mean) * (x[i] - mean); });
    const float inverse = 1.0f / sqrt(variance + eps);
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
      const float z = (x[i] - mean) * inverse;
      y[r * n + i] = (weight ? z * weight[i] : z) + (bias ? bias[i] : 0.0f);
    }
    if (saved && threadIdx.x == 0) saved[r] = mean, saved[rows + r] = inverse;
  });
}

// in: g [rows, n], x, weight or none, bias or none, y, saved; out: dx, dweight, dbias, each or none.
// With z = (x - mean) * inverse and d = g * weight: dx = inverse * (d - mean(d) - z * mean(d * z)).
void layer_norm_backward(const Args& args, Device* device) {
  const int64_t rows = args.ints[0], n = args.ints[1];
  const float *grads = data(args.in[0]), *all = data(args.in[1]), *weight = data(args.in[2]), *saved = data(args.in[5]);
  float *out = data(args.out[0]), *dweight = data(args.out[1]), *dbias = data(args.out[2]);
  if (out)
    for_each_block(device, rows, threads_for_row(n), kRowRoom, [=] __device__(int64_t r) {
      const float *g = grads + r * n, *x = all + r * n;
      const float mean = saved[r], inverse = saved[rows + r];
      const auto d = [=](int64_t i) { return weight ? g[i] * weight[i] : g[i]; };
      const float first = row_mean(n, d);
      const float second = row_mean(n, [=](int64_t i) { return d(i) * (x[i] - mean) * inverse; });
      for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
        out[r * n + i] = (d(i) - first - (x[i] - mean) * inverse * second) * inverse;
    });
  if (dweight) {
    float* products = scratch<float>(device, rows * n);
    for_each(device, rows * n,
             [=] __device__(int64_t i) { products[i] = grads[i] * ((all[i] - saved[i / n]) * saved[rows + i / n]); });
    sum_middle(device, products, 1, rows, n, dweight);
  }
  if (dbias) sum_middle(device, grads, 1, rows, n, dbias);
}

const KernelEntry entries[] = {
    {"layerNorm", layer_norm, 0},
    {"layerNorm.backward", layer_norm_backward, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_CUDA_KERNELS(norm, entries)
