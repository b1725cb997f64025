// Scans of state spaces with a constant complex transition. ints: N, T, D, reverse, S, k.
#include "diagonal_scan.h"

namespace throughtime {
namespace {

template <bool LOW, int HELD>
DEVICE void forward_block(const Inputs& x, const Mine& mine, float* y, Complex* last, float* saved) {
  const int64_t width = x.shape.width, size = width * x.states, chunks = (x.shape.steps + kChunk - 1) / kChunk;
  const Matrices<LOW, HELD> m(x, mine);
  Held<HELD> state;
  state.load(mine, x.states, x.initial ? x.initial + mine.row * size : nullptr);
  for (int64_t from = 0; from < mine.length; from += kFetched) {
    if (saved && from % kChunk == 0)
      state.store_turned(mine, x.states, width, saved + (mine.row * chunks + from / kChunk) * 2 * size);
    float u[kFetched] = {};
    for (int i = 0; i < kFetched; i++)
      if (from + i < mine.length) u[i] = x.u[x.shape.at(mine.row, from + i, mine.length) * width + mine.d];
    for (int i = 0; i < kFetched; i++) {
      if (from + i >= mine.length) break;
      advance(x, mine, m, u[i], state);
      float total = 0.0f;
      for (int j = 0; j < HELD; j++) total += inner(conj(m.of[C][j]), state[j]);
      total = x.pairs * sum_of(total, mine.lanes);
      if (mine.real && mine.lane == 0) y[x.shape.at(mine.row, from + i, mine.length) * width + mine.d] = total;
    }
  }
  state.store(mine, x.states, last + mine.row * size);
}

template <class Kind>
void forward(Device* device, const Inputs& x, float* y, Complex* last, float* saved) {
  const int lanes = lanes_for(x.states, Kind::held);
  const int64_t blocks = ceil_div(x.shape.width * lanes, Kind::threads);
  for_each_block(device, x.shape.rows * blocks, Kind::threads, 0, [=] __device__(int64_t block) {
    forward_block<Kind::low, Kind::held>(x, Mine(x, lanes, blocks, block), y, last, saved);
  });
}

// in: u [N, T, D], a, b, c [D, S, 2], p, q, r [D, S, 2] or none, initial [N, D, S, 2] or none, lengths [N] or none;
// out: y [N, T, D], last [N, D, S, 2], and for training the states before each chunk [N, chunks, S, 2, D].
void diagonal_scan(const Args& args, Device* device) {
  const Inputs x = inputs_of(args, 0);
  float *y = data(args.out[0]), *saved = args.outputs > 2 ? data(args.out[2]) : nullptr;
  Complex* last = complexes(args.out[1]);
  with_kind(device, x, [&](auto kind) { forward<decltype(kind)>(device, x, y, last, saved); });
  clear_padding(device, x.shape, y, x.shape.width);
}

struct Gradients {
  const float *dy, *saved;
  const Complex* dlast;
  float* du;
  Complex *dinitial, *sums[kMatrices];  // the latter of each row, [N, D, S], or none
};

// One step backward; g: the gradient of the state, handed down.
template <bool LOW, int HELD>
DEVICE void retreat(const Inputs& x, const Mine& mine, const Matrices<LOW, HELD>& m, float u, float dy,
                    const Held<HELD>& before, const Held<HELD>& after, Held<HELD>& g, Matrices<LOW, HELD>& sums,
                    float* du) {
  for (int j = 0; j < HELD; j++) {
    g[j] = g[j] + conj(m.of[C][j]) * dy;
    sums.of[C][j] = sums.of[C][j] + conj(after[j]) * dy;
  }
  if constexpr (LOW) {
    const float seen = read_of(x, mine, m.of[P], before);
    const Held<HELD> z = way(m, before, u, seen);
    const float second = read_of(x, mine, m.of[P], z), dsecond = -read_of(x, mine, m.of[R], g);
    for (int j = 0; j < HELD; j++) {
      sums.of[R][j] = sums.of[R][j] - g[j] * second;
      sums.of[P][j] = sums.of[P][j] + z[j] * dsecond;
      g[j] = g[j] + m.of[P][j] * dsecond;
      sums.of[Q][j] = sums.of[Q][j] - g[j] * seen;
    }
  }
  float dseen = 0.0f, total = 0.0f;
  if constexpr (LOW) dseen = -read_of(x, mine, m.of[Q], g);
  for (int j = 0; j < HELD; j++) {
    sums.of[A][j] = sums.of[A][j] + g[j] * conj(before[j]);
    sums.of[B][j] = sums.of[B][j] + g[j] * u;
    total += inner(m.of[B][j], g[j]);
    g[j] = conj(m.of[A][j]) * g[j];
    if constexpr (LOW) {
      sums.of[P][j] = sums.of[P][j] + before[j] * dseen;
      g[j] = g[j] + m.of[P][j] * dseen;
    }
  }
  total = sum_of(total, mine.lanes);
  if (du && mine.real && mine.lane == 0) *du = total;
}

// From the last step to the first, chunk by chunk: the states before each step of a chunk are computed again and kept
// in shared memory.
template <bool LOW, int HELD>
DEVICE void backward_block(const Inputs& x, const Mine& mine, const Gradients& grads) {
  const int64_t width = x.shape.width, size = width * x.states, chunks = (x.shape.steps + kChunk - 1) / kChunk;
  const Matrices<LOW, HELD> m(x, mine);
  Complex* kept = shared_memory<Complex>() + threadIdx.x;
  Inputs nothing = {};
  Matrices<LOW, HELD> sums(nothing, mine);
  constexpr int COUNT = LOW ? kMatrices : P;
  for (int k = 0; k < COUNT; k++)
    if (grads.sums[k]) sums.of[k].store(mine, x.states, grads.sums[k] + mine.row * size);
  Held<HELD> g;
  g.load(mine, x.states, grads.dlast ? grads.dlast + mine.row * size : nullptr);
  for (int64_t begin = (mine.length - 1) / kChunk * kChunk; begin >= 0 && mine.length > 0; begin -= kChunk) {
    const int64_t end = least(begin + kChunk, mine.length);
    Held<HELD> after;
    after.load_turned(mine, x.states, width, grads.saved + (mine.row * chunks + begin / kChunk) * 2 * size);
    for (int64_t from = begin; from < end; from += kFetched) {
      float u[kFetched] = {};
      for (int i = 0; i < kFetched; i++)
        if (from + i < end) u[i] = x.u[x.shape.at(mine.row, from + i, mine.length) * width + mine.d];
      for (int i = 0; i < kFetched; i++) {
        if (from + i >= end) break;
        for (int j = 0; j < HELD; j++) kept[((from + i - begin) * HELD + j) * blockDim.x] = after[j];
        advance(x, mine, m, u[i], after);
      }
    }
    for (int k = 0; k < COUNT; k++) sums.of[k].load(mine, 0, nullptr);
    for (int64_t from = end - 1; from >= begin; from -= kFetched) {
      float u[kFetched] = {}, dy[kFetched] = {};
      for (int i = 0; i < kFetched; i++)
        if (from - i >= begin) {
          const int64_t at = x.shape.at(mine.row, from - i, mine.length) * width + mine.d;
          u[i] = x.u[at], dy[i] = grads.dy ? x.pairs * grads.dy[at] : 0.0f;
        }
      for (int i = 0; i < kFetched; i++) {
        if (from - i < begin) break;
        Held<HELD> before;
        for (int j = 0; j < HELD; j++) before[j] = kept[((from - i - begin) * HELD + j) * blockDim.x];
        float* du = grads.du ? grads.du + x.shape.at(mine.row, from - i, mine.length) * width + mine.d : nullptr;
        retreat(x, mine, m, u[i], dy[i], before, after, g, sums, du);
        after = before;
      }
    }
    for (int k = 0; k < COUNT; k++)
      if (grads.sums[k]) {
        Held<HELD> total;
        total.load(mine, x.states, grads.sums[k] + mine.row * size);
        for (int j = 0; j < HELD; j++) total[j] = total[j] + sums.of[k][j];
        total.store(mine, x.states, grads.sums[k] + mine.row * size);
      }
  }
  if (grads.dinitial) g.store(mine, x.states, grads.dinitial + mine.row * size);
}

template <class Kind>
void backward(Device* device, const Inputs& x, const Gradients& grads) {
  const int lanes = lanes_for(x.states, Kind::held);
  const int64_t blocks = ceil_div(x.shape.width * lanes, Kind::threads);
  const size_t shared = kChunk * Kind::held * Kind::threads * sizeof(Complex);
  for_each_block(device, x.shape.rows * blocks, Kind::threads, shared, [=] __device__(int64_t block) {
    backward_block<Kind::low, Kind::held>(x, Mine(x, lanes, blocks, block), grads);
  });
}

// in: dy, dlast, the inputs, y, last, saved; out: the gradients of u, a, b, c, p, q, r and initial, each or none.
void diagonal_scan_backward(const Args& args, Device* device) {
  const Inputs x = inputs_of(args, 2);
  Gradients grads = {data(args.in[0]),  data(args.in[13]),      complexes(args.in[1]),
                     data(args.out[0]), complexes(args.out[7]), {}};
  for (int m = 0; m < kMatrices; m++)
    if (args.out[1 + m]) grads.sums[m] = scratch<Complex>(device, x.shape.rows * x.size());
  with_kind(device, x, [&](auto kind) { backward<decltype(kind)>(device, x, grads); });
  for (int m = 0; m < kMatrices; m++)
    add_up(device, reinterpret_cast<const float*>(grads.sums[m]), x.shape.rows, 2 * x.size(), data(args.out[1 + m]));
  clear_padding(device, x.shape, grads.du, x.shape.width);
}

const KernelEntry entries[] = {
    {"diagonalScan", diagonal_scan, 0},
    {"diagonalScan.backward", diagonal_scan_backward, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_CUDA_KERNELS(diagonal_scan, entries)
