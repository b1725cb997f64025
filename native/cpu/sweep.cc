// Cells through time; see sweep_forward.h and sweep_backward.h, and for what may be around a cell stages.h.
// ints of every kernel: N, T, I, H, reverse, width of h, projected, carry_normalised, then for each mask how far it
// moves with the row and with the step. floats: bound of the cell state, 0 for none.
#include <type_traits>

#include "isa.h"

#include "math.h"

#include "../cells/elman.h"
#include "../cells/gru.h"
#include "../cells/gru_before.h"
#include "../cells/lstm.h"
#include "../cells/mgu.h"
#include "../cells/slstm.h"
#include "staged_backward.h"
#include "staged_forward.h"
#include "sweep_backward.h"
#include "sweep_forward.h"

namespace throughtime {
namespace {

// A cell that is often used alone has a sweep of its own without stages, `Plain`; any other always has the stages.
struct None {};

template <class Plain, class Staged>
void forward(const Args& args, Device* device) {
  if constexpr (!std::is_same_v<Plain, None>)
    if (!Stages::any(shape_of<Staged>, args, args.in)) return Forward<Plain>(args, device).run();
  StagedForward<Staged>(args, device).run();
}

template <class Plain, class Staged>
void backward(const Args& args, Device* device) {
  if constexpr (!std::is_same_v<Plain, None>)
    if (!Stages::any(shape_of<Staged>, args, args.in + 1 + Staged::states + args.ints[6]))
      return Backward<Plain>(args, device).run();
  StagedBackward<Staged>(args, device).run();
}

// What a sweep states about itself: how many values of a unit it saves at a step if it is plain; if it never is, -1
// less that many.
template <class Plain, class Staged>
constexpr int info = std::is_same_v<Plain, None> ? -(Staged::saved + Staged::states)
                                                 : Staged::saved + Staged::states - 1;

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

THROUGHTIME_KERNELS(sweep, entries)
