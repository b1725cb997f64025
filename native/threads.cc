#include "threads.h"

#include <algorithm>
#include <cstdio>

#if defined(__linux__)
#include <sched.h>
#endif

namespace throughtime {

namespace {

constexpr int kLooks = 32;            // before anything is done about a wait
constexpr int64_t kMeet = 30 * 1000;  // ns that a rank spins for the others

// The rank of this thread in the region it runs.
thread_local int my_rank = 0;

int current_core() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}

}  // namespace

int available_cores() {
  int cores = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) cores = CPU_COUNT(&set);
  if (std::FILE* file = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
    double quota, period;
    if (std::fscanf(file, "%lf %lf", &quota, &period) == 2)
      cores = std::min(cores, static_cast<int>(quota / period + 0.5));
    std::fclose(file);
  }
#endif
  return std::max(cores, 1);
}

bool Backoff::spent() {
  pause();
  if (++looks_ % 16 != 0) return false;
  const int64_t time = clock_ns();
  if (until_ == 0) until_ = time + kSpin;
  return time >= until_;
}

void Pool::start() {
  places_.reset(new Place[threads_]);
  while (static_cast<int>(workers_.size()) < threads_ - 1) {
    auto worker = std::make_unique<Worker>();
    Worker& self = *worker;
    const int rank = static_cast<int>(workers_.size()) + 1;
    worker->thread = std::thread([this, &self, rank] { work(self, rank); });
    workers_.push_back(std::move(worker));
  }
}

void Pool::stop() {
  stopping_ = true;
  for (auto& worker : workers_) {
    worker->asked.fetch_add(1);
    { std::lock_guard<std::mutex> lock(worker->mutex); }
    worker->wake.notify_one();
    worker->thread.join();
  }
  workers_.clear();
  stopping_ = false;
}

void Pool::resize(int threads) {
  stop();
  threads_ = threads;
}

void Pool::run(int ranks, Body body, void* context) {
  if (ranks <= 0 || ranks > threads_) ranks = threads_;
  ranks_ = ranks;
  if (ranks == 1) return body(context, 0, 1);
  if (static_cast<int>(workers_.size()) < threads_ - 1) start();
  body_ = body;
  context_ = context;
  regions_++;
  met_.reset();
  ended_.reset();
  take_place(0);
  for (int i = 0; i < ranks - 1; i++) {
    Worker& worker = *workers_[i];
    worker.asked.fetch_add(1);
    if (!worker.asleep.load()) continue;
    { std::lock_guard<std::mutex> lock(worker.mutex); }
    worker.wake.notify_one();
  }
  body(context, 0, ranks);
  wait(ended_, ranks - 1);
}

void Pool::work(Worker& self, int rank) {
  for (uint32_t seen = 0;; seen++) {
    for (Backoff backoff; self.asked.load(std::memory_order_acquire) == seen;) {
      if (!backoff.spent()) continue;
      std::unique_lock<std::mutex> lock(self.mutex);
      self.asleep.store(true);
      self.wake.wait(lock, [&] { return self.asked.load() != seen; });
      self.asleep.store(false);
    }
    if (stopping_) return;
    take_place(rank);
    body_(context_, rank, ranks_);
    ended_.arrive(ranks_ - 1);
  }
}

void Pool::take_place(int rank) {
  my_rank = rank;
  places_[rank].core.store(current_core(), std::memory_order_relaxed);
}

bool Pool::crowded() const {
  if (ranks_ > cores_) return true;
  const int here = places_[my_rank].core.load(std::memory_order_relaxed);
  for (int rank = 0; rank < ranks_ && here >= 0; rank++)
    if (rank != my_rank && places_[rank].core.load(std::memory_order_relaxed) == here) return true;
  return false;
}

void Pool::wait(Arrivals& arrivals, uint32_t target) {
  if (arrivals.spin(target, kLooks)) return;
  take_place(my_rank);
  arrivals.wait(target, crowded() ? 0 : kMeet);
}

void Pool::barrier() {
  if (ranks_ == 1) return;
  const Arrivals::Arrival arrival = met_.arrive(ranks_);
  if (!arrival.full) wait(met_, arrival.target);
  // Who is always last waits nowhere, and so notes here what the others go by.
  if (arrival.woke) take_place(my_rank);
}

}  // namespace throughtime
