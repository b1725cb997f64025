// What kernels are lent, made from a pool and a scratch.
#pragma once
#include "kernels.h"
#include "memory.h"
#include "threads.h"

namespace throughtime {

struct CpuDevice : Device {
  Pool* pool;
  Scratch* scratch_memory;
};

CpuDevice lend(Pool* pool, Scratch* scratch);

}  // namespace throughtime
