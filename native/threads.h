// The threads of parallel regions. Workers spin for a moment after a region and sleep after that. So does a rank that
// waits for others inside one, and if one of them needs the core that it waits on it sleeps at once.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "arrivals.h"
#include "kernels.h"

namespace throughtime {

// Cores this process may use: its affinity mask and the container's quota.
int available_cores();

// ns that a thread without work spins before it sleeps.
constexpr int64_t kSpin = 40 * 1000;

// Measures out that time.
class Backoff {
 public:
  // Pauses for a moment; whether the time is up.
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
    std::atomic<bool> asleep{false};
    std::mutex mutex;
    std::condition_variable wake;
    std::thread thread;
  };
  struct alignas(64) Place {
    std::atomic<int> core{-1};  // where the rank was seen last; -1 if the system does not say
  };

  void start();
  void stop();
  void work(Worker& self, int rank);
  // Notes where this thread, of that rank, runs.
  void take_place(int rank);
  // Whether this thread cannot run at the same time as the other ranks.
  bool crowded() const;
  void wait(Arrivals& arrivals, uint32_t target);

  int threads_;
  int cores_ = available_cores();
  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<Place[]> places_;  // by rank
  Body body_ = nullptr;
  void* context_ = nullptr;
  int ranks_ = 1;
  bool stopping_ = false;
  uint32_t regions_ = 0;
  alignas(64) Arrivals met_;    // of all ranks at the barriers of the running region
  alignas(64) Arrivals ended_;  // of the workers at its end
};

}  // namespace throughtime
