#include "memory.h"

#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace throughtime {

namespace {
constexpr size_t kLine = 64;
constexpr size_t kHugePage = size_t{2} << 20;

size_t round_up(size_t bytes, size_t step) { return (bytes + step - 1) / step * step; }

int class_of(size_t bytes, size_t* rounded) {
  if (bytes <= 1024) {
    const size_t steps = bytes == 0 ? 1 : (bytes + 127) / 128;
    *rounded = steps * 128;
    return static_cast<int>(steps) - 1;
  }
  const int octave = 63 - __builtin_clzll(bytes - 1);
  const size_t eighth = (bytes - 1) >> (octave - 3);  // 8 to 15
  *rounded = (eighth + 1) << (octave - 3);
  return 8 + 8 * (octave - 10) + static_cast<int>(eighth - 8);
}

void* system_allocate(size_t bytes, size_t alignment) {
#if defined(_WIN32)
  void* data = _aligned_malloc(bytes, alignment);
  if (!data) throw std::bad_alloc();
#else
  void* data = nullptr;
  if (posix_memalign(&data, alignment, bytes) != 0) throw std::bad_alloc();
#endif
#if defined(__linux__)
  if (bytes >= kHugePage) madvise(data, bytes, MADV_HUGEPAGE);
#endif
  return data;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSlabs = false;  // each block by itself, so that the sanitizers see its bounds
#else
constexpr bool kSlabs = true;
#endif

class Slabs {
 public:
  void* take(size_t bytes, int size_class) {
    std::lock_guard<std::mutex> lock(mutex_);
    std::vector<void*>& free = free_[size_class];
    if (free.empty()) return cut(bytes);
    void* data = free.back();
    free.pop_back();
    return data;
  }
  void give(void* data, int size_class) {
    std::lock_guard<std::mutex> lock(mutex_);
    free_[size_class].push_back(data);
  }

 private:
  static constexpr size_t kSlab = 4 * kHugePage;

  void* cut(size_t bytes) {
    if (left_ < bytes) {
      next_ = static_cast<char*>(system_allocate(kSlab, kHugePage));
      left_ = kSlab;
    }
    void* data = next_;
    next_ += bytes;
    left_ -= bytes;
    return data;
  }

  std::mutex mutex_;
  std::vector<void*> free_[kBlockClasses];
  char* next_ = nullptr;
  size_t left_ = 0;
};

// Never destroyed: devices may go after whatever else is static.
Slabs& slabs() {
  static Slabs* all = new Slabs();
  return *all;
}

}  // namespace

Block allocate_block(size_t bytes) {
  if (bytes > SIZE_MAX / 2) throw std::bad_alloc();
  size_t rounded;
  const int size_class = class_of(bytes, &rounded);
  if (kSlabs && rounded < kHugePage) return {slabs().take(rounded, size_class), rounded};
  rounded = round_up(bytes == 0 ? 1 : bytes, kLine);
  return {system_allocate(rounded, rounded >= kHugePage ? kHugePage : kLine), rounded};
}

void free_block(Block block) {
  size_t rounded;
  const int size_class = class_of(block.bytes, &rounded);
  if (kSlabs && rounded < kHugePage) return slabs().give(block.data, size_class);
#if defined(_WIN32)
  _aligned_free(block.data);
#else
  std::free(block.data);
#endif
}

BlockSource& host_memory() {
  struct Host : BlockSource {
    Block allocate(size_t bytes) override { return allocate_block(bytes); }
    void free(Block block) override { free_block(block); }
  };
  static Host* host = new Host();
  return *host;
}

BlockCache::~BlockCache() {
  while (cached_ > 0) release(take_largest());
}

Block BlockCache::reuse(size_t bytes) {
  size_t rounded;
  const int first = class_of(bytes, &rounded);
  // A somewhat larger block serves too: sizes that change from batch to batch must not pile up.
  for (int c = first; c < first + 4 && c < kBlockClasses; c++) {
    if (free_[c].empty()) continue;
    const Block block = free_[c].back();
    free_[c].pop_back();
    cached_ -= block.bytes;
    return block;
  }
  return {};
}

Block BlockCache::grow(size_t bytes) {
  if (bytes > size_t{1} << 48) throw std::bad_alloc();
  size_t rounded;
  class_of(bytes, &rounded);
  const Block block = source_.allocate(rounded);
  held_ += block.bytes;
  return block;
}

void BlockCache::give(Block block) {
  size_t rounded;
  free_[class_of(block.bytes, &rounded)].push_back(block);
  cached_ += block.bytes;
}

Block BlockCache::take_largest() {
  for (int c = kBlockClasses - 1; c >= 0; c--) {
    if (free_[c].empty()) continue;
    const Block block = free_[c].back();
    free_[c].pop_back();
    cached_ -= block.bytes;
    return block;
  }
  return {};
}

void BlockCache::release(Block block) {
  held_ -= block.bytes;
  source_.free(block);
}

Scratch::~Scratch() {
  for (const Block& block : blocks_) free_block(block);
}

void* Scratch::take(size_t bytes) {
  const size_t rounded = round_up(bytes == 0 ? 1 : bytes, kLine);
  if (blocks_.empty() || blocks_.back().bytes - used_ < rounded) {
    blocks_.reserve(blocks_.size() + 1);
    blocks_.push_back(allocate_block(rounded < kHugePage ? round_up(rounded, size_t{64} << 10) : rounded));
    used_ = 0;
  }
  void* result = static_cast<char*>(blocks_.back().data) + used_;
  used_ += rounded;
  taken_ += rounded;
  return result;
}

void Scratch::reset() {
  if (blocks_.size() > 1) {
    // Next time one block holds it all.
    for (const Block& block : blocks_) free_block(block);
    blocks_.clear();
    blocks_.reserve(1);
    blocks_.push_back(allocate_block(taken_));
  }
  used_ = taken_ = 0;
}

}  // namespace throughtime
