// Products of dense matrices, in float32 or in less.
#include "gemm.h"

namespace throughtime {
namespace {

// in: a [batch, m, k], b [batch, k, n] (either with its last axes swapped); out: c [batch, m, n].
// ints: batch, m, n, k, transpose a, transpose b; the one in bfloat16 has no batch.
template <Precision precision>
void matmul(const Args& args, Device* device) {
  const int32_t* ints = args.ints + (precision == FLOAT32);
  const int64_t m = ints[0], n = ints[1], k = ints[2];
  const bool ta = ints[3] != 0, tb = ints[4] != 0;
  Product p = {
      m, n, k, data(args.in[0]), ta ? 1 : k, ta ? m : 1, data(args.in[1]), tb ? 1 : n, tb ? k : 1, data(args.out[0]),
      n};
  p.batch = precision == FLOAT32 ? args.ints[0] : 1;
  p.a_step = m * k, p.b_step = k * n, p.c_step = m * n;
  p.precision = precision;
  multiply(device, p);
}

// y = x W^T + b. in: x [rows, in], weight [out, in], bias [out] or none; out: y [rows, out]. ints: rows, in, out, and
// of the reduced one the precision.
template <bool Reduced>
void linear(const Args& args, Device* device) {
  const int64_t rows = args.ints[0], in = args.ints[1], out = args.ints[2];
  Product p = {rows, out, in, data(args.in[0]), in, 1, data(args.in[1]), 1, in, data(args.out[0]), out};
  p.bias = args.inputs > 2 ? data(args.in[2]) : nullptr;
  if (Reduced) p.precision = static_cast<Precision>(args.ints[3]);
  multiply(device, p);
}

const KernelEntry entries[] = {
    {"matmul", matmul<FLOAT32>, 0},
    {"matmul.bf16", matmul<BF16>, 0},
    {"linear", linear<false>, 0},
    {"linear.reduced", linear<true>, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_CUDA_KERNELS(matmul, entries)
