// A GPU: its stream, the memory kernels borrow, copies in and out, and the library's one entry.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "../packed_place.h"
#include "api.h"
#include "device.h"
#include "kernel_files.h"

namespace throughtime {

#define DECLARE(file) KernelList cuda_kernels_##file();
THROUGHTIME_CUDA_FILES(DECLARE)
#undef DECLARE

namespace {

constexpr size_t kStage = size_t{1} << 20;   // bytes of each of the two halves of the staging memory
constexpr size_t kKept = size_t{256} << 20;  // bytes of freed memory that stay with the driver's pool

void say(Message* why, const std::string& text) { snprintf(why->text, sizeof why->text, "%s", text.c_str()); }

}  // namespace

struct CudaMachine {
  CudaDevice device = {};
  int index = 0;
  bool pooled = false;              // memory is allocated in the order of the stream
  unsigned char* staged = nullptr;  // page-locked, 2 kStage
  cudaEvent_t copied[2] = {};       // when each half is free again
  int half = 0;
  Fault* found = nullptr;  // page-locked
  void* lent = nullptr;    // scratch
  size_t lent_bytes = 0, lent_used = 0;
  std::vector<void*> outgrown;
  size_t lent_before = 0;  // of them

  ~CudaMachine() {
    if (device.stream) cudaStreamSynchronize(device.stream);
    for (void* data : outgrown) drop(data);
    if (lent) drop(lent);
    if (device.fault) drop(device.fault);
    if (found) cudaFreeHost(found);
    if (staged) cudaFreeHost(staged);
    for (cudaEvent_t event : copied)
      if (event) cudaEventDestroy(event);
    if (device.stream) cudaStreamDestroy(device.stream);
  }

  // Null if there is none even after the driver's pool is emptied.
  void* try_grow(size_t bytes) {
    void* data = nullptr;
    for (int attempt = 0; attempt < 2; attempt++) {
      const size_t some = bytes ? bytes : 1;
      const cudaError_t error = pooled ? cudaMallocAsync(&data, some, device.stream) : cudaMalloc(&data, some);
      if (error == cudaSuccess) return data;
      cudaGetLastError();
      if (error != cudaErrorMemoryAllocation) check(error, "memory");
      check(cudaStreamSynchronize(device.stream), "memory");
      cudaMemPool_t pool;
      if (pooled && cudaDeviceGetDefaultMemPool(&pool, index) == cudaSuccess) cudaMemPoolTrimTo(pool, 0);
    }
    return nullptr;
  }
  void* grow(size_t bytes) {
    void* data = try_grow(bytes);
    if (!data) throw std::bad_alloc();
    return data;
  }
  void drop(void* data) { pooled ? cudaFreeAsync(data, device.stream) : cudaFree(data); }

  // Memory until the kernel's call ends; a call that follows may use it again, as the stream keeps their order.
  void* scratch(size_t bytes) {
    bytes = (bytes + 255) / 256 * 256;
    if (lent_used + bytes > lent_bytes) {
      // Next time one block holds it all.
      const size_t wanted = bytes + lent_bytes;
      if (lent) outgrown.push_back(lent);
      lent_before += lent_used;
      lent = nullptr, lent_bytes = lent_used = 0;
      lent = grow(wanted < kStage ? kStage : wanted);
      lent_bytes = wanted < kStage ? kStage : wanted;
    }
    void* data = static_cast<char*>(lent) + lent_used;
    lent_used += bytes;
    return data;
  }
  void end_of_call() {
    for (void* data : outgrown) drop(data);
    outgrown.clear();
    lent_used = lent_before = 0;
  }
  void take_back(size_t all_but) { lent_used = all_but > lent_before ? all_but - lent_before : 0; }

  void write(void* to, const void* from, size_t bytes) {
    for (size_t at = 0; at < bytes; at += kStage) {
      const size_t some = bytes - at < kStage ? bytes - at : kStage;
      unsigned char* place = staged + half * kStage;
      check(cudaEventSynchronize(copied[half]), "write");
      memcpy(place, static_cast<const char*>(from) + at, some);
      check(cudaMemcpyAsync(static_cast<char*>(to) + at, place, some, cudaMemcpyHostToDevice, device.stream), "write");
      check(cudaEventRecord(copied[half], device.stream), "write");
      half ^= 1;
    }
  }

