// Selective scans, forward; backward is in selective_scan_backward.h. ints: N, T, D, reverse, G, S, softplus.
#include "selective_scan.h"

#include "selective_scan_backward.h"

namespace throughtime {
namespace {

template <int HELD>
DEVICE void forward_block(const Inputs& x, const Deal& deal, int64_t block, float* y, float* last, float* saved) {
  const Mine mine(x, deal, block);
  const int64_t width = x.shape.width, states = x.states, chunks = (x.shape.steps + kChunk - 1) / kChunk;
  const int64_t at = (mine.row * width + mine.d) * states;
  float a[HELD], h[HELD];
  load_states<HELD>(x, deal, mine, x.a + mine.d * states, 1, a);
  load_states<HELD>(x, deal, mine, x.initial ? x.initial + at : nullptr, 1, h);
  const float skip = x.skip ? x.skip[mine.d] : 0.0f;
  constexpr int MANY = kTogether<HELD>;
  for (int64_t from = 0; from < mine.length; from += MANY) {
    if (saved && from % kChunk == 0)
      store_states<HELD>(x, deal, mine, h, width,
                         saved + (mine.row * chunks + from / kChunk) * states * width + mine.d);
    Moment<HELD> now[MANY] = {};
    for (int i = 0; i < MANY; i++)
      if (from + i < mine.length) now[i].load(x, deal, mine, x.shape.at(mine.row, from + i, mine.length));
    for (int i = 0; i < MANY; i++) {
      if (from + i >= mine.length) break;
      const Moment<HELD>& m = now[i];
      float total = 0.0f;
      for (int j = 0; j < HELD; j++) {
        h[j] = exp(m.dt * a[j]) * h[j] + m.dt * m.u * m.b[j];
        total += h[j] * m.c[j];
      }
      total = sum_of(total, deal.lanes) + skip * m.u;
      if (x.z) total *= m.z * sigmoid(m.z);
      if (mine.real && mine.lane == 0) y[x.shape.at(mine.row, from + i, mine.length) * width + mine.d] = total;
    }
  }
  store_states<HELD>(x, deal, mine, h, 1, last + at);
}

template <int HELD, int WARPS>
void forward(Device* device, const Inputs& x, float* y, float* last, float* saved) {
  const Deal deal(x, HELD, WARPS);
  for_each_block(device, deal.blocks(x), deal.threads, 0,
                 [=] __device__(int64_t block) { forward_block<HELD>(x, deal, block, y, last, saved); });
}

// in: u, delta [N, T, D], A [D, S], B, C [N, T, G, S], D [D], z [N, T, D], bias [D], initial [N, D, S], lengths [N],
// from D on each or none; out: y [N, T, D], last [N, D, S], and for training the states before each chunk [N, chunks,
// S, D].
void selective_scan(const Args& args, Device* device) {
  const Inputs x = inputs_of(args, 0);
  float *y = data(args.out[0]), *last = data(args.out[1]), *saved = args.outputs > 2 ? data(args.out[2]) : nullptr;
  with_sizes(device, x,
             [&](auto sizes) { forward<decltype(sizes)::held, decltype(sizes)::warps>(device, x, y, last, saved); });
  clear_padding(device, x.shape, y, x.shape.width);
}

const KernelEntry entries[] = {
    {"selectiveScan", selective_scan, 0},
    {"selectiveScan.backward", selective_scan_backward, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_CUDA_KERNELS(selective_scan, entries)
