// scan and maxScan, a thread for each channel of a row, step after step. ints: N, T, D, reverse.
#include "device.h"

namespace throughtime {
namespace {

// h_t = a_t * h_{t-1} + b_t
struct Linear {
  static constexpr float start = 0.0f;
  DEVICE static float forward(float a, float b, float prev) { return a * prev + b; }
  DEVICE static float backward(float a, float, float prev, float g, float* da, float* db) {
    *da = g * prev, *db = g;
    return g * a;
  }
};

// m_t = max(a_t + m_{t-1}, b_t); a tie sends the gradient to b, and a NaN stays.
struct Max {
  static constexpr float start = -__builtin_inff();
  DEVICE static bool past(float a, float b, float prev) { return a + prev > b || a + prev != a + prev; }
  DEVICE static float forward(float a, float b, float prev) { return past(a, b, prev) ? a + prev : b; }
  DEVICE static float backward(float a, float b, float prev, float g, float* da, float* db) {
    const bool chosen = past(a, b, prev);
    *da = chosen ? g : 0.0f, *db = chosen ? 0.0f : g;
    return *da;
  }
};

struct ScanShape {
  int64_t rows, steps, width;
  bool reverse;
  const int32_t* lengths;

  ScanShape(const Args& args, const Buffer* given)
      : rows(args.ints[0]),
        steps(args.ints[1]),
        width(args.ints[2]),
        reverse(args.ints[3] != 0),
        lengths(integers(given)) {}

  DEVICE int64_t valid(int64_t row) const {
    const int64_t length = lengths ? lengths[row] : steps;
    return length < 0 ? 0 : length > steps ? steps : length;
  }
  // Element of step s of `length` in channel d, in the order in which steps are run.
  DEVICE int64_t at(int64_t row, int64_t s, int64_t length, int64_t d) const {
    return (row * steps + (reverse ? length - 1 - s : s)) * width + d;
  }
};

// in: a, b [N, T, D], initial [N, D] or none, lengths [N] or none; out: h [N, T, D], last [N, D].
template <class Rule>
void run(const Args& args, Device* device) {
  const ScanShape shape(args, args.in[3]);
  const float *a = data(args.in[0]), *b = data(args.in[1]), *initial = data(args.in[2]);
  float *h = data(args.out[0]), *last = data(args.out[1]);
  for_each(device, shape.rows * shape.width, [=] __device__(int64_t i) {
    const int64_t row = i / shape.width, d = i % shape.width, length = shape.valid(row);
    float state = initial ? initial[i] : Rule::start;
    for (int64_t s = 0; s < length; s++) {
      const int64_t at = shape.at(row, s, length, d);
      h[at] = state = Rule::forward(a[at], b[at], state);
    }
    last[i] = state;
    for (int64_t t = length; t < shape.steps; t++) h[(row * shape.steps + t) * shape.width + d] = 0.0f;
  });
}

// in: dh, dlast, a, b, initial, lengths, h, last; out: da, db, dinitial, each or none.
template <class Rule>
void run_backward(const Args& args, Device* device) {
  const ScanShape shape(args, args.in[5]);
  const float *dh = data(args.in[0]), *dlast = data(args.in[1]), *a = data(args.in[2]), *b = data(args.in[3]);
  const float *initial = data(args.in[4]), *h = data(args.in[6]);
  float *da = data(args.out[0]), *db = data(args.out[1]), *dinitial = data(args.out[2]);
  for_each(device, shape.rows * shape.width, [=] __device__(int64_t i) {
    const int64_t row = i / shape.width, d = i % shape.width, length = shape.valid(row);
    float g = dlast ? dlast[i] : 0.0f;
    for (int64_t s = length - 1; s >= 0; s--) {
      const int64_t at = shape.at(row, s, length, d);
      const float prev = s > 0 ? h[shape.at(row, s - 1, length, d)] : initial ? initial[i] : Rule::start;
      if (dh) g += dh[at];
      float first, second;
      g = Rule::backward(a[at], b[at], prev, g, &first, &second);
      if (da) da[at] = first;
      if (db) db[at] = second;
    }
    if (dinitial) dinitial[i] = g;
    for (int64_t t = length; t < shape.steps; t++) {
      const int64_t at = (row * shape.steps + t) * shape.width + d;
      if (da) da[at] = 0.0f;
      if (db) db[at] = 0.0f;
    }
  });
}

const KernelEntry entries[] = {
    {"scan", run<Linear>, 0},
    {"scan.backward", run_backward<Linear>, 0},
    {"maxScan", run<Max>, 0},
    {"maxScan.backward", run_backward<Max>, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_CUDA_KERNELS(scan, entries)
