// State spaces with a constant complex transition, S states for every channel, and a real input and output:
//   z_t = a * x_{t-1} + b u_t - q <p, x_{t-1}>      x_t = z_t - r <p, z_t>      y_t = k Re(sum over s of c[s] x_t[s])
// with <p, x> = k Re(sum of conj(p[s]) x[s]); k is 2 where a state stands for itself and its conjugate. Without p, q
// and r (the low rank of S4) the transition is diagonal. Lanes are channels. The states before every 32 steps are kept
// for the backward pass, which computes those within again. ints: N, T, D, reverse, S, k.
#include "scan.h"

#include "isa.h"

namespace throughtime {
namespace {

constexpr int64_t kChunk = 32;

// One complex number a lane, and the products that are needed of them.
struct Complex {
  Vec re, im;
};
Complex operator+(Complex x, Complex y) { return {x.re + y.re, x.im + y.im}; }
Complex operator-(Complex x, Complex y) { return {x.re - y.re, x.im - y.im}; }
Complex operator*(Complex x, Complex y) { return {x.re * y.re - x.im * y.im, x.re * y.im + x.im * y.re}; }
Complex operator*(Complex x, Vec y) { return {x.re * y, x.im * y}; }
Complex conj(Complex x) { return {x.re, -x.im}; }
// Re(conj(x) y)
Vec inner(Complex x, Complex y) { return x.re * y.re + x.im * y.im; }
Complex load_complex(const float* p, int64_t apart, int lanes) {
  return {load_lanes(p, lanes), load_lanes(p + apart, lanes)};
}
void store_complex(float* p, int64_t apart, Complex x, int lanes) {
  store_lanes(p, x.re, lanes);
  store_lanes(p + apart, x.im, lanes);
}

// a, b, c, p, q, r: as they are given, [D, S, 2], and as [S, 2, D].
constexpr int kMatrices = 6;

struct Inputs {
  ScanShape shape;
  int64_t states;
  float pairs;
  bool low_rank;
  const float *u, *initial;
  const float* turned[kMatrices];

