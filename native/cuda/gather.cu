// Rows and entries chosen by integers: embedding tables, tables of states, and the targets of cross entropy.
#include "ids.h"

namespace throughtime {
namespace {

// in: ids [count], table [rows, features]; out: y [count, features]; ints: count, rows, features.
void embedding(const Args& args, Device* device) {
  const int32_t* ids = integers(args.in[0]);
  const float* table = data(args.in[1]);
  float* y = data(args.out[0]);
  const int32_t rows = args.ints[1];
  const int64_t features = args.ints[2];
  launch_check(device, ids, args.ints[0], rows, false, 0);
  for_each(device, args.ints[0] * features, [=] __device__(int64_t i) {
    const int32_t id = ids[i / features];
    y[i] = id >= 0 && id < rows ? table[id * features + i % features] : 0.0f;
  });
}

// in: g [count, features], ids [count]; out: table [rows, features]; ints: count, rows, features.
void embedding_gradient(const Args& args, Device* device) {
  const float* g = data(args.in[0]);
  const int32_t* ids = integers(args.in[1]);
  float* table = data(args.out[0]);
  const int64_t count = args.ints[0], features = args.ints[2];
  launch_check(device, ids, count, args.ints[1], false, 0);
  sum_by_id(device, ids, count, args.ints[1], features, g, table, false);
}

// in: targets [rows]; out: valid [rows]; ints: rows, classes, ignored.
void valid_targets(const Args& args, Device* device) {
  const int32_t* targets = integers(args.in[0]);
  float* valid = data(args.out[0]);
  const int32_t ignored = args.ints[2];
  launch_check(device, targets, args.ints[0], args.ints[1], true, ignored);
  for_each(device, args.ints[0], [=] __device__(int64_t r) { valid[r] = targets[r] == ignored ? 0.0f : 1.0f; });
}

// in: x [rows, classes], targets [rows]; out: y [rows]; ints: rows, classes, ignored.
void pick_target(const Args& args, Device* device) {
  const float* x = data(args.in[0]);
  const int32_t* targets = integers(args.in[1]);
  float* y = data(args.out[0]);
  const int64_t classes = args.ints[1];
  const int32_t ignored = args.ints[2];
  for_each(device, args.ints[0], [=] __device__(int64_t r) {
    const int32_t target = targets[r];
    y[r] = target == ignored || target < 0 || target >= classes ? 0.0f : x[r * classes + target];
  });
}

// in: g [rows], targets [rows]; out: y [rows, classes]; ints: rows, classes, ignored.
void place_target(const Args& args, Device* device) {
  const float* g = data(args.in[0]);
  const int32_t* targets = integers(args.in[1]);
  float* y = data(args.out[0]);
  const int64_t classes = args.ints[1];
  const int32_t ignored = args.ints[2];
  for_each(device, args.ints[0] * classes, [=] __device__(int64_t i) {
    const int32_t target = targets[i / classes];
    y[i] = target != ignored && target == i % classes ? g[i / classes] : 0.0f;
  });
}

// Rows of a table [rows, outer, inner] to or from [outer, count, inner], by ids [count]; -1 reads zeros and writes
// nothing. in: table, ids or x, ids; out: y or table; ints: count, outer, inner.
template <bool Taking>
void table_rows(const Args& args, Device* device) {
  const float* from = data(args.in[0]);
  const int32_t* ids = integers(args.in[1]);
  float* to = data(args.out[0]);
  const int64_t count = args.ints[0], outer = args.ints[1], inner = args.ints[2];
  const Fault* fault = cuda(device)->fault;  // what failed must not be kept
  for_each(device, count * outer * inner, [=] __device__(int64_t place) {
    const int64_t i = place / inner % count, o = place / inner / count;
    const int64_t row = ((int64_t)ids[i] * outer + o) * inner + place % inner;
    if (Taking)
      to[place] = ids[i] < 0 ? 0.0f : from[row];
    else if (ids[i] >= 0 && fault->kind == NO_FAULT)
      to[row] = from[place];
  });
}

const KernelEntry entries[] = {
    {"embedding", embedding, 0},       {"embeddingGradient", embedding_gradient, 0}, {"takeRows", table_rows<true>, 0},
    {"putRows", table_rows<false>, 0}, {"validTargets", valid_targets, 0},           {"pickTarget", pick_target, 0},
    {"placeTarget", place_target, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_CUDA_KERNELS(gather, entries)
