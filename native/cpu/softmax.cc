// Softmax, its logarithm and cross entropy over rows. ints: rows, entries of a row.
#include <cstdio>

#include "isa.h"
#include "math.h"
#include "rows.h"

namespace throughtime {
namespace {

// Sum of e^(x - shift); the exponentials go to y if there is one.
float exp_row(const float* x, float shift, int64_t n, float* y) {
  return row_sum(n, [=](int64_t i, int lanes) {
    const Vec e = exp(load_lanes(x + i, lanes) - shift);
    if (y) store_lanes(y + i, e, lanes);
    return first_lanes(e, lanes);
  });
}

// in: x; out: y = e^(x - max) / sum
void softmax(const Args& args, Device* device) {
  const int64_t rows = args.ints[0], n = args.ints[1];
  const float* all = data(args.in[0]);
  float* result = data(args.out[0]);
  for_rows(device, rows, n, [=](int64_t r) {
    const float* x = all + r * n;
    float* y = result + r * n;
    const float scale = 1.0f / exp_row(x, row_max(x, n), n, y);
    row_map(n, [=](int64_t i, int lanes) { store_lanes(y + i, load_lanes(y + i, lanes) * scale, lanes); });
  });
}

// in: g, x, y; out: dx = y * (g - sum(g * y))
void softmax_backward(const Args& args, Device* device) {
  const int64_t rows = args.ints[0], n = args.ints[1];
  const float *grads = data(args.in[0]), *results = data(args.in[2]);
  float* out = data(args.out[0]);
  for_rows(device, rows, n, [=](int64_t r) {
    const float *g = grads + r * n, *y = results + r * n;
    float* dx = out + r * n;
    const float dot =
        row_sum(n, [=](int64_t i, int lanes) { return load_lanes(g + i, lanes) * load_lanes(y + i, lanes); });
    row_map(n, [=](int64_t i, int lanes) {
      store_lanes(dx + i, load_lanes(y + i, lanes) * (load_lanes(g + i, lanes) - dot), lanes);
    });
  });
}

// in: x; out: y = (x - max) - log(sum)
void log_softmax(const Args& args, Device* device) {
  const int64_t rows = args.ints[0], n = args.ints[1];
  const float* all = data(args.in[0]);
  float* result = data(args.out[0]);
  for_rows(device, rows, n, [=](int64_t r) {
    const float* x = all + r * n;
    float* y = result + r * n;
    const float shift = row_max(x, n);
    const float logarithm = __builtin_logf(exp_row(x, shift, n, nullptr));
    row_map(n,
            [=](int64_t i, int lanes) { store_lanes(y + i, (load_lanes(x + i, lanes) - shift) - logarithm, lanes); });
  });
}

// in: g, x, y; out: dx = g - e^y * sum(g)
void log_softmax_backward(const Args& args, Device* device) {
  const int64_t rows = args.ints[0], n = args.ints[1];
  const float *grads = data(args.in[0]), *results = data(args.in[2]);
  float* out = data(args.out[0]);
  for_rows(device, rows, n, [=](int64_t r) {
    const float *g = grads + r * n, *y = results + r * n;
    float* dx = out + r * n;
    const float total = row_sum(n, [=](int64_t i, int lanes) { return load_lanes(g + i, lanes); });
    row_map(n, [=](int64_t i, int lanes) {
      store_lanes(dx + i, load_lanes(g + i, lanes) - exp(load_lanes(y + i, lanes)) * total, lanes);
    });
  });
}

enum Reduction { NONE, SUM, MEAN };

// in: logits [rows, classes], targets [rows]; out: loss [rows] or [], and for training saved: each row's maximum,
// each row's 1 / sum of e^(logit - maximum), the number of valid targets. ints: rows, classes, ignored, reduction.
void cross_entropy(const Args& args, Device* device) {
  const int64_t rows = args.ints[0], n = args.ints[1];
  const int32_t ignored = args.ints[2];
  const float* logits = data(args.in[0]);
  const int32_t* targets = static_cast<const int32_t*>(args.in[1]->data);
  float* saved = args.outputs > 1 ? data(args.out[1]) : nullptr;
  int64_t valid = 0;
  for (int64_t r = 0; r < rows; r++) {
    if (targets[r] == ignored) continue;
    valid++;
    if (targets[r] >= 0 && targets[r] < n) continue;
    char message[160];
    snprintf(message, sizeof message,
             "targets must be in [0, %lld] for %lld classes, or %d to be ignored, but targets[%lld] is %d",
             static_cast<long long>(n - 1), static_cast<long long>(n), ignored, static_cast<long long>(r), targets[r]);
    device->fail(device, message);
  }
  const bool each = args.ints[3] == NONE;
  float* losses = each ? data(args.out[0]) : static_cast<float*>(device->scratch(device, rows * sizeof(float)));
  for_rows(device, rows, n, [=](int64_t r) {
    const float* x = logits + r * n;
    const bool counts = targets[r] != ignored;
    if (!counts && !saved) {
      losses[r] = 0.0f;
      return;
    }
    const float shift = row_max(x, n);
    const float total = exp_row(x, shift, n, nullptr);
    losses[r] = counts ? __builtin_logf(total) - (x[targets[r]] - shift) : 0.0f;
    if (saved) {
      saved[r] = shift;
      saved[rows + r] = 1.0f / total;
    }
  });
  if (saved) saved[2 * rows] = static_cast<float>(valid);
  if (each) return;
  double total = 0;
  for (int64_t r = 0; r < rows; r++) total += losses[r];
  *data(args.out[0]) = static_cast<float>(args.ints[3] == MEAN ? total / static_cast<double>(valid) : total);
}

// in: g like loss, logits, targets, loss, saved; out: dlogits = (softmax - one hot) * g, divided by the number of valid
// targets for the mean, 0 for an ignored target; nothing for the targets.
void cross_entropy_backward(const Args& args, Device* device) {
  const int64_t rows = args.ints[0], n = args.ints[1];
  const int32_t ignored = args.ints[2], reduction = args.ints[3];
  const float *g = data(args.in[0]), *logits = data(args.in[1]), *saved = data(args.in[4]);
  const int32_t* targets = static_cast<const int32_t*>(args.in[2]->data);
  float* out = data(args.out[0]);
  for_rows(device, rows, n, [=](int64_t r) {
    const float* x = logits + r * n;
    float* dx = out + r * n;
    if (targets[r] == ignored) {
      __builtin_memset(dx, 0, n * sizeof(float));
      return;
    }
    const float scale = reduction == NONE ? g[r] : reduction == SUM ? g[0] : g[0] / saved[2 * rows];
    const float shift = saved[r], inverse = saved[rows + r] * scale;
    row_map(n,
            [=](int64_t i, int lanes) { store_lanes(dx + i, exp(load_lanes(x + i, lanes) - shift) * inverse, lanes); });
    dx[targets[r]] -= scale;
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

THROUGHTIME_KERNELS(softmax, entries)
