#include "isa.h"
#include "math.h"
#include "nest.h"
#include "parallel.h"

namespace throughtime {
namespace {

constexpr size_t kGrain = 16384;  // elements worth a thread of their own

// y[i] = f(x[i])
template <class F>
void map(F f, const float* x, float* y, size_t n) {
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, f(load(x + i)));
  if (i < n) store_part(y + i, f(load_part(x + i, n - i)), n - i);
}

template <class F>
void map_all(const Args& args, Device* device, F f) {
  const float* x = data(args.in[0]);
  float* y = data(args.out[0]);
  for_range(device, args.out[0]->elements, kGrain,
            [=](size_t begin, size_t end) { map(f, x + begin, y + begin, end - begin); });
}

template <class F>
void unary(const Args& args, Device* device) {
  map_all(args, device, F{});
}

// clang-format off
struct Neg { Vec operator()(Vec x) const { return -x; } };
struct Exp { Vec operator()(Vec x) const { return exp(x); } };
struct Log { Vec operator()(Vec x) const { return log(x); } };
struct Sqrt { Vec operator()(Vec x) const { return sqrt(x); } };
struct Abs { Vec operator()(Vec x) const { return abs(x); } };
struct Sign { Vec operator()(Vec x) const { return x > 0.0f ? splat(1.0f) : x < 0.0f ? splat(-1.0f) : x; } };
struct Square { Vec operator()(Vec x) const { return x * x; } };
struct Sigmoid { Vec operator()(Vec x) const { return sigmoid(x); } };
struct Tanh { Vec operator()(Vec x) const { return tanh(x); } };
struct Relu { Vec operator()(Vec x) const { return x < 0.0f ? Vec{} : x; } };
struct Softplus { Vec operator()(Vec x) const { return softplus(x); } };
struct Sin { Vec operator()(Vec x) const { return sin(x); } };
struct Cos { Vec operator()(Vec x) const { return cos(x); } };
struct Erf { Vec operator()(Vec x) const { return erf(x); } };
// clang-format on

// floats [scale, shift]
void affine(const Args& args, Device* device) {
  const float scale = args.floats[0], shift = args.floats[1];
  map_all(args, device, [=](Vec x) { return scale * x + shift; });
}

// One row of a broadcast: operands step by `sa` and `sb` elements.
template <class F>
void zip(F f, const float* a, size_t sa, const float* b, size_t sb, float* y, size_t n) {
  size_t i = 0;
  const int rest = n % kLanes;
  if (sa == 1 && sb == 1) {
    for (; i + kLanes <= n; i += kLanes) store(y + i, f(load(a + i), load(b + i)));
    if (rest) store_part(y + i, f(load_part(a + i, rest), load_part(b + i, rest)), rest);
  } else if (sa == 1 && sb == 0) {
    const Vec same = splat(*b);
    for (; i + kLanes <= n; i += kLanes) store(y + i, f(load(a + i), same));
    if (rest) store_part(y + i, f(load_part(a + i, rest), same), rest);
  } else if (sa == 0 && sb == 1) {
    const Vec same = splat(*a);
    for (; i + kLanes <= n; i += kLanes) store(y + i, f(same, load(b + i)));
    if (rest) store_part(y + i, f(same, load_part(b + i, rest)), rest);
  } else {
    for (; i < n; i++) y[i] = f(splat(a[i * sa]), splat(b[i * sb]))[0];
  }
}

// ints: the nest of a and b
template <class F>
void binary(const Args& args, Device* device) {
  const float *a = data(args.in[0]), *b = data(args.in[1]);
  float* y = data(args.out[0]);
  const Nest<2> nest(args.ints);
  for_range(device, args.out[0]->elements, kGrain, [=](size_t begin, size_t end) {
    nest.rows(begin, end, [=](size_t i, const int64_t* at, size_t n) {
      zip(F{}, a + at[0], nest.step[0], b + at[1], nest.step[1], y + i, n);
    });
  });
}

// clang-format off
struct Add { Vec operator()(Vec a, Vec b) const { return a + b; } };
struct Sub { Vec operator()(Vec a, Vec b) const { return a - b; } };
struct Mul { Vec operator()(Vec a, Vec b) const { return a * b; } };
struct Div { Vec operator()(Vec a, Vec b) const { return a / b; } };
struct Maximum { Vec operator()(Vec a, Vec b) const { return a > b || a != a ? a : b; } };
struct Minimum { Vec operator()(Vec a, Vec b) const { return a < b || a != a ? a : b; } };
struct Greater { Vec operator()(Vec a, Vec b) const { return a > b ? splat(1.0f) : Vec{}; } };
struct LessEqual { Vec operator()(Vec a, Vec b) const { return a <= b ? splat(1.0f) : Vec{}; } };
struct Equal { Vec operator()(Vec a, Vec b) const { return a == b ? splat(1.0f) : Vec{}; } };
// clang-format on

// ints: the nest of condition, a and b
void where(const Args& args, Device* device) {
  const float *condition = data(args.in[0]), *a = data(args.in[1]), *b = data(args.in[2]);
  float* y = data(args.out[0]);
  const Nest<3> nest(args.ints);
  const int64_t sc = nest.step[0], sa = nest.step[1], sb = nest.step[2];
  for_range(device, args.out[0]->elements, kGrain, [=](size_t begin, size_t end) {
    nest.rows(begin, end, [=](size_t first, const int64_t* at, size_t n) {
      const float *c = condition + at[0], *p = a + at[1], *q = b + at[2];
      for (size_t i = 0; i < n; i++) y[first + i] = c[i * sc] != 0.0f ? p[i * sa] : q[i * sb];
    });
  });
}

// floats [low, high]; NaN stays
void clamp(const Args& args, Device* device) {
  const float low = args.floats[0], high = args.floats[1];
  map_all(args, device, [=](Vec x) { return x < low ? splat(low) : x > high ? splat(high) : x; });
}

// Towards int32 the fraction is cut off and the rest taken modulo 2^32, as JavaScript does.
void cast(const Args& args, Device* device) {
  const Buffer &x = *args.in[0], &y = *args.out[0];
  const float* real = static_cast<const float*>(x.data);
  const int32_t* whole = static_cast<const int32_t*>(x.data);
  float* to_real = static_cast<float*>(y.data);
  int32_t* to_whole = static_cast<int32_t*>(y.data);
  if (x.dtype == y.dtype) {
    __builtin_memcpy(y.data, x.data, y.elements * 4);
  } else if (y.dtype == F32) {
    for_range(device, y.elements, kGrain, [=](size_t begin, size_t end) {
      for (size_t i = begin; i < end; i++) to_real[i] = static_cast<float>(whole[i]);
    });
  } else {
    for_range(device, y.elements, kGrain, [=](size_t begin, size_t end) {
      for (size_t i = begin; i < end; i++)
        to_whole[i] = __builtin_fabsf(real[i]) < 9.2e18f ? static_cast<int32_t>(static_cast<int64_t>(real[i])) : 0;
    });
  }
}

// floats [value]
void fill(const Args& args, Device* device) {
  Buffer* out = args.out[0];
  const double value = args.floats[0];
  const float real = static_cast<float>(value);
  int32_t pattern = static_cast<int32_t>(value);
  if (out->dtype == F32) __builtin_memcpy(&pattern, &real, 4);
  int32_t* y = static_cast<int32_t*>(out->data);
  for_range(device, out->elements, 4 * kGrain, [=](size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) y[i] = pattern;
  });
}

// a + b for equal shapes, or a copy of a
void accumulate(const Args& args, Device* device) {
  const float* a = data(args.in[0]);
  float* y = data(args.out[0]);
  const size_t n = args.out[0]->elements;
  if (!args.in[1]) {
    for_range(device, n, 4 * kGrain,
              [=](size_t begin, size_t end) { __builtin_memcpy(y + begin, a + begin, (end - begin) * 4); });
    return;
  }
  const float* b = data(args.in[1]);
  for_range(device, n, kGrain,
            [=](size_t begin, size_t end) { zip(Add{}, a + begin, 1, b + begin, 1, y + begin, end - begin); });
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

THROUGHTIME_KERNELS(elementwise, entries)
