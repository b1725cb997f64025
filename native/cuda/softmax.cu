// Softmax, its logarithm and cross entropy over rows: a block for each. ints: rows, entries of a row.
#include "ids.h"
#include "math.h"
#include "rows.h"

namespace throughtime {
namespace {

constexpr size_t kRoom = kBlock / kWarp * sizeof(double);

struct Largest {
  DEVICE float operator()(float a, float b) const { return a > b ? a : b; }
};

// What a block's threads know of a row together.
DEVICE float row_max(const float* x, int64_t n) {
  float most = -INFINITY;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) most = Largest()(x[i], most);
  return block_reduce(most, shared_memory<float>(), Largest());
}

// in: x; out: y = e^(x - max) / sum
void softmax(const Args& args, Device* device) {
  const int64_t n = args.ints[1];
  const float* all = data(args.in[0]);
  float* result = data(args.out[0]);
  for_each_block(device, args.ints[0], threads_for_row(n), kRowRoom, [=] __device__(int64_t r) {
    const float* x = all + r * n;
    const float shift = row_max(x, n);
    const float scale = 1.0f / sum_row(n, [=](int64_t i) { return exp(x[i] - shift); });
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) result[r * n + i] = exp(x[i] - shift) * scale;
  });
}

// in: g, x, y; out: dx = y * (g - sum(g * y))
void softmax_backward(const Args& args, Device* device) {
  const int64_t n = args.ints[1];
  const float *grads = data(args.in[0]), *results = data(args.in[2]);
  float* out = data(args.out[0]);
  for_each_block(device, args.ints[0], threads_for_row(n), kRowRoom, [=] __device__(int64_t r) {
    const float *g = grads + r * n, *y = results + r * n;
    const float dot = sum_row(n, [=](int64_t i) { return g[i] * y[i]; });
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) out[r * n + i] = y[i] * (g[i] - dot);
  });
}

// in: x; out: y = (x - max) - log(sum)
void log_softmax(const Args& args, Device* device) {
  const int64_t n = args.ints[1];
  const float* all = data(args.in[0]);
  float* result = data(args.out[0]);
  for_each_block(device, args.ints[0], threads_for_row(n), kRowRoom, [=] __device__(int64_t r) {
    const float* x = all + r * n;
    const float shift = row_max(x, n);
    const float logarithm = log(sum_row(n, [=](int64_t i) { return exp(x[i] - shift); }));
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) result[r * n + i] = (x[i] - shift) - logarithm;
  });
}

// in: g, x, y; out: dx = g - e^y * sum(g)
void log_softmax_backward(const Args& args, Device* device) {
  const int64_t n = args.ints[1];
  const float *grads = data(args.in[0]), *results = data(args.in[2]);
  float* out = data(args.out[0]);
  for_each_block(device, args.ints[0], threads_for_row(n), kRowRoom, [=] __device__(int64_t r) {
    const float *g = grads + r * n, *y = results + r * n;
    const float total = sum_row(n, [=](int64_t i) { return g[i]; });
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) out[r * n + i] = g[i] - exp(y[i]) * total;
  });
}

enum Reduction { NONE, SUM, MEAN };

// in: logits [rows, classes], targets [rows]; out: loss [rows] or [], and for training saved: each row's maximum,
// each row's 1 / sum of e^(logit - maximum), the number of valid targets. ints: rows, classes, ignored, reduction.
void cross_entropy(const Args& args, Device* device) {
  const int64_t rows = args.ints[0], n = args.ints[1];
  const int32_t ignored = args.ints[2], reduction = args.ints[3];
  const float* logits = data(args.in[0]);
  const int32_t* targets = integers(args.in[1]);
  float* saved = args.outputs > 1 ? data(args.out[1]) : nullptr;
  float* result = data(args.out[0]);
  launch_check(device, targets, rows, static_cast<int32_t>(n), true, ignored);
  float* losses = reduction == NONE ? result : scratch<float>(device, rows);
  for_each_block(device, rows, threads_for_row(n), kRowRoom, [=] __device__(int64_t r) {
    const float* x = logits + r * n;
    const int32_t target = targets[r];
    const float shift = row_max(x, n);
    const float total = sum_row(n, [=](int64_t i) { return exp(x[i] - shift); });
    if (threadIdx.x != 0) return;
    losses[r] = target == ignored || target < 0 || target >= n ? 0.0f : log(total) - (x[target] - shift);
    if (saved) saved[r] = shift, saved[rows + r] = 1.0f / total;
  });
  if (!saved && reduction == NONE) return;
  for_each_block(device, 1, kBlock, kRoom, [=] __device__(int64_t) {
    double* room = shared_memory<double>();
    double total = 0.0, valid = 0.0;
    for (int64_t r = threadIdx.x; r < rows; r += blockDim.x) {
      total += losses[r];
      valid += targets[r] != ignored;
    }
    total = block_reduce(total, room, Plus());
    valid = block_reduce(valid, room, Plus());
    if (threadIdx.x != 0) return;
    if (reduction != NONE) result[0] = static_cast<float>(reduction == MEAN ? total / valid : total);
    if (saved) saved[2 * rows] = static_cast<float>(valid);
  });
}

// in: g like loss, logits, targets, loss, saved; out: dlogits = (softmax - one hot) * g, divided by the number of valid
// targets for the mean, 0 for an ignored target; nothing for the targets.
void cross_entropy_backward(const Args& args, Device* device) {
  const int64_t rows = args.ints[0], n = args.ints[1];
  const int32_t ignored = args.ints[2], reduction = args.ints[3];
  const float *g = data(args.in[0]), *logits = data(args.in[1]), *saved = data(args.in[4]);
  const int32_t* targets = integers(args.in[2]);
  float* out = data(args.out[0]);
  for_each(device, rows * n, [=] __device__(int64_t i) {
    const int64_t r = i / n;
    const int32_t target = targets[r];
    const float scale = reduction == NONE ? g[r] : reduction == SUM ? g[0] : g[0] / saved[2 * rows];
    const float softmax = exp(logits[i] - saved[r]) * (saved[rows + r] * scale);
    out[i] = target == ignored ? 0.0f : target == i % n ? softmax - scale : softmax;
  });
}

const KernelEntry entries[] = {
    {"softmax", softmax, 0},
    {"softmax.backward", softmax_backward, 0},
    {"logSoftmax", log_softmax, 0},
    {"logSoftmax.backward", log_softmax_backward, 0},
    {"crossEntropy", cross_entropy, 0},
    {"crossEntropy.backward", cross_entropy_backward, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_CUDA_KERNELS(softmax, entries)