  void read(void* into, const void* from, size_t bytes) {
    check(cudaMemcpyAsync(found, device.fault, sizeof(Fault), cudaMemcpyDeviceToHost, device.stream), "read");
    if (bytes <= kStage) {
      check(cudaMemcpyAsync(staged + half * kStage, from, bytes, cudaMemcpyDeviceToHost, device.stream), "read");
      check(cudaStreamSynchronize(device.stream), "read");
      raise();
      memcpy(into, staged + half * kStage, bytes);
    } else {
      check(cudaMemcpyAsync(into, from, bytes, cudaMemcpyDeviceToHost, device.stream), "read");
      check(cudaStreamSynchronize(device.stream), "read");
      raise();
    }
  }

  // Throws what kernels found wrong, once.
  void raise() {
    if (found->kind == NO_FAULT) return;
    check(cudaMemsetAsync(device.fault, 0, sizeof(Fault), device.stream), "read");
    char text[256];
    const Fault& f = *found;
    const char* kernel = f.kernel ? f.kernel : "kernel";
    if (f.kind == BAD_ID)
      snprintf(text, sizeof text, "%s: ids must be in [0, %d] for a table of %d rows, but ids[%lld] is %d", kernel,
               f.bound - 1, f.bound, f.index, f.value);
    else if (f.kind == BAD_TARGET)
      snprintf(text, sizeof text,
               "%s: targets must be in [0, %d] for %d classes, or %d to be ignored, but targets[%lld] is %d", kernel,
               f.bound - 1, f.bound, f.ignored, f.index, f.value);
    else
      snprintf(text, sizeof text, "%s: block %lld waited in vain for another one and gave up", kernel, f.index);
    throw std::runtime_error(text);
  }
};

namespace {

CudaMachine* machine_of(Device* device) { return cuda(device)->machine; }

void lend_to(CudaMachine* machine) {
  CudaDevice& d = machine->device;
  d.machine = machine;
  d.threads = 1;
  d.scratch = [](Device* device, size_t bytes) { return machine_of(device)->scratch(bytes); };
  d.lent = [](CudaDevice* device) { return device->machine->lent_before + device->machine->lent_used; };
  d.take_back = [](CudaDevice* device, size_t all_but) { device->machine->take_back(all_but); };
  d.packed = [](Device* device, Buffer* buffer, int64_t key, size_t floats, bool* fresh) {
    CudaMachine* m = machine_of(device);
    return packed_for(
        buffer, key, floats, fresh, [m](size_t bytes) { return m->grow(bytes); }, [m](void* p, size_t) { m->drop(p); });
  };
  d.fail = [](Device*, const char* message) { throw std::runtime_error(message); };
}

// Runs body on the machine's device, and turns what it throws into a message.
template <class F>
bool guarded(int device, Message* why, const F& body) {
  try {
    check(cudaSetDevice(device), "device");
    body();
    return true;
  } catch (const std::bad_alloc&) {
    say(why, "out of memory");
  } catch (const std::exception& error) {
    say(why, error.what());
  }
  return false;
}

KernelList kernels(int file) {
  using List = KernelList (*)();
#define ENTRY(file) cuda_kernels_##file,
  static const List files[] = {THROUGHTIME_CUDA_FILES(ENTRY)};
#undef ENTRY
  const int count = sizeof files / sizeof files[0];
  return file < count ? files[file]() : KernelList{nullptr, 0};
}

int count(Message* why) {
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error == cudaSuccess && devices > 0) return devices;
  cudaGetLastError();
  int driver = 0;
  cudaDriverGetVersion(&driver);
  if (error == cudaErrorInsufficientDriver && driver > 0)
    say(why, "the NVIDIA driver is too old: it knows CUDA " + std::to_string(driver / 1000) + "." +
                 std::to_string(driver % 1000 / 10) + ", and CUDA " + std::to_string(CUDART_VERSION / 1000) + "." +
                 std::to_string(CUDART_VERSION % 1000 / 10) + " is needed");
  else if (error == cudaErrorInsufficientDriver)
    say(why, "there is no NVIDIA driver");
  else if (error == cudaErrorNoDevice || error == cudaSuccess)
    say(why, "there is no NVIDIA GPU, or CUDA_VISIBLE_DEVICES hides it");
  else
    say(why, cudaGetErrorString(error));
  return 0;
}

int attribute(cudaDeviceAttr what, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, what, device), "device");
  return value;
}

