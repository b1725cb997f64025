// Products of reduced precision: a linear layer, and the matrix products that its gradients are. Numbers become
//   bfloat16: the nearest, ties to even, 8 bits of mantissa
//   bytes:    the nearest whole number of x * 127 / max |x| over the row, -127 to 127, a row of weights being an output
// and src/ops/precision.ts rounds in the same way.
#include "isa.h"

#include "gemm_bf16.h"
#include "micro_reduced.h"
#include "team.h"

namespace throughtime {
namespace {

THROUGHTIME_INLINE uint16_t bfloat16(float x) {
  uint32_t u;
  __builtin_memcpy(&u, &x, sizeof u);
  const uint32_t rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  return (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? u >> 16 | 0x40 : rounded);  // a NaN stays one
}

// What a byte counts in a row; not finite if a number of the row is not.
struct Scale {
  float step, inverse;
};
Scale scale_of(const float* x, int64_t k) {
  Vec most = {}, wrong = {};
  for (int64_t i = 0; i < k; i += kLanes) {
    const Vec v = load_upto(x + i, k - i);
    most = abs(v) > most ? abs(v) : most;
    wrong += v * splat(0.0f);
  }
  const float largest = max(most);
  return {largest / 127 + sum(wrong), largest > 0 ? 127 / largest : 0};
}

// Adding 1.5 * 2^23 leaves the nearest whole number in the lowest bits.
THROUGHTIME_INLINE uint8_t byte(float x, float inverse) {
  const float moved = x * inverse + 12582912.0f;
  uint32_t u;
  __builtin_memcpy(&u, &moved, sizeof u);
  return (uint8_t)u;
}

constexpr int OFFSET = 128;  // of the bytes of A, which are unsigned

__attribute__((noinline)) void to_bfloat16(uint16_t* __restrict to, const float* __restrict from, int64_t k) {
  for (int64_t i = 0; i < k; i++) to[i] = bfloat16(from[i]);
}
__attribute__((noinline)) void to_bytes(uint8_t* __restrict to, const float* __restrict from, int64_t k, float inverse,
                                        uint8_t sign) {
  for (int64_t i = 0; i < k; i++) to[i] = byte(from[i], inverse) ^ sign;
}

template <class Plain, class Native, bool Columns>
void multiply_with(const ReducedProduct& p, CpuFeature feature) {
  if (p.features & feature)
    multiply_kind<Native, Columns>(p);
  else
    multiply_kind<Plain, Columns>(p);
}

#if !defined(THROUGHTIME_REDUCED_NATIVE)
using Bf16Native = Bf16Plain;
using Int8Native = Int8Plain;
#endif

}  // namespace

void THROUGHTIME_REDUCED(multiply_)(const ReducedProduct& p) {
  if (p.rows == 0 || p.panels == 0) return;
  if (p.precision == INT8)
    multiply_with<Int8Plain, Int8Native, false>(p, HAS_VNNI);
  else if (p.a_columns)
    multiply_with<Bf16Plain, Bf16Native, true>(p, HAS_BF16);
  else
    multiply_with<Bf16Plain, Bf16Native, false>(p, HAS_BF16);
}

void THROUGHTIME_REDUCED(row_)(Precision precision, int32_t* to, float* scale, const float* from, int64_t k) {
  if (precision == BF16) {
    to[(k - 1) / 2] = 0;
    return to_bfloat16(reinterpret_cast<uint16_t*>(to), from, k);
  }
  const Scale s = scale_of(from, k);
  *scale = s.step;
  to[(k - 1) / 4] = 0;
  to_bytes(reinterpret_cast<uint8_t*>(to), from, k, s.inverse, OFFSET);
}

void THROUGHTIME_REDUCED(panel_)(Precision precision, int32_t* to, float* scale, int32_t* sum, const float* rows,
                                 int64_t stride, int n, int64_t k) {
  const int64_t words = words_of(precision, k);
  clear(reinterpret_cast<float*>(to), words * NR);
  for (int j = 0; j < NR; j++) {
    const float* from = rows + j * stride;
    if (precision == BF16) {
      uint16_t* half = reinterpret_cast<uint16_t*>(to + j);
      for (int64_t i = 0; j < n && i < k; i++) half[i / 2 * 2 * NR + i % 2] = bfloat16(from[i]);
      continue;
    }
    const Scale s = j < n ? scale_of(from, k) : Scale{0, 0};
    int8_t* bytes = reinterpret_cast<int8_t*>(to + j);
    int32_t total = 0;
    for (int64_t i = 0; j < n && i < k; i++) {
      const int8_t b = (int8_t)byte(from[i], s.inverse);
      bytes[i / 4 * 4 * NR + i % 4] = b;
      total += b;
    }
    scale[j] = s.step, sum[j] = OFFSET * total;
  }
}

namespace {

struct ReducedLinear {
  ReducedPanels panels;
  const float *x, *weight, *bias;
  float *y, *blocks;
  int64_t rows, in, out;
  bool fresh;
  Device* device;
};

void run_linear(void* context, int rank, int ranks) {
  const ReducedLinear& l = *static_cast<ReducedLinear*>(context);
  if (l.fresh) {
    const Part mine(l.panels.panels, rank, ranks);
    for (int64_t i = mine.begin; i < mine.end; i++)
      l.panels.pack(i, l.weight + i * NR * l.in, (int)least(NR, l.out - i * NR));
    if (ranks > 1) l.device->barrier(l.device);
  }
  const Share mine = share(l.rows, l.panels.panels, rank, ranks);
  const int64_t first = mine.panels.begin, column = first * NR;
  ReducedProduct p = l.panels.product(l.device, first, mine.panels.end - first);
  p.columns = least(p.columns, l.out - column);
  p.bias = l.bias ? l.bias + column : nullptr;
  float* block = l.blocks + rank * reduced_rows_size(l.panels.precision, MC, l.in);
  reduced_gemm(p, {l.x, l.in, nullptr}, mine.rows, l.in, l.y + column, l.out, block);
}

// y = x W^T + b. in: x [rows, in], weight [out, in], bias [out] or none; out: y [rows, out]. ints: rows, in, out,
// precision.
void linear(const Args& args, Device* device) {
  const Precision precision = (Precision)args.ints[3];
  ReducedLinear l = {};
  l.rows = args.ints[0], l.in = args.ints[1], l.out = args.ints[2];
  l.x = static_cast<const float*>(args.in[0]->data);
  l.weight = static_cast<const float*>(args.in[1]->data);
  l.bias = args.inputs > 2 && args.in[2] ? static_cast<const float*>(args.in[2]->data) : nullptr;
  l.y = static_cast<float*>(args.out[0]->data);
  l.device = device;
  if (l.rows == 0 || l.out == 0) return;
  if (l.in == 0) return device->fail(device, "linear.reduced: there are no inputs");
  const int64_t panels = panels_of(l.out);
  l.panels = {precision, nullptr, panels, l.in};
  const int64_t key = packed_as((PackedKey)(PACKED_REDUCED + precision), l.in);
  l.panels.packed = device->packed(device, args.in[1], key, ReducedPanels::floats(precision, panels, l.in), &l.fresh);
  const int ranks = ranks_for(device, 2.0 * l.rows * l.in * l.out);
  l.blocks = scratch_floats(device, ranks * reduced_rows_size(precision, MC, l.in));
  device->parallel(device, ranks, run_linear, &l);
}

struct Bf16Matmul {
  Gemm gemm;
  float *panels, *blocks;
  Device* device;
};

void run_matmul(void* context, int rank, int ranks) {
  const Bf16Matmul& m = *static_cast<Bf16Matmul*>(context);
  pack_b_bf16(m.panels, m.gemm, Part(panels_of(m.gemm.n), rank, ranks));
  if (ranks > 1) m.device->barrier(m.device);
  gemm_part_bf16(m.gemm, m.device, m.blocks + rank * BF16_BLOCK, rank, ranks);
}

// in: a [m, k], b [k, n] (either with its axes swapped); out: c [m, n]. ints: m, n, k, transpose a, transpose b.
void matmul(const Args& args, Device* device) {
  const int32_t* ints = args.ints;
  const bool ta = ints[3] != 0, tb = ints[4] != 0;
  Bf16Matmul m = {};
  Gemm& g = m.gemm;
  g.m = ints[0], g.n = ints[1], g.k = ints[2];
  g.a = {static_cast<const float*>(args.in[0]->data), ta ? g.m : g.k, nullptr}, g.a_transposed = ta;
  g.b = {static_cast<const float*>(args.in[1]->data), tb ? g.k : g.n, nullptr}, g.b_transposed = tb;
  g.c = static_cast<float*>(args.out[0]->data), g.c_stride = g.n;
  if (g.k == 0) return clear(g.c, g.m * g.n);
  const int ranks = ranks_for(device, 2.0 * g.m * g.n * g.k);
  g.packed = m.panels = scratch_floats(device, ReducedPanels::floats(BF16, panels_of(g.n), g.k));
  m.blocks = scratch_floats(device, ranks * BF16_BLOCK);
  m.device = device;
  device->parallel(device, ranks, run_matmul, &m);
}

const KernelEntry entries[] = {{"linear.reduced", linear, 0}, {"matmul.bf16", matmul, 0}};

}  // namespace
}  // namespace throughtime

THROUGHTIME_KERNELS(reduced, entries)
