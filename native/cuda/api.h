// What the library of CUDA kernels and the addon say to each other. The library is a file of its own, opened at run
// time where there is one, so only plain data and functions cross: no exceptions, no classes, no allocator.
//
// A function that can fail is given room for a message, and says by its result whether it failed.
#pragma once
#include "../kernels.h"

namespace throughtime {

// Raised whenever this header changes; kRevision of kernels.h counts too.
constexpr int kCudaRevision = 2;

struct Message {
  char text[512];
};

struct CudaInfo {
  char name[256];
  size_t memory, free;  // bytes
  int major, minor;     // compute capability
  int processors;       // streaming multiprocessors
  int driver, runtime;  // CUDA versions, as 1000 * major + 10 * minor
  char blas[160];       // the cuBLASLt that was found, or why none is used
  bool tf32;            // whether products of float32 are taken in TF32
};

struct CudaMachine;

struct CudaApi {
  int revision, cuda_revision;
  KernelList (*kernels)(int file);  // of each file; null entries after the last
  int (*count)(Message*);           // devices; 0 with a message
  bool (*info)(int device, CudaInfo*, Message*);
  CudaMachine* (*open)(int device, Message*);  // null: failed
  void (*close)(CudaMachine*);
  void* (*allocate)(CudaMachine*, size_t bytes);  // null: out of memory
  void (*release)(CudaMachine*, void*);
  bool (*run)(CudaMachine*, const KernelEntry*, const Args*, Message*);
  bool (*write)(CudaMachine*, void* to, const void* from, size_t bytes, Message*);
  bool (*read)(CudaMachine*, void* into, const void* from, size_t bytes, Message*);
  bool (*wait)(CudaMachine*, Message*);
};

// The one symbol of the library.
using CudaEntry = const CudaApi* (*)();
constexpr const char* kCudaEntry = "throughtime_cuda";

}  // namespace throughtime
