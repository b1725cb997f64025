// The table of kernels a device offers, and what a kernel may ask of the device that runs it.
// The CPU fills the table once per instruction set, CUDA fills it once; the names are the ops' names in TypeScript.
//
// Arguments are checked in TypeScript before a call is queued: kernels assert, they do not validate.
// Kernel files are compiled once per instruction set, so nothing here may become a weak symbol:
// plain structs only, no inline functions, no templates with external linkage.
#pragma once
#include <cstddef>
#include <cstdint>

namespace throughtime {

// Raised whenever what a kernel is given changes; src/backend/native.ts names the one it speaks.
constexpr int kRevision = 8;

enum DType : int32_t { F32 = 0, I32 = 1 };

struct Buffer;

// Weights rearranged for a kernel, kept with the buffer they were made from until that buffer is written again.
struct Packed {
  uint64_t version;  // the buffer's version it was made from
  int64_t key;       // which arrangement
  float* data;       // 64-byte aligned
  size_t floats;     // capacity
};

struct Buffer {
  void* data;  // 64-byte aligned
  size_t elements;
  DType dtype;
  uint64_t version;  // raised by the device each time the buffer is an output or is written
  Packed packed[8];  // data == nullptr: empty
};

struct Device;

// Instructions beyond those a kernel's file is compiled for, found when the device is opened.
enum CpuFeature : unsigned { HAS_BF16 = 1, HAS_VNNI = 2 };  // of AVX-512

// One queued call. An absent optional argument is a null pointer.
struct Args {
  Buffer* const* in;
  int inputs;
  Buffer* const* out;
  int outputs;
  const int32_t* ints;
  int int_count;
  const double* floats;
  int float_count;
};

// Runs on every thread of a parallel region: `rank` of `ranks`.
using Body = void (*)(void* context, int rank, int ranks);

// What the device lends to a kernel. Function pointers, so that kernel objects share no code.
struct Device {
  int threads;
  // Runs body on up to `ranks` threads (0: all) and returns when all are done. Never nested.
  void (*parallel)(Device*, int ranks, Body body, void* context);
  // Inside a region: waits until every thread of the region has arrived. Spins, then sleeps.
  void (*barrier)(Device*);
  // Memory for the duration of the kernel, 64-byte aligned, reused call after call; content undefined.
  // Called outside a region, any number of times a call.
  void* (*scratch)(Device*, size_t bytes);
  // The arrangement `key` of a buffer, room for `floats`; *fresh tells whether the caller must fill it.
  float* (*packed)(Device*, Buffer*, int64_t key, size_t floats, bool* fresh);
  // Ends the kernel with an error that the next read reports; does not return. Outside a region only.
  void (*fail)(Device*, const char* message) __attribute__((noreturn));
  unsigned features = 0;  // CpuFeature of this processor
};

using Kernel = void (*)(const Args&, Device*);

struct KernelEntry {
  const char* name;
  Kernel run;
  int info;  // a number the kernel states about itself; see Backend.kernelInfo
};

struct KernelList {
  const KernelEntry* entries;
  int count;
};

}  // namespace throughtime
