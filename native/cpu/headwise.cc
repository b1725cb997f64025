// Products in small blocks: y[h * D + i] = sum over j of W[h][i][j] x[h * D + j], D outputs and inputs in each of H
// blocks. Lanes are outputs; x's numbers come from around them. ints: rows, H, D.
#include "isa.h"
#include "parallel.h"
#include "simd.h"
#include "team.h"

namespace throughtime {
namespace {

constexpr int LARGEST = 16;

// Number j of each output's block, for the outputs from c on. `inside` has the lanes to take it from where all of them
// are in the vector of x at c.
THROUGHTIME_INLINE Vec inputs_of(const float* x, int64_t c, int j, int size, int lanes, const IVec* inside) {
  if (inside) return __builtin_shuffle(load_upto(x + c, lanes), inside[j]);
  Vec v = {};
  for (int i = 0; i < lanes; i++) v[i] = x[(c + i) / size * size + j];
  return v;
}

struct Blocks {
  int64_t rows, heads;
  int size;
  bool whole;  // blocks lie inside vectors
  IVec lanes[LARGEST];

  explicit Blocks(const Args& args) : rows(args.ints[0]), heads(args.ints[1]), size(args.ints[2]) {
    whole = kLanes % size == 0;
    for (int j = 0; j < size; j++)
      for (int i = 0; i < kLanes; i++) lanes[j][i] = i / size * size + j;
  }
  int64_t width() const { return heads * size; }
  const IVec* inside() const { return whole ? lanes : nullptr; }
};

// to[j][c] = the weight of output c for input j; for the gradient of x, of input c for output j.
void spread(float* to, const float* weight, const Blocks& b, bool transposed) {
  const int64_t width = b.width(), size = b.size;
  for (int64_t h = 0; h < b.heads; h++)
    for (int64_t i = 0; i < size; i++)
      for (int64_t j = 0; j < size; j++) {
        const float w = weight[(h * size + i) * size + j];
        to[(transposed ? i : j) * width + h * size + (transposed ? j : i)] = w;
      }
}

void multiply(Device* device, const Blocks& b, float* y, const float* x, const float* spread_weight) {
  const int64_t width = b.width();
  for_range(device, b.rows, 1 + 16384 / (width * b.size + 1), [&](size_t begin, size_t end) {
    for (int64_t c = 0; c < width; c += kLanes) {
      const int lanes = (int)least(kLanes, width - c);
      Vec weight[LARGEST];
      for (int j = 0; j < b.size; j++) weight[j] = load_upto(spread_weight + j * width + c, lanes);
      for (size_t r = begin; r < end; r++) {
        Vec sum = {};
        for (int j = 0; j < b.size; j++) sum += weight[j] * inputs_of(x + r * width, c, j, b.size, lanes, b.inside());
        if (lanes == kLanes)
          store(y + r * width + c, sum);
        else
          store_part(y + r * width + c, sum, lanes);
      }
    }
  });
}

void headwise(const Args& args, Device* device) {
  const Blocks b(args);
  float* weight = scratch_floats(device, b.width() * b.size);
  spread(weight, data(args.in[1]), b, false);
  multiply(device, b, data(args.out[0]), data(args.in[0]), weight);
}

// Threads share vectors of outputs, so that a weight's gradient is summed over the rows in one order.
void weight_gradient(Device* device, const Blocks& b, float* dweight, const float* dy, const float* x) {
  const int64_t width = b.width(), size = b.size;
  const int64_t vectors = (width + kLanes - 1) / kLanes;
  for_range(device, vectors, 1 + 16384 / (b.rows * size + 1), [&](size_t begin, size_t end) {
    for (int64_t c = begin * kLanes; c < least(width, end * kLanes); c += kLanes) {
      const int lanes = (int)least(kLanes, width - c);
      Vec sum[LARGEST] = {};
      for (int64_t r = 0; r < b.rows; r++) {
        const Vec d = load_upto(dy + r * width + c, lanes);
        for (int j = 0; j < size; j++) sum[j] += d * inputs_of(x + r * width, c, j, b.size, lanes, b.inside());
      }
      for (int i = 0; i < lanes; i++)
        for (int j = 0; j < size; j++) dweight[(c + i) * size + j] = sum[j][i];
    }
  });
}

// in: dy, x, weight, y; out: dx, dweight, each or none.
void headwise_backward(const Args& args, Device* device) {
  const Blocks b(args);
  const float *dy = data(args.in[0]), *x = data(args.in[1]);
  if (float* dx = data(args.out[0])) {
    float* weight = scratch_floats(device, b.width() * b.size);
    spread(weight, data(args.in[2]), b, true);
    multiply(device, b, dx, dy, weight);
  }
  if (float* dweight = data(args.out[1])) weight_gradient(device, b, dweight, dy, x);
}

const KernelEntry entries[] = {
    {"headwise", headwise, 0},
    {"headwise.backward", headwise_backward, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_KERNELS(headwise, entries)
