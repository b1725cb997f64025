// A cell backward through time, step by step from the last one. That gives the gradients of the gates at all places;
// those of weights, biases and the input are then products and sums over all places at once.
#pragma once
#include "fused_backward.h"
#include "sweep_stages.h"

namespace throughtime {

// What the steps share. Behind a row's end all that is by place is zero.
struct BackwardFrame : GradientPlan {
  float* dwx = nullptr;             // [places][G * H] gradients of W x + b
  float* given = nullptr;           // [places][G * H] of the recurrent product, as the cell gave them; perhaps dwx
  float* drh = nullptr;             // [places][G * H] the same before its normalisation; perhaps `given`
  float* drh_now = nullptr;         // [n][G * H] those of the step at hand
  float* dstate[kMostStates] = {};  // [n][P] of h, [n][H]: after the step at hand, without `through`
  float* through = nullptr;         // [n][P] what the recurrent product of the step after asks of h
  float* doperand = nullptr;        // [n][H] of what the second product is taken of
  float* operand = nullptr;         // [places][H] that
  float* dprojected = nullptr;      // [places][P]
  float* dprojected_now = nullptr;  // [n][P]
  float* dgiven = nullptr;          // [n][H] of what is projected
  float* dseen = nullptr;           // [places][H] of the normalised state
  float* dvector = nullptr;         // [places][vectors][H]
  float* before = nullptr;          // [places][P] h as the recurrent product read it

  // The gradient of h after the step: what later steps and the output ask of it.
  DEVICE float dh(int64_t row, int64_t step, int64_t unit) const {
    const int64_t at = row * width + unit;
    float sum = dstate[0][at];
    if (through && step + 1 < length(row))
      sum += through[at] * stages.drop_hidden.at(row, position(row, step + 1), unit);
    return dy ? sum + dy[place(row, step) * width + unit] : sum;
  }
  // Of it, what goes to the cell; the rest, which zoneout let through, goes to the state before.
  DEVICE float part(int state, float dnext, int64_t row, int64_t step, int64_t unit, float* passed) const {
    const Mask& mask = stages.update[state];
    *passed = 0.0f;
    if (!mask.values) return dnext;
    const float m = mask.at(row, position(row, step), unit);
    *passed = (1.0f - m) * dnext;
    return m * dnext;
  }
};

// What a checkpointed sweep did not save, as one that is not would have: wx, the recurrent products of all places and
// room for it. `saved` holds the states alone, `again` what the plan will say of the rest.
struct Again : SweepPlan {
  const float* wx;
  float* rh;       // [places][G * H]
  float* operand;  // [places][H]
  SweepPlan full;  // `saved` of it is to be filled
};

// Room for `full`, and the products of all places.
Again begin_again(Device* device, const SweepPlan& plan);
// Room for what the steps leave, but for what a cell need not have.
void begin_backward(Device* device, BackwardFrame* frame);
// h as the recurrent product read it at every place.
float* states_before(Device* device, const SweepPlan& plan);
// Through the projection at a step.
void unproject(Device* device, const BackwardFrame& frame, int64_t step);
// Through the normalisation of the recurrent product at a step.
void unnormalise_product(Device* device, const BackwardFrame& frame, int64_t step);
// What the recurrent product of a step asks of h, or of the operand of the second one.
void multiply_back(Device* device, const BackwardFrame& frame, int64_t first, int64_t count, float* to);
void initial_gradients(Device* device, const BackwardFrame& frame);
// Gradients of what all steps share, and of the input.
void weight_gradients(Device* device, const BackwardFrame& frame);

namespace {

// What a row and a unit have at a step.
template <class Cell>
struct CellBackward : BackwardFrame {
  static constexpr int G = Cell::gates, OUTER = G - Cell::inner_gates, S = Cell::states, K = Cell::saved;
  static constexpr int VECTORS = Cell::vectors;
  int64_t step;

  DEVICE void load(int64_t row, int64_t unit, float* keep, float* prev, float* next) const {
    const int64_t at = place(row, step);
#pragma unroll
    for (int i = 0; i < K; i++) keep[i] = kept_at(at, kept.keep + i, unit);
#pragma unroll
    for (int i = 0; i < S; i++) {
      prev[i] = i == 0 && stages.weight_hr ? 0.0f : state_before(i, row, step, unit);
      next[i] = kept.given >= 0 ? kept_at(at, kept.given + i, unit) : state_after(i, at, unit);
    }
  }

