// The linear recurrence of a matrix in each head (src/ops/matrixScan.ts):
//   S_t = diag(w_t) S_{t-1} + b_t (a_t^T S_{t-1}) + k_t v_t^T        o_t = S_t^T q_t   (or S_{t-1}^T q_t)
//
// Columns of S never meet: a warp has one column of one head of one sequence, its lanes hold the keys. The normaliser
// is a column of its own, whose values are 1. Backward, with G_t the gradient of S_t and D_t that of what a reads:
//   G_t  = q_t do_t^T + (what S_{t+1} hands down)     handed down: diag(w_t) G_t + a_t D_t^T   D_t = G_t^T b_t
//   dq = S do    dk = G v    dv = G^T k    dw_j = G_j . S_{t-1,j}    db = G (S_{t-1}^T a)    da = S_{t-1} D
#include "device.h"
#include "math.h"
#include "reduce.h"

namespace throughtime {
namespace {

constexpr int64_t kChunk = 16;     // steps whose states backward computes again at a time
constexpr int kMostKeys = 8 * 32;  // of a head

// Inputs by place, as src/ops/matrixScanInputs.ts lists them.
enum MatrixInput { IN_Q, IN_K, IN_V, IN_DECAY, IN_A, IN_B, IN_INITIAL, IN_INITIAL_N, IN_LENGTHS };

struct MatrixShape {
  int64_t n, steps, groups, heads, keys, values;
  bool old, normaliser;
  int decay_axes;  // of logDecay: 4 [N, T, H, K], 3 [N, T, H], 2 [H, K], 1 [H], 0 none
  const float* in[IN_LENGTHS];
  const int32_t* lengths;

  MatrixShape(const Args& args, int first)
      : n(args.ints[0]),
        steps(args.ints[1]),
        groups(args.ints[2]),
        heads(args.ints[3]),
        keys(args.ints[4]),
        values(args.ints[5]),
        old(args.ints[6]),
        normaliser(args.ints[7]),
        decay_axes(args.ints[8]),
        lengths(integers(args.in[first + IN_LENGTHS])) {
    for (int i = 0; i < IN_LENGTHS; i++) in[i] = data(args.in[first + i]);
  }

  DEVICE_AND_HOST int64_t columns() const { return values + normaliser; }
  DEVICE_AND_HOST int64_t decays() const { return decay_axes == 0 ? 0 : decay_axes % 2 ? 1 : keys; }
  DEVICE int64_t valid(int64_t row) const {
    const int64_t length = lengths ? lengths[row] : steps;
    return length < 0 ? 0 : length > steps ? steps : length;
  }
};

// A column of a head of a sequence.
struct Column {
  int64_t n, head, column;
  bool ones;
  DEVICE Column(const MatrixShape& s, int64_t i)
      : n(i / s.columns() / s.heads),
        head(i / s.columns() % s.heads),
        column(i % s.columns()),
        ones(column == s.values) {}

  // Where the numbers of a step lie in [N, T, rows, width].
  DEVICE int64_t shared(const MatrixShape& s, int64_t t) const {
    return ((n * s.steps + t) * s.groups + head / (s.heads / s.groups)) * s.keys;
  }
  DEVICE int64_t own(const MatrixShape& s, int64_t t, int64_t width) const {
    return ((n * s.steps + t) * s.heads + head) * width;
  }
  DEVICE int64_t decay(const MatrixShape& s, int64_t t) const {
    return s.decay_axes > 2 ? own(s, t, s.decays()) : head * s.decays();
  }
  // Element j of this column of a state, [N, H, K, V], or of the normaliser's, [N, H, K].
  DEVICE int64_t state(const MatrixShape& s, int64_t j) const {
    const int64_t at = (n * s.heads + head) * s.keys + j;
    return ones ? at : at * s.values + column;
  }
};

// The keys of one step that a lane has: j = lane + 32 e.
template <int E>
struct Keys {
  float q[E], k[E], w[E], a[E], b[E], v;

