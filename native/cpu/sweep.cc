// Cells through time; see sweep_forward.h and sweep_backward.h.
// ints of every kernel: N, T, I, H, reverse.
#include "isa.h"

#include "math.h"

#include "../cells/elman.h"
#include "../cells/gru.h"
#include "../cells/gru_before.h"
#include "../cells/lstm.h"
#include "sweep_backward.h"
#include "sweep_forward.h"

namespace throughtime {
namespace {

template <class Cell>
void forward(const Args& args, Device* device) {
  Forward<Cell>(args, device);
}

template <class Cell>
void backward(const Args& args, Device* device) {
  Backward<Cell>(args, device);
}

#define CELL(name, Cell) \
  {"sweep." name, forward<Cell>, Forward<Cell>::SAVED}, { "sweep." name ".backward", backward<Cell>, 0 }

const KernelEntry entries[] = {
    CELL("elman_tanh", ElmanTanh), CELL("elman_relu", ElmanRelu), CELL("lstm", Lstm), CELL("gru", Gru),
    CELL("gru_before", GruBefore),
};

}  // namespace
}  // namespace throughtime

THROUGHTIME_KERNELS(sweep, entries)
