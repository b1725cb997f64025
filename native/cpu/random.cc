// Random numbers by Philox4x32-10 (Salmon et al. 2011): the seed is the key, the counter the block's number.
// Element i is made of word i % 4 of block offset + i / 4, whatever the number of threads.
#include "isa.h"
#include "parallel.h"
#include "simd.h"

namespace throughtime {
namespace {

constexpr int kBlocks = 8;  // made together
constexpr int kWords = 4 * kBlocks;
typedef uint64_t Lanes __attribute__((vector_size(32)));  // a 32-bit word in the low half of each, anything above

// Products of the low halves.
THROUGHTIME_INLINE Lanes multiply(Lanes a, uint32_t b) {
#if defined(__AVX2__)
  typedef int32_t Words __attribute__((vector_size(32)));
  const Lanes both = Lanes{} + b;
  return reinterpret_cast<Lanes>(__builtin_ia32_pmuludq256(reinterpret_cast<Words>(a), reinterpret_cast<Words>(both)));
#else
  return (a & 0xffffffffu) * b;
#endif
}

THROUGHTIME_INLINE void philox_round(Lanes* x, uint32_t k0, uint32_t k1) {
  const Lanes p = multiply(x[0], 0xd2511f53), q = multiply(x[2], 0xcd9e8d57);
  x[0] = (q >> 32) ^ x[1] ^ k0;
  x[2] = (p >> 32) ^ x[3] ^ k1;
  x[1] = q;
  x[3] = p;
}

// The words of four blocks, in order: 16 of them, two in each lane.
THROUGHTIME_INLINE void put_words(const Lanes* x, uint32_t* words) {
  const Lanes low = (x[0] & 0xffffffffu) | x[1] << 32, high = (x[2] & 0xffffffffu) | x[3] << 32;
  const Lanes first = __builtin_shuffle(low, high, Lanes{0, 4, 1, 5}),
              second = __builtin_shuffle(low, high, Lanes{2, 6, 3, 7});
  __builtin_memcpy(words, &first, sizeof first);
  __builtin_memcpy(words + 8, &second, sizeof second);
}

void philox(uint64_t counter, uint32_t k0, uint32_t k1, uint32_t* words) {
  const Lanes i = counter + Lanes{0, 1, 2, 3}, j = i + 4;
  Lanes x[4] = {i, i >> 32, {}, {}}, y[4] = {j, j >> 32, {}, {}};
  for (int round = 0; round < 10; round++) {
    philox_round(x, k0, k1);
    philox_round(y, k0, k1);
    k0 += 0x9e3779b9;
    k1 += 0xbb67ae85;
  }
  put_words(x, words);
  put_words(y, words + 16);
}

// out: y; ints: seed low, seed high, offset low, offset high.
template <class F>
void draw(const Args& args, Device* device, const F& value) {
  float* y = static_cast<float*>(args.out[0]->data);
  const uint32_t k0 = args.ints[0], k1 = args.ints[1];
  const uint64_t offset = static_cast<uint32_t>(args.ints[2]) | uint64_t{static_cast<uint32_t>(args.ints[3])} << 32;
  for_range(device, args.out[0]->elements, 16384, [=](size_t begin, size_t end) {
    uint32_t words[kWords];
    float values[kWords];
    for (size_t i = begin; i < end; i += kWords) {
      philox(offset + i / 4, k0, k1, words);
      const size_t count = end - i < kWords ? end - i : kWords;
      float* to = count == kWords ? y + i : values;
      for (int w = 0; w < kWords; w++) to[w] = value(words[w]);
      if (count < kWords) __builtin_memcpy(y + i, values, count * sizeof(float));
    }
  });
}

// floats: low, range, both float32 values: the product with 24 random bits is exact, and the sum is rounded once.
void uniform(const Args& args, Device* device) {
  const double low = args.floats[0], unit = args.floats[1] * 0x1p-24;
  draw(args, device, [=](uint32_t word) { return static_cast<float>(low + unit * static_cast<int32_t>(word >> 8)); });
}

// floats: p, value.
void bernoulli(const Args& args, Device* device) {
  const double bound = args.floats[0] * 0x1p32;
  const uint32_t last = bound > 0 ? static_cast<uint32_t>(__builtin_ceil(bound) - 1) : 0;
  const float value = bound > 0 ? static_cast<float>(args.floats[1]) : 0.0f;
  draw(args, device, [=](uint32_t word) { return word <= last ? value : 0.0f; });
}

const KernelEntry entries[] = {
    {"uniform", uniform, 0},
    {"bernoulli", bernoulli, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_KERNELS(random, entries)