  DEVICE Keys(const MatrixShape& s, const Column& c, int64_t t) {
    const int64_t shared = c.shared(s, t), own = c.own(s, t, s.keys), decay = s.decay_axes ? c.decay(s, t) : 0;
    v = c.ones ? 1.0f : s.in[IN_V][c.own(s, t, s.values) + c.column];
#pragma unroll
    for (int e = 0; e < E; e++) {
      const int64_t j = threadIdx.x % kWarp + e * kWarp;
      const bool there = j < s.keys;
      q[e] = there ? s.in[IN_Q][shared + j] : 0.0f;
      k[e] = there ? s.in[IN_K][shared + j] : 0.0f;
      w[e] = s.decay_axes && there ? exp(s.in[IN_DECAY][decay + (s.decays() == 1 ? 0 : j)]) : 1.0f;
      a[e] = s.in[IN_A] && there ? s.in[IN_A][own + j] : 0.0f;
      b[e] = s.in[IN_A] && there ? s.in[IN_B][own + j] : 0.0f;
    }
  }

  DEVICE static float dot(const float* x, const float* y) {
    float sum = 0.0f;
#pragma unroll
    for (int e = 0; e < E; e++) sum += x[e] * y[e];
    return warp_sum(sum);
  }
  // The next state; gives what a reads of the one before.
  DEVICE float advance(const MatrixShape& s, float* state) const {
    const float read = s.in[IN_A] ? dot(a, state) : 0.0f;
#pragma unroll
    for (int e = 0; e < E; e++) state[e] = w[e] * state[e] + b[e] * read + k[e] * v;
    return read;
  }
};

template <int E>
DEVICE void load_state(const MatrixShape& s, const Column& c, const float* from, float* state) {
#pragma unroll
  for (int e = 0; e < E; e++) {
    const int64_t j = threadIdx.x % kWarp + e * kWarp;
    state[e] = from && j < s.keys ? from[c.state(s, j)] : 0.0f;
  }
}
template <int E>
DEVICE void store_state(const MatrixShape& s, const Column& c, float* to, const float* state) {
#pragma unroll
  for (int e = 0; e < E; e++) {
    const int64_t j = threadIdx.x % kWarp + e * kWarp;
    if (to && j < s.keys) to[c.state(s, j)] = state[e];
  }
}

// Warps of a block share nothing; all of a warp have the same column.
template <int E>
KERNEL void forward_columns(MatrixShape s, float* o, float* last, float* denominator, float* last_n) {
  const int64_t count = s.n * s.heads * s.columns();
  const int64_t warps = (int64_t)gridDim.x * (blockDim.x / kWarp);
  for (int64_t i = (int64_t)blockIdx.x * (blockDim.x / kWarp) + threadIdx.x / kWarp; i < count; i += warps) {
    const Column c(s, i);
    const int64_t length = s.valid(c.n);
    float state[E];
    load_state<E>(s, c, s.in[c.ones ? IN_INITIAL_N : IN_INITIAL], state);
    for (int64_t t = 0; t < s.steps; t++) {
      float out = 0.0f;
      if (t < length) {
        const Keys<E> step(s, c, t);
        if (s.old) out = Keys<E>::dot(step.q, state);
        step.advance(s, state);
        if (!s.old) out = Keys<E>::dot(step.q, state);
      }
      if (threadIdx.x % kWarp == 0)
        (c.ones ? denominator : o)[c.own(s, t, c.ones ? 1 : s.values) + (c.ones ? 0 : c.column)] = out;
    }
    store_state<E>(s, c, c.ones ? last_n : last, state);
  }
}

// Calls body with the number of keys that a lane has.
template <int E>
struct Each {
  static constexpr int value = E;
};
template <class F>
void with_keys(Device* device, const MatrixShape& s, const F& body) {
  if (s.keys <= 32) return body(Each<1>());
  if (s.keys <= 64) return body(Each<2>());
  if (s.keys <= 128) return body(Each<4>());
  if (s.keys <= kMostKeys) return body(Each<8>());
  device->fail(device, "heads of more than 256 keys are not supported on CUDA");
}

Shape shape_for(Device* device, int64_t warps) {
  const int64_t blocks = (warps + 3) / 4, most = (int64_t)cuda(device)->processors * 16;
  return {dim3((unsigned)(blocks < most ? blocks : most)), dim3(4 * kWarp)};
}

// in: q, k, v, logDecay, a, b, initial, initial n, lengths; out: o [N, T, H, V], the last S [N, H, K, V]; with a
// normaliser q . n [N, T, H] and the last n [N, H, K].
void matrix_scan(const Args& args, Device* device) {
  const MatrixShape s(args, 0);
  const int64_t columns = s.n * s.heads * s.columns();
  if (columns == 0) return;
  float *denominator = s.normaliser ? data(args.out[2]) : nullptr, *last_n = s.normaliser ? data(args.out[3]) : nullptr;
  with_keys(device, s, [&](auto each) {
    launch(device, shape_for(device, columns), forward_columns<decltype(each)::value>, s, data(args.out[0]),
           data(args.out[1]), denominator, last_n);
  });
}

// What one column gives to the gradients that all columns of a head (and heads of a group) share:
// [columns][N, T, H, K] for q, k, a, b, and [N, T, H, decays] for the decay.
struct Shared {
  float *q, *k, *decay, *a, *b;
};

struct MatrixGradients {
  const float *dout, *dlast, *ddenominator, *dlast_n;
  float *dv, *dinitial, *dinitial_n;
  Shared shared;
  float *starts, *states, *reads;  // of a column: S before each chunk, S of a chunk, what a reads in it
  int64_t first;                   // of the columns that are taken together
  int64_t columns;
};

// One column backward, its `slot` among those that are taken together.
template <int E>
DEVICE void retreat_column(const MatrixShape& s, const MatrixGradients& g, const Column& c, int64_t slot,
                           int64_t part) {
  const int lane = threadIdx.x % kWarp;
  const int64_t length = s.valid(c.n), used = (length + kChunk - 1) / kChunk, chunks = (s.steps + kChunk - 1) / kChunk;
  const int64_t room = E * kWarp;
  float *starts = g.starts + slot * chunks * room, *states = g.states + slot * kChunk * room,
        *reads = g.reads + slot * kChunk;
  float state[E], grad[E];
  load_state<E>(s, c, s.in[c.ones ? IN_INITIAL_N : IN_INITIAL], state);
  for (int64_t t = 0; t < length; t++) {
    if (t % kChunk == 0)
#pragma unroll
      for (int e = 0; e < E; e++) starts[t / kChunk * room + e * kWarp + lane] = state[e];
    Keys<E>(s, c, t).advance(s, state);
  }
  load_state<E>(s, c, c.ones ? g.dlast_n : g.dlast, grad);
  const float* dout = c.ones ? g.ddenominator : g.dout;
  for (int64_t chunk = used - 1; chunk >= 0; chunk--) {
    const int64_t begin = chunk * kChunk, end = length - begin < kChunk ? length : begin + kChunk;
#pragma unroll
    for (int e = 0; e < E; e++) state[e] = starts[chunk * room + e * kWarp + lane];
    for (int64_t t = begin; t < end; t++) {
#pragma unroll
      for (int e = 0; e < E; e++) states[(t - begin) * room + e * kWarp + lane] = state[e];
      const float read = Keys<E>(s, c, t).advance(s, state);
      if (lane == 0) reads[t - begin] = read;
    }
    warp_sync();
    for (int64_t t = end - 1; t >= begin; t--) {
      const Keys<E> step(s, c, t);
      float before[E];
#pragma unroll
      for (int e = 0; e < E; e++) before[e] = states[(t - begin) * room + e * kWarp + lane];
      const float d = dout ? dout[c.own(s, t, c.ones ? 1 : s.values) + (c.ones ? 0 : c.column)] : 0.0f;
      const float read = reads[t - begin];
      float scalar = 0.0f;
#pragma unroll
      for (int e = 0; e < E; e++)
        if (!s.old) grad[e] += step.q[e] * d;
      const float dread = s.in[IN_A] ? Keys<E>::dot(grad, step.b) : 0.0f;
      const float dv = Keys<E>::dot(grad, step.k);
      if (lane == 0 && g.dv && !c.ones) g.dv[c.own(s, t, s.values) + c.column] = dv;
#pragma unroll
      for (int e = 0; e < E; e++) {
        const int64_t j = lane + e * kWarp;
        const int64_t at = ((part * s.n + c.n) * s.steps + t) * s.heads + c.head;
        if (j < s.keys) {
          if (g.shared.q) g.shared.q[at * s.keys + j] = d * (s.old ? before[e] : state[e]);
          if (g.shared.k) g.shared.k[at * s.keys + j] = grad[e] * step.v;
          if (g.shared.b) g.shared.b[at * s.keys + j] = grad[e] * read;
          if (g.shared.a) g.shared.a[at * s.keys + j] = before[e] * dread;
          const float decay = grad[e] * before[e] * step.w[e];
          if (g.shared.decay && s.decays() > 1) g.shared.decay[at * s.keys + j] = decay;
          scalar += decay;
        }
        grad[e] = step.w[e] * grad[e] + step.a[e] * dread + (s.old ? step.q[e] * d : 0.0f);
        state[e] = before[e];
      }
      if (g.shared.decay && s.decays() == 1) {
        scalar = warp_sum(scalar);
        if (lane == 0) g.shared.decay[((part * s.n + c.n) * s.steps + t) * s.heads + c.head] = scalar;
      }
    }
    warp_sync();
  }
  // Zeros behind the row's end.
  for (int64_t t = length; t < s.steps; t++) {
    const int64_t at = ((part * s.n + c.n) * s.steps + t) * s.heads + c.head;
    for (int64_t j = lane; j < s.keys; j += kWarp) {
      float* const of_keys[] = {g.shared.q, g.shared.k, g.shared.a, g.shared.b,
                                s.decays() > 1 ? g.shared.decay : nullptr};
      for (float* to : of_keys)
        if (to) to[at * s.keys + j] = 0.0f;
    }
    if (lane == 0 && g.shared.decay && s.decays() == 1) g.shared.decay[at] = 0.0f;
    if (lane == 0 && g.dv && !c.ones) g.dv[c.own(s, t, s.values) + c.column] = 0.0f;
  }
  store_state<E>(s, c, c.ones ? g.dinitial_n : g.dinitial, grad);
}

template <int E>
KERNEL void backward_columns(MatrixShape s, MatrixGradients g) {
  const int64_t count = s.n * s.heads * g.columns, warps = (int64_t)gridDim.x * (blockDim.x / kWarp);
  for (int64_t i = (int64_t)blockIdx.x * (blockDim.x / kWarp) + threadIdx.x / kWarp; i < count; i += warps) {
    const int64_t part = i % g.columns;
    const Column c(s, i / g.columns * s.columns() + g.first + part);
    retreat_column<E>(s, g, c, i, part);
  }
}

// to[i] (+)= sum over the columns, and over the heads of a group: parts [columns][rows, heads, width].
void gather(Device* device, const float* parts, int64_t columns, int64_t rows, int64_t heads, int64_t groups,
            int64_t width, bool more, float* to) {
  const int64_t each = heads / groups, size = rows * heads * width;
  for_each(device, rows * groups * width, [=] __device__(int64_t i) {
    const int64_t j = i % width, group = i / width % groups, row = i / width / groups;
    float sum = more ? to[i] : 0.0f;
    for (int64_t h = group * each; h < (group + 1) * each; h++)
      for (int64_t p = 0; p < columns; p++) sum += parts[p * size + (row * heads + h) * width + j];
    to[i] = sum;
  });
}

// in: gradients of the outputs, each or none, then the inputs; out: gradients of the inputs, each or none.
void matrix_scan_backward(const Args& args, Device* device) {
  const bool normaliser = args.ints[7] != 0;
  const MatrixShape s(args, normaliser ? 4 : 2);
  if (s.n * s.heads * s.columns() == 0) return;
  float* out[IN_LENGTHS];
  for (int i = 0; i < IN_LENGTHS; i++) out[i] = data(args.out[i]);
  MatrixGradients g = {};
  g.dout = data(args.in[0]), g.dlast = data(args.in[1]);
  if (normaliser) g.ddenominator = data(args.in[2]), g.dlast_n = data(args.in[3]);
  g.dv = out[IN_V], g.dinitial = out[IN_INITIAL], g.dinitial_n = out[IN_INITIAL_N];
  const int64_t rows = s.n * s.steps, numbers = rows * s.heads * s.keys, decays = rows * s.heads * s.decays();
  // As many columns together as keeps what they give within a quarter of a gigabyte.
  constexpr int64_t kRoom = int64_t{1} << 26;
  const int64_t least = numbers > 0 ? kRoom / (4 * numbers) : s.columns();
  const int64_t together = least < 1 ? 1 : least < s.columns() ? least : s.columns();
  const auto room = [&](bool wanted, int64_t size) {
    return wanted ? scratch<float>(device, together * size + 1) : nullptr;
  };
  g.shared = {room(out[IN_Q], numbers), room(out[IN_K], numbers), room(out[IN_DECAY], decays), room(out[IN_A], numbers),
              room(out[IN_B], numbers)};
  // Of a decay that is constant the sums over all steps come last.
  const bool constant = s.decay_axes == 1 || s.decay_axes == 2;
  float* decay_sums = constant && out[IN_DECAY] ? scratch<float>(device, decays + 1) : out[IN_DECAY];
  with_keys(device, s, [&](auto each) {
    constexpr int E = decltype(each)::value;
    const int64_t slots = s.n * s.heads * together, chunks = (s.steps + kChunk - 1) / kChunk;
    g.starts = scratch<float>(device, slots * chunks * E * kWarp + 1);
    g.states = scratch<float>(device, slots * kChunk * E * kWarp);
    g.reads = scratch<float>(device, slots * kChunk);
    for (g.first = 0; g.first < s.columns(); g.first += together) {
      g.columns = s.columns() - g.first < together ? s.columns() - g.first : together;
      launch(device, shape_for(device, s.n * s.heads * g.columns), backward_columns<E>, s, g);
      const bool more = g.first > 0;
      if (out[IN_Q]) gather(device, g.shared.q, g.columns, rows, s.heads, s.groups, s.keys, more, out[IN_Q]);
      if (out[IN_K]) gather(device, g.shared.k, g.columns, rows, s.heads, s.groups, s.keys, more, out[IN_K]);
      if (out[IN_A]) gather(device, g.shared.a, g.columns, rows, s.heads, s.heads, s.keys, more, out[IN_A]);
      if (out[IN_B]) gather(device, g.shared.b, g.columns, rows, s.heads, s.heads, s.keys, more, out[IN_B]);
      if (decay_sums) gather(device, g.shared.decay, g.columns, rows, s.heads, s.heads, s.decays(), more, decay_sums);
    }
  });
  if (constant && out[IN_DECAY]) sum_middle(device, decay_sums, 1, rows, s.heads * s.decays(), out[IN_DECAY]);
}

const KernelEntry entries[] = {
    {"matrixScan", matrix_scan, 0},
    {"matrixScan.backward", matrix_scan_backward, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_CUDA_KERNELS(matrix_scan, entries)
