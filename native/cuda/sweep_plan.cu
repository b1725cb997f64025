#include "sweep_plan.h"

namespace throughtime {

namespace {

// `in` starts at x, whatever comes before it.
Stages stages_of(const CellShape& cell, const Args& args, Buffer* const* in) {
  const int32_t* ints = args.ints;
  Stages s = {};
  s.gain = data(in[6]), s.vectors = data(in[7]), s.weight_hr = data(in[8]), s.bias_hr = data(in[9]);
  s.gain_c = data(in[10]), s.bias_c = data(in[11]);
  s.carry_normalised = ints[7] != 0;
  s.drop_hidden = {data(in[12]), ints[8], ints[9]};
  s.drop_candidate = {data(in[13]), ints[10], ints[11]};
  for (int i = 0; i < cell.states; i++) s.update[i] = {data(in[kOptions + i]), ints[12 + 2 * i], ints[13 + 2 * i]};
  s.clip = static_cast<float>(args.floats[0]);
  return s;
}

bool is_plain(const CellShape& cell, const Args& args, Buffer* const* in) {
  for (int i = 6; i < kOptions + cell.states; i++)
    if (in[i] && i != kIds) return false;
  return (in[1] || in[kIds]) && !(args.floats[0] > 0);
}

Kept kept_of(const CellShape& cell, const Stages& stages, bool plain, bool checkpoint) {
  if (plain && checkpoint) return {-1, -1, -1, -1, -1, cell.states - 1};
  if (plain) return plain_kept(cell);
  Kept kept = {0, cell.saved, cell.saved + cell.states - 1, -1, -1, cell.saved + 2 * cell.states - 1};
  if (stages.gain) kept.gates = kept.rows, kept.rows += cell.gates;
  if (stages.gain_c) kept.c = kept.rows++;
  return kept;
}

SweepPlan plan_of(const CellShape& cell, bool always_staged, const Args& args, Buffer* const* in) {
  const int32_t* ints = args.ints;
  SweepPlan p = {};
  p.n = ints[0], p.steps = ints[1], p.features = ints[2], p.hidden = ints[3];
  p.reverse = ints[4] != 0, p.width = ints[5];
  p.lengths = integers(in[5]);
  p.cell = cell;
  p.stages = stages_of(cell, args, in);
  p.plain = !always_staged && is_plain(cell, args, in);
  const int last = 12 + 2 * cell.states;  // checkpoint, precision
  p.kept = kept_of(cell, p.stages, p.plain, ints[last] != 0);
  p.precision = last + 1 < args.int_count ? static_cast<Precision>(ints[last + 1]) : FLOAT32;
  p.x = data(in[0]), p.ids = integers(in[kIds]);
  p.table_rows = p.ids && p.features ? static_cast<int64_t>(in[0]->elements) / p.features : 0;
  p.weight_ih = data(in[1]), p.weight_hh = data(in[2]), p.bias_ih = data(in[3]), p.bias_hh = data(in[4]);
  for (int i = 0; i < cell.states; i++) p.initial[i] = data(in[kOptions + cell.states + i]);
  return p;
}

void take_results(SweepPlan* p, Buffer* const* results, int count) {
  const int outputs = 1 + p->cell.states + (p->stages.weight_hr ? 1 : 0);
  p->y = data(results[0]);
  for (int i = 0; i < p->cell.states; i++) p->final[i] = data(results[1 + i]);
  if (p->stages.weight_hr) p->hidden_values = data(results[outputs - 1]);
  if (count > outputs) p->saved = data(results[outputs]);
  if (count > outputs + 1) p->deviations = data(results[outputs + 1]);
}

template <class T>
void move(T** p, int64_t by) {
  if (*p) *p += by;
}

}  // namespace

Kept plain_kept(const CellShape& cell) { return {0, -1, cell.saved - 1, -1, -1, cell.saved + cell.states - 1}; }

SweepPlan forward_plan(const CellShape& cell, bool always_staged, const Args& args) {
  SweepPlan p = plan_of(cell, always_staged, args, args.in);
  take_results(&p, args.out, args.outputs);
  return p;
}

GradientPlan backward_plan(const CellShape& cell, bool always_staged, const Args& args) {
  const int outputs = 1 + cell.states + args.ints[6], inputs = kOptions + 2 * cell.states;
  Buffer* const* in = args.in + outputs;
  GradientPlan p = {};
  static_cast<SweepPlan&>(p) = plan_of(cell, always_staged, args, in);
  take_results(&p, in + inputs, args.inputs - outputs - inputs);
  p.dy = data(args.in[0]);
  if (p.stages.weight_hr) p.dhidden_values = data(args.in[outputs - 1]);
  for (int i = 0; i < cell.states; i++) {
    p.dfinal[i] = data(args.in[1 + i]);
    p.dinitial[i] = data(args.out[kOptions + cell.states + i]);
  }
  Buffer* const* out = args.out;
  p.dx = data(out[0]), p.dweight_ih = data(out[1]), p.dweight_hh = data(out[2]);
  p.dbias_ih = data(out[3]), p.dbias_hh = data(out[4]), p.dgain = data(out[6]), p.dvectors = data(out[7]);
  p.dweight_hr = data(out[8]), p.dbias_hr = data(out[9]), p.dgain_c = data(out[10]), p.dbias_c = data(out[11]);
  return p;
}

int64_t rows_at_once(const SweepPlan& plan) {
  constexpr int64_t most = int64_t{1} << 27;  // numbers of the gates, 512 MB
  const int64_t each = plan.steps * plan.gates(), rows = most / (each > 0 ? each : 1);
  return rows > 0 ? rows : 1;
}

void keep_rows(SweepPlan* p, int64_t first, int64_t count) {
  const int64_t place = first * p->steps;
  const auto move_mask = [first](Mask* mask) { move(&mask->values, first * mask->by_row); };
  p->n = count;
  move(&p->lengths, first);
  move(&p->ids, place);
  if (!p->ids) move(&p->x, place * p->features);
  move(&p->y, place * p->width);
  move(&p->hidden_values, place * p->hidden);
  move(&p->saved, place * p->kept.rows * p->hidden);
  move(&p->deviations, place * 2);
  move_mask(&p->stages.drop_hidden);
  move_mask(&p->stages.drop_candidate);
  for (int i = 0; i < p->cell.states; i++) {
    const int64_t width = i == 0 ? p->width : p->hidden;
    move(&p->initial[i], first * width);
    move(&p->final[i], first * width);
    move_mask(&p->stages.update[i]);
  }
}

void keep_rows(GradientPlan* p, int64_t first, int64_t count) {
  keep_rows(static_cast<SweepPlan*>(p), first, count);
  const int64_t place = first * p->steps;
  move(&p->dy, place * p->width);
  move(&p->dhidden_values, place * p->hidden);
  if (!p->ids) move(&p->dx, place * p->features);
  for (int i = 0; i < p->cell.states; i++) {
    const int64_t width = i == 0 ? p->width : p->hidden;
    move(&p->dfinal[i], first * width);
    move(&p->dinitial[i], first * width);
  }
  p->add = first > 0;
}

}  // namespace throughtime
