// Where buffers and scratch come from.
#pragma once
#include <cstddef>
#include <vector>

namespace throughtime {

struct Block {
  void* data = nullptr;
  size_t bytes = 0;
};

// 64-byte aligned, on huge pages where the system has them: those smaller than a huge page are cut from slabs that stay
// with the process. From any thread. Throws std::bad_alloc.
Block allocate_block(size_t bytes);
void free_block(Block block);

// Where blocks come from.
class BlockSource {
 public:
  virtual ~BlockSource() = default;
  // Throws std::bad_alloc.
  virtual Block allocate(size_t bytes) = 0;
  virtual void free(Block block) = 0;
};

// The two functions above.
BlockSource& host_memory();

// Blocks come in eight sizes an octave, so at most an eighth of one is wasted.
constexpr int kBlockClasses = 8 + 8 * 40;

// Keeps freed blocks by size for the next taker. One thread.
class BlockCache {
 public:
  explicit BlockCache(BlockSource& source) : source_(source), free_(kBlockClasses) {}
  ~BlockCache();
  BlockCache(const BlockCache&) = delete;
  BlockCache& operator=(const BlockCache&) = delete;

  // A cached block of at least `bytes`, or one without data if there is none of a fitting size.
  Block reuse(size_t bytes);
  // A new block from the source.
  Block grow(size_t bytes);
  void give(Block block);
  // Takes the largest cached block out, to be released when nothing uses it any more; one without data if there is
  // none.
  Block take_largest();
  // Returns a block to the source.
  void release(Block block);

  size_t cached() const { return cached_; }
  // Bytes obtained from the source: in use and cached.
  size_t held() const { return held_; }

 private:
  BlockSource& source_;
  std::vector<std::vector<Block>> free_;
  size_t cached_ = 0;
  size_t held_ = 0;
};

// Memory of one kernel call: taken any number of times, given back all at once, reused by the next call.
class Scratch {
 public:
  Scratch() = default;
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  void* take(size_t bytes);
  void reset();

 private:
  std::vector<Block> blocks_;
  size_t used_ = 0;   // of the last block
  size_t taken_ = 0;  // in all, since reset
};

}  // namespace throughtime
