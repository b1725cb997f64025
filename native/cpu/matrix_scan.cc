// Matrix scans, forward; backward is in matrix_scan_backward.h.
#include "matrix_scan.h"
#include "matrix_scan_backward.h"

namespace throughtime {
namespace {

// out: o [N, T, H, V], the last S [N, H, K, V]; with a normaliser q . n [N, T, H] and the last n [N, H, K].
class MatrixForward {
 public:
  MatrixForward(const Args& args, Device* device) : s(args), in(args.in), device(device) {
    o = data(args.out[0]), last = data(args.out[1]);
    if (s.normaliser) denominator = data(args.out[2]), last_n = data(args.out[3]);
  }

  void run() {
    const int64_t items = s.n * s.heads * s.tiles();
    if (items == 0) return;
    ranks = ranks_for(device, 6.0 * s.n * s.steps * s.heads * s.keys * s.values);
    if (ranks > items) ranks = (int)items;
    room = s.keys * TILE + 2 * s.key_row();
    scratch = scratch_floats(device, ranks * room);
    device->parallel(
        device, ranks,
        [](void* shared, int rank, int ranks) {
          const MatrixForward& self = *static_cast<MatrixForward*>(shared);
          const int64_t tiles = self.s.tiles();
          const Part mine(self.s.n * self.s.heads * tiles, rank, ranks);
          for (int64_t i = mine.begin; i < mine.end; i++)
            self.tile(i / tiles, i % tiles, self.scratch + rank * self.room);
        },
        this);
  }

 private:
  void tile(int64_t item, int64_t tile, float* state) const {
    const Head head = head_of(s, in, item / s.heads, item % s.heads);
    with_kind(s, in, [&](auto kind) {
      with_columns(s, tile, [&](auto columns) { scan<decltype(kind)>(head, columns, state); });
    });
  }

  template <class Kind, int V>
  __attribute__((noinline)) void scan(const Head& head, Columns<V> columns, float* state) const {
    const int64_t at = head.n * s.heads + head.h, width = columns.ones ? 1 : s.values;
    const float* initial = data(in[columns.ones ? IN_INITIAL_N : IN_INITIAL]);
    float* w = state + s.keys * TILE;
    columns.take(state, initial ? initial + at * s.keys * width : nullptr, width, s.keys);
    float* out = (columns.ones ? denominator : o) + (head.n * s.steps * s.heads + head.h) * width;
    const int64_t next = s.heads * width;
    constexpr int TOGETHER = Kind::low_rank ? 1 : 2;
    int64_t t = 0;
    for (; t + TOGETHER <= head.length; t += TOGETHER) steps<Kind, V, TOGETHER>(head, columns, state, w, t, out, next);
    for (; t < head.length; t++) steps<Kind, V, 1>(head, columns, state, w, t, out, next);
    const Vec zero[V] = {};
    for (int64_t t = head.length; t < s.steps; t++) columns.write(out + t * next, zero);
    columns.give((columns.ones ? last_n : last) + at * s.keys * width, state, width, s.keys);
  }

  template <class Kind, int V, int COUNT>
  THROUGHTIME_INLINE void steps(const Head& head, const Columns<V>& columns, float* state, float* decays, int64_t from,
                                float* out, int64_t next) const {
    Step step[COUNT];
    Vec v[COUNT][V] = {}, total[COUNT][V] = {}, sum[COUNT][V] = {};
    for (int i = 0; i < COUNT; i++) {
      const int64_t t = from + i;
      float* w = decays + i * s.key_row();
      if (t < COUNT || head.decay.next > 0) exponentials(w, head.decay[t], decays_of<Kind>(s));
      step[i] = step_of(head, t, w);
      columns.values(v[i], head.v[t]);
    }
    advance<Kind, V, COUNT>(state, state, s.keys, step, v, total, sum);
    for (int i = 0; i < COUNT; i++) columns.write(out + (from + i) * next, total[i]);
  }

  const MatrixShape s;
  Buffer* const* in;
  Device* device;
  float *o, *last, *denominator = nullptr, *last_n = nullptr;
  int ranks;
  int64_t room;
  float* scratch;
};

void matrix_scan(const Args& args, Device* device) { MatrixForward(args, device).run(); }
void matrix_scan_backward(const Args& args, Device* device) { MatrixBackward(args, device).run(); }

const KernelEntry entries[] = {
    {"matrixScan", matrix_scan, 0},
    {"matrixScan.backward", matrix_scan_backward, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_KERNELS(matrix_scan, entries)
