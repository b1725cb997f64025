// A device with memory of its own, as the engine sees it. The processor is none: its buffers are plain memory.
#pragma once
#include <string>

#include "memory.h"
#include "registry.h"

namespace throughtime {

// Called by one thread at a time. Whatever fails throws std::runtime_error; no memory, std::bad_alloc.
class Machine : public BlockSource {
 public:
  virtual const char* name() const = 0;
  virtual KernelSet kernels() const = 0;
  // Queues the kernel on the device and returns; what fails there later is thrown by `read`.
  virtual void run(const KernelEntry& kernel, const Args& args) = 0;
  // Copies after what was queued; `from` may change on return.
  virtual void write(void* to, const void* from, size_t bytes) = 0;
  // Waits for what was queued, then copies.
  virtual void read(void* into, const void* from, size_t bytes) = 0;
  // Waits for what was queued.
  virtual void wait() = 0;
  // How much memory there is, in words.
  virtual std::string memory() const = 0;
};

}  // namespace throughtime
