// Rows and entries chosen by integers: embedding tables, tables of states, and the targets of cross entropy.
#include <cstdio>

#include "isa.h"
#include "parallel.h"
#include "simd.h"

namespace throughtime {
namespace {

float* reals(const Buffer* b) { return static_cast<float*>(b->data); }

void check_ids(Device* device, const int32_t* ids, int64_t count, int32_t rows) {
  for (int64_t i = 0; i < count; i++) {
    if (ids[i] >= 0 && ids[i] < rows) continue;
    char message[160];
    snprintf(message, sizeof message, "ids must be in [0, %d] for a table of %d rows, but ids[%lld] is %d", rows - 1,
             rows, static_cast<long long>(i), ids[i]);
    device->fail(device, message);
  }
}

// in: ids [count], table [rows, features]; out: y [count, features]; ints: count, rows, features.
void embedding(const Args& args, Device* device) {
  const int32_t* ids = integers(args.in[0]);
  const float* table = reals(args.in[1]);
  float* y = reals(args.out[0]);
  const int64_t count = args.ints[0], features = args.ints[2];
  check_ids(device, ids, count, args.ints[1]);
  if (features == 0) return;
  for_range(device, count, 1 + 65536 / features, [=](size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++)
      __builtin_memcpy(y + i * features, table + ids[i] * features, features * sizeof(float));
  });
}

// in: g [count, features], ids [count]; out: table [rows, features]; ints: count, rows, features.
// Threads share the columns, so a row's sum is always taken in the order of the ids.
void embedding_gradient(const Args& args, Device* device) {
  const float* g = reals(args.in[0]);
  const int32_t* ids = integers(args.in[1]);
  float* table = reals(args.out[0]);
  const int64_t count = args.ints[0], rows = args.ints[1], features = args.ints[2];
  check_ids(device, ids, count, args.ints[1]);
  for_range(device, features, 1 + 65536 / (count + rows + 1), [=](size_t begin, size_t end) {
    const size_t width = end - begin;
    for (int64_t r = 0; r < rows; r++) __builtin_memset(table + r * features + begin, 0, width * sizeof(float));
    for (int64_t i = 0; i < count; i++) {
      float* to = table + ids[i] * features + begin;
      const float* from = g + i * features + begin;
      size_t f = 0;
      for (; f + kLanes <= width; f += kLanes) store(to + f, load(to + f) + load(from + f));
      for (; f < width; f++) to[f] += from[f];
    }
  });
}

// in: targets [rows]; out: valid [rows]; ints: rows, classes, ignored.
void valid_targets(const Args& args, Device* device) {
  const int32_t* targets = integers(args.in[0]);
  float* valid = reals(args.out[0]);
  const int32_t classes = args.ints[1], ignored = args.ints[2];
  for (int32_t r = 0; r < args.ints[0]; r++) {
    valid[r] = targets[r] == ignored ? 0.0f : 1.0f;
    if (targets[r] == ignored || (targets[r] >= 0 && targets[r] < classes)) continue;
    char message[160];
    snprintf(message, sizeof message,
             "targets must be in [0, %d] for %d classes, or %d to be ignored, but targets[%d] is %d", classes - 1,
             classes, ignored, r, targets[r]);
    device->fail(device, message);
  }
}

// in: x [rows, classes], targets [rows]; out: y [rows]; ints: rows, classes, ignored.
void pick_target(const Args& args, Device*) {
  const float* x = reals(args.in[0]);
  const int32_t* targets = integers(args.in[1]);
  float* y = reals(args.out[0]);
  const int64_t rows = args.ints[0], classes = args.ints[1];
  for (int64_t r = 0; r < rows; r++) y[r] = targets[r] == args.ints[2] ? 0.0f : x[r * classes + targets[r]];
}

// in: g [rows], targets [rows]; out: y [rows, classes]; ints: rows, classes, ignored.
void place_target(const Args& args, Device*) {
  const float* g = reals(args.in[0]);
  const int32_t* targets = integers(args.in[1]);
  float* y = reals(args.out[0]);
  const int64_t rows = args.ints[0], classes = args.ints[1];
  __builtin_memset(y, 0, rows * classes * sizeof(float));
  for (int64_t r = 0; r < rows; r++)
    if (targets[r] != args.ints[2]) y[r * classes + targets[r]] = g[r];
}

// Rows of a table [rows, outer, inner] to or from [outer, count, inner], by ids [count]; -1 reads zeros and writes
// nothing. in: table, ids or x, ids; out: y or table; ints: count, outer, inner.
template <bool Taking>
void table_rows(const Args& args, Device* device) {
  const int32_t* ids = integers(args.in[1]);
  const float* from = reals(args.in[0]);
  float* to = reals(args.out[0]);
  const size_t count = args.ints[0], outer = args.ints[1], inner = args.ints[2], bytes = inner * sizeof(float);
  for_range(device, count, 1 + 16384 / (outer * inner + 1), [=](size_t begin, size_t end) {
    for (size_t o = 0; o < outer; o++)
      for (size_t i = begin; i < end; i++) {
        const size_t row = (ids[i] * outer + o) * inner, place = (o * count + i) * inner;
        if (ids[i] < 0) {
          if (Taking) __builtin_memset(to + place, 0, bytes);
        } else {
          __builtin_memcpy(to + (Taking ? place : row), from + (Taking ? row : place), bytes);
        }
      }
  });
}

const KernelEntry entries[] = {
    {"embedding", embedding, 0},       {"embeddingGradient", embedding_gradient, 0}, {"takeRows", table_rows<true>, 0},
    {"putRows", table_rows<false>, 0}, {"validTargets", valid_targets, 0},           {"pickTarget", pick_target, 0},
    {"placeTarget", place_target, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_KERNELS(gather, entries)
