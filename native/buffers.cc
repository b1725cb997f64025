#include "buffers.h"

#include <stdexcept>
#include <string>

namespace throughtime {

namespace {
// A handle is a slot and the generation of its use, so that a handle kept too long is noticed.
constexpr int kSlotBits = 22;
constexpr int32_t kSlotMask = (1 << kSlotBits) - 1;
constexpr int32_t kGenerations = 1 << (31 - kSlotBits);
}  // namespace

void release_packed(Buffer* buffer, BlockSource& source) {
  for (Packed& packed : buffer->packed) {
    if (packed.data) source.free({packed.data, packed.floats * sizeof(float)});
    packed = {};
  }
}

Buffers::~Buffers() {
  for (auto& holding : holdings_) {
    release_packed(holding.get(), source_);
    if (holding->block.data) source_.free(holding->block);
  }
}

int32_t Buffers::add(Block block, size_t elements, DType dtype, uint64_t done) {
  recycle(done);
  if (free_slots_.empty()) {
    if (slots_.size() > static_cast<size_t>(kSlotMask)) throw std::runtime_error("too many live buffers");
    free_slots_.push_back(static_cast<int32_t>(slots_.size()));
    slots_.push_back({});
  }
  if (spare_.empty()) {
    holdings_.push_back(std::make_unique<Holding>());
    spare_.push_back(holdings_.back().get());
  }
  Holding* holding = spare_.back();
  spare_.pop_back();
  const int32_t index = free_slots_.back();
  free_slots_.pop_back();
  Slot& slot = slots_[index];
  slot.holding = holding;
  holding->data = block.data;
  holding->block = block;
  holding->elements = elements;
  holding->dtype = dtype;
  holding->version++;
  holding->handle = slot.generation << kSlotBits | index;
  count_++;
  bytes_ += elements * 4;
  return holding->handle;
}

Holding* Buffers::at(int32_t handle) const {
  if (handle == 0) return nullptr;
  const size_t index = handle & kSlotMask;
  Holding* holding = index < slots_.size() ? slots_[index].holding : nullptr;
  if (!holding || holding->handle != handle)
    throw std::runtime_error(std::string(device_) + ": buffer " + std::to_string(handle) +
                             " does not exist or was freed");
  return holding;
}

void Buffers::free(int32_t handle, uint64_t published, uint64_t done) {
  Holding* holding = at(handle);
  if (!holding) throw std::runtime_error(std::string(device_) + ": buffer 0 cannot be freed");
  const int32_t index = handle & kSlotMask;
  Slot& slot = slots_[index];
  slot.holding = nullptr;
  slot.generation = (slot.generation + 1) % kGenerations;
  free_slots_.push_back(index);
  holding->handle = 0;
  count_--;
  bytes_ -= holding->elements * 4;
  if (holding->pins == 0) retire(holding, published, done);
}

void Buffers::unpin(Holding* holding, uint64_t published, uint64_t done) {
  if (--holding->pins == 0 && holding->handle == 0) retire(holding, published, done);
}

void Buffers::retire(Holding* holding, uint64_t published, uint64_t done) {
  blocks_.give(holding->block);
  holding->block = {};
  retired_.push_back({holding, published});
  recycle(done);
}

void Buffers::recycle(uint64_t done) {
  while (!retired_.empty() && retired_.front().position <= done) {
    Holding* holding = retired_.front().holding;
    retired_.pop_front();
    release_packed(holding, source_);
    spare_.push_back(holding);
  }
}

}  // namespace throughtime
