// Commands in the order they were given, run by a thread of the queue's own. One producer.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>

namespace throughtime {

// The head of a command; what follows it in memory is known to `run`.
struct Command {
  void (*run)(void* engine, Command* self);
  uint32_t bytes;  // of the whole record
};

class Queue {
 public:
  explicit Queue(void* engine) : engine_(engine) {}
  ~Queue() { stop(); }
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  static constexpr size_t kLargest = size_t{1} << 18;  // bytes of one command

  // Room for a command, 16-byte aligned; blocks while the queue is full. Filled in, it may be published or left.
  Command* reserve(size_t bytes);
  // Hands the reserved command to the thread.
  void publish(Command* command);

  // Position after the last command published, and after the last one done.
  uint64_t published() const { return head_.load(std::memory_order_relaxed); }
  uint64_t done() const { return tail_.load(std::memory_order_acquire); }
  bool idle() const { return done() == published(); }
  // Blocks until everything published is done.
  void drain() { wait_until(published()); }

  // Ends the thread; commands not yet begun are run with stopping() set.
  void stop();
  bool stopping() const { return stopping_.load(std::memory_order_relaxed); }

 private:
  static constexpr size_t kSize = size_t{1} << 20;

  Command* at(uint64_t position) const { return reinterpret_cast<Command*>(ring_.get() + position % kSize); }
  void wait_until(uint64_t position);
  void work();

  void* engine_;
  std::unique_ptr<unsigned char[]> ring_;
  std::thread thread_;
  std::atomic<bool> stopping_{false};
  alignas(64) std::atomic<uint64_t> head_{0};
  std::atomic<bool> waiting_{false};  // the producer sleeps until tail_ reaches awaited_
  std::atomic<uint64_t> awaited_{0};
  alignas(64) std::atomic<uint64_t> tail_{0};
  std::atomic<bool> asleep_{false};  // the thread sleeps
  std::mutex mutex_;
  std::condition_variable wake_, progress_;
};

}  // namespace throughtime
