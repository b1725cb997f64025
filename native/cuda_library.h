// The library of CUDA kernels beside the addon: opened at run time, if at all.
#pragma once
#include <memory>
#include <string>

#include "cuda/api.h"
#include "machine.h"

namespace throughtime {

// Opens the library once for the process. Throws std::runtime_error saying why it cannot be used.
const CudaApi& cuda_library(const std::string& path);

// Throws std::runtime_error saying why unless there is such a GPU.
void require_gpu(const CudaApi& api, int device);

// A GPU of its own queue. Throws std::runtime_error saying why there is none.
std::unique_ptr<Machine> open_cuda(const CudaApi& api, int device);

}  // namespace throughtime
