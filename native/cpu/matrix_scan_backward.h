// Matrix scans, backward. With G_t the gradient of S_t, and D_t that of what a reads:
//   G_t  = q_t do_t^T + (what S_{t+1} hands down)     handed down: diag(w_t) G_t + a_t D_t^T   D_t = G_t^T b_t
//   dq = S do    dk = G v    dv = G^T k    dw_j = G_j . S_{t-1,j}    db = G (S_{t-1}^T a)    da = S_{t-1} D
//
// A tile of columns goes backward through chunks of steps. The states of a chunk are computed again from the state
// before it, which a first pass forward has left. A sequence and a group of heads are one thread's, tile after tile,
// so that what is summed over columns and heads is summed in one order.
#pragma once
#include "lane_sums.h"
#include "matrix_scan.h"

namespace throughtime {
namespace {

// to[i] += v[i] for the first n lanes, if there is a `to`.
THROUGHTIME_INLINE void accumulate(float* to, Vec v, int n) {
  if (to) store_lanes(to, load_lanes(to, n) + v, n);
}

template <int N>
struct Count {
  static constexpr int value = N;
};

struct Gradients {
  float *q, *k, *decay, *a, *b;  // of one step, or null; a decay that is constant is summed over the steps
};

// One step backward over a tile. `g` is G handed down so far, `before` and `now` are S_{t-1} and S_t.
template <class Kind, int V>
THROUGHTIME_INLINE void retreat(float* g, const float* before, const float* now, int64_t keys, const Step& step,
                                const Vec* v, const Vec* dout, const Vec* sum, Vec* dv, const Gradients& to) {
  constexpr int64_t W = V * kLanes;
  Vec dsum[V] = {}, dw = {};
  for (int64_t first = 0; first < keys; first += kLanes) {
    const int n = (int)least(kLanes, keys - first);
    Vec dq[kLanes], dk[kLanes], dwj[kLanes], db[kLanes];
    for (int r = 0; r < n; r++) {
      const int64_t j = first + r;
      const Vec q = splat(step.q[j]), k = splat(step.k[j]), b = Kind::low_rank ? splat(step.b[j]) : Vec{};
      const Vec w = Kind::decay == NO_DECAY ? Vec{} : splat(step.w[Kind::decay == VECTOR_DECAY ? j : 0]);
      Vec query = {}, key = {}, decay = {}, written = {};
      for (int i = 0; i < V; i++) {
        const int64_t at = j * W + i * kLanes;
        const Vec old = load(before + at);
        Vec down = load(g + at);
        if (!Kind::old) down += q * dout[i];
        query += dout[i] * (Kind::old ? old : load(now + at));
        key += down * v[i];
        dv[i] += k * down;
        if constexpr (Kind::decay == SCALAR_DECAY) dw += down * old;
        if constexpr (Kind::decay == VECTOR_DECAY) decay += down * old;
        if constexpr (Kind::low_rank) {
          written += down * sum[i];
          dsum[i] += b * down;
        }
        if (Kind::decay != NO_DECAY) down *= w;
        if (Kind::old) down += q * dout[i];
        store(g + at, down);
      }
      dq[r] = query, dk[r] = key, dwj[r] = decay, db[r] = written;
    }
    for (int r = n; r < kLanes; r++) dq[r] = dk[r] = dwj[r] = db[r] = Vec{};
    accumulate(to.q ? to.q + first : nullptr, lane_sums(dq), n);
    accumulate(to.k ? to.k + first : nullptr, lane_sums(dk), n);
    if constexpr (Kind::decay == VECTOR_DECAY)
      accumulate(to.decay ? to.decay + first : nullptr, lane_sums(dwj) * load_lanes(step.w + first, n), n);
    if constexpr (Kind::low_rank) accumulate(to.b ? to.b + first : nullptr, lane_sums(db), n);
  }
  if constexpr (Kind::decay == SCALAR_DECAY)
    if (to.decay) *to.decay += throughtime::sum(dw) * *step.w;
  if constexpr (Kind::low_rank)
    for (int64_t first = 0; first < keys; first += kLanes) {
      const int n = (int)least(kLanes, keys - first);
      Vec da[kLanes];
      for (int r = 0; r < n; r++) {
        const Vec a = splat(step.a[first + r]);
        Vec read = {};
        for (int i = 0; i < V; i++) {
          const int64_t at = (first + r) * W + i * kLanes;
          read += dsum[i] * load(before + at);
          store(g + at, load(g + at) + a * dsum[i]);
        }
        da[r] = read;
      }
      for (int r = n; r < kLanes; r++) da[r] = Vec{};
      accumulate(to.a ? to.a + first : nullptr, lane_sums(da), n);
    }
}

// in: gradients of the outputs, each or none, then the inputs; out: gradients of the inputs, each or none.
class MatrixBackward {
 public:
  MatrixBackward(const Args& args, Device* device) : s(args), in(args.in + (s.normaliser ? 4 : 2)), device(device) {
    dout = data(args.in[0]), dlast = data(args.in[1]);
    if (s.normaliser) ddenominator = data(args.in[2]), dlast_n = data(args.in[3]);
    for (int i = 0; i < IN_LENGTHS; i++) grads[i] = data(args.out[i]);
  }

