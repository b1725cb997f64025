// A device for testing kernels without the addon: threads started for each region, memory filled with NaN.
#pragma once
#include <pthread.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "../../native/kernels.h"

namespace throughtime {

inline float* filled(size_t floats) {
  float* data = static_cast<float*>(std::aligned_alloc(64, (floats * 4 + 127) / 64 * 64));
  for (size_t i = 0; i < floats; i++) data[i] = NAN;
  return data;
}

class TestDevice : public Device {
 public:
  explicit TestDevice(int count) : Device{count, run, meet, lend, keep, stop} {}

  void call(const KernelList& list, const char* name, const std::vector<Buffer*>& in, const std::vector<Buffer*>& out,
            const std::vector<int32_t>& ints, const std::vector<double>& floats = {0}) {
    lent.clear();
    for (int i = 0; i < list.count; i++)
      if (std::strcmp(list.entries[i].name, name) == 0)
        list.entries[i].run({in.data(), (int)in.size(), out.data(), (int)out.size(), ints.data(), (int)ints.size(),
                             floats.data(), (int)floats.size()},
                            this);
  }

 private:
  static void run(Device* device, int ranks, Body body, void* context) {
    if (ranks <= 0 || ranks > device->threads) ranks = device->threads;
    TestDevice* self = static_cast<TestDevice*>(device);
    pthread_barrier_init(&self->round, nullptr, ranks);
    std::vector<std::thread> others;
    for (int rank = 1; rank < ranks; rank++) others.emplace_back(body, context, rank, ranks);
    body(context, 0, ranks);
    for (std::thread& other : others) other.join();
    pthread_barrier_destroy(&self->round);
  }
  static void meet(Device* device) { pthread_barrier_wait(&static_cast<TestDevice*>(device)->round); }
  static void* lend(Device* device, size_t bytes) {
    auto& lent = static_cast<TestDevice*>(device)->lent;
    lent.emplace_back(filled(bytes / 4 + 1), std::free);
    return lent.back().get();
  }
  static float* keep(Device*, Buffer* buffer, int64_t key, size_t floats, bool* fresh) {
    Packed* place = buffer->packed;
    while (place->data && place->key != key) place++;
    *fresh = !place->data || place->version != buffer->version;
    if (!place->data) *place = {buffer->version, key, filled(floats), floats};
    place->version = buffer->version;
    return place->data;
  }
  [[noreturn]] static void stop(Device*, const char* message) {
    std::fprintf(stderr, "%s\n", message);
    std::abort();
  }

  pthread_barrier_t round;
  std::vector<std::unique_ptr<float, void (*)(void*)>> lent;
};

// A buffer of exactly its size, so that a sanitizer sees a step outside.
struct Array : Buffer {
  explicit Array(size_t count) : Buffer{} {
    elements = count;
    data = std::malloc(count * 4);
    for (size_t i = 0; i < count; i++) floats()[i] = NAN;
  }
  Array(const Array&) = delete;
  ~Array() {
    std::free(data);
    for (Packed& p : packed) std::free(p.data);
  }
  float* floats() { return static_cast<float*>(data); }
  int32_t* ints() { return static_cast<int32_t*>(data); }
};

}  // namespace throughtime
