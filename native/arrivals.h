// A count of arrivals that other threads wait for: they spin for a while, and sleep after that. They do not yield: a
// thread that yields beside another program's gives away a whole time slice on the Linux schedulers of today.
#pragma once
#include <atomic>
#include <cstdint>

namespace throughtime {

// Tells the processor that this is a spin loop.
void pause();
// ns since some moment.
int64_t clock_ns();

class Arrivals {
 public:
  struct Arrival {
    uint32_t target;  // the count at which the round of this arrival is full
    bool full;        // this one made it full
    bool woke;        // and threads slept on it
  };

  // Only while nobody arrives or waits.
  void reset() { word_.store(0); }

  // Counts one more of a round of `ranks`, and wakes who sleeps if it is the last.
  Arrival arrive(uint32_t ranks) {
    const uint64_t word = word_.fetch_add(1, std::memory_order_acq_rel);
    const uint32_t before = static_cast<uint32_t>(word), target = (before / ranks + 1) * ranks;
    const bool full = before + 1 == target, woke = full && word >= kSleeper;
    if (woke) wake();
    return {target, full, woke};
  }

  // Whether there are `target` arrivals within so many looks.
  bool spin(uint32_t target, int looks) const {
    for (; static_cast<uint32_t>(word_.load(std::memory_order_acquire)) < target; pause())
      if (looks-- == 0) return false;
    return true;
  }
  // Returns when there are `target` arrivals; sleeps after `ns`.
  void wait(uint32_t target, int64_t ns);

 private:
  static constexpr uint64_t kSleeper = uint64_t{1} << 32;

  void wake();

  // Arrivals in the low half, on which threads sleep; above them how many do. One word, so that whoever makes a round
  // full sees everyone who went to sleep before, and everyone who goes to sleep after sees that it is full.
  std::atomic<uint64_t> word_{0};
};

}  // namespace throughtime
