// Random numbers by Philox4x32-10 (Salmon et al. 2011): the seed is the key, the counter the block's number.
// Element i is made of word i % 4 of block offset + i / 4, whatever the number of threads.
#include "isa.h"
#include "parallel.h"

namespace throughtime {
namespace {

constexpr int kBlocks = 16;  // made together, so that the compiler can use vectors

struct Words {
  uint32_t of[4][kBlocks];
};

void philox(uint64_t counter, uint32_t k0, uint32_t k1, Words* words) {
  uint32_t(*x)[kBlocks] = words->of;
  for (int b = 0; b < kBlocks; b++) {
    x[0][b] = static_cast<uint32_t>(counter + b);
    x[1][b] = static_cast<uint32_t>((counter + b) >> 32);
    x[2][b] = x[3][b] = 0;
  }
  for (int round = 0; round < 10; round++) {
    for (int b = 0; b < kBlocks; b++) {
      const uint64_t p = uint64_t{0xd2511f53} * x[0][b], q = uint64_t{0xcd9e8d57} * x[2][b];
      x[0][b] = static_cast<uint32_t>(q >> 32) ^ x[1][b] ^ k0;
      x[2][b] = static_cast<uint32_t>(p >> 32) ^ x[3][b] ^ k1;
      x[1][b] = static_cast<uint32_t>(q);
      x[3][b] = static_cast<uint32_t>(p);
    }
    k0 += 0x9e3779b9;
    k1 += 0xbb67ae85;
  }
}

// out: y; ints: seed low, seed high, offset low, offset high.
template <class F>
void draw(const Args& args, Device* device, const F& value) {
  float* y = static_cast<float*>(args.out[0]->data);
  const uint32_t k0 = args.ints[0], k1 = args.ints[1];
  const uint64_t offset = static_cast<uint32_t>(args.ints[2]) | uint64_t{static_cast<uint32_t>(args.ints[3])} << 32;
  for_range(device, args.out[0]->elements, 8192, [=](size_t begin, size_t end) {
    Words words;
    for (size_t i = begin; i < end; i += 4 * kBlocks) {
      philox(offset + i / 4, k0, k1, &words);
      float values[kBlocks][4];
      for (int b = 0; b < kBlocks; b++)
        for (int w = 0; w < 4; w++) values[b][w] = value(words.of[w][b]);
      const size_t count = end - i < 4 * kBlocks ? end - i : 4 * kBlocks;
      __builtin_memcpy(y + i, values, count * sizeof(float));
    }
  });
}

// floats: low, range, both float32 values: the product with 24 random bits is exact, and the sum is rounded once.
void uniform(const Args& args, Device* device) {
  const double low = args.floats[0], range = args.floats[1];
  draw(args, device,
       [=](uint32_t word) { return static_cast<float>(low + range * (static_cast<double>(word >> 8) * 0x1p-24)); });
}

// floats: p, value.
void bernoulli(const Args& args, Device* device) {
  const double bound = args.floats[0] * 0x1p32;
  const float value = static_cast<float>(args.floats[1]);
  draw(args, device, [=](uint32_t word) { return static_cast<double>(word) < bound ? value : 0.0f; });
}

const KernelEntry entries[] = {
    {"uniform", uniform, 0},
    {"bernoulli", bernoulli, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_KERNELS(random, entries)
