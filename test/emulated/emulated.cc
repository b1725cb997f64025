#include "emulated.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulated {

Thread* self = nullptr;
dim3 block_size, grid_size;

namespace {

constexpr size_t kStack = size_t{128} << 10;
// Rounds in which no thread gets on before they are taken to wait for each other for ever.
constexpr long kPatience = 50'000'000;

// A fiber runs `body` for one thread after another; `left` says whether that thread is done.
struct Fiber {
  void* stack = nullptr;
#if defined(__x86_64__)
  void* saved = nullptr;  // its stack pointer while it is away
#else
  ucontext_t context;
#endif
  bool done = true;
};

const std::function<void()>* body;
std::vector<Fiber*> fibers;
Fiber* running = nullptr;

#if defined(__x86_64__)
void* scheduler = nullptr;
extern "C" void emulated_switch(void** from, void* to);
asm(R"(
.text
.local emulated_switch
.type emulated_switch,@function
emulated_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
void to_scheduler() { emulated_switch(&running->saved, scheduler); }
void to_fiber(Fiber* fiber) {
  running = fiber;
  emulated_switch(&scheduler, fiber->saved);
}
#else
ucontext_t scheduler;
void to_scheduler() { swapcontext(&running->context, &scheduler); }
void to_fiber(Fiber* fiber) {
  running = fiber;
  swapcontext(&scheduler, &fiber->context);
}
#endif

[[noreturn]] void fiber_main() {
  for (;;) {
    (*body)();
    running->done = true;
    to_scheduler();
  }
}

Fiber* make_fiber() {
  auto* fiber = new Fiber();
  fiber->stack = aligned_alloc(64, kStack);
#if defined(__x86_64__)
  void** top = reinterpret_cast<void**>(static_cast<char*>(fiber->stack) + kStack);
  *--top = nullptr;  // where a call would have put its return address
  *--top = reinterpret_cast<void*>(fiber_main);
  for (int i = 0; i < 6; i++) *--top = nullptr;
  fiber->saved = top;
#else
  getcontext(&fiber->context);
  fiber->context.uc_stack = {fiber->stack, 0, kStack};
  fiber->context.uc_link = nullptr;
  makecontext(&fiber->context, fiber_main, 0);
#endif
  return fiber;
}

[[noreturn]] void die(const char* what) {
  fprintf(stderr, "emulated GPU: %s\n", what);
  abort();
}

bool progress;

// Runs the threads in turn until all are done. A thread that never waits needs no fiber of its own.
void run_all(std::vector<Thread>& threads) {
  std::vector<Fiber*> mine(threads.size(), nullptr);
  std::vector<Fiber*> spare;
  size_t used = 0, left = threads.size();
  long idle = 0;
  while (left > 0) {
    progress = false;
    for (size_t i = 0; i < threads.size(); i++) {
      if (mine[i] && mine[i]->done) continue;
      if (!mine[i]) {
        if (!spare.empty()) {
          mine[i] = spare.back();
          spare.pop_back();
        } else {
          if (used == fibers.size()) fibers.push_back(make_fiber());
          mine[i] = fibers[used++];
        }
        mine[i]->done = false;
      }
      self = &threads[i];
      to_fiber(mine[i]);
      if (!mine[i]->done) continue;
      progress = true;
      left--;
      static Fiber finished;
      spare.push_back(mine[i]);
      mine[i] = &finished;
    }
    idle = progress ? 0 : idle + 1;
    if (idle > kPatience) die("the threads wait for each other for ever");
  }
  self = nullptr;
}

}  // namespace

void yield() { to_scheduler(); }

void arrive_and_wait(Barrier& barrier) {
  const unsigned long generation = barrier.generation;
  if (++barrier.arrived == barrier.members) {
    barrier.arrived = 0;
    barrier.generation++;
    progress = true;
    return;
  }
  while (barrier.generation == generation) yield();
}

static Barrier& cluster_of(Block* block) {
  Group& group = *block->group;
  return group.clusters[(block - group.blocks) / group.cluster];
}

void cluster_arrive() {
  Barrier& barrier = cluster_of(self->block);
  self->cluster_generation = barrier.generation;
  if (++barrier.arrived < barrier.members) return;
  barrier.arrived = 0;
  barrier.generation++;
  progress = true;
}

void cluster_wait() {
  Barrier& barrier = cluster_of(self->block);
  while (barrier.generation == self->cluster_generation) yield();
}

const unsigned char (*exchange(const void* value, size_t size))[32] {
  if (size > 32) die("a value is too large to be exchanged");
  auto& words = self->warp->words[self->exchanges++ % 2];
  if (size > 0) memcpy(words[self->lane], value, size);
  arrive_and_wait(self->warp->barrier);
  return words;
}

void launch(dim3 grid, dim3 block, size_t shared, unsigned cluster, bool cooperative,
            const std::function<void()>& kernel) {
  const unsigned per_block = block.x * block.y * block.z, blocks = grid.x * grid.y * grid.z;
  if (per_block % kLanes != 0 || per_block > 1024) die("blocks must be whole warps, of at most 1024 threads");
  if (blocks == 0 || blocks % cluster != 0) die("the grid must be made of whole clusters");
  if (shared > 227 * 1024) die("a block has 227 KB of shared memory at most");
  static std::mutex one_at_a_time;
  std::lock_guard<std::mutex> lock(one_at_a_time);
  body = &kernel;
  block_size = block, grid_size = grid;
  const unsigned together = cooperative ? blocks : cluster, warps = per_block / kLanes;
  std::vector<unsigned char> memory((shared + 64) * together);
  for (unsigned first = 0; first < blocks; first += together) {
    // What a kernel does not write it must not read.
    memset(memory.data(), 0xff, memory.size());
    std::vector<Block> group_blocks(together);
    std::vector<Warp> group_warps(together * warps);
    std::vector<Barrier> clusters(together / cluster);
    std::vector<Thread> threads(together * per_block);
    Group group = {cluster, group_blocks.data(), clusters.data()};
    for (Barrier& barrier : clusters) barrier.members = static_cast<int>(cluster * per_block);
    for (unsigned b = 0; b < together; b++) {
      Block& one = group_blocks[b];
      const unsigned flat = first + b;
      one.index = dim3(flat % grid.x, flat / grid.x % grid.y, flat / (grid.x * grid.y));
      one.rank = flat % cluster;
      one.group = &group;
      one.shared = reinterpret_cast<unsigned char*>(
          (reinterpret_cast<uintptr_t>(memory.data() + b * (shared + 64)) + 15) / 16 * 16);
      one.barrier.members = static_cast<int>(per_block);
      one.warps = &group_warps[b * warps];
      for (unsigned t = 0; t < per_block; t++) {
        Thread& thread = threads[b * per_block + t];
        thread.index = dim3(t % block.x, t / block.x % block.y, t / (block.x * block.y));
        thread.lane = static_cast<int>(t % kLanes);
        thread.block = &one;
        thread.warp = &one.warps[t / kLanes];
        thread.warp->barrier.members = kLanes;
      }
    }
    run_all(threads);
  }
  body = nullptr;
}

}  // namespace emulated

