// What the staged sweeps backward share whatever their cell.
#pragma once
#include "backward_frame.h"
#include "stages.h"

namespace throughtime {
namespace {

class StagedBackwardFrame : protected BackwardFrame {
 public:
  // As BackwardFrame; with a projection the gradient of what is projected comes after those of the final states, and
  // the reciprocal deviations come after `saved`. `vectors` is how many weights of single units the cell has.
  __attribute__((noinline)) StagedBackwardFrame(const CellShape& shape, int vectors, const Args& args, Device* device)
      : BackwardFrame(shape, args, device),
        stages(shape, args, args.in + outputs_of(shape, args)),
        kept(shape, stages),
        vectors(vectors),
        summed(vectors + (shape.diagonal ? shape.gates : 0)) {
    checkpoint = false;
    Buffer* const* in = args.in + outputs_of(shape, args);
    Buffer* const* results = in + OPTIONS + 2 * shape.states;
    const int outputs = outputs_of(shape, args);
    dhidden = stages.weight_hr ? data(args.in[outputs - 1]) : nullptr;
    hidden = stages.weight_hr ? data(results[outputs - 1]) : nullptr;
    if (stages.gain || stages.gain_c) deviations = data(results[outputs + 1]);
    if (shape.diagonal) unit_weight = data(in[2]);
    dgain = data(args.out[6]);
    dvectors = data(args.out[7]);
    dweight_hr = data(args.out[8]);
    dbias_hr = data(args.out[9]);
    dgain_c = data(args.out[10]);
    dbias_c = data(args.out[11]);
    if (shape.diagonal) dunit_weight = dweight_hh;
    const auto rows_of = [&](int64_t width) { return scratch_floats(device, capacity * width); };
    for (int i = 0; i < 2; i++) {
      More& more = this->more[i];
      if (stages.gain) {
        gain = data(stages.gain);
        buffers[i].drh = rows_of(gates_row);
      }
      if (dvectors || shape.diagonal) more.summed = rows_of(summed * row);
      if (stages.drop_hidden) more.read = rows_of(h_row);
      if (stages.gain_c) more.dseen = rows_of(row);
      if (!stages.weight_hr) continue;
      more.dprojected = rows_of(h_row);
      if (dweight_hr) more.hidden = scratch_floats(device, panel_floats(s.hidden, capacity));
    }
    if (stages.gain_c) dcarried = scratch_floats(device, s.n * row);
    if (stages.weight_hr) projection = natural(stages.weight_hr, s.width, s.hidden);
    list = static_cast<const float**>(device->scratch(device, ranks * capacity * sizeof(float*)));
  }

 protected:
  __attribute__((noinline)) void begin(int rank) {
    BackwardFrame::begin(rank);
    if (projection.fresh) pack_natural(projection, data(stages.weight_hr), rank);
    const auto nothing = [&](float* sum, int64_t count) {
      const Part part(count, rank, ranks);
      if (sum) clear(sum + part.begin, part.end - part.begin);
    };
    nothing(dgain, gates);
    nothing(dvectors, vectors * s.hidden);
    nothing(dweight_hr, s.width * s.hidden);
    nothing(dbias_hr, s.width);
    nothing(dgain_c, s.hidden);
    nothing(dbias_c, s.hidden);
  }

  // Panels of h as the recurrent product read it, and of what was projected.
  __attribute__((noinline)) void pack_h(const Chunk& chunk, int rank) {
    if (!stages.drop_hidden) return BackwardFrame::pack_h(chunk, rank);
    const More& more = this->more[chunk.turn];
    const Part rows(chunk.rows, rank, ranks);
    for (int64_t t = chunk.from, r = 0; t < chunk.to; t++)
      for (int64_t b = 0; b < s.active(t); b++, r++) {
        if (r < rows.begin || r >= rows.end) continue;
        const float *h = state_before(0, b, t), *mask = stages.drop_hidden.at(s, b, t);
        for (int64_t j = 0; j < s.width; j++) more.read[r * h_row + j] = h[j] * mask[j];
      }
    wait();
    pack_rows_of(chunk.h, chunk, {more.read, h_row, nullptr}, s.width, rank);
  }

