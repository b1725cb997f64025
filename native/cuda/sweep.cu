// Cells through time; see native/cpu/sweep.cc.
#include <type_traits>

#include "ids.h"
#include "math.h"

#include "../cells/elman.h"
#include "../cells/gru.h"
#include "../cells/gru_before.h"
#include "../cells/lstm.h"
#include "../cells/mgu.h"
#include "../cells/slstm.h"
#include "sweep_backward.h"
#include "sweep_forward.h"

namespace throughtime {

template <>
constexpr bool is_persistent<ElmanTanh> = true;
template <>
constexpr bool is_persistent<ElmanRelu> = true;
template <>
constexpr bool is_persistent<Lstm> = true;
template <>
constexpr bool is_persistent<Gru<false>> = true;

namespace {

// A cell of which some sweeps are plain has a form without stages for them; any other always has the stages.
struct None {};
template <class Plain>
constexpr bool always_staged = std::is_same_v<Plain, None>;

// run(plan) for some rows of the batch after others.
template <class Plan, class F>
void for_rows(Device* device, const Plan& plan, const F& run) {
  const int64_t most = rows_at_once(plan);
  int64_t first = 0;
  do {
    const ScratchScope scope(device);
    Plan part = plan;
    keep_rows(&part, first, plan.n - first < most ? plan.n - first : most);
    run(part);
    first += most;
  } while (first < plan.n);
}

template <class Plain, class Staged>
void forward(const Args& args, Device* device) {
  const SweepPlan whole = forward_plan(cell_shape<Staged>, always_staged<Plain>, args);
  if (whole.ids) launch_check(device, whole.ids, whole.places(), (int32_t)whole.table_rows, false, 0);
  for_rows(device, whole, [device](const SweepPlan& plan) {
    if constexpr (!always_staged<Plain>)
      if (plan.plain) return run_forward<Plain, true>(device, plan);
    run_forward<Staged, false>(device, plan);
  });
}

template <class Plain, class Staged>
void backward(const Args& args, Device* device) {
  for_rows(device, backward_plan(cell_shape<Staged>, always_staged<Plain>, args), [device](const GradientPlan& plan) {
    if constexpr (!always_staged<Plain>)
      if (plan.plain) return run_backward<Plain, true>(device, plan);
    run_backward<Staged, false>(device, plan);
  });
}

// What a sweep states about itself: how many values of a unit it saves at a step if it is plain; if it never is, -1
// less that many.
template <class Plain, class Staged>
constexpr int info = always_staged<Plain> ? -(Staged::saved + Staged::states) : Staged::saved + Staged::states - 1;

#define PLAIN(name, Plain, Staged)                                \
  {"sweep." name, forward<Plain, Staged>, info<Plain, Staged>}, { \
    "sweep." name ".backward", backward<Plain, Staged>, 0         \
  }
#define STAGED(name, Cell) PLAIN(name, None, Cell)
#define LSTMS(name, Cell) STAGED(name, Cell), STAGED(name "_peephole", Cell)

template <LstmGates Kind>
using AnyLstm = LstmCell<Kind, true>;

const KernelEntry entries[] = {
    PLAIN("elman_tanh", ElmanTanh, ElmanTanh),
    PLAIN("elman_relu", ElmanRelu, ElmanRelu),
    STAGED("indrnn_tanh", IndRnnTanh),
    STAGED("indrnn_relu", IndRnnRelu),
    PLAIN("lstm", Lstm, AnyLstm<LstmGates::All>),
    STAGED("lstm_peephole", AnyLstm<LstmGates::All>),
    LSTMS("lstm_coupled_input", AnyLstm<LstmGates::CoupledInput>),
    LSTMS("lstm_coupled_forget", AnyLstm<LstmGates::CoupledForget>),
    LSTMS("lstm_no_input", AnyLstm<LstmGates::NoInput>),
    LSTMS("lstm_no_forget", AnyLstm<LstmGates::NoForget>),
    LSTMS("lstm_no_output", AnyLstm<LstmGates::NoOutput>),
    PLAIN("gru", Gru<false>, Gru<false>),
    STAGED("gru_write", Gru<true>),
    PLAIN("gru_before", GruBefore<false>, GruBefore<false>),
    STAGED("gru_before_write", GruBefore<true>),
    STAGED("mgu", Mgu),
    STAGED("slstm", Slstm),
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_CUDA_KERNELS(sweep, entries)