namespace throughtime {

bool block_or(bool value) {
  emulated::Block& block = *emulated::self->block;
  block_sync();
  if (emulated::self->index.x == 0) block.any = false;
  block_sync();
  if (value) block.any = true;
  block_sync();
  return block.any;
}

namespace {

float bf16(uint32_t word, int half) { return __uint_as_float(half ? word & 0xffff0000u : word << 16); }
float tf32(uint32_t word) { return __uint_as_float(word & 0xffffe000u); }

// d += a b for operands of eight words along k; term(x, y, sum) adds what two words have in common.
template <class D, class F>
void multiply_words(D* d, const uint32_t* a, const uint32_t* b, const F& term) {
  uint32_t mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
  const auto words = emulated::exchange(mine, sizeof mine);
  const auto word = [words](int lane, int i) {
    uint32_t w;
    memcpy(&w, words[lane] + 4 * i, 4);
    return w;
  };
  const int g = emulated::self->lane / 4, t = emulated::self->lane % 4;
  for (int i = 0; i < 4; i++) {
    const int row = g + 8 * (i / 2), column = 2 * t + i % 2;
    D sum = d[i];
    for (int w = 0; w < 8; w++)
      term(word(4 * (row % 8) + w % 4, row / 8 + 2 * (w / 4)), word(4 * column + w % 4, 4 + w / 4), sum);
    d[i] = sum;
  }
}

}  // namespace

void multiply_bf16(float* d, const uint32_t* a, const uint32_t* b) {
  multiply_words(d, a, b, [](uint32_t x, uint32_t y, float& sum) {
    for (int half = 0; half < 2; half++) sum += bf16(x, half) * bf16(y, half);
  });
}

void multiply_tf32(float* d, const uint32_t* a, const uint32_t* b) {
  multiply_words(d, a, b, [](uint32_t x, uint32_t y, float& sum) { sum += tf32(x) * tf32(y); });
}

void multiply_int8(int32_t* d, const uint32_t* a, const uint32_t* b) {
  multiply_words(d, a, b, [](uint32_t x, uint32_t y, int32_t& sum) {
    for (int byte = 0; byte < 32; byte += 8) sum += (int8_t)(x >> byte) * (int8_t)(y >> byte);
  });
}

}  // namespace throughtime

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : error == cudaErrorNoDevice ? "no device" : "no error";
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaSetDevice(int) { return cudaSuccess; }

