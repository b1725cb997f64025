// The kernels of the instruction set that was chosen.
#pragma once
#include <string>
#include <vector>

#include "kernels.h"

namespace throughtime {

struct KernelSet {
  std::string isa;
  std::vector<KernelEntry> kernels;
};

// Instruction sets that were compiled in and that this processor has, best last.
std::vector<std::string> usable_isas();

// The kernels for `isa`, or for the best one if it is empty.
// Throws std::runtime_error naming the choices if `isa` cannot be used.
KernelSet cpu_kernels(const std::string& isa);

}  // namespace throughtime