  int64_t size() const { return 2 * states * shape.width; }
  int64_t chunks() const { return (shape.steps + kChunk - 1) / kChunk; }
  Complex of(int matrix, int64_t s, int64_t d, int lanes) const {
    return load_complex(turned[matrix] + 2 * s * shape.width + d, shape.width, lanes);
  }
};

// [rows, columns] to [columns, rows]
void turn(const float* from, int64_t rows, int64_t columns, float* to) {
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < columns; j++) to[j * rows + i] = from[i * columns + j];
}

float* room(Device* device, int64_t floats) {
  return static_cast<float*>(device->scratch(device, (floats + 1) * sizeof(float)));
}

// `at`: where the inputs begin, in the list of the kernel.
Inputs inputs_of(const Args& args, int at, Device* device) {
  Buffer* const* in = args.in + at;
  const int32_t* lengths = integers(in[8]);
  Inputs x = {{args.ints[0], args.ints[1], args.ints[2], args.ints[3] != 0, lengths},
              args.ints[4],
              static_cast<float>(args.ints[5]),
              in[4] != nullptr,
              data(in[0]),
              data(in[7]),
              {}};
  for (int m = 0; m < kMatrices; m++)
    if (const float* given = data(in[1 + m])) {
      float* turned = room(device, x.size());
      turn(given, x.shape.width, 2 * x.states, turned);
      x.turned[m] = turned;
    }
  return x;
}

// Some channels of one row: a vector of them.
struct Place {
  int64_t row, d;
  int lanes;
};

// One step: the states [S, 2, lanes] before it to those after it, and where the rank is low z on the way. Gives y / k.
Vec advance(const Inputs& x, const Place& at, Vec u, const float* before, float* after, float* way) {
  constexpr int64_t pair = 2 * kLanes;
  Vec seen = {};
  for (int64_t s = 0; x.low_rank && s < x.states; s++)
    seen += inner(x.of(3, s, at.d, at.lanes), load_complex(before + s * pair, kLanes, kLanes));
  seen *= x.pairs;
  Vec total = {}, second = {};
  for (int64_t s = 0; s < x.states; s++) {
    Complex z =
        x.of(0, s, at.d, at.lanes) * load_complex(before + s * pair, kLanes, kLanes) + x.of(1, s, at.d, at.lanes) * u;
    if (x.low_rank) {
      z = z - x.of(4, s, at.d, at.lanes) * seen;
      second += inner(x.of(3, s, at.d, at.lanes), z);
      store_complex(way + s * pair, kLanes, z, kLanes);
    } else {
      total += inner(conj(x.of(2, s, at.d, at.lanes)), z);
      store_complex(after + s * pair, kLanes, z, kLanes);
    }
  }
  second *= x.pairs;
  for (int64_t s = 0; x.low_rank && s < x.states; s++) {
    const Complex next = load_complex(way + s * pair, kLanes, kLanes) - x.of(5, s, at.d, at.lanes) * second;
    total += inner(conj(x.of(2, s, at.d, at.lanes)), next);
    store_complex(after + s * pair, kLanes, next, kLanes);
  }
  return total;
}

// States [S, 2, lanes] from or to [.., S, 2, D], where a row's state begins at p.
void fetch(const Inputs& x, const Place& at, const float* p, float* states) {
  for (int64_t k = 0; k < 2 * x.states; k++)
    store(states + k * kLanes, p ? load_lanes(p + k * x.shape.width + at.d, at.lanes) : Vec{});
}
void put(const Inputs& x, const Place& at, const float* states, float* p) {
  for (int64_t k = 0; k < 2 * x.states; k++)
    store_lanes(p + k * x.shape.width + at.d, load(states + k * kLanes), at.lanes);
}

// Calls body(row, from, width, scratch) for channels of each row, few enough that their states stay near.
template <class F>
void for_blocks(Device* device, const Inputs& x, int64_t floats, const F& body) {
  constexpr int64_t kBlock = 64;
  const int64_t width = x.shape.width, blocks = (width + kBlock - 1) / kBlock, units = x.shape.rows * blocks;
  const int64_t work = x.shape.rows * x.shape.steps * width * x.states;
  for_units(device, units, work < 32768 ? 1 : units, floats, [&](int64_t unit, float* scratch) {
    const int64_t from = unit % blocks * kBlock;
    body(unit / blocks, from, width - from < kBlock ? width - from : kBlock, scratch);
  });
}

// What is given row by row as [N, D, S, 2] to [N, S, 2, D], and back.
const float* turned_rows(Device* device, const Inputs& x, const float* states) {
  if (!states) return nullptr;
  float* out = room(device, x.shape.rows * x.size());
  for (int64_t row = 0; row < x.shape.rows; row++)
    turn(states + row * x.size(), x.shape.width, 2 * x.states, out + row * x.size());
  return out;
}
void turn_back(const Inputs& x, const float* from, float* states) {
  for (int64_t row = 0; states && row < x.shape.rows; row++)
    turn(from + row * x.size(), 2 * x.states, x.shape.width, states + row * x.size());
}

// in: u [N, T, D], a, b, c [D, S, 2], p, q, r [D, S, 2] or none, initial [N, D, S, 2] or none, lengths [N] or none;
// out: y [N, T, D], last [N, D, S, 2], and for training the states before each chunk [N, chunks, S, 2, D].
void diagonal_scan(const Args& args, Device* device) {
  const Inputs x = inputs_of(args, 0, device);
  float *y = data(args.out[0]), *saved = args.outputs > 2 ? data(args.out[2]) : nullptr;
  const float* initial = turned_rows(device, x, x.initial);
  float* last = room(device, x.shape.rows * x.size());
  const int64_t width = x.shape.width, steps = x.shape.steps, floats = 2 * x.states * kLanes;
  for_blocks(device, x, 2 * floats, [&](int64_t row, int64_t from, int64_t count, float* states) {
    const int64_t length = x.shape.valid(row);
    row_map(count, [&](int64_t i, int lanes) {
      const Place at = {row, from + i, lanes};
      fetch(x, at, initial ? initial + row * x.size() : nullptr, states);
      for (int64_t s = 0; s < length; s++) {
        if (saved && s % kChunk == 0) put(x, at, states, saved + (row * x.chunks() + s / kChunk) * x.size());
        const int64_t t = x.shape.at(row, s, length) * width + at.d;
        const Vec total = advance(x, at, load_lanes(x.u + t, lanes), states, states, states + floats);
        store_lanes(y + t, total * x.pairs, lanes);
      }
      put(x, at, states, last + row * x.size());
    });
    for (int64_t t = row * steps + length; t < (row + 1) * steps; t++)
      __builtin_memset(y + t * width + from, 0, count * sizeof(float));
  });
  turn_back(x, last, data(args.out[1]));
}

struct Gradients {
  const float *dy, *dlast, *saved;
  float *du, *carried;     // [N, T, D] or none; [N, S, 2, D], the gradient of the state between two steps
  float* sums[kMatrices];  // [N, S, 2, D] each, or none
};

// One chunk of one vector of channels. scratch: g, states before each step and after the last, and z on the way to
// them, [S, 2, lanes] each, and the sums of this chunk.
void retrace(const Inputs& x, const Gradients& g, const Place& at, int64_t length, int64_t begin, int64_t end,
             float* scratch) {
  constexpr int64_t pair = 2 * kLanes;
  const int64_t width = x.shape.width, floats = x.states * pair, lanes = at.lanes;
  float *grad = scratch, *sums = grad + floats, *states = sums + kMatrices * floats,
        *ways = states + (kChunk + 1) * floats;
  fetch(x, at, g.saved + (at.row * x.chunks() + begin / kChunk) * x.size(), states);
  for (int64_t s = begin; s < end; s++) {
    const int64_t n = s - begin;
    const Vec u = load_lanes(x.u + x.shape.at(at.row, s, length) * width + at.d, lanes);
    advance(x, at, u, states + n * floats, states + (n + 1) * floats, ways + n * floats);
  }
  fetch(x, at, g.carried + at.row * x.size(), grad);
  __builtin_memset(sums, 0, kMatrices * floats * sizeof(float));
  const auto add = [&](int matrix, int64_t s, Complex v) {
    float* to = sums + matrix * floats + s * pair;
    store_complex(to, kLanes, load_complex(to, kLanes, kLanes) + v, kLanes);
  };
  const auto state = [&](const float* of, int64_t n, int64_t s) {
    return load_complex(of + n * floats + s * pair, kLanes, kLanes);
  };
  for (int64_t step = end - 1; step >= begin; step--) {
    const int64_t n = step - begin, t = x.shape.at(at.row, step, length) * width + at.d;
    const Vec u = load_lanes(x.u + t, lanes), dy = (g.dy ? load_lanes(g.dy + t, lanes) : Vec{}) * x.pairs;
    Vec dsecond = {}, second = {}, seen = {};
    for (int64_t s = 0; s < x.states; s++) {
      const Complex dx = state(grad, 0, s) + conj(x.of(2, s, at.d, lanes)) * dy;
      add(2, s, conj(state(states, n + 1, s)) * dy);
      store_complex(grad + s * pair, kLanes, dx, kLanes);
      if (!x.low_rank) continue;
      const Complex p = x.of(3, s, at.d, lanes);
      dsecond = dsecond - inner(x.of(5, s, at.d, lanes), dx);
      second += inner(p, state(ways, n, s));
      seen += inner(p, state(states, n, s));
    }
    second *= x.pairs, seen *= x.pairs, dsecond *= x.pairs;
    Vec du = {}, dseen = {};
    for (int64_t s = 0; s < x.states; s++) {
      Complex dz = state(grad, 0, s);
      const Complex before = state(states, n, s);
      if (x.low_rank) {
        add(5, s, dz * -second);
        add(3, s, state(ways, n, s) * dsecond);
        dz = dz + x.of(3, s, at.d, lanes) * dsecond;
        add(4, s, dz * -seen);
        dseen = dseen - inner(x.of(4, s, at.d, lanes), dz);
      }
      add(0, s, dz * conj(before));
      add(1, s, dz * u);
      du += inner(x.of(1, s, at.d, lanes), dz);
      store_complex(grad + s * pair, kLanes, conj(x.of(0, s, at.d, lanes)) * dz, kLanes);
    }
    dseen *= x.pairs;
    for (int64_t s = 0; x.low_rank && s < x.states; s++) {
      add(3, s, state(states, n, s) * dseen);
      store_complex(grad + s * pair, kLanes, state(grad, 0, s) + x.of(3, s, at.d, lanes) * dseen, kLanes);
    }
    if (g.du) store_lanes(g.du + t, du, lanes);
  }
  put(x, at, grad, g.carried + at.row * x.size());
  for (int m = 0; m < kMatrices; m++)
    for (int64_t k = 0; g.sums[m] && k < 2 * x.states; k++) {
      float* to = g.sums[m] + at.row * x.size() + k * width + at.d;
      store_lanes(to, load_lanes(to, lanes) + load(sums + m * floats + k * kLanes), lanes);
    }
}

// in: dy, dlast, the inputs, y, last, saved; out: the gradients of u, a, b, c, p, q, r and initial, each or none.
void diagonal_scan_backward(const Args& args, Device* device) {
  const Inputs x = inputs_of(args, 2, device);
  const int64_t n = x.shape.rows, width = x.shape.width, steps = x.shape.steps, size = x.size();
  Gradients g = {data(args.in[0]), nullptr, data(args.in[13]), data(args.out[0]), room(device, n * size), {}};
  g.dlast = turned_rows(device, x, data(args.in[1]));
  for (int m = 0; m < kMatrices; m++)
    if (data(args.out[1 + m])) g.sums[m] = room(device, n * size);
  const int64_t floats = 2 * x.states * kLanes * (1 + kMatrices + kChunk + 1 + (x.low_rank ? kChunk : 0));
  for_blocks(device, x, floats, [&](int64_t row, int64_t from, int64_t count, float* scratch) {
    const int64_t length = x.shape.valid(row);
    for (int64_t k = 0; k < 2 * x.states; k++) {
      const int64_t at = row * size + k * width + from;
      if (g.dlast)
        __builtin_memcpy(g.carried + at, g.dlast + at, count * sizeof(float));
      else
        __builtin_memset(g.carried + at, 0, count * sizeof(float));
      for (int m = 0; m < kMatrices; m++)
        if (g.sums[m]) __builtin_memset(g.sums[m] + at, 0, count * sizeof(float));
    }
    row_map(count, [&](int64_t i, int lanes) {
      for (int64_t chunk = (length + kChunk - 1) / kChunk - 1; chunk >= 0; chunk--) {
        const int64_t begin = chunk * kChunk, end = length - begin < kChunk ? length : begin + kChunk;
        retrace(x, g, {row, from + i, lanes}, length, begin, end, scratch);
      }
    });
    for (int64_t t = row * steps + length; g.du && t < (row + 1) * steps; t++)
      __builtin_memset(g.du + t * width + from, 0, count * sizeof(float));
  });
  for (int m = 0; m < kMatrices; m++) {
    if (!g.sums[m]) continue;
    float* total = g.sums[m];
    for (int64_t row = 1; row < n; row++)
      row_map(size, [=](int64_t i, int lanes) {
        store_lanes(total + i, load_lanes(total + i, lanes) + load_lanes(total + row * size + i, lanes), lanes);
      });
    if (n > 0) turn(total, 2 * x.states, width, data(args.out[1 + m]));
  }
  turn_back(x, g.carried, data(args.out[7]));
}

const KernelEntry entries[] = {
    {"diagonalScan", diagonal_scan, 0},
    {"diagonalScan.backward", diagonal_scan_backward, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_KERNELS(diagonal_scan, entries)
