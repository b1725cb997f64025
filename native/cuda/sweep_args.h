// What a sweep is called with, by name; see src/ops/sweep.ts. Only plain sweeps come here: of the options there is none
// but ids.
#pragma once
#include "device.h"

namespace throughtime {

constexpr int kOptions = 15, kIds = 14, kMostStates = 4;

struct SweepArgs {
  int64_t n, steps, features, hidden;
  bool reverse;
  int precision;
  const float* x;  // [n, steps, features], or with ids a table [rows, features] of W x
  const float *weight_ih, *weight_hh, *bias_ih, *bias_hh;
  const int32_t *lengths, *ids;
  int64_t table_rows;
  const float* initial[kMostStates] = {};

  int64_t places() const { return n * steps; }

  // `in` starts at x.
  SweepArgs(const Args& args, Buffer* const* in, int states)
      : n(args.ints[0]),
        steps(args.ints[1]),
        features(args.ints[2]),
        hidden(args.ints[3]),
        reverse(args.ints[4] != 0),
        precision(args.ints[13 + 2 * states]),
        x(data(in[0])),
        weight_ih(data(in[1])),
        weight_hh(data(in[2])),
        bias_ih(data(in[3])),
        bias_hh(data(in[4])),
        lengths(integers(in[5])),
        ids(integers(in[kIds])),
        table_rows(ids && features ? static_cast<int64_t>(in[0]->elements) / features : 0) {
    for (int s = 0; s < states; s++) initial[s] = data(in[kOptions + states + s]);
  }
};

}  // namespace throughtime
