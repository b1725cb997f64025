// What a sweep of a cell through time is asked for, by name, for every way to run it. The arguments are those of
// native/cpu/sweep.cc, and src/ops/sweepInputs.ts says what they mean.
//
// How long each row is, only the device knows. A row and a position in it have a place, row * steps + position; a row
// and a step of the sweep have one too, which is another in reverse. Behind its end a row has no steps.
#pragma once
#include "gemm.h"

namespace throughtime {

// Inputs before the update masks, one a state, and the initial states; the last of them, ids, makes x a table of W x.
constexpr int kOptions = 15, kIds = 14, kMostStates = 4;

// What the parts that are the same for every cell must know of one; see cells/cell.h.
struct CellShape {
  int gates, inner, states, saved, vectors;
  bool one_gradient, diagonal;
  DEVICE_AND_HOST int outer() const { return gates - inner; }
};
template <class Cell>
constexpr CellShape cell_shape = {Cell::gates,   Cell::inner_gates,  Cell::states,  Cell::saved,
                                  Cell::vectors, Cell::one_gradient, Cell::diagonal};

struct Batch {
  int64_t n, steps, features, hidden;
  int64_t width;  // numbers of h: hidden, or those of its projection
  bool reverse;
  const int32_t* lengths;  // [n]; null: all of `steps`

  DEVICE_AND_HOST int64_t places() const { return n * steps; }
  DEVICE int64_t length(int64_t row) const {
    const int64_t given = lengths ? lengths[row] : steps;
    return given < 0 ? 0 : given < steps ? given : steps;
  }
  // Steps behind the end fill the positions there.
  DEVICE int64_t position(int64_t row, int64_t step) const {
    if (!reverse) return step;
    const int64_t end = length(row);
    return step < end ? end - 1 - step : step;
  }
  DEVICE int64_t place(int64_t row, int64_t step) const { return row * steps + position(row, step); }
};

// Numbers by row and position, either of which may be all the same.
struct Mask {
  const float* values;  // null: all 1
  int64_t by_row, by_step;
  DEVICE float at(int64_t row, int64_t position, int64_t unit) const {
    return values ? values[row * by_row + position * by_step + unit] : 1.0f;
  }
};

// What is around the cell; a plain sweep has none of it.
struct Stages {
  const float *gain, *vectors, *weight_hr, *bias_hr, *gain_c, *bias_c;
  Mask drop_hidden, drop_candidate, update[kMostStates];
  bool carry_normalised;
  float clip;  // 0: none
};

// What forward saves of a place, in rows of `hidden`, and at which row; -1: not at all. Handed on, and given by the
// cell, is state i at row `handed + i` and `given + i`; h is handed on by the output alone. A plain sweep hands on what
// the cell gives and saves it once.
struct Kept {
  int keep;
  int given, handed;
  int gates, c;  // what was normalised: the recurrent product, a state
  int rows;
};

struct SweepPlan : Batch {
  CellShape cell;
  Stages stages;
  Kept kept;
  bool plain;
  Precision precision;  // of every product of forward
  const float* x;       // [places][features], or the table, [table_rows][features]
  const int32_t* ids;   // [places], or null
  int64_t table_rows;
  const float *weight_ih, *weight_hh, *bias_ih, *bias_hh;
  const float* initial[kMostStates];
  float* y;                   // [places][width], zero behind the end
  float* final[kMostStates];  // [n][width] of h, [n][hidden]
  float* hidden_values;       // [places][hidden], what is projected
  float* saved;               // [places][kept.rows][hidden], or null
  float* deviations;          // [places][2]: reciprocal deviations of what was normalised

  DEVICE_AND_HOST int64_t gates() const { return cell.gates * hidden; }
  DEVICE_AND_HOST int64_t outer() const { return cell.outer() * hidden; }
  DEVICE_AND_HOST int64_t width_of(int state) const { return state == 0 ? width : hidden; }
  // Of a kept row, for one unit.
  DEVICE float& kept_at(int64_t place, int row, int64_t unit) const {
    return saved[(place * kept.rows + row) * hidden + unit];
  }
  // States before and after the step at a place.
  DEVICE float state_before(int state, int64_t row, int64_t step, int64_t unit) const {
    if (step > 0) return state_after(state, place(row, step - 1), unit);
    return initial[state] ? initial[state][row * width_of(state) + unit] : 0.0f;
  }
  DEVICE float state_after(int state, int64_t place, int64_t unit) const {
    return state == 0 ? y[place * width + unit] : kept_at(place, kept.handed + state, unit);
  }
};

// Gradients: given (null: zero) and wanted (null: not).
struct GradientPlan : SweepPlan {
  const float *dy, *dfinal[kMostStates], *dhidden_values;
  float *dx, *dweight_ih, *dweight_hh, *dbias_ih, *dbias_hh, *dgain, *dvectors, *dweight_hr, *dbias_hr, *dgain_c,
      *dbias_c, *dinitial[kMostStates];
  bool add;  // onto the gradients of weights, biases and the table
};

// in: x, weight_ih, weight_hh, bias_ih, bias_hh, lengths, options, update masks, initial states; out: output, final
// states, with a projection what is projected, saved and deviations if training. Cells of which no sweep is plain have
// `always_staged`.
SweepPlan forward_plan(const CellShape& cell, bool always_staged, const Args& args);

// in: gradients of the outputs, then forward's inputs, outputs and what it saved; out: gradients of the inputs.
GradientPlan backward_plan(const CellShape& cell, bool always_staged, const Args& args);

// What a plain sweep that is not checkpointed keeps.
Kept plain_kept(const CellShape& cell);

// Rows of the batch that are swept at once, so that what is held for all their steps has its bounds.
int64_t rows_at_once(const SweepPlan& plan);
void keep_rows(SweepPlan* plan, int64_t first, int64_t count);
void keep_rows(GradientPlan* plan, int64_t first, int64_t count);

// C [m, n] = A [m, k] B, with A's and C's rows so far apart: B is the transpose of a weight [n][k], or a weight [k][n].
struct Rows {
  const float* data;
  int64_t apart;
};
inline Product by_transpose(int64_t m, int64_t n, int64_t k, Rows a, const float* b, float* c, int64_t c_row) {
  return {m, n, k, a.data, a.apart, 1, b, 1, k, c, c_row};
}
inline Product by_weight(int64_t m, int64_t n, int64_t k, Rows a, const float* b, float* c, int64_t c_row) {
  return {m, n, k, a.data, a.apart, 1, b, n, 1, c, c_row};
}

// W x + b of all places, [places][G * H]: scratch, unless x is that already.
const float* project_input(Device* device, const SweepPlan& plan);

// rh [rows][G * H], of it the columns [first, first + count), from a [rows][width] and those rows of U.
void multiply_recurrent(Device* device, const SweepPlan& plan, int64_t rows, const float* a, int64_t first,
                        int64_t count, float* rh);

}  // namespace throughtime
