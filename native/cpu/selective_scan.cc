// The selective scan of Mamba (Gu & Dao 2023), for every channel d of group g and each of its S states s:
//   dt_t = softplus(delta_t + bias)      h_t[s] = exp(dt_t A[s]) h_{t-1}[s] + dt_t u_t B_t[g, s]
//   y_t = (sum over s of C_t[g, s] h_t[s] + D u_t) * silu(z_t)
// Lanes are channels. Steps are taken in chunks: the states before each are kept for the backward pass, which computes
// those within a chunk again. ints: N, T, D, reverse, G, S, softplus.
#include "scan.h"

#include "isa.h"

namespace throughtime {
namespace {

constexpr int64_t kChunk = 32;  // steps
constexpr int64_t kPart = 256;  // channels that one thread takes at a time; the order of sums over channels rests on it

struct Inputs {
  ScanShape shape;
  int64_t groups, states;
  bool positive;  // dt is the softplus of what is given
  const float *u, *delta, *a, *b, *c, *skip, *z, *bias, *initial;
  const float* turned;  // A as [S, D]

  int64_t group_width() const { return shape.width / groups; }
  int64_t parts() const { return (group_width() + kPart - 1) / kPart; }  // of a group
  int64_t chunks() const { return (shape.steps + kChunk - 1) / kChunk; }
  Vec step_size(int64_t at, int64_t d, int lanes, Vec* given) const {
    *given = load_lanes(delta + at * shape.width + d, lanes);
    if (bias) *given += load_lanes(bias + d, lanes);
    return positive ? softplus(*given) : *given;
  }
  // B_t or C_t of a group
  const float* row(const float* of, int64_t at, int64_t group) const { return of + (at * groups + group) * states; }
};

// Some channels of one row and group.
struct Part {
  int64_t row, group, index, from, width;
};

// `at`: where the inputs begin, in the list of the kernel.
Inputs inputs_of(const Args& args, int at, Device* device) {
  Buffer* const* in = args.in + at;
  const int64_t width = args.ints[2], states = args.ints[5];
  float* turned = static_cast<float*>(device->scratch(device, (width * states + 1) * sizeof(float)));
  const float* a = data(in[2]);
  for (int64_t d = 0; d < width; d++)
    for (int64_t s = 0; s < states; s++) turned[s * width + d] = a[d * states + s];
  const int32_t* lengths = integers(in[9]);
  return {{args.ints[0], args.ints[1], width, args.ints[3] != 0, lengths},
          args.ints[4],
          states,
          args.ints[6] != 0,
          data(in[0]),
          data(in[1]),
          a,
          data(in[3]),
          data(in[4]),
          data(in[5]),
          data(in[6]),
          data(in[7]),
          data(in[8]),
          turned};
}

// Calls body(part, scratch) for every part, with `floats` of scratch for each thread.
template <class F>
void for_parts(Device* device, const Inputs& x, int64_t floats, const F& body) {
  const int64_t width = x.group_width(), parts = x.parts(), units = x.shape.rows * x.groups * parts;
  const int64_t work = units * x.shape.steps * x.states * (width < kPart ? width : kPart);
  for_units(device, units, work < 32768 ? 1 : units, floats, [&](int64_t unit, float* scratch) {
    const int64_t index = unit % parts, group = unit / parts % x.groups, from = index * kPart;
    body(Part{unit / parts / x.groups, group, index, group * width + from, width - from < kPart ? width - from : kPart},
         scratch);
  });
}

// state [D, S] of a row, or none for zero, to h [S, kPart] and back
void turn_in(const Inputs& x, const Part& part, const float* state, float* h) {
  for (int64_t s = 0; s < x.states; s++)
    for (int64_t i = 0; i < part.width; i++)
      h[s * kPart + i] = state ? state[((part.row * x.shape.width) + part.from + i) * x.states + s] : 0.0f;
}
void turn_out(const Inputs& x, const Part& part, const float* h, float* state) {
  for (int64_t i = 0; i < part.width; i++)
    for (int64_t s = 0; s < x.states; s++)
      state[((part.row * x.shape.width) + part.from + i) * x.states + s] = h[s * kPart + i];
}

void clear_padding(const Inputs& x, const Part& part, int64_t length, float* y) {
  for (int64_t t = length; y && t < x.shape.steps; t++)
    __builtin_memset(y + (part.row * x.shape.steps + t) * x.shape.width + part.from, 0, part.width * sizeof(float));
}

void forward_part(const Inputs& x, const Part& part, float* h, float* y, float* last, float* saved) {
  const int64_t length = x.shape.valid(part.row), width = x.shape.width, states = x.states;
  turn_in(x, part, x.initial, h);
  for (int64_t begin = 0; begin < length; begin += kChunk) {
    const int64_t end = length - begin < kChunk ? length : begin + kChunk;
    if (saved)
      for (int64_t s = 0; s < states; s++)
        __builtin_memcpy(saved + ((part.row * x.chunks() + begin / kChunk) * states + s) * width + part.from,
                         h + s * kPart, part.width * sizeof(float));
    row_map(part.width, [&](int64_t i, int lanes) {
      const int64_t d = part.from + i;
      for (int64_t step = begin; step < end; step++) {
        const int64_t t = x.shape.at(part.row, step, length);
        Vec given;
        const Vec dt = x.step_size(t, d, lanes, &given), u = load_lanes(x.u + t * width + d, lanes), dtu = dt * u;
        const float *b = x.row(x.b, t, part.group), *c = x.row(x.c, t, part.group);
        Vec total = x.skip ? load_lanes(x.skip + d, lanes) * u : Vec{};
        for (int64_t s = 0; s < states; s++) {
          const Vec a = exp(dt * load_lanes(x.turned + s * width + d, lanes));
          const Vec next = a * load(h + s * kPart + i) + dtu * b[s];
          store(h + s * kPart + i, next);
          total += next * c[s];
        }
        if (x.z) {
          const Vec z = load_lanes(x.z + t * width + d, lanes);
          total *= z * sigmoid(z);
        }
        store_lanes(y + t * width + d, total, lanes);
      }
    });
  }
  turn_out(x, part, h, last);
  clear_padding(x, part, length, y);
}

// in: u, delta [N, T, D], A [D, S], B, C [N, T, G, S], D [D], z [N, T, D], bias [D], initial [N, D, S], lengths [N],
// from D on each or none; out: y [N, T, D], last [N, D, S], and for training the states before each chunk [N, chunks,
// S, D].
void selective_scan(const Args& args, Device* device) {
  const Inputs x = inputs_of(args, 0, device);
  float *y = data(args.out[0]), *last = data(args.out[1]), *saved = args.outputs > 2 ? data(args.out[2]) : nullptr;
  for_parts(device, x, x.states * kPart, [&](const Part& part, float* h) { forward_part(x, part, h, y, last, saved); });
}

struct Gradients {
  const float *dy, *dlast, *saved;
  float *du, *ddelta, *dz, *dinitial;
  // Sums to come: of A [N, S, D], of D and bias [N, D], of B and C [parts, N, T, G, S].
  float *da, *dskip, *dbias, *db, *dc;
};

// What a thread needs for one chunk of steps and one vector of channels, and what it gathers.
struct Workspace {
  float* g;              // [S, kPart]: the gradient of the state between two steps
  float* a;              // [kChunk, S, lanes]: exp(dt A)
  float* h;              // [kChunk + 1, S, lanes]: states, from that before the chunk on
  float *sum_b, *sum_c;  // [kChunk, S, lanes]: over the vectors of the part
  float* sum_a;          // [S, lanes]
  float *dt, *dy;        // [kChunk, lanes]

