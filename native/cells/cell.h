// What a cell's header states, once for CPU vectors and CUDA threads. A cell knows no loop: its functions are given the
// values of a few units (V: a vector of units, or one float) and give back theirs.
//
//   gates        rows of the weights, in order; wx = W x_t + b_ih and rh = U h_{t-1} + b_hh come by gate
//   inner_gates  how many of the last gates have rh = U (keep[operand]) + b_hh instead, a second product in the step
//   states       states[0] is h: the output, and what the recurrent product reads
//   saved        values that backward needs again, besides the states: `keep`
//   one_gradient whether dwx equals drh; drh is then not written
//
//   forward (wx, rh, prev, next, keep)      fills next and keep
//   backward(keep, prev, next, dnext, dwx, drh, dprev)
//                fills dwx, drh and dprev, which leaves out what flows back through the recurrent product
//
// With inner gates, `inner(wx, rh, prev, keep)` runs before forward: rh holds the other gates, keep[operand] is the result,
// and forward finds `keep` as inner left it and only the inner gates in rh. Backwards, `backward` fills at least the inner
// gates of dwx and drh; `inner_backward(keep, prev, doperand, dwx, drh, dprev)` completes the others and dprev.
//
// exp, tanh and sigmoid of V must be declared above the inclusion.
#pragma once

#if defined(__CUDACC__)
#define HD __host__ __device__ __forceinline__
#else
#define HD inline __attribute__((always_inline))
#endif
