#include "sweep_backward.h"

#include "ids.h"
#include "reduce.h"

namespace throughtime {

namespace {

// int8 has no gradient of its own.
Precision precision_of(const SweepPlan& plan) { return plan.precision == BF16 ? BF16 : FLOAT32; }

// C [m, n] (+)= the sum over all places of a[place][i] b[place][j].
void add_product(Device* device, const BackwardFrame& f, int64_t m, const float* a, int64_t a_row, int64_t n,
                 const float* b, float* c) {
  Product p = {m, n, f.places(), a, 1, a_row, b, n, 1, c, n};
  p.accumulate = f.add, p.precision = precision_of(f);
  multiply(device, p);
}

// total[j] (+)= the sum over all places of x[place][j].
void add_columns(Device* device, const BackwardFrame& f, const float* x, int64_t columns, float* total) {
  if (!f.add) return sum_middle(device, x, 1, f.places(), columns, total);
  float* part = scratch<float>(device, columns);
  sum_middle(device, x, 1, f.places(), columns, part);
  for_each(device, columns, [=] __device__(int64_t i) { total[i] += part[i]; });
}

// The same of a[place][j] b(place, j) for valid places.
template <class B>
void add_columns_of(Device* device, const BackwardFrame& frame, const float* a, int64_t columns, const B& b,
                    float* total) {
  const Batch batch = frame;
  float* products = scratch<float>(device, frame.places() * columns);
  for_each(device, frame.places() * columns, [=] __device__(int64_t i) {
    const int64_t place = i / columns;
    const bool valid = place % batch.steps < batch.length(place / batch.steps);
    products[i] = valid ? a[i] * b(place, i % columns) : 0.0f;
  });
  add_columns(device, frame, products, columns, total);
}

// A kept row and those after it, as what is summed.
struct KeptRow {
  SweepPlan plan;
  int row;
  DEVICE float operator()(int64_t place, int64_t j) const { return plan.kept_at(place, row, j); }
};
struct BeforeOfUnit {
  const float* before;
  int64_t hidden;
  DEVICE float operator()(int64_t place, int64_t j) const { return before[place * hidden + j % hidden]; }
};

// x without what lies behind the rows' ends, which may be anything.
const float* valid_input(Device* device, const SweepPlan& plan) {
  if (!plan.lengths) return plan.x;
  const Batch batch = plan;
  const float* from = plan.x;
  float* to = scratch<float>(device, batch.places() * batch.features);
  for_each(device, batch.places() * batch.features, [=] __device__(int64_t i) {
    const int64_t place = i / batch.features;
    to[i] = place % batch.steps < batch.length(place / batch.steps) ? from[i] : 0.0f;
  });
  return to;
}

void input_gradient(Device* device, const BackwardFrame& f) {
  if (!f.dx || f.dx == f.dwx) return;
  if (f.ids) return sum_by_id(device, f.ids, f.places(), f.table_rows, f.features, f.dwx, f.dx, f.add);
  Product p = by_weight(f.places(), f.features, f.gates(), {f.dwx, f.gates()}, f.weight_ih, f.dx, f.features);
  p.precision = precision_of(f);
  multiply(device, p);
}

void recurrent_gradient(Device* device, const BackwardFrame& f) {
  if (!f.dweight_hh) return;
  const float* before = states_before(device, f);
  const int64_t gates = f.gates(), outer = f.outer();
  if (f.cell.diagonal) return add_columns_of(device, f, f.drh, gates, BeforeOfUnit{before, f.hidden}, f.dweight_hh);
  add_product(device, f, outer, f.drh, gates, f.width, before, f.dweight_hh);
  if (f.cell.inner)
    add_product(device, f, gates - outer, f.drh + outer, gates, f.width, f.operand, f.dweight_hh + outer * f.width);
}

}  // namespace

float* states_before(Device* device, const SweepPlan& plan) {
  const SweepPlan p = plan;
  float* before = scratch<float>(device, p.places() * p.width);
  for_each(device, p.places() * p.width, [=] __device__(int64_t i) {
    const int64_t place = i / p.width, unit = i % p.width, row = place / p.steps, position = place % p.steps;
    const bool valid = position < p.length(row);
    const int64_t step = p.position(row, position);  // which is its own inverse
    before[i] = valid ? p.state_before(0, row, step, unit) * p.stages.drop_hidden.at(row, position, unit) : 0.0f;
  });
  return before;
}

Again begin_again(Device* device, const SweepPlan& plan) {
  Again again = {plan, project_input(device, plan), nullptr, nullptr, plan};
  const int64_t places = plan.places();
  again.rh = scratch<float>(device, places * plan.gates());
  multiply_recurrent(device, plan, places, states_before(device, plan), 0, plan.outer(), again.rh);
  if (plan.cell.inner) again.operand = scratch<float>(device, places * plan.hidden);
  again.full.kept = plain_kept(plan.cell);
  again.full.saved = scratch<float>(device, places * again.full.kept.rows * plan.hidden);
  return again;
}

void begin_backward(Device* device, BackwardFrame* frame) {
  BackwardFrame& f = *frame;
  const int64_t places = f.places(), gates = places * f.gates();
  const auto room = [device](int64_t count) { return scratch<float>(device, count); };
  f.dwx = f.dx && !f.weight_ih && !f.ids ? f.dx : room(gates);
  f.given = f.cell.one_gradient ? f.dwx : room(gates);
  f.drh = f.stages.gain ? room(gates) : f.given;
  if (!f.cell.diagonal) {
    f.drh_now = room(f.n * f.gates());
    f.through = room(f.n * f.width);
  }
  if (f.cell.inner) f.doperand = room(f.n * f.hidden);
  if (f.cell.inner && f.dweight_hh) f.operand = room(places * f.hidden);
  if (f.stages.gain_c) f.dseen = room(places * f.hidden);
  if (f.dvectors) f.dvector = room(places * f.cell.vectors * f.hidden);
  if (f.stages.weight_hr) {
    f.dprojected = room(places * f.width);
    f.dprojected_now = room(f.n * f.width);
    f.dgiven = room(f.n * f.hidden);
  }
  for (int state = 0; state < f.cell.states; state++) {
    const int64_t count = f.n * f.width_of(state);
    const float* from = f.dfinal[state];
    float* to = f.dstate[state] = room(count);
    for_each(device, count, [=] __device__(int64_t i) { to[i] = from ? from[i] : 0.0f; });
  }
}

void unproject(Device* device, const BackwardFrame& frame, int64_t step) {
  const BackwardFrame f = frame;
  for_each(device, f.n * f.width, [=] __device__(int64_t i) {
    const int64_t row = i / f.width, unit = i % f.width;
    float d = 0.0f;
    if (step < f.length(row)) {
      float passed;
      d = f.part(0, f.dh(row, step, unit), row, step, unit, &passed);
      f.dstate[0][i] = passed;
    }
    f.dprojected[f.place(row, step) * f.width + unit] = f.dprojected_now[i] = d;
  });
  Product p = by_weight(f.n, f.hidden, f.width, {f.dprojected_now, f.width}, f.stages.weight_hr, f.dgiven, f.hidden);
  p.precision = precision_of(f);
  multiply(device, p);
}

void unnormalise_product(Device* device, const BackwardFrame& frame, int64_t step) {
  const BackwardFrame f = frame;
  const int64_t gates = f.gates();
  for_each_block(device, f.n, threads_for_row(gates), kRowRoom, [=] __device__(int64_t row) {
    const int64_t at = f.place(row, step);
    float *drh = f.drh + at * gates, *now = f.drh_now + row * gates;
    if (step >= f.length(row)) {
      for (int64_t j = threadIdx.x; j < gates; j += blockDim.x) drh[j] = now[j] = 0.0f;
      return;
    }
    const float *given = f.given + at * gates, *x_hat = &f.kept_at(at, f.kept.gates, 0);
    const NormBackward norm = norm_backward(given, f.stages.gain, x_hat, gates, f.deviations[at * 2]);
    for (int64_t j = threadIdx.x; j < gates; j += blockDim.x)
      drh[j] = now[j] = norm(given[j], f.stages.gain[j], x_hat[j]);
  });
}

void multiply_back(Device* device, const BackwardFrame& f, int64_t first, int64_t count, float* to) {
  Product p =
      by_weight(f.n, f.width, count, {f.drh_now + first, f.gates()}, f.weight_hh + first * f.width, to, f.width);
  p.precision = precision_of(f);
  multiply(device, p);
}

void initial_gradients(Device* device, const BackwardFrame& frame) {
  const BackwardFrame f = frame;
  for (int state = 0; state < f.cell.states; state++) {
    float* to = f.dinitial[state];
    const int64_t width = f.width_of(state);
    if (!to) continue;
    for_each(device, f.n * width, [=] __device__(int64_t i) {
      const int64_t row = i / width;
      float sum = f.dstate[state][i];
      if (state == 0 && f.through && f.length(row) > 0)
        sum += f.through[i] * f.stages.drop_hidden.at(row, f.position(row, 0), i % width);
      to[i] = sum;
    });
  }
}

void weight_gradients(Device* device, const BackwardFrame& f) {
  const int64_t gates = f.gates();
  if (f.dweight_ih) add_product(device, f, gates, f.dwx, gates, f.features, valid_input(device, f), f.dweight_ih);
  recurrent_gradient(device, f);
  input_gradient(device, f);
  if (f.dbias_ih) add_columns(device, f, f.dwx, gates, f.dbias_ih);
  if (f.dbias_hh) add_columns(device, f, f.given, gates, f.dbias_hh);
  if (f.dgain) add_columns_of(device, f, f.given, gates, KeptRow{f, f.kept.gates}, f.dgain);
  if (f.dvectors) add_columns(device, f, f.dvector, f.cell.vectors * f.hidden, f.dvectors);
  if (f.dgain_c) add_columns_of(device, f, f.dseen, f.hidden, KeptRow{f, f.kept.c}, f.dgain_c);
  if (f.dbias_c) add_columns(device, f, f.dseen, f.hidden, f.dbias_c);
  if (f.dweight_hr) add_product(device, f, f.width, f.dprojected, f.width, f.hidden, f.hidden_values, f.dweight_hr);
  if (f.dbias_hr) add_columns(device, f, f.dprojected, f.width, f.dbias_hr);
}

}  // namespace throughtime
