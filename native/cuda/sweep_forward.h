// A cell forward through time, step by step: what every sweep can be run by. W x + b of all steps is one product; then
// each step is a product and a kernel, with more of both where there are stages that need them. States live in the
// outputs of final states, and stay as they are behind a row's end.
#pragma once
#include "fused_forward.h"
#include "sweep_stages.h"

namespace throughtime {

// What the steps share.
struct ForwardFrame : SweepPlan {
  const float* wx;             // [places][G * H] W x + b
  float* rh = nullptr;         // [n][G * H] recurrent products
  float* read = nullptr;       // [n][P] h as they read it, where it is dropped
  float* operand = nullptr;    // [n][H] what the second product is taken of
  float* raw = nullptr;        // [n][H] the state before it is normalised
  float* given = nullptr;      // [n][H] what is projected
  float* projected = nullptr;  // [n][P]

  // Hands on h, and gives it out.
  DEVICE void emit(int64_t row, int64_t step, float next, int64_t unit) const {
    const int64_t at = row * width + unit;
    final[0][at] = next;
    y[place(row, step) * width + unit] = next;
    if (read && step + 1 < length(row)) read[at] = next * stages.drop_hidden.at(row, position(row, step + 1), unit);
  }
};

// Initial states, and room.
void begin_forward(Device* device, ForwardFrame* frame);
// Layer normalisation of the recurrent product at a step.
void normalise_product(Device* device, const ForwardFrame& frame, int64_t step);
// h is a projection of what the cell gave.
void project_output(Device* device, const ForwardFrame& frame, int64_t step);

namespace {

// What a row and a unit have at a step.
template <class Cell>
struct CellForward : ForwardFrame {
  static constexpr int G = Cell::gates, OUTER = G - Cell::inner_gates, S = Cell::states, K = Cell::saved;
  int64_t step;

  DEVICE void load(int64_t row, int64_t unit, float* wx, float* rh, float* prev) const {
    const float *w = this->wx + place(row, step) * G * hidden, *r = this->rh + row * G * hidden;
#pragma unroll
    for (int g = 0; g < G; g++) wx[g] = w[g * hidden + unit];
    if constexpr (Cell::diagonal) {
      const float h = final[0][row * width + unit] * stages.drop_hidden.at(row, position(row, step), unit);
#pragma unroll
      for (int g = 0; g < G; g++) {
        const int64_t j = g * hidden + unit;
        rh[g] = h * weight_hh[j] + (bias_hh ? bias_hh[j] : 0.0f);
      }
    } else {
#pragma unroll
      for (int g = 0; g < G; g++) rh[g] = r[g * hidden + unit];
    }
    prev[0] = stages.weight_hr ? 0.0f : final[0][row * width + unit];
#pragma unroll
    for (int i = 1; i < S; i++) prev[i] = final[i][row * hidden + unit];
  }

  // Hands on the states of the step, and saves what backward needs: `given` by the cell, `handed` on but for zoneout.
  DEVICE void finish(int64_t row, int64_t unit, const float* prev, const float* given, const float* handed,
                     const float* keep) const {
    const int64_t at = place(row, step), where = position(row, step);
    if (saved) {
      if (kept.keep >= 0)
#pragma unroll
        for (int i = 0; i < K; i++) kept_at(at, kept.keep + i, unit) = keep[i];
      if (kept.given >= 0)
#pragma unroll
        for (int i = 0; i < S; i++) kept_at(at, kept.given + i, unit) = given[i];
    }
#pragma unroll
    for (int i = 1; i < S; i++) {
      const float next = blend(stages.update[i], handed[i], prev[i], row, where, unit);
      final[i][row * hidden + unit] = next;
      if (saved) kept_at(at, kept.handed + i, unit) = next;
    }
    if (!stages.weight_hr) return emit(row, step, blend(stages.update[0], given[0], prev[0], row, where, unit), unit);
    this->given[row * hidden + unit] = given[0];
    hidden_values[at * hidden + unit] = given[0];
  }

  DEVICE void behind_end(int64_t row, int64_t unit) const {
    const int64_t at = row * steps + step;
    if (stages.weight_hr)
      hidden_values[at * hidden + unit] = 0.0f;
    else
      y[at * width + unit] = 0.0f;
  }
};

// For each row and unit.
template <class Cell>
struct StepForward : CellForward<Cell> {
  using Base = CellForward<Cell>;
  DEVICE void operator()(int64_t i) const {
    const int64_t row = i / this->hidden, unit = i % this->hidden;
    if (this->step >= this->length(row)) return this->behind_end(row, unit);
    float wx[Base::G], rh[Base::G], prev[Base::S], next[Base::S], keep[Base::K + 1];
    this->load(row, unit, wx, rh, prev);
    if constexpr (Cell::inner_gates > 0) Cell::inner(wx, rh, prev, keep);
    const UnitStages<Cell::vectors> around(*this, row, this->position(row, this->step), unit);
    Cell::forward(wx, rh, prev, next, keep, around);
    this->finish(row, unit, prev, next, next, keep);
  }
};

// What the second product is taken of.
template <class Cell>
struct InnerForward : CellForward<Cell> {
  using Base = CellForward<Cell>;
  DEVICE void operator()(int64_t i) const {
    const int64_t row = i / this->hidden, unit = i % this->hidden;
    if (this->step >= this->length(row)) return;
    float wx[Base::G], rh[Base::G], prev[Base::S], keep[Base::K + 1];
    this->load(row, unit, wx, rh, prev);
    Cell::inner(wx, rh, prev, keep);
    this->operand[i] = keep[Cell::operand] * this->stages.drop_hidden.at(row, this->position(row, this->step), unit);
  }
};

// A block for each row, where the state is normalised before the output sees it.
template <class Cell>
struct NormedForward : CellForward<Cell> {
  using Base = CellForward<Cell>;

