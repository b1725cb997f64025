// The cells that have persistent sweeps.
#include "math.h"

#include "../cells/elman.h"
#include "../cells/gru.h"
#include "../cells/lstm.h"
#include "sweep_run.h"

namespace throughtime {
namespace {

const KernelEntry entries[] = {
    SWEEP("elman_tanh", ElmanTanh),
    SWEEP("elman_relu", ElmanRelu),
    SWEEP("lstm", Lstm),
    SWEEP("gru", Gru<false>),
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_CUDA_KERNELS(sweep, entries)
