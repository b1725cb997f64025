#include "threads.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

#if defined(__linux__)
#include <sched.h>
#endif

namespace throughtime {

namespace {
constexpr int kPauses = 32;  // before the core is offered to others

int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
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

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

void Backoff::wait() {
  if (looks_++ < kPauses)
    pause();
  else
    std::this_thread::yield();
}

bool Backoff::spent() {
  if (looks_ % 16 != 0) return false;
  const int64_t time = now();
  if (until_ == 0) until_ = time + kSpin;
  return time >= until_;
}

void Pool::start() {
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
  for (int i = 0; i < ranks - 1; i++) {
    Worker& worker = *workers_[i];
    worker.asked.fetch_add(1);
    if (!worker.asleep.load()) continue;
    { std::lock_guard<std::mutex> lock(worker.mutex); }
    worker.wake.notify_one();
  }
  body(context, 0, ranks);
  for (int i = 0; i < ranks - 1; i++) {
    Worker& worker = *workers_[i];
    const uint32_t asked = worker.asked.load(std::memory_order_relaxed);
    for (Backoff backoff; worker.done.load(std::memory_order_acquire) != asked;) backoff.wait();
  }
}

void Pool::work(Worker& self, int rank) {
  for (uint32_t seen = 0;; seen++) {
    for (Backoff backoff; self.asked.load(std::memory_order_acquire) == seen;) {
      backoff.wait();
      if (!backoff.spent()) continue;
      std::unique_lock<std::mutex> lock(self.mutex);
      self.asleep.store(true);
      self.wake.wait(lock, [&] { return self.asked.load() != seen; });
      self.asleep.store(false);
    }
    if (stopping_) return;
    body_(context_, rank, ranks_);
    self.done.store(seen + 1, std::memory_order_release);
  }
}

void Pool::barrier() {
  if (ranks_ == 1) return;
  const uint32_t round = passed_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) == ranks_ - 1) {
    arrived_.store(0, std::memory_order_relaxed);
    passed_.store(round + 1, std::memory_order_release);
    return;
  }
  for (Backoff backoff; passed_.load(std::memory_order_acquire) == round;) backoff.wait();
}

}  // namespace throughtime
