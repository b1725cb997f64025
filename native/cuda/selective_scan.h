// The selective scan of Mamba; see native/cpu/selective_scan.cc. The states of a channel are spread over neighbouring
// lanes, HELD each, and a block takes some channels of one row and group.
#pragma once
#include "scan.h"

namespace throughtime {
namespace {

constexpr int64_t kChunk = 32;  // steps between the states that are kept for the backward pass

struct Inputs {
  ScanShape shape;
  int64_t groups, states;
  bool positive;  // dt is the softplus of what is given
  const float *u, *delta, *a, *b, *c, *skip, *z, *bias, *initial;

  int64_t group_width() const { return shape.width / groups; }
  int64_t chunks() const { return ceil_div(shape.steps, kChunk); }
};

// `at`: where the inputs begin, in the list of the kernel.
inline Inputs inputs_of(const Args& args, int at) {
  Buffer* const* in = args.in + at;
  return {{args.ints[0], args.ints[1], args.ints[2], args.ints[3] != 0, integers(in[9])},
          args.ints[4],
          args.ints[5],
          args.ints[6] != 0,
          data(in[0]),
          data(in[1]),
          data(in[2]),
          data(in[3]),
          data(in[4]),
          data(in[5]),
          data(in[6]),
          data(in[7]),
          data(in[8])};
}

// How channels are dealt to threads and blocks.
struct Deal {
  int lanes, threads, channels;  // of a channel; of a block, both
  int64_t parts;                 // blocks of a row's group

  Deal(const Inputs& x, int held, int warps)
      : lanes(lanes_for(x.states, held)),
        threads(warps * (int)kWarp),
        channels(threads / lanes),
        parts(ceil_div(x.group_width(), channels)) {}
  int64_t blocks(const Inputs& x) const { return x.shape.rows * x.groups * parts; }
};

// What a thread is of: states lane + lanes * j of channel d. Threads beyond the group's last channel repeat that one.
struct Mine {
  int64_t row, group, part, d, length;
  int lane;
  bool real;

  DEVICE Mine(const Inputs& x, const Deal& deal, int64_t block) {
    const int64_t width = x.shape.width / x.groups;
    part = block % deal.parts, group = block / deal.parts % x.groups, row = block / deal.parts / x.groups;
    const int64_t c = part * deal.channels + threadIdx.x / deal.lanes;
    lane = threadIdx.x % deal.lanes, real = c < width;
    d = group * width + (real ? c : width - 1);
    length = x.shape.valid(row);
  }
};

// What a step reads.
template <int HELD>
struct Moment {
  float u, given, dt, z, b[HELD], c[HELD];

  DEVICE void load(const Inputs& x, const Deal& deal, const Mine& mine, int64_t t) {
    const int64_t at = t * x.shape.width + mine.d, first = (t * x.groups + mine.group) * x.states;
    u = x.u[at];
    given = x.delta[at] + (x.bias ? x.bias[mine.d] : 0.0f);
    dt = x.positive ? softplus(given) : given;
    z = x.z ? x.z[at] : 0.0f;
    for (int j = 0; j < HELD; j++) {
      const int64_t s = mine.lane + deal.lanes * j;
      b[j] = s < x.states ? x.b[first + s] : 0.0f;
      c[j] = s < x.states ? x.c[first + s] : 0.0f;
    }
  }
};

// Steps whose inputs are fetched together.
template <int HELD>
constexpr int kTogether = HELD <= 4 ? 4 : 1;

// The states of a thread in a buffer [.., states of a channel] or [.., states, D]: apart = 1 or D.
template <int HELD>
DEVICE void load_states(const Inputs& x, const Deal& deal, const Mine& mine, const float* from, int64_t apart,
                        float* h) {
  for (int j = 0; j < HELD; j++) {
    const int64_t s = mine.lane + deal.lanes * j;
    h[j] = from && s < x.states ? from[s * apart] : 0.0f;
  }
}
template <int HELD>
DEVICE void store_states(const Inputs& x, const Deal& deal, const Mine& mine, const float* h, int64_t apart,
                         float* to) {
  for (int j = 0; j < HELD; j++) {
    const int64_t s = mine.lane + deal.lanes * j;
    if (mine.real && s < x.states) to[s * apart] = h[j];
  }
}

// States that a thread holds and warps of a block: body(Sizes) is called with those that fit.
template <int HELD, int WARPS>
struct Sizes {
  static constexpr int held = HELD, warps = WARPS;
};
template <class F>
void with_sizes(Device* device, const Inputs& x, const F& body) {
  if (x.states <= 4 * (int64_t)kWarp) return body(Sizes<4, 4>());
  if (x.states <= 16 * (int64_t)kWarp) return body(Sizes<16, 1>());
  device->fail(device, "selectiveScan: a channel has 512 states at most here");
}

}  // namespace
}  // namespace throughtime
