// Products of dense matrices.
#include "isa.h"

#include "gemm.h"
#include "team.h"

namespace throughtime {
namespace {

struct Batch {
  Gemm one;
  int64_t count, a_step, b_step, c_step;
  float* scratch;
  int64_t scratch_step;
  Device* device;
};

Gemm entry(const Batch& batch, int64_t i) {
  Gemm g = batch.one;
  g.a.first += i * batch.a_step;
  g.b.first += i * batch.b_step;
  g.c += i * batch.c_step;
  return g;
}

// One product at a time on all threads, or whole products to each thread where there are many.
void run_batch(void* context, int rank, int ranks) {
  const Batch& batch = *static_cast<Batch*>(context);
  if (batch.count < 2 * ranks) {
    for (int64_t i = 0; i < batch.count; i++) gemm(entry(batch, i), batch.scratch, rank, ranks, batch.device);
    return;
  }
  const Part mine(batch.count, rank, ranks);
  for (int64_t i = mine.begin; i < mine.end; i++)
    gemm(entry(batch, i), batch.scratch + rank * batch.scratch_step, 0, 1, batch.device);
}

// in: a [batch, m, k], b [batch, k, n] (either with its last axes swapped); out: c [batch, m, n].
// ints: batch, m, n, k, transpose a, transpose b.
void matmul(const Args& args, Device* device) {
  const int32_t* ints = args.ints;
  const int64_t m = ints[1], n = ints[2], k = ints[3];
  const bool ta = ints[4] != 0, tb = ints[5] != 0;
  Batch batch = {};
  batch.one.m = m, batch.one.n = n, batch.one.k = k;
  batch.one.a = {static_cast<const float*>(args.in[0]->data), ta ? m : k, nullptr};
  batch.one.a_transposed = ta;
  batch.one.b = {static_cast<const float*>(args.in[1]->data), tb ? k : n, nullptr};
  batch.one.b_transposed = tb;
  batch.one.c = static_cast<float*>(args.out[0]->data);
  batch.one.c_stride = n;
  batch.count = ints[0];
  batch.a_step = m * k, batch.b_step = k * n, batch.c_step = m * n;
  const int ranks = ranks_for(device, 2.0 * batch.count * m * n * k);
  batch.scratch_step = gemm_scratch(batch.one, 1);
  const int64_t whole = gemm_scratch(batch.one, ranks), apart = ranks * batch.scratch_step;
  batch.scratch = scratch_floats(device, whole > apart ? whole : apart);
  batch.device = device;
  device->parallel(device, ranks, run_batch, &batch);
}

struct Linear {
  Gemm gemm;
  float* panels;
  bool fresh;
  float* scratch;
  Device* device;
};

void run_linear(void* context, int rank, int ranks) {
  const Linear& linear = *static_cast<Linear*>(context);
  if (linear.fresh) {
    pack_b(linear.panels, linear.gemm.k * NR, linear.gemm, 0, 0, linear.gemm.k,
           Part(panels_of(linear.gemm.n), rank, ranks));
    if (ranks > 1) linear.device->barrier(linear.device);
  }
  gemm(linear.gemm, linear.scratch, rank, ranks, linear.device);
}

// y = x W^T + b. in: x [rows, in], weight [out, in], bias [out] or none; out: y [rows, out]. ints: rows, in, out.
void linear(const Args& args, Device* device) {
  const int64_t rows = args.ints[0], in = args.ints[1], out = args.ints[2];
  Linear linear = {};
  Gemm& g = linear.gemm;
  g.m = rows, g.n = out, g.k = in;
  g.a = {static_cast<const float*>(args.in[0]->data), in, nullptr};
  g.b = {static_cast<const float*>(args.in[1]->data), in, nullptr};
  g.b_transposed = true;
  g.c = static_cast<float*>(args.out[0]->data);
  g.c_stride = out;
  g.bias = args.inputs > 2 && args.in[2] ? static_cast<const float*>(args.in[2]->data) : nullptr;
  linear.panels =
      device->packed(device, args.in[1], packed_as(PACKED_TRANSPOSED, in), panels_of(out) * NR * in, &linear.fresh);
  g.packed = linear.panels;
  const int ranks = ranks_for(device, 2.0 * rows * in * out);
  linear.scratch = scratch_floats(device, gemm_scratch(g, ranks));
  linear.device = device;
  device->parallel(device, ranks, run_linear, &linear);
}

const KernelEntry entries[] = {
    {"matmul", matmul, 0},
    {"linear", linear, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_KERNELS(matmul, entries)
