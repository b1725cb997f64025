#include "memory.h"

#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace throughtime {

namespace {
constexpr size_t kLine = 64;
constexpr size_t kHugePage = size_t{2} << 20;

size_t round_up(size_t bytes, size_t step) { return (bytes + step - 1) / step * step; }
}  // namespace

Block allocate_block(size_t bytes) {
  const bool huge = bytes >= kHugePage;
  const size_t rounded = round_up(bytes == 0 ? 1 : bytes, kLine);
#if defined(_WIN32)
  void* data = _aligned_malloc(rounded, kLine);
  if (!data) throw std::bad_alloc();
#else
  void* data = nullptr;
  if (rounded < bytes || posix_memalign(&data, huge ? kHugePage : kLine, rounded) != 0) throw std::bad_alloc();
#endif
#if defined(__linux__)
  if (huge) madvise(data, rounded, MADV_HUGEPAGE);
#endif
  return {data, rounded};
}

void free_block(Block block) {
#if defined(_WIN32)
  _aligned_free(block.data);
#else
  std::free(block.data);
#endif
}

BlockCache::~BlockCache() {
  while (cached_ > 0) release(take_largest());
}

int BlockCache::class_of(size_t bytes, size_t* rounded) {
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

Block BlockCache::reuse(size_t bytes) {
  size_t rounded;
  const int first = class_of(bytes, &rounded);
  // A somewhat larger block serves too: sizes that change from batch to batch must not pile up.
  for (int c = first; c < first + 4 && c < kClasses; c++) {
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
  const Block block = allocate_block(rounded);
  held_ += block.bytes;
  return block;
}

void BlockCache::give(Block block) {
  size_t rounded;
  free_[class_of(block.bytes, &rounded)].push_back(block);
  cached_ += block.bytes;
}

Block BlockCache::take_largest() {
  for (int c = kClasses - 1; c >= 0; c--) {
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
  free_block(block);
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
