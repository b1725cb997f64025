// Sums that other kernels need too.
#pragma once
#include "device.h"

namespace throughtime {

// y[o, i] = sum of x[o, j, i] over j < n, in an order that the sizes alone decide.
void sum_middle(Device* device, const float* x, int64_t outer, int64_t n, int64_t inner, float* y);

}  // namespace throughtime
