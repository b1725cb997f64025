#include "arrivals.h"

#include <chrono>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#else
#include <condition_variable>
#include <mutex>
#endif

namespace throughtime {

namespace {

#if defined(__linux__)

// The half of the word that counts.
uint32_t* low(std::atomic<uint64_t>* word) {
  static_assert(sizeof *word == 8 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the low half comes first");
  return reinterpret_cast<uint32_t*>(word);
}
void sleep_while(std::atomic<uint64_t>* word, uint32_t count) {
  syscall(SYS_futex, low(word), FUTEX_WAIT_PRIVATE, count, nullptr, nullptr, 0);
}
void wake_all(std::atomic<uint64_t>* word) {
  syscall(SYS_futex, low(word), FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

#else

std::mutex mutex;
std::condition_variable changed;

void sleep_while(std::atomic<uint64_t>* word, uint32_t count) {
  std::unique_lock<std::mutex> lock(mutex);
  changed.wait(lock, [&] { return static_cast<uint32_t>(word->load()) != count; });
}
void wake_all(std::atomic<uint64_t>*) {
  { std::lock_guard<std::mutex> lock(mutex); }
  changed.notify_all();
}

#endif

}  // namespace

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

int64_t clock_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void Arrivals::wait(uint32_t target, int64_t ns) {
  if (ns > 0)
    for (const int64_t until = clock_ns() + ns; clock_ns() < until;)
      if (spin(target, 16)) return;
  uint64_t word = word_.fetch_add(kSleeper);
  for (; static_cast<uint32_t>(word) < target; word = word_.load()) sleep_while(&word_, static_cast<uint32_t>(word));
  word_.fetch_sub(kSleeper);
}

void Arrivals::wake() { wake_all(&word_); }

}  // namespace throughtime
