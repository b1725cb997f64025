// What the staged sweeps forward share whatever their cell.
#pragma once
#include "forward_frame.h"
#include "stages.h"

namespace throughtime {
namespace {

class StagedForwardFrame : protected ForwardFrame {
 public:
  // As ForwardFrame; `saved` is followed by the reciprocal deviations.
  __attribute__((noinline)) StagedForwardFrame(const CellShape& shape, const Args& args, Device* device)
      : ForwardFrame(shape, args, device), stages(shape, args, args.in), kept(shape, stages) {
    const int outputs = 1 + shape.states + (stages.weight_hr ? 1 : 0);
    hidden = stages.weight_hr ? data(args.out[1 + shape.states]) : nullptr;
    deviations = args.outputs > outputs + 1 ? data(args.out[outputs + 1]) : nullptr;
    unit_weight = data(args.in[2]), unit_bias = data(args.in[4]);
    if (stages.drop_hidden)
      for (float*& buffer : dropped) buffer = scratch_floats(device, s.n * h_row);
    if (stages.gain) {
      gain = gates_of(s, nullptr, 0, stages.gain, 0, shape.gates).bias;
      shift = outer.bias;
      outer.bias = nullptr;
      sums = scratch_floats(device, s.n * sums_row());
    }
    if (stages.gain_c) {
      keeps = scratch_floats(device, s.n * shape.saved * row);
      raw = scratch_floats(device, s.n * row);
    }
    if (stages.weight_hr) {
      given = scratch_floats(device, s.n * row);
      Sweep narrow = s;
      narrow.hidden = s.width;
      projection = gates_of(narrow, stages.weight_hr, s.hidden, stages.bias_hr, 0, 1, precision);
    }
  }

 protected:
  __attribute__((noinline)) void begin(int rank) {
    ForwardFrame::begin(rank, ranks);
    if (stages.weight_hr && projection.fresh) projection.pack(Part(panels_of(s.width), rank, ranks));
    const Part rows(s.n, rank, ranks);
    for (int64_t b = rows.begin; b < rows.end; b++) {
      const int64_t length = s.length[b];
      if (hidden) clear(hidden + (s.order[b] * s.steps + length) * s.hidden, (s.steps - length) * s.hidden);
      if (!stages.drop_hidden || length == 0) continue;
      const float* mask = stages.drop_hidden.at(s, b, 0);
      for (int64_t j = 0; j < s.width; j++) dropped[0][b * h_row + j] = h[0][b * h_row + j] * mask[j];
    }
  }

  int64_t sums_row() const { return padded(shape.gates * s.hidden); }

  Stages stages;
  Kept kept;
  float *hidden, *deviations;            // [N][T][hidden] what is projected; [N][T][2]
  const float *unit_weight, *unit_bias;  // of a diagonal recurrence
  float* dropped[2] = {};                // [n][h_row] h as the recurrent product reads it, before even and odd steps
  const float *gain = nullptr, *shift = nullptr;  // by tile and gate
  float* sums = nullptr;                          // [n][sums_row] recurrent products, gate after gate
  float* raw = nullptr;                           // [n][row] the state before it is normalised
  float* given = nullptr;                         // [n][row] what is projected
  Gates projection = {};
};

}  // namespace
}  // namespace throughtime
