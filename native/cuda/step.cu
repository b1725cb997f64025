// One step of an LSTM whose gates' products are there already. ints [rows, units]; see native/cpu/step.cc.
#include "math.h"

#include "../cells/lstm.h"
#include "device.h"

namespace throughtime {
namespace {

struct Step {
  int64_t units;
  const float *wx, *rh, *c;

  Step(const Args& args, int first)
      : units(args.ints[1]), wx(data(args.in[first])), rh(data(args.in[first + 1])), c(data(args.in[first + 2])) {}

  DEVICE int64_t gate(int64_t i, int g) const { return (i / units * Lstm::gates + g) * units + i % units; }
  DEVICE void forward(int64_t i, float* prev, float* next, float* keep) const {
    float x[Lstm::gates], h[Lstm::gates];
#pragma unroll
    for (int g = 0; g < Lstm::gates; g++) x[g] = wx[gate(i, g)], h[g] = rh[gate(i, g)];
    prev[Lstm::H] = 0.0f, prev[Lstm::C] = c[i];
    Lstm::forward(x, h, prev, next, keep, NoStages());
  }
};

// in: wx, rh [rows, 4 * units], c [rows, units]; out: h, c [rows, units].
void lstm_step(const Args& args, Device* device) {
  const Step step(args, 0);
  float *h = data(args.out[0]), *c = data(args.out[1]);
  for_each(device, args.ints[0] * step.units, [=] __device__(int64_t i) {
    float prev[Lstm::states], next[Lstm::states], keep[Lstm::saved];
    step.forward(i, prev, next, keep);
    h[i] = next[Lstm::H], c[i] = next[Lstm::C];
  });
}

// The gates are computed again. in: dh, dc of the new state, each or none, wx, rh, c, and the new h and c; out: dwx,
// drh, dc, each or none.
void lstm_step_backward(const Args& args, Device* device) {
  const Step step(args, 2);
  const float *dh = data(args.in[0]), *dc = data(args.in[1]);
  float *dwx = data(args.out[0]), *drh = data(args.out[1]), *dprev = data(args.out[2]);
  for_each(device, args.ints[0] * step.units, [=] __device__(int64_t i) {
    float prev[Lstm::states], next[Lstm::states], keep[Lstm::saved], gates[Lstm::gates], before[Lstm::states];
    step.forward(i, prev, next, keep);
    const float after[] = {dh ? dh[i] : 0.0f, dc ? dc[i] : 0.0f};
    Lstm::backward(keep, prev, next, after, gates, gates, before, NoStages(), static_cast<float*>(nullptr));
#pragma unroll
    for (int g = 0; g < Lstm::gates; g++) {
      if (dwx) dwx[step.gate(i, g)] = gates[g];
      if (drh) drh[step.gate(i, g)] = gates[g];
    }
    if (dprev) dprev[i] = before[Lstm::C];
  });
}

const KernelEntry entries[] = {
    {"step.lstm", lstm_step, 0},
    {"step.lstm.backward", lstm_step_backward, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_CUDA_KERNELS(step, entries)