  void run() {
    const int64_t items = s.n * s.groups;
    ranks = ranks_for(device, 24.0 * s.n * s.steps * s.heads * s.keys * s.values);
    if (ranks > items) ranks = items ? (int)items : 1;
    chunks = (s.steps + CHUNK - 1) / CHUNK;
    const int64_t tile = s.keys * TILE;
    room = (chunks + CHUNK + 2) * tile + CHUNK * (TILE + s.key_row()) + s.key_row();
    scratch = scratch_floats(device, ranks * room);
    const int64_t decays = s.decay() == VECTOR_DECAY ? s.keys : 1;
    // Of a decay that is constant each sequence has its own sum first.
    constant = s.decay_axes == 1 || s.decay_axes == 2;
    if (constant) decay_sums = scratch_floats(device, s.n * s.heads * decays);
    device->parallel(
        device, ranks,
        [](void* shared, int rank, int ranks) {
          const MatrixBackward& self = *static_cast<MatrixBackward*>(shared);
          const Part mine(self.s.n * self.s.groups, rank, ranks);
          for (int64_t i = mine.begin; i < mine.end; i++) self.group(i / self.s.groups, i % self.s.groups, rank);
        },
        this);
    if (!constant || !grads[IN_DECAY]) return;
    for (int64_t i = 0; i < s.heads * decays; i++) {
      float total = 0;
      for (int64_t n = 0; n < s.n; n++) total += decay_sums[n * s.heads * decays + i];
      grads[IN_DECAY][i] = total;
    }
  }

 private:
  // Sets the rows of one head or group over all steps to zero.
  void clear_rows(float* all, int64_t n, int64_t rows, int64_t r, int64_t width) const {
    if (!all) return;
    for (int64_t t = 0; t < s.steps; t++)
      __builtin_memset(all + ((n * s.steps + t) * rows + r) * width, 0, width * sizeof(float));
  }

  void group(int64_t n, int64_t g, int rank) const {
    clear_rows(grads[IN_Q], n, s.groups, g, s.keys);
    clear_rows(grads[IN_K], n, s.groups, g, s.keys);
    const int64_t heads = s.heads / s.groups, decays = s.decay() == VECTOR_DECAY ? s.keys : 1;
    for (int64_t h = g * heads; h < (g + 1) * heads; h++) {
      clear_rows(grads[IN_A], n, s.heads, h, s.keys);
      clear_rows(grads[IN_B], n, s.heads, h, s.keys);
      if (constant)
        __builtin_memset(decay_sums + (n * s.heads + h) * decays, 0, decays * sizeof(float));
      else if (s.decay() != NO_DECAY)
        clear_rows(grads[IN_DECAY], n, s.heads, h, decays);
      const Head head = head_of(s, in, n, h);
      with_kind(s, in, [&](auto kind) {
        for (int64_t tile = 0; tile < s.tiles(); tile++)
          with_columns(s, tile, [&](auto columns) { scan<decltype(kind)>(head, columns, rank); });
      });
    }
  }

  Gradients gradients_at(const Head& head, int64_t t) const {
    const int64_t group = head.h / (s.heads / s.groups), decays = s.decay() == VECTOR_DECAY ? s.keys : 1;
    const auto at = [&](MatrixInput i, int64_t rows, int64_t r, int64_t width) {
      return grads[i] ? grads[i] + ((head.n * s.steps + t) * rows + r) * width : nullptr;
    };
    Gradients to = {at(IN_Q, s.groups, group, s.keys), at(IN_K, s.groups, group, s.keys), nullptr,
                    at(IN_A, s.heads, head.h, s.keys), at(IN_B, s.heads, head.h, s.keys)};
    to.decay = constant ? decay_sums + (head.n * s.heads + head.h) * decays : at(IN_DECAY, s.heads, head.h, decays);
    return to;
  }