  // Gradients of what the cell gave, and what of them passes it by.
  DEVICE void gradients(int64_t row, int64_t unit, float* dnext, float* passed) const {
    if (stages.weight_hr) {
      dnext[0] = dgiven[row * hidden + unit];
      if (dhidden_values) dnext[0] += dhidden_values[place(row, step) * hidden + unit];
      passed[0] = 0.0f;
    } else {
      dnext[0] = part(0, dh(row, step, unit), row, step, unit, &passed[0]);
    }
#pragma unroll
    for (int i = 1; i < S; i++) dnext[i] = part(i, dstate[i][row * hidden + unit], row, step, unit, &passed[i]);
  }

  // Gradients of the gates [from, to) at a place.
  DEVICE void store_gates(int64_t row, int64_t at, int64_t unit, int from, int to, const float* dw,
                          const float* dr) const {
#pragma unroll
    for (int g = 0; g < G; g++) {
      if (g < from || g >= to) continue;
      const int64_t j = (at * G + g) * hidden + unit;
      const float d = Cell::one_gradient ? dw[g] : dr[g];
      dwx[j] = dw[g];
      if (!Cell::one_gradient) given[j] = d;
      if (!stages.gain && !Cell::diagonal) drh_now[(row * G + g) * hidden + unit] = d;
    }
  }

  DEVICE void finish(int64_t row, int64_t unit, const float* dw, const float* dr, float* dprev, const float* passed,
                     const float* dvectors) const {
    const int64_t at = place(row, step);
    const float* d = Cell::one_gradient ? dw : dr;
    if (dvector)
#pragma unroll
      for (int i = 0; i < VECTORS; i++) dvector[(at * VECTORS + i) * hidden + unit] = dvectors[i];
    if constexpr (Cell::diagonal) {
      const float mask = stages.drop_hidden.at(row, position(row, step), unit);
#pragma unroll
      for (int g = 0; g < G; g++) dprev[0] += d[g] * weight_hh[g * hidden + unit] * mask;
    }
#pragma unroll
    for (int i = 0; i < S; i++)
      if (i > 0 || !stages.weight_hr) dstate[i][row * hidden + unit] = passed[i] + dprev[i];
    store_gates(row, at, unit, 0, G, dw, dr);
  }

  DEVICE void behind_end(int64_t row, int64_t unit) const {
    const int64_t at = row * steps + step;
    const float zeros[G + 1] = {};
    store_gates(row, at, unit, 0, G, zeros, zeros);
    if (dvector)
      for (int i = 0; i < VECTORS; i++) dvector[(at * VECTORS + i) * hidden + unit] = 0.0f;
    if (operand) operand[at * hidden + unit] = 0.0f;
    if (dseen) dseen[at * hidden + unit] = 0.0f;
  }
};

// For each row and unit.
template <class Cell>
struct StepBackward : CellBackward<Cell> {
  using Base = CellBackward<Cell>;
  DEVICE void operator()(int64_t i) const {
    const int64_t row = i / this->hidden, unit = i % this->hidden;
    if (this->step >= this->length(row)) return this->behind_end(row, unit);
    float keep[Base::K + 1], prev[Base::S], next[Base::S], dnext[Base::S], passed[Base::S], dprev[Base::S];
    float dw[Base::G] = {}, dr[Base::G] = {}, dvectors[Base::VECTORS + 1] = {};
    this->load(row, unit, keep, prev, next);
    this->gradients(row, unit, dnext, passed);
    const UnitStages<Base::VECTORS> around(*this, row, this->position(row, this->step), unit);
    Cell::backward(keep, prev, next, dnext, dw, dr, dprev, around, dvectors);
    this->finish(row, unit, dw, dr, dprev, passed, dvectors);
  }
};

// What the cell makes of the gradient of the operand of its second product.
template <class Cell>
struct InnerBackward : CellBackward<Cell> {
  using Base = CellBackward<Cell>;
  static_assert(Cell::inner_gates == 0 || Cell::one_gradient, "drh is not read back");
  DEVICE void operator()(int64_t i) const {
    const int64_t row = i / this->hidden, unit = i % this->hidden;
    if (this->step >= this->length(row)) return;
    const int64_t at = this->place(row, this->step);
    float keep[Base::K + 1], prev[Base::S], next[Base::S], dprev[Base::S], dw[Base::G];
    this->load(row, unit, keep, prev, next);
#pragma unroll
    for (int g = 0; g < Base::G; g++) dw[g] = this->dwx[(at * Base::G + g) * this->hidden + unit];
#pragma unroll
    for (int k = 0; k < Base::S; k++) dprev[k] = this->dstate[k][i];
    const float mask = this->stages.drop_hidden.at(row, this->position(row, this->step), unit);
    const float d = this->doperand[i] * mask;
    if (this->operand) this->operand[at * this->hidden + unit] = keep[Cell::operand] * mask;
    Cell::inner_backward(keep, prev, &d, dw, dw, dprev);
#pragma unroll
    for (int k = 0; k < Base::S; k++) this->dstate[k][i] = dprev[k];
    this->store_gates(row, at, unit, 0, Base::OUTER, dw, dw);
  }
};

// A block for each row, where the state is normalised before the output sees it.
template <class Cell>
struct NormedBackward : CellBackward<Cell> {
  using Base = CellBackward<Cell>;

