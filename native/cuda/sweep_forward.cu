#include "sweep_forward.h"

#include "ids.h"

namespace throughtime {

const float* project_input(Device* device, const SweepPlan& plan) {
  const int64_t gates = plan.gates(), places = plan.places();
  if (!plan.weight_ih && !plan.ids && !plan.bias_ih) return plan.x;
  float* wx = scratch<float>(device, places * gates);
  if (plan.weight_ih) {
    Product p = by_transpose(places, gates, plan.features, {plan.x, plan.features}, plan.weight_ih, wx, gates);
    p.bias = plan.bias_ih, p.precision = plan.precision;
    multiply(device, p);
    return wx;
  }
  const float *x = plan.x, *bias = plan.bias_ih;
  const int32_t* ids = plan.ids;
  const int64_t rows = plan.table_rows;
  for_each(device, places * gates, [=] __device__(int64_t i) {
    const int64_t row = ids ? ids[i / gates] : i / gates, j = i % gates;
    const bool there = !ids || (row >= 0 && row < rows);
    wx[i] = (there ? x[row * gates + j] : 0.0f) + (bias ? bias[j] : 0.0f);
  });
  return wx;
}

void multiply_recurrent(Device* device, const SweepPlan& plan, int64_t rows, const float* a, int64_t first,
                        int64_t count, float* rh) {
  Product p = by_transpose(rows, count, plan.width, {a, plan.width}, plan.weight_hh + first * plan.width, rh + first,
                           plan.gates());
  // With normalisation the bias is added after it.
  if (plan.bias_hh && !plan.stages.gain) p.bias = plan.bias_hh + first;
  p.precision = plan.precision;
  multiply(device, p);
}

void begin_forward(Device* device, ForwardFrame* frame) {
  ForwardFrame& f = *frame;
  if (!f.cell.diagonal) f.rh = scratch<float>(device, f.n * f.gates());
  if (!f.cell.diagonal && f.stages.drop_hidden.values) f.read = scratch<float>(device, f.n * f.width);
  if (f.cell.inner) f.operand = scratch<float>(device, f.n * f.hidden);
  if (f.stages.gain_c) f.raw = scratch<float>(device, f.n * f.hidden);
  if (f.stages.weight_hr) {
    f.given = scratch<float>(device, f.n * f.hidden);
    f.projected = scratch<float>(device, f.n * f.width);
  }
  const ForwardFrame start = f;
  for (int state = 0; state < f.cell.states; state++) {
    const int64_t width = f.width_of(state);
    for_each(device, f.n * width, [=] __device__(int64_t i) {
      const float value = start.initial[state] ? start.initial[state][i] : 0.0f;
      start.final[state][i] = value;
      const int64_t row = i / width;
      if (state == 0 && start.read && start.length(row) > 0)
        start.read[i] = value * start.stages.drop_hidden.at(row, start.position(row, 0), i % width);
    });
  }
}

void normalise_product(Device* device, const ForwardFrame& frame, int64_t step) {
  const ForwardFrame f = frame;
  const int64_t gates = f.gates();
  for_each_block(device, f.n, threads_for_row(gates), kRowRoom, [=] __device__(int64_t row) {
    if (step >= f.length(row)) return;
    float* x = f.rh + row * gates;
    const Moments m = moments(x, gates);
    const int64_t at = f.place(row, step);
    if (f.deviations && threadIdx.x == 0) f.deviations[at * 2] = m.rstd;
    for (int64_t j = threadIdx.x; j < gates; j += blockDim.x) {
      const float x_hat = (x[j] - m.mean) * m.rstd;
      if (f.saved) f.kept_at(at, f.kept.gates, j) = x_hat;
      x[j] = x_hat * f.stages.gain[j] + (f.bias_hh ? f.bias_hh[j] : 0.0f);
    }
  });
}

void project_output(Device* device, const ForwardFrame& frame, int64_t step) {
  const ForwardFrame f = frame;
  Product p = by_transpose(f.n, f.width, f.hidden, {f.given, f.hidden}, f.stages.weight_hr, f.projected, f.width);
  p.bias = f.stages.bias_hr, p.precision = f.precision;
  multiply(device, p);
  for_each(device, f.n * f.width, [=] __device__(int64_t i) {
    const int64_t row = i / f.width, unit = i % f.width;
    if (step >= f.length(row))
      f.y[(row * f.steps + step) * f.width + unit] = 0.0f;
    else
      f.emit(row, step, blend(f.stages.update[0], f.projected[i], f.final[0][i], row, f.position(row, step), unit),
             unit);
  });
}

}  // namespace throughtime
