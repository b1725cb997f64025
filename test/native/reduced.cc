// Products of operands in bfloat16 and in bytes against sums in double precision of the operands they are rounded to,
// with one, two and three threads that must agree bit for bit, by the plain kernels and by the processor's own.
#include "reduced.h"

#include <cmath>
#include <string>

namespace {

using namespace throughtime;
using Numbers = std::vector<double>;
enum { BF16 = 1, INT8 = 2 };

uint64_t seed = 11;
double draw() {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (double)(seed >> 40) / (1 << 23) - 1;
}

// The processor's own instructions, where these kernels are compiled for them.
std::vector<unsigned> features() {
#if defined(__AVX512F__)
  __builtin_cpu_init();
  return {0, (__builtin_cpu_supports("avx512bf16") ? HAS_BF16 : 0u) |
                 (__builtin_cpu_supports("avx512vnni") ? HAS_VNNI : 0u)};
#else
  return {0};
#endif
}

// 8 bits of mantissa, ties to even, by way of the number's exponent.
double bfloat16(double x) {
  if (x == 0) return 0;
  int exponent;
  std::frexp(x, &exponent);
  const double unit = std::ldexp(1.0, exponent - 8);
  return std::nearbyint(x / unit) * unit;
}

// Rows of k numbers as products read them.
Numbers rounded(const Array& from, int k, int precision) {
  const float* x = static_cast<const float*>(from.data);
  Numbers to(from.elements);
  for (size_t start = 0; start < to.size(); start += k) {
    float most = 0;
    for (int i = 0; i < k; i++) most = std::fmax(most, std::fabs(x[start + i]));
    for (int i = 0; i < k; i++)
      to[start + i] =
          precision == BF16 ? bfloat16(x[start + i]) : std::nearbyint(x[start + i] * 127 / most) * most / 127;
  }
  return to;
}

// Away from what lies halfway between two bytes, where kernels that fuse a product and a sum may go either way.
void keep_off_ties(Array& array, int k) {
  for (size_t start = 0; start < array.elements; start += k) {
    float* x = array.floats() + start;
    x[0] = 1;
    for (int i = 1; i < k; i++) {
      const double ratio = x[i] * 127, off = ratio - std::floor(ratio) - 0.5;
      if (std::fabs(off) < 0.01) x[i] += 0.05f / 127;
    }
  }
}

void fill(Array& array) {
  for (size_t i = 0; i < array.elements; i++) array.floats()[i] = (float)draw();
}

struct Product {
  const KernelList& kernels;
  const char* name;
  std::vector<Buffer*> in;
  std::vector<int32_t> ints;

  // Whether the kernel gives `want`, and always the same bits. Sums of float32 are off by some 2^-24 of the terms.
  int check(const Numbers& want, int k) const {
    int failures = 0;
    for (unsigned with : features()) {
      Array first(want.size());
      for (int threads = 1; threads <= 3; threads++) {
        TestDevice device(threads);
        device.features = with;
        Array got(want.size());
        device.call(kernels, name, in, {&got}, ints);
        double error = 0;
        for (size_t i = 0; i < want.size(); i++) {
          const double e = std::fabs(got.floats()[i] - want[i]);
          if (!(e <= error)) error = std::isnan(e) ? INFINITY : e;
        }
        const double tolerance = 6e-8 * (4 + std::sqrt((double)k)) * std::sqrt(1.0 + k);
        if (threads == 1 && !want.empty()) std::memcpy(first.data, got.data, want.size() * 4);
        const bool same = want.empty() || std::memcmp(first.data, got.data, want.size() * 4) == 0;
        if (error <= tolerance && same) continue;
        failures++;
        std::printf("FAIL %s", name);
        for (int i : ints) std::printf(" %d", i);
        std::printf(", %d threads, features %u: off by %g, tolerance %g%s\n", threads, with, error, tolerance,
                    same ? "" : ", other bits");
      }
    }
    return failures;
  }
};

int linear(const KernelList& kernels, int m, int n, int k, int precision) {
  Array x((size_t)m * k), weight((size_t)n * k), bias(n);
  for (Array* array : {&x, &weight, &bias}) fill(*array);
  if (precision == INT8) keep_off_ties(x, k), keep_off_ties(weight, k);
  const Numbers a = rounded(x, k, precision), b = rounded(weight, k, precision);
  Numbers want((size_t)m * n);
  for (int i = 0; i < m; i++)
    for (int j = 0; j < n; j++) {
      double& sum = want[(size_t)i * n + j] = bias.floats()[j];
      for (int p = 0; p < k; p++) sum += a[(size_t)i * k + p] * b[(size_t)j * k + p];
    }
  return Product{kernels, "linear.reduced", {&x, &weight, &bias}, {m, k, n, precision}}.check(want, k);
}

int matmul(const KernelList& kernels, int m, int n, int k, bool ta, bool tb) {
  Array A((size_t)m * k), B((size_t)k * n);
  for (Array* array : {&A, &B}) fill(*array);
  const Numbers a = rounded(A, 1, BF16), b = rounded(B, 1, BF16);
  Numbers want((size_t)m * n, 0);
  for (int i = 0; i < m; i++)
    for (int p = 0; p < k; p++)
      for (int j = 0; j < n; j++)
        want[(size_t)i * n + j] +=
            a[ta ? (size_t)p * m + i : (size_t)i * k + p] * b[tb ? (size_t)j * k + p : (size_t)p * n + j];
  return Product{kernels, "matmul.bf16", {&A, &B}, {m, n, k, ta, tb}}.check(want, k);
}

}  // namespace

int reduced(const KernelList& kernels) {
  // Last panels that are full, narrow and neither; odd k, and k of more than one stretch; few rows and many.
  const int sizes[][3] = {{1, 1, 1},     {1, 100, 70},  {2, 33, 301},  {3, 64, 17},     {7, 13, 33},
                          {33, 7, 1},    {0, 3, 2},     {64, 96, 128}, {13, 130, 1027}, {200, 70, 259},
                          {97, 260, 40}, {5, 47, 2050}, {26, 48, 66},  {97, 17, 1024}};
  int failures = 0;
  for (const auto& [m, n, k] : sizes) {
    for (int precision : {BF16, INT8}) failures += linear(kernels, m, n, k, precision);
    for (int flags = 0; flags < 4; flags++) failures += matmul(kernels, m, n, k, (flags & 1) != 0, flags >> 1);
  }
  failures += matmul(kernels, 5, 5, 0, true, false);
  return failures;
}
