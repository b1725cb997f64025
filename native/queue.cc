#include "queue.h"

#include "threads.h"

namespace throughtime {

namespace {
void skip(void*, Command*) {}
}  // namespace

Command* Queue::reserve(size_t bytes) {
  if (!ring_) ring_.reset(new unsigned char[kSize]);
  bytes = (bytes + 15) / 16 * 16;
  uint64_t head = published();
  const size_t left = kSize - head % kSize;
  if (left < bytes) {
    // The rest of the ring is passed over; every record has room for a header, as all are multiples of 16 bytes.
    if (head + left + bytes > kSize) wait_until(head + left + bytes - kSize);
    Command* filler = at(head);
    filler->run = skip;
    filler->bytes = static_cast<uint32_t>(left);
    publish(filler);
    head += left;
  }
  if (head + bytes > kSize) wait_until(head + bytes - kSize);
  Command* command = at(head);
  command->bytes = static_cast<uint32_t>(bytes);
  return command;
}

void Queue::publish(Command* command) {
  if (!thread_.joinable()) thread_ = std::thread([this] { work(); });
  head_.store(published() + command->bytes);
  if (!asleep_.load()) return;
  { std::lock_guard<std::mutex> lock(mutex_); }
  wake_.notify_one();
}

void Queue::wait_until(uint64_t position) {
  for (Backoff backoff; done() < position;) {
    if (!backoff.spent()) continue;
    std::unique_lock<std::mutex> lock(mutex_);
    awaited_.store(position);
    waiting_.store(true);
    progress_.wait(lock, [&] { return tail_.load() >= position; });
    waiting_.store(false);
  }
}

void Queue::work() {
  for (uint64_t tail = tail_.load();;) {
    for (Backoff backoff; head_.load(std::memory_order_acquire) == tail && !stopping();) {
      if (!backoff.spent()) continue;
      std::unique_lock<std::mutex> lock(mutex_);
      asleep_.store(true);
      wake_.wait(lock, [&] { return head_.load() != tail || stopping(); });
      asleep_.store(false);
    }
    if (head_.load(std::memory_order_acquire) == tail) return;
    Command* command = at(tail);
    const uint32_t bytes = command->bytes;
    command->run(engine_, command);
    tail += bytes;
    tail_.store(tail);
    if (!waiting_.load() || tail < awaited_.load()) continue;
    { std::lock_guard<std::mutex> lock(mutex_); }
    progress_.notify_one();
  }
}

void Queue::stop() {
  if (!thread_.joinable()) return;
  stopping_.store(true);
  { std::lock_guard<std::mutex> lock(mutex_); }
  wake_.notify_one();
  thread_.join();
}

}  // namespace throughtime