  __attribute__((noinline)) void initial_states(const Member& me, const float* after) {
    for (int i = 0; i < shape.states; i++) {
      if (!dinitial[i]) continue;
      float* to = dinitial[i];
      const float* from = dstate[i];
      const int64_t width = width_of(i), stride = i == 0 ? h_row : row;
      const auto write_row = [&](int64_t b, const float* product, int64_t unit, int lanes, auto full) {
        constexpr bool Full = decltype(full)::value;
        Vec through = load(product);
        if (i == 0 && stages.drop_hidden && s.length[b] > 0)
          through *= read<Full>(stages.drop_hidden.at(s, b, 0) + unit, lanes);
        write<Full>(to + s.order[b] * width + unit, load(from + b * stride + unit) + through, lanes);
      };
      if (i > 0 || shape.diagonal) {
        for (int64_t k = 0; k < me.rows(s.n); k++)
          for (int64_t tile = me.tiles.begin; tile < me.tiles.end; tile++)
            for_units<false>(tile, s.hidden, [&](int64_t unit, int lanes, auto full) {
              write_row(me.row + k * me.row_step, zeros, unit, lanes, full);
            });
        continue;
      }
      Member some = me;
      some.tiles = me.share(panels_of(s.width));
      for_products<false>(
          some, recurrent, after, gates_row, 0, me.rows(s.n), me.rows(s.active(0)), [&](int64_t b) { return b; },
          write_row);
    }
  }

  // Adds a chunk's part of the gradients of weights.
  __attribute__((noinline)) void add_products(const Chunk& chunk, int rank) {
    BackwardFrame::add_products(chunk, rank);
    const More& more = this->more[chunk.turn];
    const Part units(s.hidden, rank, ranks), columns(gates, rank, ranks), outputs(s.width, rank, ranks);
    for (int i = 0; i < vectors && dvectors; i++) add_summed(dvectors, i, more, chunk, units, i, rank);
    for (int g = 0; g < shape.gates && shape.diagonal && dunit_weight; g++)
      add_summed(dunit_weight, g, more, chunk, units, vectors + g, rank);
    if (dgain) add_normalised(dgain, chunk, chunk.given, gates_row, kept.gates, columns, rank);
    if (dgain_c) add_normalised(dgain_c, chunk, more.dseen, row, kept.c, units, rank);
    if (dbias_c) add_columns(dbias_c, more.dseen, row, chunk.rows, units, rank);
    if (dbias_hr) add_columns(dbias_hr, more.dprojected, h_row, chunk.rows, outputs, rank);
    if (dweight_hr) add_projection(chunk, more, rank);
  }

  struct More {
    float *summed, *read, *dseen, *dprojected, *hidden;
  };

  void add_summed(float* total, int at, const More& more, const Chunk& chunk, Part units, int value, int rank) {
    add_columns(total + at * s.hidden, more.summed + value * row, summed * row, chunk.rows, units, rank);
  }

  // total[j] += sum over the chunk's rows of dy[j] * x_hat[j], x_hat being row `from` on of what is kept.
  void add_normalised(float* total, const Chunk& chunk, const float* dy, int64_t stride, int from, Part columns,
                      int rank) {
    float* sum = sums + rank * sums_row();
    clear(sum + columns.begin, columns.end - columns.begin);
    for (int64_t t = chunk.from, r = 0; t < chunk.to; t++)
      for (int64_t b = 0; b < s.active(t); b++, r++) {
        const float* x_hat = saved + (s.place(b, t) * kept.rows + from) * s.hidden;
        for (int64_t j = columns.begin; j < columns.end; j++) sum[j] += dy[r * stride + j] * x_hat[j];
      }
    for (int64_t j = columns.begin; j < columns.end; j++) total[j] += sum[j];
  }

  // Each rank packs and multiplies panels of its own.
  void add_projection(const Chunk& chunk, const More& more, int rank) {
    const float** rows = list + rank * capacity;
    for (int64_t t = chunk.from, r = 0; t < chunk.to; t++)
      for (int64_t b = 0; b < s.active(t); b++, r++) rows[r] = hidden + s.place(b, t) * s.hidden;
    pack_rows_of(more.hidden, chunk, {nullptr, 0, rows}, s.hidden, rank);
    wait();
    add_product(dweight_hr, s.hidden, {more.dprojected, h_row, nullptr}, s.width, more.hidden, chunk.rows, rank);
  }

  Stages stages;
  Kept kept;
  int vectors, summed;  // values of each unit that are summed over rows and steps: those of vectors, then diagonal ones
  const float *dhidden = nullptr, *hidden = nullptr, *deviations = nullptr, *unit_weight = nullptr, *gain = nullptr;
  float *dgain, *dvectors, *dweight_hr, *dbias_hr, *dgain_c, *dbias_c, *dunit_weight = nullptr;
  Panels projection = {};
  More more[2] = {};          // beside the buffers of a chunk
  float* dcarried = nullptr;  // [n][row] gradient of the state that was handed on
  const float** list;         // [ranks][capacity]
};

}  // namespace
}  // namespace throughtime
