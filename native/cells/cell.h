// What a cell's header states, once for CPU vectors and CUDA threads. A cell knows no loop: its functions are given the
// values of a few units (V: a vector of units, or one float) and give back theirs.
//
//   gates        rows of the weights, in order; wx = W x_t + b_ih and rh = U h_{t-1} + b_hh come by gate
//   diagonal     U h is taken unit by unit instead of as a product
//   inner_gates  how many of the last gates have rh = U (keep[operand]) + b_hh instead, a second product in the step
//   states       states[0] is h: the output, and what the recurrent product reads
//   vectors      weights of each unit alone, at stages.vector
//   saved        values that backward needs again, besides the states: `keep`
//   one_gradient whether dwx equals drh; drh is then not written
//   normed       the state that may be layer-normalised; 0: none
//
//   forward (wx, rh, prev, next, keep, stages)   fills next and keep
//   backward(keep, prev, next, dnext, dwx, drh, dprev, stages, dvector)
//                fills dwx, drh, dprev, which leaves out what flows back through the recurrent product, and dvector
//
// With inner gates, `inner(wx, rh, prev, keep)` runs before forward: rh holds the other gates, keep[operand] is the result,
// and forward finds `keep` as inner left it and only the inner gates in rh. Backwards, `backward` fills at least the inner
// gates of dwx and drh; `inner_backward(keep, prev, doperand, dwx, drh, dprev)` completes the others and dprev.
//
// A normed cell gives its two halves, of which forward and backward are made, so that a driver can normalise in between:
//   state          (wx, rh, prev, next, keep, stages)   fills next[normed] and keep
//   output         (keep, seen, next)                   fills next[0] from the state as the output sees it
//   output_backward(keep, seen, dnext, dwx)             returns dseen, and fills dwx of gates that state_backward finds
//   state_backward (keep, prev, next, dstate, dwx, drh, dprev, stages, dvector)
//
// exp, tanh and sigmoid of V must be declared above the inclusion.
#pragma once

#if defined(__CUDACC__)
#define HD __host__ __device__ __forceinline__
#else
#define HD inline __attribute__((always_inline))
#endif

namespace throughtime {

struct CellDefaults {
  static constexpr int inner_gates = 0, vectors = 0, normed = 0;
  static constexpr bool diagonal = false;
};

// What the driver does to the numbers inside a step. Here: nothing.
struct NoStages {
  // A candidate value, or its gradient, under dropout.
  template <class V>
  HD V drop(V candidate) const {
    return candidate;
  }
  // A state within its bounds.
  template <class V>
  HD V clip(V state) const {
    return state;
  }
  // The gradient of a state before it was clipped to `state`.
  template <class V>
  HD V clip_backward(V, V gradient) const {
    return gradient;
  }
};

}  // namespace throughtime
