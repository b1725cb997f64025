// A device: buffers, one queue of commands in order, programs; of the processor also threads for parallel regions.
//
// Everything here is called by one thread, the owner. A command runs on the queue's thread, or on the owner's while
// the queue is idle; never both at a time, so the state that commands touch needs no lock.
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "buffers.h"
#include "device.h"
#include "machine.h"
#include "pace.h"
#include "queue.h"
#include "registry.h"
#include "threads.h"

namespace throughtime {

// One kernel call as it comes from JavaScript: handles, 0 for an absent optional argument.
struct Call {
  int kernel;
  const int32_t *inputs, *outputs, *ints;
  const double* floats;
  int input_count, output_count, int_count, float_count;
};

// What the calls of one kernel took while a profile was taken.
struct Tally {
  uint64_t calls = 0;
  double ns = 0;
};

struct Profile {
  std::vector<Tally> kernels;  // in the order of the table; empty while nothing is timed
  double owner_ns = 0;         // of all that, on the owner's thread
  double waited_ns = 0;        // how long the owner was blocked by reads
};

// A copy out of a buffer, alive until it is reported.
struct Read {
  void* into = nullptr;
  std::string error;  // empty: `into` is filled
};

class Engine {
 public:
  // `finished` is called on the queue's thread when a Read that was queued is done.
  Engine(const std::string& isa, int threads, std::function<void(Read*)> finished);
  Engine(std::unique_ptr<Machine> machine, std::function<void(Read*)> finished);
  ~Engine();

  const char* name() const { return machine_ ? machine_->name() : "cpu"; }
  const KernelSet& kernels() const { return kernels_; }
  int threads() const { return pool_.threads(); }
  void set_threads(int threads);

  int32_t alloc(size_t elements, DType dtype);
  void free(int32_t buffer) { buffers_.free(buffer, queue_.published(), queue_.done()); }
  size_t elements(int32_t buffer) const { return buffers_.at(buffer)->elements; }
  DType dtype(int32_t buffer) const { return buffers_.at(buffer)->dtype; }
  size_t buffer_count() const { return buffers_.count(); }
  size_t buffer_bytes() const { return buffers_.bytes(); }
  // Why there is no more memory, in words.
  std::string out_of_memory() const {
    return std::string(name()) + ": out of memory" + (machine_ ? ": " + machine_->memory() : "");
  }
  // Memory held from the system for buffers, in use or cached.
  size_t held_bytes() { return buffers_.blocks().held(); }

  void run(const Call& call);
  // `data` holds the buffer's number of elements.
  void write(int32_t buffer, const void* data);
  bool idle() const { return queue_.idle(); }
  // Queues a copy out of the buffer; `finished` will be called.
  void read(int32_t buffer, Read* read);
  // Waits for everything queued, then copies out of the buffer.
  void read_now(int32_t buffer, Read* read);

  int compile(const std::vector<Call>& calls);
  // Writes `data` to `input`, runs the program on this thread, copies `output` out.
  void replay(int program, int32_t input, const void* data, int32_t output, Read* read);
  void release(int program);

  // Waits for everything queued, gives what was timed since the last call, and times from now on if asked.
  Profile profile(bool on);

  // Drops what is queued and ends the threads. Only the destructor may follow.
  void shutdown() { queue_.stop(); }

 private:
  struct KernelCommand;
  struct WriteCommand;
  struct ReadCommand;
  struct Program {
    std::vector<std::unique_ptr<unsigned char[]>> commands;
    std::vector<Holding*> pinned;
    Pace pace[2];  // of replays that come now and then, and one after another
  };
  // A block to be released when the queue has passed a position.
  struct Leaving {
    Block block;
    uint64_t position;
  };
  struct Cost {
    uint64_t key = 0;
    float ns = 0;
  };

  void release_left();
  Program& program_at(int program) const;
  static size_t bytes_of(const Call& call);
  void fill(KernelCommand* command, const Call& call) const;
  uint64_t key_of(const Call& call, const KernelCommand& command) const;
  void execute(KernelCommand& command);
  // What the call took the last time, or `unknown`.
  float expected(uint64_t key, float unknown) const;
  // Runs body, short work on one thread if the others would have to wake, and returns how long it took.
  template <class F>
  float timed(float expected, const F& body);
  // Runs a command and remembers what it took.
  float execute_timed(KernelCommand& command);
  // Runs the commands of a program on as many threads as have proved faster.
  void run_program(Program& program);
  void copy_in(Holding* target, const void* data);
  void copy_out(const Holding& source, Read* read);
  void wait_for_queue();

  static void run_kernel(void* engine, Command* command);
  static void run_write(void* engine, Command* command);
  static void run_read(void* engine, Command* command);

  static constexpr size_t kCosts = 1024;

  std::unique_ptr<Machine> machine_;  // null: the processor
  KernelSet kernels_;
  std::function<void(Read*)> finished_;
  Buffers buffers_;
  std::deque<Leaving> leaving_;
  Pool pool_;
  Scratch scratch_;
  CpuDevice device_;
  std::string failure_;  // of the first kernel that failed since the last read
  std::vector<Cost> costs_;
  double awake_until_ = 0;  // ns: when the pool's threads go to sleep; 0 before there are any
  double replayed_ = 0;     // ns: when the last replay ended
  double budget_ = 0;       // ns of work the owner may still do itself before the next read
  std::vector<std::unique_ptr<Program>> programs_;
  Profile profile_;
  std::thread::id owner_;
  Queue queue_;  // last: its thread ends before the rest goes
};

}  // namespace throughtime
