// Matrix scans, forward; backward is in matrix_scan_backward.h.
#include "matrix_scan.h"
#include "matrix_scan_backward.h"

namespace throughtime {
namespace {

// out: o [N, T, H, V], the last S [N, H, K, V]; with a normaliser q . n [N, T, H] and the last n [N, H, K].
class MatrixForward {
 public:
  MatrixForward(const Args& args, Device* device) : s(args), in(args.in), device(device) {
    o = writable(args.out[0]), last = writable(args.out[1]);
    if (s.normaliser) denominator = writable(args.out[2]), last_n = writable(args.out[3]);
  }

  void run() {
    const int64_t items = s.n * s.heads * s.tiles();
    if (items == 0) return;
    ranks = ranks_for(device, 6.0 * s.n * s.steps * s.heads * s.keys * s.values);
    if (ranks > items) ranks = (int)items;
    room = s.keys * TILE + s.key_row();
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
      if (tile == s.value_tiles())
        scan<decltype(kind)>(head, Columns<1>{0, 1, true}, state);
      else
        scan<decltype(kind)>(head, Columns<TILE_VECTORS>{tile * TILE, least(TILE, s.values - tile * TILE), false},
                             state);
    });
  }

  template <class Kind, int V>
  __attribute__((noinline)) void scan(const Head& head, Columns<V> columns, float* state) const {
    const int64_t at = head.n * s.heads + head.h, width = columns.ones ? 1 : s.values;
    const float* initial = floats(in[columns.ones ? IN_INITIAL_N : IN_INITIAL]);
    float* w = state + s.keys * TILE;
    columns.take(state, initial ? initial + at * s.keys * width : nullptr, width, s.keys);
    float* out = (columns.ones ? denominator : o) + (head.n * s.steps * s.heads + head.h) * width;
    const int64_t next = s.heads * width;
    for (int64_t t = 0; t < head.length; t++) {
      if (t == 0 || head.decay.next > 0) exponentials(w, head.decay[t], decays_of<Kind>(s));
      Vec v[V] = {}, sum[V], total[V] = {};
      columns.values(v, head.v[t]);
      advance<Kind, V>(state, state, s.keys, step_of(head, t, w), v, total, sum);
      columns.write(out + t * next, total);
    }
    const Vec zero[V] = {};
    for (int64_t t = head.length; t < s.steps; t++) columns.write(out + t * next, zero);
    columns.give((columns.ones ? last_n : last) + at * s.keys * width, state, width, s.keys);
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
