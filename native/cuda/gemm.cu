#include "gemm.h"

namespace throughtime {

namespace {

KERNEL void product_of_each(Product p) {
  const int64_t total = p.m * p.n;
  const int64_t z = blockIdx.y;
  for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < total; i += (int64_t)gridDim.x * blockDim.x) {
    const int64_t row = i / p.n, column = i % p.n;
    const float *a = p.a + z * p.a_step + row * p.a_row, *b = p.b + z * p.b_step + column * p.b_column;
    float* c = p.c + z * p.c_step + row * p.c_row + column;
    float sum = 0.0f;
    for (int64_t l = 0; l < p.k; l++) sum += a[l * p.a_column] * b[l * p.b_row];
    *c = sum + (p.bias ? p.bias[column] : 0.0f) + (p.accumulate ? *c : 0.0f);
  }
}

}  // namespace

void multiply(Device* device, const Product& p) {
  if (p.m * p.n == 0 || p.batch == 0) return;
  const int64_t blocks = (p.m * p.n + kBlock - 1) / kBlock;
  launch(device, {dim3((unsigned)(blocks < 4096 ? blocks : 4096), (unsigned)p.batch), dim3(kBlock)}, product_of_each,
         p);
}

}  // namespace throughtime
