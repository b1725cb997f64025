// The words kernels are written in: CUDA C++ and the few primitives below. Where no CUDA compiler reads this, the same
// words are emulated on the processor, so that every kernel can be tested without a GPU (test/emulated).
//
// So that both can read a kernel: shared memory is dynamic and comes from shared_memory(), blocks are whole warps, and
// no thread leaves before the last barrier or shuffle of its warp.
#pragma once
#include <cstddef>
#include <cstdint>

#if !defined(__CUDACC__)
#include "emulated.h"
#else
#include <cuda_runtime.h>

namespace throughtime {

constexpr unsigned kWarp = 32;

// The block's dynamic shared memory, 16-byte aligned.
template <class T>
__device__ __forceinline__ T* shared_memory() {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  return reinterpret_cast<T*>(shared_bytes);
}

__device__ __forceinline__ void block_sync() { __syncthreads(); }
__device__ __forceinline__ void warp_sync() { __syncwarp(); }
template <class T>
__device__ __forceinline__ T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
// The value of lane `lane`.
template <class T>
__device__ __forceinline__ T shuffle(T value, int lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}
// The value of the lane `by` below; its own where there is none.
template <class T>
__device__ __forceinline__ T shuffle_up(T value, unsigned by) {
  return __shfl_up_sync(0xffffffffu, value, by);
}

// Whether it is true for any thread of the block.
__device__ __forceinline__ bool block_or(bool value) { return __syncthreads_or(value); }

// Between the blocks of a cluster (compute capability 9.0): a block's rank, an address in the shared memory of another
// one, and a barrier that makes what was written there seen.
__device__ __forceinline__ unsigned cluster_rank() {
  unsigned rank = 0;
#if __CUDA_ARCH__ >= 900
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
#endif
  return rank;
}
template <class T>
__device__ __forceinline__ T* cluster_map(T* own, unsigned rank) {
#if __CUDA_ARCH__ >= 900
  uint64_t there;
  asm("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(reinterpret_cast<uint64_t>(own)), "r"(rank));
  return reinterpret_cast<T*>(there);
#else
  return own;
#endif
}
__device__ __forceinline__ void cluster_arrive() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ void cluster_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

// Words of global memory that blocks tell each other something by, past the first-level cache.
__device__ __forceinline__ unsigned load_acquire(const unsigned* p) {
  unsigned value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(p) : "memory");
  return value;
}
__device__ __forceinline__ void store_release(unsigned* p, unsigned value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(value) : "memory");
}
__device__ __forceinline__ unsigned add_release(unsigned* p, unsigned value) {
  unsigned before;
  asm volatile("atom.add.release.gpu.global.u32 %0, [%1], %2;" : "=r"(before) : "l"(p), "r"(value) : "memory");
  return before;
}
// A number that other blocks wrote during this kernel.
__device__ __forceinline__ float load_shared_by_grid(const float* p) {
  float value;
  asm volatile("ld.relaxed.gpu.global.f32 %0, [%1];" : "=f"(value) : "l"(p) : "memory");
  return value;
}
__device__ __forceinline__ float4 load_shared_by_grid(const float4* p) { return __ldcg(p); }
// Between two looks at such a word.
__device__ __forceinline__ void spin() {}

// d += a b for a [16, 16] and b [16, 8] of bfloat16, two to a word: lane 4 g + t holds a(g, 2t), a(g + 8, 2t),
// a(g, 2t + 8), a(g + 8, 2t + 8), b(2t, g), b(2t + 8, g), and d(g, 2t), d(g, 2t + 1), d(g + 8, 2t), d(g + 8, 2t + 1).
__device__ __forceinline__ void multiply_bf16(float* d, const uint32_t* a, const uint32_t* b) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// The same for a [16, 8] and b [8, 8] of TF32: a(g, t), a(g + 8, t), a(g, t + 4), a(g + 8, t + 4), b(t, g), b(t + 4,
// g).
__device__ __forceinline__ void multiply_tf32(float* d, const uint32_t* a, const uint32_t* b) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// The same for a [16, 32] and b [32, 8] of bytes with sign, four to a word, and sums that are exact integers: word t of
// row g, of row g + 8, word t + 4 of both; words t and t + 4 of column g.
__device__ __forceinline__ void multiply_int8(int32_t* d, const uint32_t* a, const uint32_t* b) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// Two floats as the nearest bfloat16, ties to even, the first one in the lower half; NaN stays NaN.
__device__ __forceinline__ uint32_t to_bf16(float low, float high) {
  uint32_t bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}
// A float as the nearest TF32.
__device__ __forceinline__ uint32_t to_tf32(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}

}  // namespace throughtime

// Kernels and what they call, in the file that launches them.
#define KERNEL __global__
#define DEVICE __device__ __forceinline__
#define DEVICE_AND_HOST __host__ __device__ __forceinline__
#endif