  // What a unit has, and the gradient of its normalised state.
  struct Unit {
    float keep[Base::K + 1], prev[Base::S], next[Base::S], dnext[Base::S], passed[Base::S], dw[Base::G], x_hat;
  };
  DEVICE float unit_of(int64_t row, int64_t at, int64_t unit, Unit& u) const {
    const Stages& stages = this->stages;
    this->load(row, unit, u.keep, u.prev, u.next);
    this->gradients(row, unit, u.dnext, u.passed);
    u.x_hat = this->kept_at(at, this->kept.c, unit);
    const float seen = u.x_hat * stages.gain_c[unit] + (stages.bias_c ? stages.bias_c[unit] : 0.0f);
    const float d = Cell::output_backward(u.keep, seen, u.dnext, u.dw);
    return stages.carry_normalised ? d + u.dnext[Cell::normed] : d;
  }

  DEVICE void operator()(int64_t row) const {
    const int64_t hidden = this->hidden;
    const Stages& stages = this->stages;
    if (this->step >= this->length(row)) {
      for (int64_t unit = threadIdx.x; unit < hidden; unit += blockDim.x) this->behind_end(row, unit);
      return;
    }
    const int64_t at = this->place(row, this->step);
    float* dseen = this->dseen + at * hidden;
    Unit u;
    for (int64_t unit = threadIdx.x; unit < hidden; unit += blockDim.x) dseen[unit] = unit_of(row, at, unit, u);
    const NormBackward norm =
        norm_backward(dseen, stages.gain_c, &this->kept_at(at, this->kept.c, 0), hidden, this->deviations[at * 2 + 1]);
    for (int64_t unit = threadIdx.x; unit < hidden; unit += blockDim.x) {
      const float d = unit_of(row, at, unit, u);
      const float carried = stages.carry_normalised ? 0.0f : u.dnext[Cell::normed];
      const float dstate = carried + norm(d, stages.gain_c[unit], u.x_hat);
      float dr[Base::G] = {}, dprev[Base::S], dvectors[Base::VECTORS + 1] = {};
      const UnitStages<Base::VECTORS> around(*this, row, this->position(row, this->step), unit);
      Cell::state_backward(u.keep, u.prev, u.next, dstate, u.dw, dr, dprev, around, dvectors);
      this->finish(row, unit, u.dw, dr, dprev, u.passed, dvectors);
    }
  }
};

template <class Cell>
void backward_step(Device* device, const BackwardFrame& frame, int64_t step) {
  const CellBackward<Cell> at = {frame, step};
  const int64_t units = frame.n * frame.hidden, outer = frame.outer();
  if (frame.stages.weight_hr) unproject(device, frame, step);
  bool normed = false;
  if constexpr (Cell::normed > 0)
    if (frame.stages.gain_c) {
      normed = true;
      for_each_block(device, frame.n, threads_for_row(frame.hidden), kRowRoom, NormedBackward<Cell>{at});
    }
  if (!normed) for_each(device, units, StepBackward<Cell>{at});
  if (frame.stages.gain) unnormalise_product(device, frame, step);
  if constexpr (Cell::inner_gates > 0) {
    multiply_back(device, frame, outer, frame.gates() - outer, frame.doperand);
    for_each(device, units, InnerBackward<Cell>{at});
  }
  if (!Cell::diagonal && (step > 0 || frame.dinitial[0])) multiply_back(device, frame, 0, outer, frame.through);
}

// For each place and unit: what the cell keeps, from the states before the step; with an inner product first what that
// is taken of, then the rest.
template <class Cell, bool Operand>
struct AgainStep : Again {
  static constexpr int G = Cell::gates, S = Cell::states, K = Cell::saved;
  DEVICE void operator()(int64_t i) const {
    const int64_t at = i / hidden, unit = i % hidden, row = at / steps, end = length(row);
    if (Operand) operand[i] = 0.0f;
    if (at % steps >= end) return;
    const int64_t step = position(row, at % steps);  // which is its own inverse
    float w[G], u[G], prev[S], next[S], keep[K + 1];
#pragma unroll
    for (int g = 0; g < G; g++) w[g] = wx[(at * G + g) * hidden + unit], u[g] = rh[(at * G + g) * hidden + unit];
#pragma unroll
    for (int s = 0; s < S; s++) prev[s] = state_before(s, row, step, unit);
    if constexpr (Cell::inner_gates > 0) {
      Cell::inner(w, u, prev, keep);
      if (Operand) {
        operand[i] = keep[Cell::operand];
        return;
      }
    }
    Cell::forward(w, u, prev, next, keep, NoStages());
#pragma unroll
    for (int k = 0; k < K; k++) full.kept_at(at, full.kept.keep + k, unit) = keep[k];
#pragma unroll
    for (int s = 1; s < S; s++) full.kept_at(at, full.kept.handed + s, unit) = state_after(s, at, unit);
  }
};

template <class Cell>
void save_again(Device* device, SweepPlan* plan) {
  const Again again = begin_again(device, *plan);
  const int64_t units = plan->places() * plan->hidden, outer = plan->outer();
  if constexpr (Cell::inner_gates > 0) {
    for_each(device, units, AgainStep<Cell, true>{again});
    multiply_recurrent(device, *plan, plan->places(), again.operand, outer, plan->gates() - outer, again.rh);
  }
  for_each(device, units, AgainStep<Cell, false>{again});
  *plan = again.full;
}

// All steps of a plain sweep in one kernel, where that can be. With `saved` at hand it writes `dwx` of all places, zero
// behind the end, `drh` too if the cell has two gradients, and the gradients of the initial states.
template <class Cell>
bool fused_backward(Device* device, const BackwardFrame& frame) {
  if constexpr (is_persistent<Cell>) {
    FusedBackward a = {};
    static_cast<FusedSweep&>(a) = fused_sweep(frame);
    TeamPlan team;
    if (!plan_team(device, {Cell::gates, Cell::states}, a, true, &team)) return false;
    a.dy = frame.dy, a.saved = frame.saved, a.dwx = frame.dwx, a.drh = frame.drh;
    for (int s = 0; s < Cell::states; s++) a.dfinal[s] = frame.dfinal[s], a.dinitial[s] = frame.dinitial[s];
    launch_backward<Cell>(device, a, team);
    return true;
  }
  return false;
}

template <class Cell, bool Plain>
void run_backward(Device* device, const GradientPlan& plan) {
  BackwardFrame frame = {plan};
  if constexpr (Plain)
    if (plan.kept.keep < 0) save_again<Cell>(device, &frame);
  begin_backward(device, &frame);
  bool done = false;
  if constexpr (Plain) done = fused_backward<Cell>(device, frame);
  if (!done) {
    for (int64_t step = plan.steps - 1; step >= 0; step--) {
      const ScratchScope scope(device);
      backward_step<Cell>(device, frame, step);
    }
    initial_gradients(device, frame);
  }
  weight_gradients(device, frame);
}

}  // namespace
}  // namespace throughtime
