// cuBLASLt for large products, where it is installed: opened at run time, and done without otherwise.
#pragma once
#include <string>

#include "gemm.h"

namespace throughtime {

// What a machine has of it.
struct Blas;
Blas* make_blas();
void drop_blas(Blas* blas);

// Queues the product, in TF32 if `tf32`. False: it did not, as it is small, or there is no such library, or it cannot.
bool multiply_by_library(Device* device, const Product& product, bool tf32);

// Which cuBLASLt there is, or why none is used.
std::string blas_told();

}  // namespace throughtime
