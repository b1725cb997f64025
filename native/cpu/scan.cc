// scan and maxScan. ints: N, T, D, reverse.
#include "scan.h"

#include "isa.h"

namespace throughtime {
namespace {

// h_t = a_t * h_{t-1} + b_t
struct Linear {
  static constexpr int streams = 2;
  static constexpr float start = 0.0f;
  static THROUGHTIME_INLINE Vec forward(const Vec* in, Vec prev) { return in[0] * prev + in[1]; }
  static THROUGHTIME_INLINE void backward(const Vec* in, Vec prev, Vec g, Vec* din, Vec* dprev) {
    din[0] = g * prev;
    din[1] = g;
    *dprev = g * in[0];
  }
};

// m_t = max(a_t + m_{t-1}, b_t); a tie sends the gradient to b, and a NaN stays.
struct Max {
  static constexpr int streams = 2;
  static constexpr float start = -__builtin_inff();
  static THROUGHTIME_INLINE IVec past(const Vec* in, Vec prev) {
    const Vec shifted = in[0] + prev;
    return (shifted > in[1]) | (shifted != shifted);
  }
  static THROUGHTIME_INLINE Vec forward(const Vec* in, Vec prev) { return past(in, prev) ? in[0] + prev : in[1]; }
  static THROUGHTIME_INLINE void backward(const Vec* in, Vec prev, Vec g, Vec* din, Vec* dprev) {
    const IVec chosen = past(in, prev);
    din[0] = *dprev = chosen ? g : Vec{};
    din[1] = chosen ? Vec{} : g;
  }
};

ScanShape shape_of(const Args& args, const Buffer* lengths) {
  return {args.ints[0], args.ints[1], args.ints[2], args.ints[3] != 0, integers(lengths)};
}

// in: a, b [N, T, D], initial [N, D] or none, lengths [N] or none; out: h [N, T, D], last [N, D].
template <class Rule>
void run(const Args& args, Device* device) {
  const ScanStreams<Rule, const float> x = {{data(args.in[0]), data(args.in[1])}, args.ints[2]};
  scan_forward<Rule>(device, shape_of(args, args.in[3]), x, data(args.in[2]), data(args.out[0]), data(args.out[1]));
}

// in: dh, dlast, a, b, initial, lengths, h, last; out: da, db, dinitial, each or none.
template <class Rule>
void run_backward(const Args& args, Device* device) {
  const ScanStreams<Rule, const float> x = {{data(args.in[2]), data(args.in[3])}, args.ints[2]};
  const ScanStreams<Rule, float> dx = {{data(args.out[0]), data(args.out[1])}, args.ints[2]};
  scan_backward<Rule>(device, shape_of(args, args.in[5]), x, data(args.in[4]), data(args.in[6]), data(args.in[0]),
                      data(args.in[1]), dx, data(args.out[2]));
}

const KernelEntry entries[] = {
    {"scan", run<Linear>, 0},
    {"scan.backward", run_backward<Linear>, 0},
    {"maxScan", run<Max>, 0},
    {"maxScan.backward", run_backward<Max>, 0},
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_KERNELS(scan, entries)
