// Updates in place, all parameters of an optimizer in one call. Inputs are the gradients, outputs the parameters, then
// each kind of state, `count` (the first int) of each in the same order. The formulas are those of torch.optim; the
// reference kernels are in src/ops/update.ts.
#include "isa.h"
#include "rows.h"

namespace throughtime {
namespace {

constexpr size_t kGrain = 16384;

// Lanes at one place of buffers of the same size.
struct Place {
  size_t at;
  int lanes;
  Vec load(const float* p) const { return load_lanes(p + at, lanes); }
  void store(float* p, Vec v) const { store_lanes(p + at, v, lanes); }
};

// Calls f(k, place) for all lanes of list[0 ... count - 1], spread over the threads.
template <class F>
void for_list(Device* device, Buffer* const* list, int count, const F& f) {
  size_t total = 0;
  for (int k = 0; k < count; k++) total += list[k]->elements;
  for_range(device, total, kGrain, [=, &f](size_t begin, size_t end) {
    size_t before = 0;
    for (int k = 0; k < count && before < end; k++) {
      const size_t n = list[k]->elements;
      const size_t from = begin > before ? begin - before : 0, to = end - before < n ? end - before : n;
      if (from < to)
        row_map(static_cast<int64_t>(to - from), [&](int64_t i, int lanes) {
          f(k, Place{from + static_cast<size_t>(i), lanes});
        });
      before += n;
    }
  });
}

// out: params, velocity if momentum; ints: count, nesterov, first...; floats: lr, momentum, dampening, weight decay.
void sgd(const Args& args, Device* device) {
  const int count = args.ints[0];
  const bool nesterov = args.ints[1];
  const int32_t* first = args.ints + 2;
  const float lr = args.floats[0], momentum = args.floats[1], undamped = 1 - args.floats[2], decay = args.floats[3];
  Buffer *const *grads = args.in, *const *params = args.out, *const *velocity = args.out + count;
  for_list(device, params, count, [=](int k, Place at) {
    float* p = data(params[k]);
    const Vec old = at.load(p);
    Vec d = at.load(data(grads[k])) + decay * old;
    if (momentum != 0) {
      float* v = data(velocity[k]);
      const Vec next = first[k] ? d : momentum * at.load(v) + undamped * d;
      at.store(v, next);
      d = nesterov ? d + momentum * next : next;
    }
    at.store(p, old - lr * d);
  });
}

// out: params, m, v, vMax if amsgrad; ints: count, decoupled, amsgrad; floats: lr, beta1, beta2, eps, weight decay,
// then for each parameter lr / (1 - beta1^step) and sqrt(1 - beta2^step).
void adam(const Args& args, Device* device) {
  const int count = args.ints[0];
  const bool decoupled = args.ints[1], amsgrad = args.ints[2];
  const double* c = args.floats;
  const float fresh1 = 1 - c[1], beta2 = c[2], fresh2 = 1 - c[2], eps = c[3];
  const float coupled = decoupled ? 0.0 : c[4], shrink = decoupled ? 1 - c[0] * c[4] : 1.0;
  const double* corrections = c + 5;
  Buffer *const *grads = args.in, *const *out = args.out;
  for_list(device, out, count, [=](int k, Place at) {
    float *p = data(out[k]), *m = data(out[count + k]), *v = data(out[2 * count + k]);
    const float size = corrections[2 * k], root = 1 / corrections[2 * k + 1];
    const Vec old = at.load(p), g = at.load(data(grads[k])) + coupled * old;
    const Vec mean = at.load(m) + fresh1 * (g - at.load(m));
    Vec second = beta2 * at.load(v) + fresh2 * (g * g);
    at.store(m, mean);
    at.store(v, second);
    if (amsgrad) {
      float* most = data(out[3 * count + k]);
      const Vec before = at.load(most);
      second = second > before || second != second ? second : before;
      at.store(most, second);
    }
    at.store(p, old * shrink - size * mean / (sqrt(second) * root + eps));
  });
}

// out: params, square, velocity if momentum, mean if centered; ints: count, centered; floats: lr, alpha, eps, momentum,
// weight decay.
void rmsprop(const Args& args, Device* device) {
  const int count = args.ints[0];
  const bool centered = args.ints[1];
  const double* c = args.floats;
  const float lr = c[0], alpha = c[1], fresh = 1 - c[1], eps = c[2], momentum = c[3], decay = c[4];
  Buffer *const *grads = args.in, *const *out = args.out;
  for_list(device, out, count, [=](int k, Place at) {
    float *p = data(out[k]), *square = data(out[count + k]);
    const Vec old = at.load(p), g = at.load(data(grads[k])) + decay * old;
    Vec spread = alpha * at.load(square) + fresh * (g * g);
    at.store(square, spread);
    if (centered) {
      float* mean = data(out[(momentum != 0 ? 3 : 2) * count + k]);
      const Vec first = at.load(mean) + fresh * (g - at.load(mean));
      at.store(mean, first);
      spread -= first * first;
    }
    Vec d = g / (sqrt(spread) + eps);
    if (momentum != 0) {
      float* velocity = data(out[2 * count + k]);
      d = momentum * at.load(velocity) + d;
      at.store(velocity, d);
    }
    at.store(p, old - lr * d);
  });
}

// out: params, sum; ints: count; floats: eps, weight decay, then each parameter's learning rate.
void adagrad(const Args& args, Device* device) {
  const int count = args.ints[0];
  const float eps = args.floats[0], decay = args.floats[1];
  const double* rates = args.floats + 2;
  Buffer *const *grads = args.in, *const *out = args.out;
  for_list(device, out, count, [=](int k, Place at) {
    float *p = data(out[k]), *sum = data(out[count + k]);
    const float rate = rates[k];
    const Vec old = at.load(p), g = at.load(data(grads[k])) + decay * old;
    const Vec total = at.load(sum) + g * g;
    at.store(sum, total);
    at.store(p, old - rate * g / (sqrt(total) + eps));
  });
}

// Half the lanes, so that their doubles fill a vector.
constexpr int kHalf = kLanes / 2;
typedef float Half __attribute__((vector_size(4 * kHalf), may_alias, aligned(4)));
typedef double Doubles __attribute__((vector_size(8 * kHalf)));

double sum_of_squares(const float* x, size_t n) {
  const auto square = [=](size_t i) {
    const Doubles v = __builtin_convertvector(*reinterpret_cast<const Half*>(x + i), Doubles);
    return v * v;
  };
  Doubles sums[4] = {};
  size_t i = 0;
  for (; i + 4 * kHalf <= n; i += 4 * kHalf)
    for (int s = 0; s < 4; s++) sums[s] += square(i + s * kHalf);
  const Doubles total = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  double result = 0;
  for (int lane = 0; lane < kHalf; lane++) result += total[lane];
  for (; i < n; i++) result += static_cast<double>(x[i]) * x[i];
  return result;
}

// out: grads, then the norm [1]; ints: count; floats: largest norm. The norm is summed by chunks of fixed size, in
// order.
void clip_norm(const Args& args, Device* device) {
  constexpr size_t kChunk = 4096;
  const int count = args.ints[0];
  Buffer* const* grads = args.out;
  size_t chunks = 0;
  for (int k = 0; k < count; k++) chunks += (grads[k]->elements + kChunk - 1) / kChunk;
  double* sums = static_cast<double*>(device->scratch(device, chunks * sizeof(double)));
  for_range(device, chunks, 64, [=](size_t begin, size_t end) {
    size_t chunk = 0;
    for (int k = 0; k < count && chunk < end; k++)
      for (size_t at = 0, n = grads[k]->elements; at < n && chunk < end; at += kChunk, chunk++)
        if (chunk >= begin) sums[chunk] = sum_of_squares(data(grads[k]) + at, n - at < kChunk ? n - at : kChunk);
  });
  double total = 0;
  for (size_t i = 0; i < chunks; i++) total += sums[i];
  const double norm = __builtin_sqrt(total), factor = args.floats[0] / (norm + 1e-6);
  *data(args.out[count]) = static_cast<float>(norm);
  if (factor >= 1) return;
  const float scale = static_cast<float>(factor);
  for_list(device, grads, count, [=](int k, Place at) { at.store(data(grads[k]), at.load(data(grads[k])) * scale); });
}

// out: grads; ints: count; floats: limit. NaN stays.
void clip_value(const Args& args, Device* device) {
  Buffer* const* grads = args.out;
  const float limit = args.floats[0];
  for_list(device, grads, args.ints[0], [=](int k, Place at) {
    const Vec g = at.load(data(grads[k]));
    at.store(data(grads[k]), g > limit ? splat(limit) : g < -limit ? splat(-limit) : g);
  });
}

const KernelEntry entries[] = {
    {"sgd", sgd, 0},         {"adam", adam, 0},          {"rmsprop", rmsprop, 0},
    {"adagrad", adagrad, 0}, {"clipNorm", clip_norm, 0}, {"clipValue", clip_value, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_KERNELS(optim, entries)
