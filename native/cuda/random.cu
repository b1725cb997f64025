// Random numbers by Philox4x32-10 (Salmon et al. 2011): the seed is the key, the counter the block's number.
// Element i is made of word i % 4 of block offset + i / 4: the same numbers as on every other device.
#include "device.h"

namespace throughtime {
namespace {

DEVICE void philox(uint64_t counter, uint32_t k0, uint32_t k1, uint32_t* x) {
  x[0] = (uint32_t)counter, x[1] = (uint32_t)(counter >> 32), x[2] = x[3] = 0;
#pragma unroll
  for (int round = 0; round < 10; round++) {
    const uint64_t p = (uint64_t)x[0] * 0xd2511f53u, q = (uint64_t)x[2] * 0xcd9e8d57u;
    const uint32_t next0 = (uint32_t)(q >> 32) ^ x[1] ^ k0, next2 = (uint32_t)(p >> 32) ^ x[3] ^ k1;
    x[0] = next0, x[1] = (uint32_t)q, x[2] = next2, x[3] = (uint32_t)p;
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
}

// out: y; ints: seed low, seed high, offset low, offset high.
template <class F>
void draw(const Args& args, Device* device, F value) {
  float* y = data(args.out[0]);
  const int64_t n = args.out[0]->elements;
  const uint32_t k0 = args.ints[0], k1 = args.ints[1];
  const uint64_t offset = static_cast<uint32_t>(args.ints[2]) | uint64_t{static_cast<uint32_t>(args.ints[3])} << 32;
  for_each(device, (n + 3) / 4, [=] __device__(int64_t block) {
    uint32_t words[4];
    philox(offset + block, k0, k1, words);
#pragma unroll
    for (int w = 0; w < 4; w++)
      if (4 * block + w < n) y[4 * block + w] = value(words[w]);
  });
}

// floats: low, range, both float32 values: the product with 24 random bits is exact, and the sum is rounded once.
struct Uniform {
  double low, unit;
  DEVICE float operator()(uint32_t word) const {
    return static_cast<float>(low + unit * static_cast<int32_t>(word >> 8));
  }
};
void uniform(const Args& args, Device* device) {
  draw(args, device, Uniform{args.floats[0], args.floats[1] * 0x1p-24});
}

// floats: p, value.
struct Bernoulli {
  uint32_t last;
  float value;
  DEVICE float operator()(uint32_t word) const { return word <= last ? value : 0.0f; }
};
void bernoulli(const Args& args, Device* device) {
  const double bound = args.floats[0] * 0x1p32;
  const uint32_t last = bound > 0 ? static_cast<uint32_t>(__builtin_ceil(bound) - 1) : 0;
  draw(args, device, Bernoulli{last, bound > 0 ? static_cast<float>(args.floats[1]) : 0.0f});
}

const KernelEntry entries[] = {
    {"uniform", uniform, 0},
    {"bernoulli", bernoulli, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_CUDA_KERNELS(random, entries)
