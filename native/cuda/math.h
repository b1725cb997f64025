// exp, tanh, sigmoid and their like for one number, under the names that the headers of cells and kernels use.
#pragma once
#include <cmath>

#include "simt.h"

namespace throughtime {
namespace {

DEVICE float exp(float x) { return expf(x); }
DEVICE float log(float x) { return logf(x); }
DEVICE float sqrt(float x) { return sqrtf(x); }
DEVICE float abs(float x) { return fabsf(x); }
DEVICE float tanh(float x) { return tanhf(x); }
DEVICE float sin(float x) { return sinf(x); }
DEVICE float cos(float x) { return cosf(x); }
DEVICE float erf(float x) { return erff(x); }
DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
// log(1 + e^x)
DEVICE float softplus(float x) { return (x > 0.0f ? x : x < 0.0f ? 0.0f : x) + log1pf(expf(-fabsf(x))); }
// Of two numbers, one of which is NaN, the second, as on the processor.
DEVICE float min(float a, float b) { return a < b ? a : b; }
DEVICE float max(float a, float b) { return a > b ? a : b; }
DEVICE float splat(float x) { return x; }

}  // namespace
}  // namespace throughtime
