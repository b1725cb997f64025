// Convolutions along time with kernels as long as the sequence, channel by channel, from the definition: T * taps
// products for each channel. ints: N, T, D, taps, and of longConv whether it is transposed.
#include "reduce.h"

namespace throughtime {
namespace {

// in: u [N, T, D], k [taps, D]; out: y [N, T, D]. y_t = sum of k_j u_{t-j}, or transposed of k_j u_{t+j}.
void long_conv(const Args& args, Device* device) {
  const int64_t steps = args.ints[1], width = args.ints[2], taps = args.ints[3];
  const bool transposed = args.ints[4] != 0;
  const float *u = data(args.in[0]), *k = data(args.in[1]);
  float* y = data(args.out[0]);
  for_each(device, args.ints[0] * steps * width, [=] __device__(int64_t i) {
    const int64_t d = i % width, t = i / width % steps;
    const int64_t left = transposed ? steps - t : t + 1, count = taps < left ? taps : left;
    const int64_t step = transposed ? width : -width;
    float sum = 0.0f;
    for (int64_t j = 0; j < count; j++) sum += k[j * width + d] * u[i + j * step];
    y[i] = sum;
  });
}

// in: g, u [N, T, D]; out: k [taps, D], the sum over rows and steps of g_t u_{t-j}.
void long_correlation(const Args& args, Device* device) {
  const int64_t rows = args.ints[0], steps = args.ints[1], width = args.ints[2], taps = args.ints[3];
  const float *g = data(args.in[0]), *u = data(args.in[1]);
  float* parts = scratch<float>(device, rows * taps * width);
  for_each(device, rows * taps * width, [=] __device__(int64_t i) {
    const int64_t d = i % width, j = i / width % taps, row = i / width / taps;
    const float *a = g + row * steps * width + d, *b = u + row * steps * width + d;
    float sum = 0.0f;
    for (int64_t t = j; t < steps; t++) sum += a[t * width] * b[(t - j) * width];
    parts[i] = sum;
  });
  sum_middle(device, parts, 1, rows, taps * width, data(args.out[0]));
}

const KernelEntry entries[] = {
    {"longConv", long_conv, 0},
    {"longCorrelation", long_correlation, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_CUDA_KERNELS(long_conv, entries)
