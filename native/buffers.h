// The table of buffers: integer handles on one side, memory on the other. Used by the thread that queues commands.
#pragma once
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "kernels.h"
#include "memory.h"

namespace throughtime {

// A buffer as the engine keeps it. Commands point to it, so it outlives its handle until the queue has passed.
struct Holding : Buffer {
  Block block;
  int32_t handle = 0;
  int pins = 0;  // programs that use it
};

class Buffers {
 public:
  // `device` names it in errors.
  Buffers(BlockSource& source, const char* device) : source_(source), device_(device), blocks_(source) {
    slots_.push_back({});
  }
  ~Buffers();
  Buffers(const Buffers&) = delete;
  Buffers& operator=(const Buffers&) = delete;

  // `done` and `published` are positions of the queue. The memory of a freed buffer is used again at once: whatever
  // still uses it is ahead in the queue. The holding itself waits until the queue has passed.
  // The block must come from blocks().
  int32_t add(Block block, size_t elements, DType dtype, uint64_t done);
  void free(int32_t handle, uint64_t published, uint64_t done);

  // nullptr for handle 0; throws if there is no such buffer.
  Holding* at(int32_t handle) const;
  void pin(Holding* buffer) { buffer->pins++; }
  void unpin(Holding* buffer, uint64_t published, uint64_t done);

  BlockCache& blocks() { return blocks_; }
  size_t count() const { return count_; }
  size_t bytes() const { return bytes_; }

 private:
  struct Slot {
    Holding* holding = nullptr;
    int32_t generation = 0;
  };
  struct Retired {
    Holding* holding;
    uint64_t position;
  };

  void retire(Holding* buffer, uint64_t published, uint64_t done);
  void recycle(uint64_t done);

  BlockSource& source_;
  const char* device_;
  BlockCache blocks_;
  std::vector<Slot> slots_;
  std::vector<int32_t> free_slots_;
  std::vector<std::unique_ptr<Holding>> holdings_;
  std::vector<Holding*> spare_;
  std::deque<Retired> retired_;
  size_t count_ = 0;
  size_t bytes_ = 0;
};

// Frees what kernels packed from a buffer.
void release_packed(Buffer* buffer, BlockSource& source);

}  // namespace throughtime
