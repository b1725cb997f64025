#include "device.h"

#include <stdexcept>

#include "buffers.h"

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

// The entry of this key, else an empty one, else the one that was made from the oldest version.
Packed* place_for(Buffer* buffer, int64_t key) {
  Packed* best = buffer->packed;
  for (Packed& entry : buffer->packed) {
    if (entry.data && entry.key == key) return &entry;
    if (best->data && (!entry.data || entry.version < best->version)) best = &entry;
  }
  return best;
}

float* packed(Device*, Buffer* buffer, int64_t key, size_t floats, bool* fresh) {
  Packed* place = place_for(buffer, key);
  const bool fits = place->data && place->key == key && place->floats >= floats;
  *fresh = !fits || place->version != buffer->version;
  if (!fits) {
    const Block block = allocate_block(floats * sizeof(float));
    if (place->data) free_block({place->data, place->floats * sizeof(float)});
    *place = {0, key, static_cast<float*>(block.data), floats};
  }
  place->version = buffer->version;
  return place->data;
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
