// The cells that are taken step by step, to build fewer kernels: variants, and those that no persistent sweep suits.
#define THROUGHTIME_NOT_FUSED
#include "math.h"

#include "../cells/gru.h"
#include "../cells/gru_before.h"
#include "../cells/lstm.h"
#include "../cells/mgu.h"
#include "../cells/slstm.h"
#include "sweep_run.h"

namespace throughtime {
namespace {

template <LstmGates Kind>
using LstmWith = LstmCell<Kind, false>;

const KernelEntry entries[] = {
    SWEEP("lstm_coupled_input", LstmWith<LstmGates::CoupledInput>),
    SWEEP("lstm_coupled_forget", LstmWith<LstmGates::CoupledForget>),
    SWEEP("lstm_no_input", LstmWith<LstmGates::NoInput>),
    SWEEP("lstm_no_forget", LstmWith<LstmGates::NoForget>),
    SWEEP("lstm_no_output", LstmWith<LstmGates::NoOutput>),
    SWEEP("gru_write", Gru<true>),
    SWEEP("gru_before", GruBefore<false>),
    SWEEP("gru_before_write", GruBefore<true>),
    SWEEP("mgu", Mgu),
    SWEEP("slstm", Slstm),
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_CUDA_KERNELS(sweep_rare, entries)
