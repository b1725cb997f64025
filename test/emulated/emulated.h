// CUDA's words on the processor: each thread of a block is a fiber, blocks run one after another, and those of a
// cluster or of a cooperative launch side by side. For tests on machines without a GPU; native/cuda/simt.h says what
// kernels may use.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)
#define KERNEL
#define DEVICE inline
#define DEVICE_AND_HOST inline

namespace emulated {

constexpr int kLanes = 32;

// Where some threads wait for each other.
struct Barrier {
  int members = 0, arrived = 0;
  unsigned long generation = 0;
};

struct Warp {
  Barrier barrier;
  unsigned parity = 0;
  unsigned char words[2][kLanes][32];  // what lanes show each other, of this exchange and the one before
};

struct Group;

struct Block {
  dim3 index;
  unsigned rank = 0;  // in its cluster
  Group* group = nullptr;
  unsigned char* shared = nullptr;
  Barrier barrier;
  bool any = false;  // of a vote
  Warp* warps = nullptr;
};

// Blocks that run side by side.
struct Group {
  unsigned cluster = 1;
  Block* blocks = nullptr;  // of the group, clusters one after another
  Barrier* clusters = nullptr;
};

struct Thread {
  dim3 index;
  int lane = 0;
  Block* block = nullptr;
  Warp* warp = nullptr;
  unsigned long cluster_generation = 0;
  unsigned exchanges = 0;
};

extern Thread* self;
extern dim3 block_size, grid_size;

// Lets the other threads run.
void yield();
void arrive_and_wait(Barrier& barrier);
void cluster_arrive();
void cluster_wait();

// Shows `size` bytes to the warp, waits until all have, and gives the words of all lanes.
const unsigned char (*exchange(const void* value, size_t size))[32];

void launch(dim3 grid, dim3 block, size_t shared, unsigned cluster, bool cooperative,
            const std::function<void()>& body);

}  // namespace emulated

#define threadIdx (emulated::self->index)
#define blockIdx (emulated::self->block->index)
#define blockDim (emulated::block_size)
#define gridDim (emulated::grid_size)

template <class T>
T atomicCAS(T* place, std::common_type_t<T> expected, std::common_type_t<T> value) {
  const T before = *place;
  if (before == expected) *place = value;
  return before;
}

inline float __uint_as_float(uint32_t bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}
inline uint32_t __float_as_uint(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return bits;
}
inline int32_t __float_as_int(float x) { return (int32_t)__float_as_uint(x); }
inline float __int_as_float(int32_t bits) { return __uint_as_float((uint32_t)bits); }
inline uint32_t __umulhi(uint32_t a, uint32_t b) { return (uint32_t)(((uint64_t)a * b) >> 32); }
inline float __ldg(const float* p) { return *p; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz((unsigned)x); }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }

namespace throughtime {

constexpr unsigned kWarp = 32;

template <class T>
T* shared_memory() {
  return reinterpret_cast<T*>(emulated::self->block->shared);
}
inline void block_sync() { emulated::arrive_and_wait(emulated::self->block->barrier); }
bool block_or(bool value);
inline void warp_sync() { emulated::exchange(nullptr, 0); }
template <class T>
T shuffle(T value, int lane) {
  const auto words = emulated::exchange(&value, sizeof value);
  memcpy(&value, words[lane & 31], sizeof value);
  return value;
}
template <class T>
T shuffle_xor(T value, int mask) {
  return shuffle(value, emulated::self->lane ^ mask);
}
template <class T>
T shuffle_up(T value, unsigned by) {
  const int lane = emulated::self->lane;
  return shuffle(value, lane < (int)by ? lane : lane - (int)by);
}

inline unsigned cluster_rank() { return emulated::self->block->rank; }
template <class T>
T* cluster_map(T* own, unsigned rank) {
  const emulated::Block* block = emulated::self->block;
  const size_t offset = reinterpret_cast<unsigned char*>(own) - block->shared;
  return reinterpret_cast<T*>((block - block->rank + rank)->shared + offset);
}
inline void cluster_arrive() { emulated::cluster_arrive(); }
inline void cluster_wait() { emulated::cluster_wait(); }

inline unsigned load_acquire(const unsigned* p) { return *static_cast<const volatile unsigned*>(p); }
inline void store_release(unsigned* p, unsigned value) { *static_cast<volatile unsigned*>(p) = value; }
inline unsigned add_release(unsigned* p, unsigned value) { return (*p += value) - value; }
inline float load_shared_by_grid(const float* p) { return *static_cast<const volatile float*>(p); }
inline float4 load_shared_by_grid(const float4* p) { return *p; }
inline void spin() { emulated::yield(); }

void multiply_bf16(float* d, const uint32_t* a, const uint32_t* b);
void multiply_tf32(float* d, const uint32_t* a, const uint32_t* b);
void multiply_int8(int32_t* d, const uint32_t* a, const uint32_t* b);
inline uint32_t to_bf16(float low, float high) {
  const auto bits = [](float x) {
    const uint32_t u = __float_as_uint(x);
    return x != x ? 0x7fffu : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  };
  return bits(low) | bits(high) << 16;
}
// Ties away from zero.
inline uint32_t to_tf32(float x) { return (__float_as_uint(x) + 0x1000u) & 0xffffe000u; }

}  // namespace throughtime

// As much of the CUDA runtime as the library calls.
using cudaError_t = int;
using cudaStream_t = void*;
using cudaEvent_t = void*;
using cudaMemPool_t = void*;
enum : int {
  cudaSuccess = 0,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
};
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount,
  cudaDevAttrComputeCapabilityMajor,
  cudaDevAttrComputeCapabilityMinor,
  cudaDevAttrMaxSharedMemoryPerBlockOptin,
  cudaDevAttrMemoryPoolsSupported,
};
enum { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
enum { cudaStreamNonBlocking, cudaEventDisableTiming, cudaMemPoolAttrReleaseThreshold };
constexpr int CUDART_VERSION = 0;
struct cudaDeviceProp {
  char name[256];
  int major, minor, multiProcessorCount;
};
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr what, int device);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaMemGetInfo(size_t* free, size_t* total);
cudaError_t cudaMalloc(void** data, size_t bytes);
cudaError_t cudaMallocAsync(void** data, size_t bytes, cudaStream_t stream);
cudaError_t cudaMallocHost(void** data, size_t bytes);
cudaError_t cudaFree(void* data);
cudaError_t cudaFreeAsync(void* data, cudaStream_t stream);
cudaError_t cudaFreeHost(void* data);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, int kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream);
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, int) { return *stream = stream, cudaSuccess; }
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, int) { return *event = event, cudaSuccess; }
inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
inline cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
inline cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int) { return *pool = nullptr, cudaSuccess; }
inline cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) { return cudaSuccess; }
inline cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, int, void*) { return cudaSuccess; }