  DEVICE void state(int64_t row, int64_t unit, float* prev, float* next, float* keep) const {
    float wx[Base::G], rh[Base::G];
    this->load(row, unit, wx, rh, prev);
    const UnitStages<Cell::vectors> around(*this, row, this->position(row, this->step), unit);
    Cell::state(wx, rh, prev, next, keep, around);
  }

  DEVICE void operator()(int64_t row) const {
    const int64_t hidden = this->hidden;
    const Stages& stages = this->stages;
    if (this->step >= this->length(row)) {
      for (int64_t unit = threadIdx.x; unit < hidden; unit += blockDim.x) this->behind_end(row, unit);
      return;
    }
    float prev[Base::S], next[Base::S], handed[Base::S], keep[Base::K + 1];
    float* raw = this->raw + row * hidden;
    for (int64_t unit = threadIdx.x; unit < hidden; unit += blockDim.x) {
      state(row, unit, prev, next, keep);
      raw[unit] = next[Cell::normed];
    }
    const Moments m = moments(raw, hidden);
    const int64_t at = this->place(row, this->step);
    if (this->deviations && threadIdx.x == 0) this->deviations[at * 2 + 1] = m.rstd;
    for (int64_t unit = threadIdx.x; unit < hidden; unit += blockDim.x) {
      state(row, unit, prev, next, keep);
      const float x_hat = (next[Cell::normed] - m.mean) * m.rstd;
      if (this->saved) this->kept_at(at, this->kept.c, unit) = x_hat;
      const float seen = x_hat * stages.gain_c[unit] + (stages.bias_c ? stages.bias_c[unit] : 0.0f);
      Cell::output(keep, seen, next);
#pragma unroll
      for (int i = 0; i < Base::S; i++) handed[i] = next[i];
      if (stages.carry_normalised) handed[Cell::normed] = seen;
      this->finish(row, unit, prev, next, handed, keep);
    }
  }
};

template <class Cell>
void forward_step(Device* device, const ForwardFrame& frame, int64_t step) {
  const CellForward<Cell> at = {frame, step};
  const int64_t units = frame.n * frame.hidden, outer = frame.outer();
  if (!Cell::diagonal)
    multiply_recurrent(device, frame, frame.n, frame.read ? frame.read : frame.final[0], 0, outer, frame.rh);
  if constexpr (Cell::inner_gates > 0) {
    for_each(device, units, InnerForward<Cell>{at});
    multiply_recurrent(device, frame, frame.n, frame.operand, outer, frame.gates() - outer, frame.rh);
  }
  if (frame.stages.gain) normalise_product(device, frame, step);
  bool normed = false;
  if constexpr (Cell::normed > 0)
    if (frame.stages.gain_c) {
      normed = true;
      for_each_block(device, frame.n, threads_for_row(frame.hidden), kRowRoom, NormedForward<Cell>{at});
    }
  if (!normed) for_each(device, units, StepForward<Cell>{at});
  if (frame.stages.weight_hr) project_output(device, frame, step);
}

// All steps of a plain sweep in one kernel, where that can be. With W x + b at hand it writes `y`, `final`, and `saved`
// if that is wanted; false where it did nothing.
template <class Cell>
bool fused_forward(Device* device, const SweepPlan& plan, const float* wx) {
  if constexpr (is_persistent<Cell>) {
    FusedForward a = {};
    static_cast<FusedSweep&>(a) = fused_sweep(plan);
    TeamPlan team;
    if (plan.precision == INT8 || !plan_team(device, {Cell::gates, Cell::states}, a, false, &team)) return false;
    a.bias = plan.bias_hh, a.wx = wx, a.output = plan.y, a.saved = plan.saved, a.states_only = plan.kept.keep < 0;
    for (int s = 0; s < Cell::states; s++) a.final[s] = plan.final[s];
    launch_forward<Cell>(device, a, team);
    return true;
  }
  return false;
}

template <class Cell, bool Plain>
void run_forward(Device* device, const SweepPlan& plan) {
  ForwardFrame frame = {plan, project_input(device, plan)};
  if constexpr (Plain)
    if (fused_forward<Cell>(device, plan, frame.wx)) return;
  begin_forward(device, &frame);
  for (int64_t step = 0; step < plan.steps; step++) {
    const ScratchScope scope(device);
    forward_step<Cell>(device, frame, step);
  }
}

}  // namespace
}  // namespace throughtime