void check_capability(int capability) {
  if (capability < 80)
    throw std::runtime_error("the GPU is too old: its compute capability is " + std::to_string(capability / 10) + "." +
                             std::to_string(capability % 10) + ", and 8.0 is needed");
}

bool info(int device, CudaInfo* result, Message* why) {
  return guarded(device, why, [&] {
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, device), "device");
    check_capability(10 * properties.major + properties.minor);
    snprintf(result->name, sizeof result->name, "%s", properties.name);
    check(cudaMemGetInfo(&result->free, &result->memory), "device");
    result->major = properties.major, result->minor = properties.minor;
    result->processors = properties.multiProcessorCount;
    check(cudaDriverGetVersion(&result->driver), "device");
    check(cudaRuntimeGetVersion(&result->runtime), "device");
    snprintf(result->blas, sizeof result->blas, "none: products are this library's own");
  });
}

void open_stream(CudaMachine* machine) {
  CudaDevice& d = machine->device;
  const int device = machine->index;
  d.processors = attribute(cudaDevAttrMultiProcessorCount, device);
  d.capability =
      10 * attribute(cudaDevAttrComputeCapabilityMajor, device) + attribute(cudaDevAttrComputeCapabilityMinor, device);
  check_capability(d.capability);
  d.shared_limit = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  const char* tf32 = getenv("THROUGHTIME_TF32");
  d.tf32 = tf32 && strcmp(tf32, "1") == 0;
  check(cudaStreamCreateWithFlags(&d.stream, cudaStreamNonBlocking), "stream");
  machine->pooled = attribute(cudaDevAttrMemoryPoolsSupported, device) != 0;
  if (machine->pooled) {
    cudaMemPool_t pool;
    uint64_t kept = kKept;
    check(cudaDeviceGetDefaultMemPool(&pool, device), "memory");
    check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &kept), "memory");
  }
  check(cudaMallocHost(reinterpret_cast<void**>(&machine->staged), 2 * kStage), "memory");
  check(cudaMallocHost(reinterpret_cast<void**>(&machine->found), sizeof(Fault)), "memory");
  for (cudaEvent_t& event : machine->copied) check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "event");
  d.fault = static_cast<Fault*>(machine->grow(sizeof(Fault)));
  check(cudaMemsetAsync(d.fault, 0, sizeof(Fault), d.stream), "memory");
}

CudaMachine* open(int device, Message* why) {
  auto* machine = new (std::nothrow) CudaMachine();
  if (!machine) return say(why, "out of memory"), nullptr;
  machine->index = device;
  lend_to(machine);
  if (guarded(device, why, [&] { open_stream(machine); })) return machine;
  delete machine;
  return nullptr;
}

void close(CudaMachine* machine) {
  cudaSetDevice(machine->index);
  delete machine;
}

void* allocate(CudaMachine* machine, size_t bytes) {
  void* data = nullptr;
  Message ignored;
  return guarded(machine->index, &ignored, [&] { data = machine->try_grow(bytes); }) ? data : nullptr;
}

void release(CudaMachine* machine, void* data) {
  cudaSetDevice(machine->index);
  machine->drop(data);
}

bool run(CudaMachine* machine, const KernelEntry* kernel, const Args* args, Message* why) {
  const bool done = guarded(machine->index, why, [&] {
    machine->device.kernel = kernel->name;
    kernel->run(*args, &machine->device);
  });
  machine->end_of_call();
  return done;
}

bool write(CudaMachine* machine, void* to, const void* from, size_t bytes, Message* why) {
  return guarded(machine->index, why, [&] { machine->write(to, from, bytes); });
}

bool read(CudaMachine* machine, void* into, const void* from, size_t bytes, Message* why) {
  return guarded(machine->index, why, [&] { machine->read(into, from, bytes); });
}

bool wait(CudaMachine* machine, Message* why) {
  return guarded(machine->index, why, [&] { check(cudaStreamSynchronize(machine->device.stream), "wait"); });
}

const CudaApi api = {kRevision, kCudaRevision, kernels, count, info, open, close,
                     allocate,  release,       run,     write, read, wait};

}  // namespace
}  // namespace throughtime

extern "C" __attribute__((visibility("default"))) const throughtime::CudaApi* throughtime_cuda() {
  return &throughtime::api;
}