  static int64_t floats(int64_t states) { return states * (kPart + (4 * kChunk + 2) * kLanes) + 2 * kChunk * kLanes; }
  Workspace(float* p, int64_t states) {
    const int64_t steps = kChunk * states * kLanes;
    g = p;
    a = g + states * kPart;
    h = a + steps;
    sum_b = h + steps + states * kLanes;
    sum_c = sum_b + steps;
    sum_a = sum_c + steps;
    dt = sum_a + states * kLanes;
    dy = dt + kChunk * kLanes;
  }
};

// The states of a chunk again, and the gradient of what is read of them: through the gate, that of z on the way.
void recompute(const Inputs& x, const Part& part, const Gradients& g, const Workspace& w, int64_t length, int64_t begin,
               int64_t end, int64_t i, int lanes) {
  const int64_t width = x.shape.width, states = x.states, d = part.from + i;
  const float* before = g.saved + (part.row * x.chunks() + begin / kChunk) * states * width + d;
  for (int64_t s = 0; s < states; s++) store(w.h + s * kLanes, load_lanes(before + s * width, lanes));
  for (int64_t step = begin; step < end; step++) {
    const int64_t t = x.shape.at(part.row, step, length), n = step - begin;
    Vec given;
    const Vec dt = x.step_size(t, d, lanes, &given), u = load_lanes(x.u + t * width + d, lanes), dtu = dt * u;
    const float *b = x.row(x.b, t, part.group), *c = x.row(x.c, t, part.group);
    float *a = w.a + n * states * kLanes, *h = w.h + n * states * kLanes, *next = h + states * kLanes;
    Vec total = x.skip ? load_lanes(x.skip + d, lanes) * u : Vec{};
    for (int64_t s = 0; s < states; s++) {
      const Vec decay = exp(dt * load_lanes(x.turned + s * width + d, lanes));
      const Vec state = decay * load(h + s * kLanes) + dtu * b[s];
      store(a + s * kLanes, decay);
      store(next + s * kLanes, state);
      total += state * c[s];
    }
    Vec dy = g.dy ? load_lanes(g.dy + t * width + d, lanes) : Vec{};
    if (x.z) {
      const Vec z = load_lanes(x.z + t * width + d, lanes), open = sigmoid(z);
      if (g.dz) store_lanes(g.dz + t * width + d, dy * total * (open * (1.0f + z * (1.0f - open))), lanes);
      dy *= z * open;
    }
    store(w.dt + n * kLanes, dt);
    store(w.dy + n * kLanes, dy);
  }
}

// From the end of the chunk to its start. Gradients of A, D and the bias are gathered for this chunk, then added.
void retrace(const Inputs& x, const Part& part, const Gradients& g, const Workspace& w, int64_t length, int64_t begin,
             int64_t end, int64_t i, int lanes) {
  const int64_t width = x.shape.width, states = x.states, d = part.from + i;
  const Vec skip = x.skip ? load_lanes(x.skip + d, lanes) : Vec{};
  Vec sum_skip = {}, sum_bias = {};
  for (int64_t s = 0; s < states; s++) store(w.sum_a + s * kLanes, Vec{});
  for (int64_t step = end - 1; step >= begin; step--) {
    const int64_t t = x.shape.at(part.row, step, length), n = step - begin, row = n * states * kLanes;
    const Vec dt = load(w.dt + n * kLanes), dy = load(w.dy + n * kLanes);
    const Vec u = load_lanes(x.u + t * width + d, lanes), dtu = dt * u;
    const float *b = x.row(x.b, t, part.group), *c = x.row(x.c, t, part.group);
    Vec ddtu = {}, ddt = {};
    for (int64_t s = 0; s < states; s++) {
      const int64_t at = row + s * kLanes;
      const Vec decay = load(w.a + at), before = load(w.h + at), after = load(w.h + at + states * kLanes);
      const Vec dh = load(w.g + s * kPart + i) + dy * c[s];
      const Vec exponent = dh * before * decay;
      store(w.sum_c + at, load(w.sum_c + at) + dy * after);
      store(w.sum_b + at, load(w.sum_b + at) + dh * dtu);
      store(w.sum_a + s * kLanes, load(w.sum_a + s * kLanes) + exponent * dt);
      store(w.g + s * kPart + i, dh * decay);
      ddtu += dh * b[s];
      ddt += exponent * load_lanes(x.turned + s * width + d, lanes);
    }
    ddt += ddtu * u;
    sum_skip += dy * u;
    if (g.du) store_lanes(g.du + t * width + d, ddtu * dt + skip * dy, lanes);
    if (x.positive) {
      Vec given = load_lanes(x.delta + t * width + d, lanes);
      if (x.bias) given += load_lanes(x.bias + d, lanes);
      ddt *= sigmoid(given);
    }
    sum_bias += ddt;
    if (g.ddelta) store_lanes(g.ddelta + t * width + d, ddt, lanes);
  }
  const auto add = [&](float* to, Vec v) { store_lanes(to, load_lanes(to, lanes) + v, lanes); };
  for (int64_t s = 0; s < states; s++) add(g.da + (part.row * states + s) * width + d, load(w.sum_a + s * kLanes));
  add(g.dskip + part.row * width + d, sum_skip);
  add(g.dbias + part.row * width + d, sum_bias);
}

void backward_part(const Inputs& x, const Part& part, const Gradients& g, float* scratch) {
  const Workspace w(scratch, x.states);
  const int64_t length = x.shape.valid(part.row), states = x.states, rows = x.shape.rows * x.shape.steps;
  const auto gathered = [&](float* of, int64_t at) {
    return of + ((part.index * rows + at) * x.groups + part.group) * states;
  };
  __builtin_memset(w.g, 0, states * kPart * sizeof(float));
  if (g.dlast) turn_in(x, part, g.dlast, w.g);
  for (int64_t s = 0; s < states; s++)
    __builtin_memset(g.da + (part.row * states + s) * x.shape.width + part.from, 0, part.width * sizeof(float));
  float* const of_channels[] = {g.dskip, g.dbias};
  for (float* sum : of_channels)
    __builtin_memset(sum + part.row * x.shape.width + part.from, 0, part.width * sizeof(float));
  for (int64_t chunk = (length + kChunk - 1) / kChunk - 1; chunk >= 0; chunk--) {
    const int64_t begin = chunk * kChunk, end = length - begin < kChunk ? length : begin + kChunk;
    __builtin_memset(w.sum_b, 0, 2 * kChunk * states * kLanes * sizeof(float));
    row_map(part.width, [&](int64_t i, int lanes) {
      recompute(x, part, g, w, length, begin, end, i, lanes);
      retrace(x, part, g, w, length, begin, end, i, lanes);
    });
    for (int64_t step = begin; step < end; step++) {
      const int64_t t = x.shape.at(part.row, step, length), row = (step - begin) * states * kLanes;
      for (int64_t s = 0; s < states; s++) {
        gathered(g.db, t)[s] = sum(load(w.sum_b + row + s * kLanes));
        gathered(g.dc, t)[s] = sum(load(w.sum_c + row + s * kLanes));
      }
    }
  }
  if (g.dinitial) turn_out(x, part, w.g, g.dinitial);
  float *const of_steps[] = {g.du, g.ddelta, g.dz}, *const of_groups[] = {g.db, g.dc};
  for (float* dx : of_steps) clear_padding(x, part, length, dx);
  for (int64_t t = part.row * x.shape.steps + length; t < (part.row + 1) * x.shape.steps; t++)
    for (float* sum : of_groups) __builtin_memset(gathered(sum, t), 0, states * sizeof(float));
}

// out[i] = sum over k of parts[k, i], in order
void add_up(Device* device, const float* parts, int64_t count, int64_t n, float* out) {
  if (!out) return;
  for_range(device, static_cast<size_t>(n), 1 + 16384 / static_cast<size_t>(count + 1), [=](size_t begin, size_t end) {
    row_map(static_cast<int64_t>(end - begin), [=](int64_t i, int lanes) {
      Vec total = {};
      for (int64_t k = 0; k < count; k++) total += load_lanes(parts + k * n + begin + i, lanes);
      store_lanes(out + begin + i, total, lanes);
    });
  });
}

// in: dy, dlast, the inputs of the forward pass, y, last, saved; out: the gradients of the inputs, each or none.
void selective_scan_backward(const Args& args, Device* device) {
  const Inputs x = inputs_of(args, 2, device);
  const int64_t n = x.shape.rows, width = x.shape.width, states = x.states,
                each = n * x.shape.steps * x.groups * states;
  const auto room = [&](int64_t floats) {
    return static_cast<float*>(device->scratch(device, (floats + 1) * sizeof(float)));
  };
  Gradients g = {data(args.in[0]),  data(args.in[1]),  data(args.in[14]),      data(args.out[0]),
                 data(args.out[1]), data(args.out[6]), data(args.out[8]),      room(n * states * width),
                 room(n * width),   room(n * width),   room(x.parts() * each), room(x.parts() * each)};
  for_parts(device, x, Workspace::floats(states),
            [&](const Part& part, float* scratch) { backward_part(x, part, g, scratch); });
  if (float* da = data(args.out[2])) {
    float* turned = room(states * width);
    add_up(device, g.da, n, states * width, turned);
    for (int64_t d = 0; d < width; d++)
      for (int64_t s = 0; s < states; s++) da[d * states + s] = turned[s * width + d];
  }
  add_up(device, g.db, x.parts(), each, data(args.out[3]));
  add_up(device, g.dc, x.parts(), each, data(args.out[4]));
  add_up(device, g.dskip, n, width, data(args.out[5]));
  add_up(device, g.dbias, n, width, data(args.out[7]));
}

const KernelEntry entries[] = {
    {"selectiveScan", selective_scan, 0},
    {"selectiveScan.backward", selective_scan_backward, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_KERNELS(selective_scan, entries)
