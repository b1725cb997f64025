// Updates in place, all parameters of an optimizer in one call; the arguments are those of native/cpu/optim.cc. Nothing
// changes once an earlier kernel has reported a fault: a step that failed must not spoil the weights.
#include "device.h"
#include "math.h"

namespace throughtime {
namespace {

constexpr int kMany = 16, kKinds = 5;

// Some parameters at a time: of each the gradient, the numbers that change, and two factors of its own.
struct Some {
  int64_t size[kMany];
  const float* grad[kMany];
  float* at[kMany][kKinds];
  float first[kMany], second[kMany];
};

template <class F>
KERNEL void over_some(Some some, F update, const Fault* fault) {
  if (fault->kind != NO_FAULT) return;
  const int k = blockIdx.y;
  for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < some.size[k];
       i += (int64_t)gridDim.x * blockDim.x)
    update(some, k, i);
}

// `factors(k, &first, &second)`. The outputs come in `kinds` kinds of `count` each.
template <class F, class G>
void for_all(const Args& args, Device* device, Buffer* const* list, int count, int kinds, const F& update,
             const G& factors) {
  for (int from = 0; from < count; from += kMany) {
    Some some = {};
    const int n = count - from < kMany ? count - from : kMany;
    int64_t most = 1;
    for (int k = 0; k < n; k++) {
      some.size[k] = list[from + k]->elements;
      most = some.size[k] > most ? some.size[k] : most;
      if (from + k < args.inputs) some.grad[k] = data(args.in[from + k]);
      for (int kind = 0; kind < kinds; kind++) some.at[k][kind] = data(list[kind * count + from + k]);
      factors(from + k, &some.first[k], &some.second[k]);
    }
    const int64_t blocks = (most + kBlock - 1) / kBlock, limit = cuda(device)->processors * 8;
    launch(device, {dim3((unsigned)(blocks < limit ? blocks : limit), (unsigned)n), dim3(kBlock)}, over_some<F>, some,
           update, static_cast<const Fault*>(cuda(device)->fault));
  }
}
const auto no_factors = [](int, float*, float*) {};

// out: params, velocity if momentum; ints: count, nesterov, first...; floats: lr, momentum, dampening, weight decay.
struct Sgd {
  float lr, momentum, undamped, decay;
  bool nesterov;
  DEVICE void operator()(const Some& s, int k, int64_t i) const {
    float *p = s.at[k][0], *v = s.at[k][1];
    const float old = p[i];
    float d = s.grad[k][i] + decay * old;
    if (momentum != 0) {
      const float next = s.first[k] != 0 ? d : momentum * v[i] + undamped * d;
      v[i] = next;
      d = nesterov ? d + momentum * next : next;
    }
    p[i] = old - lr * d;
  }
};
void sgd(const Args& args, Device* device) {
  const double* c = args.floats;
  const Sgd update = {(float)c[0], (float)c[1], (float)(1 - c[2]), (float)c[3], args.ints[1] != 0};
  for_all(args, device, args.out, args.ints[0], c[1] != 0 ? 2 : 1, update,
          [&](int k, float* first, float*) { *first = (float)args.ints[2 + k]; });
}

// out: params, m, v, vMax if amsgrad; ints: count, decoupled, amsgrad; floats: lr, beta1, beta2, eps, weight decay,
// then for each parameter lr / (1 - beta1^step) and sqrt(1 - beta2^step).
struct Adam {
  float fresh1, beta2, fresh2, eps, coupled, shrink;
  bool amsgrad;
  DEVICE void operator()(const Some& s, int k, int64_t i) const {
    float *p = s.at[k][0], *m = s.at[k][1], *v = s.at[k][2];
    const float old = p[i], g = s.grad[k][i] + coupled * old, before = m[i];
    const float mean = before + fresh1 * (g - before);
    float second = beta2 * v[i] + fresh2 * (g * g);
    m[i] = mean;
    v[i] = second;
    if (amsgrad) {
      float* most = s.at[k][3];
      second = second > most[i] || second != second ? second : most[i];
      most[i] = second;
    }
    p[i] = old * shrink - s.first[k] * mean / (sqrt(second) * s.second[k] + eps);
  }
};
void adam(const Args& args, Device* device) {
  const double* c = args.floats;
  const bool decoupled = args.ints[1], amsgrad = args.ints[2];
  const Adam update = {(float)(1 - c[1]),
                       (float)c[2],
                       (float)(1 - c[2]),
                       (float)c[3],
                       decoupled ? 0.0f : (float)c[4],
                       decoupled ? (float)(1 - c[0] * c[4]) : 1.0f,
                       amsgrad};
  for_all(args, device, args.out, args.ints[0], amsgrad ? 4 : 3, update, [&](int k, float* first, float* second) {
    *first = (float)c[5 + 2 * k], *second = (float)(1 / c[6 + 2 * k]);
  });
}

// out: params, square, velocity if momentum, mean if centered; ints: count, centered; floats: lr, alpha, eps, momentum,
// weight decay.
struct RmsProp {
  float lr, alpha, fresh, eps, momentum, decay;
  bool centered;
  DEVICE void operator()(const Some& s, int k, int64_t i) const {
    float *p = s.at[k][0], *square = s.at[k][1];
    const float old = p[i], g = s.grad[k][i] + decay * old;
    float spread = alpha * square[i] + fresh * (g * g);
    square[i] = spread;
    if (centered) {
      float* mean = s.at[k][momentum != 0 ? 3 : 2];
      const float first = mean[i] + fresh * (g - mean[i]);
      mean[i] = first;
      spread -= first * first;
    }
    float d = g / (sqrt(spread) + eps);
    if (momentum != 0) {
      float* velocity = s.at[k][2];
      d = momentum * velocity[i] + d;
      velocity[i] = d;
    }
    p[i] = old - lr * d;
  }
};
void rmsprop(const Args& args, Device* device) {
  const double* c = args.floats;
  const bool centered = args.ints[1];
  const RmsProp update = {(float)c[0], (float)c[1], (float)(1 - c[1]), (float)c[2], (float)c[3], (float)c[4], centered};
  for_all(args, device, args.out, args.ints[0], 2 + (c[3] != 0) + centered, update, no_factors);
}

// out: params, sum; ints: count; floats: eps, weight decay, then each parameter's learning rate.
struct Adagrad {
  float eps, decay;
  DEVICE void operator()(const Some& s, int k, int64_t i) const {
    float *p = s.at[k][0], *sum = s.at[k][1];
    const float old = p[i], g = s.grad[k][i] + decay * old, total = sum[i] + g * g;
    sum[i] = total;
    p[i] = old - s.first[k] * g / (sqrt(total) + eps);
  }
};
void adagrad(const Args& args, Device* device) {
  const double* c = args.floats;
  for_all(args, device, args.out, args.ints[0], 2, Adagrad{(float)c[0], (float)c[1]},
          [&](int k, float* first, float*) { *first = (float)c[2 + k]; });
}

struct Scale {
  const float* by;
  DEVICE void operator()(const Some& s, int k, int64_t i) const {
    if (!(*by >= 1.0f)) s.at[k][0][i] *= *by;
  }
};

// out: grads, then the norm [1]; ints: count; floats: largest norm. The norm is summed by chunks of fixed size, in
// order.
void clip_norm(const Args& args, Device* device) {
  constexpr int64_t kChunk = 4096;
  constexpr size_t kRoom = kBlock / kWarp * sizeof(double);
  const int count = args.ints[0];
  int64_t chunks = 0;
  for (int k = 0; k < count; k++) chunks += (args.out[k]->elements + kChunk - 1) / kChunk;
  double* sums = scratch<double>(device, chunks);
  float *factor = scratch<float>(device, 1), *result = data(args.out[count]);
  int64_t before = 0;
  for (int k = 0; k < count; k++) {
    const int64_t n = args.out[k]->elements, mine = (n + kChunk - 1) / kChunk;
    const float* x = data(args.out[k]);
    double* to = sums + before;
    for_each_block(device, mine, kBlock, kRoom, [=] __device__(int64_t chunk) {
      const int64_t end = (chunk + 1) * kChunk < n ? (chunk + 1) * kChunk : n;
      double sum = 0.0;
      for (int64_t i = chunk * kChunk + threadIdx.x; i < end; i += blockDim.x) sum += (double)x[i] * x[i];
      sum = block_reduce(sum, shared_memory<double>(), Plus());
      if (threadIdx.x == 0) to[chunk] = sum;
    });
    before += mine;
  }
  const double largest = args.floats[0];
  for_each_block(device, 1, kBlock, kRoom, [=] __device__(int64_t) {
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < chunks; i += blockDim.x) sum += sums[i];
    sum = block_reduce(sum, shared_memory<double>(), Plus());
    if (threadIdx.x != 0) return;
    const double norm = ::sqrt(sum);
    *result = static_cast<float>(norm);
    *factor = static_cast<float>(largest / (norm + 1e-6));
  });
  for_all(args, device, args.out, count, 1, Scale{factor}, no_factors);
}

// out: grads; ints: count; floats: limit. NaN stays.
struct ClipValue {
  float limit;
  DEVICE void operator()(const Some& s, int k, int64_t i) const {
    float& g = s.at[k][0][i];
    g = g > limit ? limit : g < -limit ? -limit : g;
  }
};
void clip_value(const Args& args, Device* device) {
  for_all(args, device, args.out, args.ints[0], 1, ClipValue{(float)args.floats[0]}, no_factors);
}

const KernelEntry entries[] = {
    {"sgd", sgd, 0},         {"adam", adam, 0},          {"rmsprop", rmsprop, 0},
    {"adagrad", adagrad, 0}, {"clipNorm", clip_norm, 0}, {"clipValue", clip_value, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_CUDA_KERNELS(optim, entries)
