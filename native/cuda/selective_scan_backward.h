// Selective scans, backward. A block goes through its channels' steps from the last to the first, chunk by chunk: the
// states before each step of a chunk are computed again and kept in shared memory. The gradients of B and C are sums
// over channels: of a warp by exchange, of a block through shared memory, of all blocks of a group through scratch,
// for a slice of the steps at a time.
#pragma once
#include "selective_scan.h"

namespace throughtime {
namespace {

constexpr int kGathered = 8;  // steps whose sums over channels are gathered in shared memory

struct Gradients {
  const float *dy, *dlast, *saved;
  float *du, *ddelta, *dz, *dinitial;
  float *da, *dskip, *dbias;  // sums of each row, [N, D, S], [N, D] and [N, D]
  float* carried;             // [N, D, S], the gradient of the state between two slices
  float *db, *dc;             // of each part, [parts, N, slice, G, S]
  bool grouped;               // whether the last two are asked for
};

// Sums over the lanes that differ in the bits from `mask` down to `stop`, of V values at once: each lane is left with
// some of the sums, `count` from `first` on, or with none that another lane does not have.
template <int V>
DEVICE void fold(float* v, int mask, int stop, int& first, int& count) {
  const int lane = threadIdx.x % kWarp;
  if constexpr (V > 1) {
    count = V;
    if (mask < stop) return;
    const bool upper = lane & mask;
    for (int i = 0; i < V / 2; i++) {
      const float given = upper ? v[i] : v[i + V / 2], kept = upper ? v[i + V / 2] : v[i];
      v[i] = kept + shuffle_xor(given, mask);
    }
    if (upper) first += V / 2;
    fold<V / 2>(v, mask / 2, stop, first, count);
  } else {
    count = 1;
    for (; mask >= stop; mask /= 2) {
      v[0] += shuffle_xor(v[0], mask);
      if (lane & mask) count = 0;
    }
  }
}

// The states before each step from `begin` to `end`, to rows of shared memory; h is left after the last.
template <int HELD>
DEVICE void retrace(const Inputs& x, const Deal& deal, const Mine& mine, int64_t begin, int64_t end, const float* a,
                    float* h, float* kept) {
  constexpr int MANY = kTogether<HELD>;
  for (int64_t from = begin; from < end; from += MANY) {
    Moment<HELD> now[MANY] = {};
    for (int i = 0; i < MANY; i++)
      if (from + i < end) now[i].load(x, deal, mine, x.shape.at(mine.row, from + i, mine.length));
    for (int i = 0; i < MANY; i++) {
      if (from + i >= end) break;
      for (int j = 0; j < HELD; j++) {
        kept[((from + i - begin) * HELD + j) * deal.threads] = h[j];
        h[j] = exp(now[i].dt * a[j]) * h[j] + now[i].dt * now[i].u * now[i].b[j];
      }
    }
  }
}

// What a thread gathers over steps.
template <int HELD>
struct Sums {
  float a[HELD], skip, bias;
};

// One step backward. `before` and `after`: states; g: the gradient of the state, handed down; dbc: those of B and C by
// this channel, as 2 HELD values.
template <int HELD>
DEVICE void retreat(const Inputs& x, const Deal& deal, const Mine& mine, const Gradients& grads, const Moment<HELD>& m,
                    int64_t at, float dy, const float* a, float skip, const float* before, const float* after, float* g,
                    Sums<HELD>& sums, float* dbc) {
  const bool writes = mine.real && mine.lane == 0;
  if (x.z) {
    const float open = sigmoid(m.z);
    if (grads.dz) {
      float total = 0.0f;
      for (int j = 0; j < HELD; j++) total += after[j] * m.c[j];
      total = sum_of(total, deal.lanes) + skip * m.u;
      if (writes) grads.dz[at] = dy * total * (open * (1.0f + m.z * (1.0f - open)));
    }
    dy *= m.z * open;
  }
  float ddtu = 0.0f, ddt = 0.0f;
  for (int j = 0; j < HELD; j++) {
    const float decay = exp(m.dt * a[j]), dh = g[j] + dy * m.c[j], exponent = dh * before[j] * decay;
    dbc[j] = mine.real ? dh * m.dt * m.u : 0.0f;
    dbc[HELD + j] = mine.real ? dy * after[j] : 0.0f;
    sums.a[j] += exponent * m.dt;
    g[j] = dh * decay;
    ddtu += dh * m.b[j];
    ddt += exponent * a[j];
  }
  ddtu = sum_of(ddtu, deal.lanes), ddt = sum_of(ddt, deal.lanes) + ddtu * m.u;
  if (x.positive) ddt *= sigmoid(m.given);
  sums.skip += dy * m.u, sums.bias += ddt;
  if (writes && grads.du) grads.du[at] = ddtu * m.dt + skip * dy;
  if (writes && grads.ddelta) grads.ddelta[at] = ddt;
}

// Sums [steps, 2, S] of `count` steps down to `first`, of each warp, to those of the block.
template <int WARPS>
DEVICE void gather(const Inputs& x, const Mine& mine, const Gradients& grads, const float* sums, int64_t first,
                   int count, int64_t slice, int64_t slice_steps) {
  const int64_t states = x.states, each = 2 * states;
  block_sync();
  for (int64_t i = threadIdx.x; i < count * each; i += blockDim.x) {
    const int64_t n = i / each, k = i % each;
    float total = 0.0f;
    for (int w = 0; w < WARPS; w++) total += sums[(n * WARPS + w) * each + k];
    const int64_t step = ((mine.part * x.shape.rows + mine.row) * slice_steps + first - n - slice) * x.groups;
    (k < states ? grads.db : grads.dc)[(step + mine.group) * states + k % states] = total;
  }
  block_sync();
}

template <int HELD, int WARPS>
DEVICE void backward_block(const Inputs& x, const Deal& deal, const Gradients& grads, int64_t block, int64_t slice,
                           int64_t slice_steps, bool first_slice) {
  const Mine mine(x, deal, block);
  const int64_t width = x.shape.width, states = x.states, chunks = (x.shape.steps + kChunk - 1) / kChunk;
  const int64_t channel = mine.row * width + mine.d;
  float* kept = shared_memory<float>();
  float* gathered = kept + kChunk * HELD * deal.threads;
  kept += threadIdx.x;
  float a[HELD], g[HELD];
  const float skip = x.skip ? x.skip[mine.d] : 0.0f;
  load_states<HELD>(x, deal, mine, x.a + mine.d * states, 1, a);
  const float* carried = first_slice ? grads.dlast : grads.carried;
  load_states<HELD>(x, deal, mine, carried ? carried + channel * states : nullptr, 1, g);
  Sums<HELD> total = {};
  if (!first_slice) {
    load_states<HELD>(x, deal, mine, grads.da + channel * states, 1, total.a);
    total.skip = grads.dskip[channel], total.bias = grads.dbias[channel];
  }
  int waiting = 0;  // steps whose sums are in shared memory
  for (int64_t begin = (slice + slice_steps - 1) / kChunk * kChunk; begin >= slice; begin -= kChunk) {
    const int64_t end = least(begin + kChunk, mine.length);
    if (begin >= end) continue;
    float after[HELD];
    load_states<HELD>(x, deal, mine, grads.saved + (mine.row * chunks + begin / kChunk) * states * width + mine.d,
                      width, after);
    retrace<HELD>(x, deal, mine, begin, end, a, after, kept);
    Sums<HELD> sums = {};
    constexpr int MANY = kTogether<HELD>;
    for (int64_t from = end - 1; from >= begin; from -= MANY) {
      Moment<HELD> now[MANY] = {};
      float dy[MANY] = {};
      for (int i = 0; i < MANY; i++)
        if (from - i >= begin) {
          const int64_t t = x.shape.at(mine.row, from - i, mine.length);
          now[i].load(x, deal, mine, t);
          dy[i] = grads.dy ? grads.dy[t * width + mine.d] : 0.0f;
        }
#pragma unroll
      for (int i = 0; i < MANY; i++) {
        if (from - i < begin) break;
        const int64_t at = x.shape.at(mine.row, from - i, mine.length) * width + mine.d;
        float before[HELD], dbc[2 * HELD];
        for (int j = 0; j < HELD; j++) before[j] = kept[((from - i - begin) * HELD + j) * deal.threads];
        retreat<HELD>(x, deal, mine, grads, now[i], at, dy[i], a, skip, before, after, g, sums, dbc);
        for (int j = 0; j < HELD; j++) after[j] = before[j];
        if (!grads.grouped) continue;
        int first = 0, count;
        fold<2 * HELD>(dbc, kWarp / 2, deal.lanes, first, count);
        float* to = gathered + (waiting * WARPS + threadIdx.x / kWarp) * 2 * states;
        for (int k = 0; k < 2 * HELD; k++) {
          const int64_t s = mine.lane + deal.lanes * ((first + k) % HELD);
          if (k < count && s < states) to[(first + k) / HELD * states + s] = dbc[k];
        }
        if (++waiting < kGathered && from - i > begin) continue;
        gather<WARPS>(x, mine, grads, gathered, from - i + waiting - 1, waiting, slice, slice_steps);
        waiting = 0;
      }
    }
    for (int j = 0; j < HELD; j++) total.a[j] += sums.a[j];
    total.skip += sums.skip, total.bias += sums.bias;
  }
  store_states<HELD>(x, deal, mine, g, 1, grads.carried + channel * states);
  store_states<HELD>(x, deal, mine, total.a, 1, grads.da + channel * states);
  if (mine.real && mine.lane == 0) grads.dskip[channel] = total.skip, grads.dbias[channel] = total.bias;
}

// Sums of all parts, of the steps of a slice, to their places in [N, T, G, S]; zero behind a row's end.
inline void add_parts(Device* device, const Inputs& x, const float* parts, int64_t count, int64_t slice,
                      int64_t slice_steps, float* out) {
  if (!out) return;
  const int64_t each = x.groups * x.states, n = x.shape.rows * slice_steps * each;
  for_each(device, n, [=] __device__(int64_t i) {
    const int64_t row = i / each / slice_steps, s = slice + i / each % slice_steps, length = x.shape.valid(row);
    if (s >= x.shape.steps) return;
    float total = 0.0f;
    for (int64_t k = 0; k < count && s < length; k++) total += parts[k * n + i];
    out[(s < length ? x.shape.at(row, s, length) : row * x.shape.steps + s) * each + i % each] = total;
  });
}

// in: dy, dlast, the inputs of the forward pass, y, last, saved; out: the gradients of the inputs, each or none.
template <int HELD, int WARPS>
void backward(const Args& args, Device* device, const Inputs& x) {
  const int64_t n = x.shape.rows, width = x.shape.width, steps = x.shape.steps, states = x.states;
  const Deal deal(x, HELD, WARPS);
  // As many steps to a slice as leave room enough for the sums of all parts.
  constexpr int64_t kMost = 1 << 24;
  const int64_t each = deal.parts * n * x.groups * states;
  int64_t slice_steps = kMost / (each + 1) / kChunk * kChunk;
  if (slice_steps > steps) slice_steps = ceil_div(steps, kChunk) * kChunk;
  if (slice_steps < kChunk) slice_steps = kChunk;
  float *db = data(args.out[3]), *dc = data(args.out[4]);
  const auto room = [&](int64_t floats) { return scratch<float>(device, floats); };
  const Gradients grads = {
      data(args.in[0]),         data(args.in[1]),  data(args.in[14]),        data(args.out[0]),
      data(args.out[1]),        data(args.out[6]), data(args.out[8]),        room(n * width * states),
      room(n * width),          room(n * width),   room(n * width * states), room(each * slice_steps),
      room(each * slice_steps), db || dc};
  const size_t shared = (kChunk * HELD * deal.threads + kGathered * WARPS * 2 * states) * sizeof(float);
  const int64_t slices = steps > 0 ? ceil_div(steps, slice_steps) : 1;
  for (int64_t k = slices - 1; k >= 0; k--) {
    const int64_t slice = k * slice_steps;
    const bool first_slice = k == slices - 1;
    for_each_block(device, deal.blocks(x), deal.threads, shared, [=] __device__(int64_t block) {
      backward_block<HELD, WARPS>(x, deal, grads, block, slice, slice_steps, first_slice);
    });
    add_parts(device, x, grads.db, deal.parts, slice, slice_steps, db);
    add_parts(device, x, grads.dc, deal.parts, slice, slice_steps, dc);
  }
  add_up(device, grads.da, n, width * states, data(args.out[2]));
  add_up(device, grads.dskip, n, width, data(args.out[5]));
  add_up(device, grads.dbias, n, width, data(args.out[7]));
  for (const int out : {0, 1, 6}) clear_padding(device, x.shape, data(args.out[out]), width);
  if (grads.dinitial)
    for_each(device, n * width * states, [=] __device__(int64_t i) { grads.dinitial[i] = grads.carried[i]; });
}

inline void selective_scan_backward(const Args& args, Device* device) {
  const Inputs x = inputs_of(args, 2);
  with_sizes(device, x, [&](auto sizes) { backward<decltype(sizes)::held, decltype(sizes)::warps>(args, device, x); });
}

}  // namespace
}  // namespace throughtime
