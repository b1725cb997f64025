#include "device.h"

#include <stdexcept>

#include "packed_place.h"

namespace throughtime {

namespace {

CpuDevice& cpu(Device* device) { return *static_cast<CpuDevice*>(device); }

void parallel(Device* device, int ranks, Body body, void* context) {
  const bool all = ranks <= 0 || ranks > device->threads;
  cpu(device).pool->run(all ? device->threads : ranks, body, context);
}
void barrier(Device* device) { cpu(device).pool->barrier(); }
void* scratch(Device* device, size_t bytes) { return cpu(device).scratch_memory->take(bytes); }
void fail(Device*, const char* message) { throw std::runtime_error(message); }

float* packed(Device*, Buffer* buffer, int64_t key, size_t floats, bool* fresh) {
  return packed_for(
      buffer, key, floats, fresh, [](size_t bytes) { return allocate_block(bytes).data; },
      [](void* memory, size_t bytes) {
        free_block({memory, bytes});
      });
}

unsigned features() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return (__builtin_cpu_supports("avx512bf16") ? HAS_BF16 : 0u) |
         (__builtin_cpu_supports("avx512vnni") ? HAS_VNNI : 0u);
#else
  return 0;
#endif
}

}  // namespace

CpuDevice lend(Pool* pool, Scratch* scratch_memory) {
  CpuDevice device;
  device.threads = pool->threads();
  device.parallel = parallel;
  device.barrier = barrier;
  device.scratch = scratch;
  device.packed = packed;
  device.fail = fail;
  device.features = features();
  device.pool = pool;
  device.scratch_memory = scratch_memory;
  return device;
}

}  // namespace throughtime
