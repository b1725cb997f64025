// Element by element; the kernels of native/cpu/elementwise.cc.
#include "device.h"
#include "math.h"
#include "nest.h"

namespace throughtime {
namespace {

template <class F>
void map_all(const Args& args, Device* device, F f) {
  const float* x = data(args.in[0]);
  float* y = data(args.out[0]);
  for_each(device, args.out[0]->elements, [=] __device__(int64_t i) { y[i] = f(x[i]); });
}

template <class F>
void unary(const Args& args, Device* device) {
  map_all(args, device, F{});
}

// clang-format off
struct Neg { DEVICE float operator()(float x) const { return -x; } };
struct Exp { DEVICE float operator()(float x) const { return exp(x); } };
struct Log { DEVICE float operator()(float x) const { return log(x); } };
struct Sqrt { DEVICE float operator()(float x) const { return sqrt(x); } };
struct Abs { DEVICE float operator()(float x) const { return abs(x); } };
struct Sign { DEVICE float operator()(float x) const { return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x; } };
struct Square { DEVICE float operator()(float x) const { return x * x; } };
struct Sigmoid { DEVICE float operator()(float x) const { return sigmoid(x); } };
struct Tanh { DEVICE float operator()(float x) const { return tanh(x); } };
struct Relu { DEVICE float operator()(float x) const { return x < 0.0f ? 0.0f : x; } };
struct Softplus { DEVICE float operator()(float x) const { return softplus(x); } };
struct Sin { DEVICE float operator()(float x) const { return sin(x); } };
struct Cos { DEVICE float operator()(float x) const { return cos(x); } };
struct Erf { DEVICE float operator()(float x) const { return erf(x); } };
struct Affine { float scale, shift; DEVICE float operator()(float x) const { return scale * x + shift; } };
struct Clamp { float low, high; DEVICE float operator()(float x) const { return x < low ? low : x > high ? high : x; } };

struct Add { DEVICE float operator()(float a, float b) const { return a + b; } };
struct Sub { DEVICE float operator()(float a, float b) const { return a - b; } };
struct Mul { DEVICE float operator()(float a, float b) const { return a * b; } };
struct Div { DEVICE float operator()(float a, float b) const { return a / b; } };
struct Maximum { DEVICE float operator()(float a, float b) const { return a > b || a != a ? a : b; } };
struct Minimum { DEVICE float operator()(float a, float b) const { return a < b || a != a ? a : b; } };
struct Greater { DEVICE float operator()(float a, float b) const { return a > b ? 1.0f : 0.0f; } };
struct LessEqual { DEVICE float operator()(float a, float b) const { return a <= b ? 1.0f : 0.0f; } };
struct Equal { DEVICE float operator()(float a, float b) const { return a == b ? 1.0f : 0.0f; } };
// clang-format on

// floats [scale, shift]
void affine(const Args& args, Device* device) {
  map_all(args, device, Affine{static_cast<float>(args.floats[0]), static_cast<float>(args.floats[1])});
}

// floats [low, high]; NaN stays
void clamp(const Args& args, Device* device) {
  map_all(args, device, Clamp{static_cast<float>(args.floats[0]), static_cast<float>(args.floats[1])});
}

// ints: the nest of a and b
template <class F>
void binary(const Args& args, Device* device) {
  const float *a = data(args.in[0]), *b = data(args.in[1]);
  float* y = data(args.out[0]);
  const Nest<2> nest(device, args.ints);
  for_each(device, args.out[0]->elements, [=] __device__(int64_t i) {
    int64_t at[2];
    nest.offsets(i, at);
    y[i] = F{}(a[at[0]], b[at[1]]);
  });
}

// ints: the nest of condition, a and b
void where(const Args& args, Device* device) {
  const float *condition = data(args.in[0]), *a = data(args.in[1]), *b = data(args.in[2]);
  float* y = data(args.out[0]);
  const Nest<3> nest(device, args.ints);
  for_each(device, args.out[0]->elements, [=] __device__(int64_t i) {
    int64_t at[3];
    nest.offsets(i, at);
    y[i] = condition[at[0]] != 0.0f ? a[at[1]] : b[at[2]];
  });
}

// Towards int32 the fraction is cut off and the rest taken modulo 2^32, as JavaScript does.
void cast(const Args& args, Device* device) {
  const Buffer &x = *args.in[0], &y = *args.out[0];
  const float* real = data(&x);
  const int32_t* whole = integers(&x);
  float* to_real = data(&y);
  int32_t* to_whole = integers(&y);
  if (x.dtype == y.dtype)
    for_each(device, y.elements, [=] __device__(int64_t i) { to_whole[i] = whole[i]; });
  else if (y.dtype == F32)
    for_each(device, y.elements, [=] __device__(int64_t i) { to_real[i] = static_cast<float>(whole[i]); });
  else
    for_each(device, y.elements, [=] __device__(int64_t i) {
      to_whole[i] = fabsf(real[i]) < 9.2e18f ? static_cast<int32_t>(static_cast<int64_t>(real[i])) : 0;
    });
}

// floats [value]
void fill(const Args& args, Device* device) {
  const Buffer& out = *args.out[0];
  const double value = args.floats[0];
  float* reals = data(&out);
  int32_t* wholes = integers(&out);
  const float real = static_cast<float>(value);
  const int32_t whole = out.dtype == F32 ? 0 : static_cast<int32_t>(value);
  if (out.dtype == F32)
    for_each(device, out.elements, [=] __device__(int64_t i) { reals[i] = real; });
  else
    for_each(device, out.elements, [=] __device__(int64_t i) { wholes[i] = whole; });
}

// a + b for equal shapes, or a copy of a
void accumulate(const Args& args, Device* device) {
  const float *a = data(args.in[0]), *b = data(args.in[1]);
  float* y = data(args.out[0]);
  for_each(device, args.out[0]->elements, [=] __device__(int64_t i) { y[i] = b ? a[i] + b[i] : a[i]; });
}

const KernelEntry entries[] = {
    {"fill", fill, 0},
    {"accumulate", accumulate, 0},
    {"neg", unary<Neg>, 0},
    {"exp", unary<Exp>, 0},
    {"log", unary<Log>, 0},
    {"sqrt", unary<Sqrt>, 0},
    {"abs", unary<Abs>, 0},
    {"sign", unary<Sign>, 0},
    {"square", unary<Square>, 0},
    {"sigmoid", unary<Sigmoid>, 0},
    {"tanh", unary<Tanh>, 0},
    {"relu", unary<Relu>, 0},
    {"softplus", unary<Softplus>, 0},
    {"sin", unary<Sin>, 0},
    {"cos", unary<Cos>, 0},
    {"erf", unary<Erf>, 0},
    {"affine", affine, 0},
    {"clamp", clamp, 0},
    {"where", where, 0},
    {"cast", cast, 0},
    {"add", binary<Add>, 0},
    {"sub", binary<Sub>, 0},
    {"mul", binary<Mul>, 0},
    {"div", binary<Div>, 0},
    {"maximum", binary<Maximum>, 0},
    {"minimum", binary<Minimum>, 0},
    {"greater", binary<Greater>, 0},
    {"lessEqual", binary<LessEqual>, 0},
    {"equal", binary<Equal>, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_CUDA_KERNELS(elementwise, entries)
