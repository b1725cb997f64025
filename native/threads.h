// The threads of parallel regions. Workers spin for a moment after a region and sleep after that.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels.h"

namespace throughtime {

// Cores this process may use: its affinity mask and the container's quota.
int available_cores();

// ns that a thread without work spins before it sleeps.
constexpr int64_t kSpin = 40 * 1000;

// Tells the processor that this is a spin loop.
void pause();

// Spins for a few microseconds, then lets other threads have the core between looks.
class Backoff {
 public:
  void wait();
  // Whether the spinning has lasted for the time after which a thread should sleep.
  bool spent();

 private:
  int looks_ = 0;
  int64_t until_ = 0;
};

class Pool {
 public:
  explicit Pool(int threads) : threads_(threads) {}
  ~Pool() { stop(); }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return threads_; }
  // Regions run on more than one thread so far.
  uint32_t regions() const { return regions_; }
  void resize(int threads);
  // Runs body on `ranks` threads, this one being rank 0. One caller at a time.
  void run(int ranks, Body body, void* context);
  // Called by every rank of the running region.
  void barrier();

 private:
  struct alignas(64) Worker {
    std::atomic<uint32_t> asked{0};  // regions this worker was called to
    alignas(64) std::atomic<uint32_t> done{0};
    std::atomic<bool> asleep{false};
    std::mutex mutex;
    std::condition_variable wake;
    std::thread thread;
  };

  void start();
  void stop();
  void work(Worker& self, int rank);

  int threads_;
  std::vector<std::unique_ptr<Worker>> workers_;
  Body body_ = nullptr;
  void* context_ = nullptr;
  int ranks_ = 1;
  bool stopping_ = false;
  uint32_t regions_ = 0;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<uint32_t> passed_{0};
};

}  // namespace throughtime