namespace {

// THROUGHTIME_EMULATED: "none" for a machine without a GPU, "old" for an old driver, "ampere" for a GPU without
// clusters.
bool is(const char* what) {
  const char* asked = getenv("THROUGHTIME_EMULATED");
  return asked && strcmp(asked, what) == 0;
}

// THROUGHTIME_EMULATED_MEMORY: bytes that the GPU has.
size_t limit() {
  const char* asked = getenv("THROUGHTIME_EMULATED_MEMORY");
  return asked ? strtoull(asked, nullptr, 10) : size_t{1} << 40;
}
std::atomic<size_t> held{0};

// A block's size lies in front of it.
constexpr size_t kHead = 256;

}  // namespace

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  if (is("none")) return cudaErrorNoDevice;
  if (is("old") || is("driverless")) return cudaErrorInsufficientDriver;
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {"emulated GPU", is("ampere") || is("volta") ? is("volta") ? 7 : 8 : 9, 0, 4};
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr what, int) {
  cudaDeviceProp properties;
  cudaGetDeviceProperties(&properties, 0);
  switch (what) {
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = 227 * 1024;
      break;
    case cudaDevAttrMemoryPoolsSupported:
      *value = 1;
      break;
  }
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) { return *version = is("old") ? 11040 : 0, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 0, cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  return *total = limit(), *free = limit() - held, cudaSuccess;
}
// Fresh memory holds NaN, as poisonous as that of a GPU may be.
cudaError_t cudaMalloc(void** data, size_t bytes) {
  const size_t whole = (bytes + 255) / 256 * 256;
  char* head = held + whole > limit() ? nullptr : static_cast<char*>(aligned_alloc(256, kHead + whole));
  if (!head) return cudaErrorMemoryAllocation;
  held += whole;
  memcpy(head, &whole, sizeof whole);
  *data = head + kHead;
  memset(*data, 0xff, bytes);
  return cudaSuccess;
}
cudaError_t cudaMallocAsync(void** data, size_t bytes, cudaStream_t) { return cudaMalloc(data, bytes); }
cudaError_t cudaMallocHost(void** data, size_t bytes) { return cudaMalloc(data, bytes); }
cudaError_t cudaFree(void* data) {
  size_t whole;
  char* head = static_cast<char*>(data) - kHead;
  memcpy(&whole, head, sizeof whole);
  held -= whole;
  free(head);
  return cudaSuccess;
}
cudaError_t cudaFreeAsync(void* data, cudaStream_t) { return cudaFree(data); }
cudaError_t cudaFreeHost(void* data) { return cudaFree(data); }
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, int, cudaStream_t) {
  return memcpy(to, from, bytes), cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t) {
  return memset(data, value, bytes), cudaSuccess;
}