  template <class Kind, int V>
  __attribute__((noinline)) void scan(const Head& head, Columns<V> columns, int rank) const {
    const int64_t tile = s.keys * columns.width, width = columns.ones ? 1 : s.values;
    const int64_t at = head.n * s.heads + head.h, decays = decays_of<Kind>(s);
    float* starts = scratch + rank * room;  // S before each chunk
    float* states = starts + chunks * tile;
    float* g = states + (CHUNK + 1) * tile;
    float* sums = g + tile;  // what a reads at each step of a chunk
    float* w = sums + CHUNK * columns.width;
    const auto matrix = [&](const float* all) { return all ? all + at * s.keys * width : nullptr; };
    const auto row = [&](auto* all, int64_t t) {
      return all ? all + ((head.n * s.steps + t) * s.heads + head.h) * width : nullptr;
    };
    // COUNT steps from `from` on, from a state to the next one; `slot` is the first one's place in its chunk.
    const auto forward = [&](auto count, int64_t from, int64_t slot, float* now, const float* before) {
      constexpr int COUNT = decltype(count)::value;
      Step step[COUNT];
      Vec v[COUNT][V] = {}, o[COUNT][V] = {}, sum[COUNT][V] = {};
      for (int i = 0; i < COUNT; i++) {
        float* decay = w + (slot + i) * s.key_row();
        exponentials(decay, head.decay[from + i], decays);
        step[i] = step_of(head, from + i, decay);
        columns.values(v[i], head.v[from + i]);
      }
      advance<Kind, V, COUNT>(now, before, s.keys, step, v, o, sum);
      for (int i = 0; i < V; i++) store(sums + slot * columns.width + i * kLanes, sum[0][i]);
    };

    const int64_t used = (head.length + CHUNK - 1) / CHUNK;
    columns.take(states, matrix(data(in[columns.ones ? IN_INITIAL_N : IN_INITIAL])), width, s.keys);
    for (int64_t c = 0; c < used; c++) {
      __builtin_memcpy(starts + c * tile, states, tile * sizeof(float));
      if (c + 1 == used) break;
      constexpr int TOGETHER = Kind::low_rank ? 1 : 2;
      for (int64_t t = 0; t < CHUNK; t += TOGETHER) forward(Count<TOGETHER>(), c * CHUNK + t, t, states, states);
    }

    columns.take(g, matrix(columns.ones ? dlast_n : dlast), width, s.keys);
    float* dv_rows = columns.ones ? nullptr : grads[IN_V];
    for (int64_t c = used - 1; c >= 0; c--) {
      const int64_t from = c * CHUNK, to = least(from + CHUNK, head.length);
      __builtin_memcpy(states, starts + c * tile, tile * sizeof(float));
      for (int64_t t = 0; t < to - from; t++)
        forward(Count<1>(), from + t, t, states + (t + 1) * tile, states + t * tile);
      for (int64_t t = to - 1; t >= from; t--) {
        const int64_t step = t - from;
        Vec v[V] = {}, d[V] = {}, sum[V], dv[V] = {};
        columns.values(v, head.v[t]);
        if (const float* given = row(columns.ones ? ddenominator : dout, t)) columns.read(d, given);
        for (int i = 0; i < V; i++) sum[i] = load(sums + step * columns.width + i * kLanes);
        const float* before = states + step * tile;
        retreat<Kind, V>(g, before, before + tile, s.keys, step_of(head, t, w + step * s.key_row()), v, d, sum, dv,
                         gradients_at(head, t));
        if (dv_rows) columns.write(row(dv_rows, t), dv);
      }
    }
    const Vec zero[V] = {};
    if (dv_rows)
      for (int64_t t = head.length; t < s.steps; t++) columns.write(row(dv_rows, t), zero);
    if (float* initial = grads[columns.ones ? IN_INITIAL_N : IN_INITIAL])
      columns.give(initial + at * s.keys * width, g, width, s.keys);
  }

  const MatrixShape s;
  Buffer* const* in;
  Device* device;
  const float *dout, *dlast, *ddenominator = nullptr, *dlast_n = nullptr;
  float* grads[IN_LENGTHS];
  int ranks;
  int64_t chunks, room;
  bool constant;
  float *scratch, *decay_sums = nullptr;
};

}  // namespace
}  // namespace throughtime
