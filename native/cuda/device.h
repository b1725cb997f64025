// What a CUDA kernel's host side is lent, and how it launches. Every file of kernels starts with this header and ends
// with THROUGHTIME_CUDA_KERNELS(file, entries).
#pragma once
#include <cstring>
#include <stdexcept>
#include <string>

#include "../kernels.h"
#include "simt.h"

namespace throughtime {

// What a kernel found wrong, for the next read to report; the first one counts.
enum FaultKind : int { NO_FAULT = 0, BAD_ID, BAD_TARGET, SILENT_BLOCK };
struct Fault {
  int kind;
  int value, bound, ignored;
  long long index;
  const char* kernel;  // where it happened; host memory
};

struct CudaMachine;
struct Blas;

struct CudaDevice : Device {
  CudaMachine* machine;
  cudaStream_t stream;
  Fault* fault;        // on the device
  const char* kernel;  // the name of the one that runs
  int processors;
  int capability;       // 10 * major + minor
  size_t shared_limit;  // bytes of shared memory that a block may ask for
  bool tf32;            // whether products of float32 may be taken in TF32
  Blas* blas;           // see blas.h
  // How much scratch is lent, and all but that much back.
  size_t (*lent)(CudaDevice*);
  void (*take_back)(CudaDevice*, size_t lent);
};

struct Shape {
  dim3 grid, block;
  size_t shared = 0;         // bytes
  unsigned cluster = 1;      // blocks of a cluster, along x
  bool cooperative = false;  // all blocks are there at once
};

inline CudaDevice* cuda(Device* device) { return static_cast<CudaDevice*>(device); }

inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();
  if (error == cudaErrorMemoryAllocation) throw std::bad_alloc();
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

namespace {

inline float* data(const Buffer* b) { return b ? static_cast<float*>(b->data) : nullptr; }
inline int32_t* integers(const Buffer* b) { return b ? static_cast<int32_t*>(b->data) : nullptr; }

template <class T>
T* scratch(Device* device, size_t count) {
  return static_cast<T*>(device->scratch(device, count * sizeof(T)));
}

// What a part of a kernel borrows as scratch, later parts may use again: the stream keeps their order.
struct ScratchScope {
  explicit ScratchScope(Device* device) : device(cuda(device)), lent(cuda(device)->lent(cuda(device))) {}
  ~ScratchScope() { device->take_back(device, lent); }
  ScratchScope(const ScratchScope&) = delete;
  ScratchScope& operator=(const ScratchScope&) = delete;

 private:
  CudaDevice* device;
  size_t lent;
};

template <class... P, class... A>
void launch(Device* device, const Shape& shape, void (*kernel)(P...), A... args) {
#if defined(__CUDACC__)
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid, config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared, config.stream = cuda(device)->stream;
  cudaLaunchAttribute attributes[2] = {};
  if (shape.cluster > 1) {
    cudaLaunchAttribute& a = attributes[config.numAttrs++];
    a.id = cudaLaunchAttributeClusterDimension;
    a.val.clusterDim.x = shape.cluster, a.val.clusterDim.y = a.val.clusterDim.z = 1;
  }
  if (shape.cooperative) {
    cudaLaunchAttribute& a = attributes[config.numAttrs++];
    a.id = cudaLaunchAttributeCooperative;
    a.val.cooperative = 1;
  }
  config.attrs = attributes;
  const void* address = reinterpret_cast<const void*>(kernel);
  if (shape.shared > 48 * 1024)
    check(cudaFuncSetAttribute(address, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shape.shared)),
          "shared memory");
  if (shape.cluster > 8)
    check(cudaFuncSetAttribute(address, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), "cluster");
  check(cudaLaunchKernelEx(&config, kernel, static_cast<P>(args)...), "launch");
#else
  (void)device;
  emulated::launch(shape.grid, shape.block, shape.shared, shape.cluster, shape.cooperative,
                   [=] { kernel(static_cast<P>(args)...); });
#endif
}

constexpr int kBlock = 256;  // threads of a block where nothing else decides

DEVICE_AND_HOST int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class F>
KERNEL void over(int64_t n, F body) {
  const int64_t step = (int64_t)gridDim.x * blockDim.x;
  for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) body(i);
}

// body(i) for each i < n, in any order.
template <class F>
void for_each(Device* device, int64_t n, const F& body) {
  if (n <= 0) return;
  const int64_t blocks = (n + kBlock - 1) / kBlock, most = (int64_t)cuda(device)->processors * 16;
  launch(device, {dim3((unsigned)(blocks < most ? blocks : most)), dim3(kBlock)}, over<F>, n, body);
}

// A block for each of n: body(i) on all its threads, which may use block_sync() and shuffles. `shared` in bytes.
template <class F>
KERNEL void over_blocks(int64_t n, F body) {
  for (int64_t i = blockIdx.x; i < n; i += gridDim.x) body(i);
}
template <class F>
void for_each_block(Device* device, int64_t n, int threads, size_t shared, const F& body) {
  if (n <= 0) return;
  const int64_t most = (int64_t)cuda(device)->processors * 32;
  launch(device, {dim3((unsigned)(n < most ? n : most)), dim3(threads), shared}, over_blocks<F>, n, body);
}

// Any value of whole words, from another lane.
template <class T>
DEVICE T shuffle_words(T value, int mask) {
  static_assert(sizeof(T) % 4 == 0, "whole words");
  uint32_t words[sizeof(T) / 4];
  memcpy(words, &value, sizeof(T));
  for (unsigned i = 0; i < sizeof(T) / 4; i++) words[i] = shuffle_xor(words[i], mask);
  memcpy(&value, words, sizeof(T));
  return value;
}

// Adds or otherwise joins one value of each lane of a warp; every lane gets the result, always in the same order.
template <class T, class F>
DEVICE T warp_reduce(T value, F join) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value = join(value, shuffle_words(value, mask));
  return value;
}
struct Plus {
  template <class T>
  DEVICE T operator()(T a, T b) const {
    return a + b;
  }
};
DEVICE float warp_sum(float value) { return warp_reduce(value, Plus()); }

// The same over a block. `room`: shared memory of one T a warp; all threads must call, and may use it again at once.
template <class T, class F>
DEVICE T block_reduce(T value, T* room, F join) {
  const unsigned warps = blockDim.x / kWarp, warp = threadIdx.x / kWarp;
  value = warp_reduce(value, join);
  if (warps == 1) return value;
  if (threadIdx.x % kWarp == 0) room[warp] = value;
  block_sync();
  T total = room[0];
  for (unsigned w = 1; w < warps; w++) total = join(total, room[w]);
  block_sync();
  return total;
}
DEVICE float block_sum(float value, float* room) { return block_reduce(value, room, Plus()); }

// Notes what is wrong; from any thread.
DEVICE void report(Fault* fault, int kind, const char* kernel, long long index, int value, int bound, int ignored = 0) {
  if (atomicCAS(&fault->kind, NO_FAULT, kind) != NO_FAULT) return;
  fault->index = index, fault->value = value, fault->bound = bound, fault->ignored = ignored, fault->kernel = kernel;
}

}  // namespace
}  // namespace throughtime

#define THROUGHTIME_CUDA_KERNELS(file, entries)                                                                    \
  namespace throughtime {                                                                                          \
  KernelList cuda_kernels_##file();                                                                                \
  KernelList cuda_kernels_##file() { return {entries, static_cast<int>(sizeof(entries) / sizeof((entries)[0]))}; } \
  }
