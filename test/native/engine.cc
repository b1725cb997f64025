// The engine without Node: queue, errors, reads, programs, packed weights, threads. Made for the sanitizers.
#include "../../native/engine.h"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>

using namespace throughtime;

#define CHECK(what)                                               \
  do {                                                            \
    if (!(what)) {                                                \
      std::printf("FAIL %s:%d: %s\n", __FILE__, __LINE__, #what); \
      std::exit(1);                                               \
    }                                                             \
  } while (0)

namespace {

// An engine, and the calls by name.
class Bench {
 public:
  explicit Bench(int threads) : engine("", threads, [this](Read* read) { done(read); }) {}

  Call call(const char* name, const std::vector<int32_t>& in, const std::vector<int32_t>& out,
            const std::vector<int32_t>& ints = {}, const std::vector<double>& floats = {}) {
    int index = 0;
    for (const KernelEntry& kernel : engine.kernels().kernels) {
      if (std::strcmp(kernel.name, name) == 0) {
        return {index,          in.data(),       out.data(),       ints.data(),       floats.data(),
                (int)in.size(), (int)out.size(), (int)ints.size(), (int)floats.size()};
      }
      index++;
    }
    std::printf("there is no kernel %s\n", name);
    std::exit(1);
  }
  void run(const char* name, const std::vector<int32_t>& in, const std::vector<int32_t>& out,
           const std::vector<int32_t>& ints = {}, const std::vector<double>& floats = {}) {
    engine.run(call(name, in, out, ints, floats));
  }
  int32_t floats(size_t n) { return engine.alloc(n, F32); }
  int32_t filled(size_t n, double value) {
    const int32_t buffer = floats(n);
    run("fill", {}, {buffer}, {}, {value});
    return buffer;
  }
  // The elements of a buffer, or what failed.
  std::string read(int32_t buffer, std::vector<float>* into) {
    into->assign(engine.elements(buffer), NAN);
    Read read;
    read.into = into->data();
    engine.read_now(buffer, &read);
    return read.error;
  }
  std::string read_async(int32_t buffer, std::vector<float>* into) {
    into->assign(engine.elements(buffer), NAN);
    Read read;
    read.into = into->data();
    engine.read(buffer, &read);
    std::unique_lock<std::mutex> lock(mutex);
    reported.wait(lock, [&] { return finished == &read; });
    finished = nullptr;
    return read.error;
  }

  Engine engine;

 private:
  void done(Read* read) {
    std::lock_guard<std::mutex> lock(mutex);
    finished = read;
    reported.notify_one();
  }
  std::mutex mutex;
  std::condition_variable reported;
  Read* finished = nullptr;
};

void keeps_order() {
  Bench bench(3);
  std::vector<float> values;
  const size_t n = 100000;
  const int32_t x = bench.filled(n, 0), one = bench.filled(n, 1);
  // More commands than the queue holds.
  for (int i = 0; i < 12000; i++) {
    const int32_t y = bench.floats(n / 1000);
    bench.run("affine", {y}, {y}, {}, {0, double(i)});
    bench.engine.free(y);
    if (i % 100 == 0) bench.run("accumulate", {x, one}, {x});
  }
  CHECK(bench.read(x, &values).empty());
  for (float v : values) CHECK(v == 120);
}

void reuses_memory() {
  Bench bench(2);
  std::vector<float> values, data(50000);
  size_t held = 0;
  for (int i = 0; i < 800; i++) {
    const size_t n = 1000 + (i * 7919) % 49000;
    const int32_t a = bench.floats(n), b = bench.floats(n);
    for (size_t k = 0; k < n; k++) data[k] = float(i + k);
    bench.engine.write(a, data.data());
    bench.run("square", {a}, {b});
    bench.engine.free(a);
    if (i % 10 == 0) {
      CHECK((i % 20 ? bench.read(b, &values) : bench.read_async(b, &values)).empty());
      for (size_t k = 0; k < n; k += 97) CHECK(values[k] == data[k] * data[k]);
    }
    bench.engine.free(b);
    if (i == 400) held = bench.engine.held_bytes();
  }
  CHECK(bench.engine.buffer_count() == 0 && bench.engine.buffer_bytes() == 0);
  CHECK(bench.engine.held_bytes() <= held + (held >> 2));
}

void reports_failures_once() {
  Bench bench(2);
  std::vector<float> values;
  const int32_t table = bench.filled(20, 1), rows = bench.floats(8), ids = bench.engine.alloc(2, I32);
  const int32_t wrong[] = {0, 99};
  bench.engine.write(ids, wrong);
  bench.run("embedding", {ids, table}, {rows}, {2, 5, 4});
  bench.run("fill", {}, {rows}, {}, {7});
  CHECK(bench.read(rows, &values).find("embedding: ") == 0);
  CHECK(bench.read(rows, &values).empty());
  const int32_t right[] = {0, 3};
  bench.engine.write(ids, right);
  bench.run("embedding", {ids, table}, {rows}, {2, 5, 4});
  CHECK(bench.read_async(rows, &values).empty() && values[7] == 1);
  bool thrown = false;
  bench.engine.free(rows);
  try {
    bench.run("fill", {}, {rows}, {}, {7});
  } catch (const std::exception&) {
    thrown = true;
  }
  CHECK(thrown);
}

void replays_programs() {
  Bench bench(2);
  const int32_t x = bench.floats(40), y = bench.filled(40, 0);
  std::vector<Call> calls;
  const std::vector<int32_t> in = {x, y}, out = {y};
  calls.push_back(bench.call("accumulate", in, out));
  const int program = bench.engine.compile(calls);
  bench.engine.free(bench.filled(1 << 20, 1));
  std::vector<float> data(40, 1.5f), result(40);
  Read read;
  read.into = result.data();
  for (int i = 1; i <= 1000; i++) {
    bench.engine.replay(program, x, data.data(), y, &read);
    CHECK(read.error.empty() && result[39] == 1.5f * i);
  }
  // The program keeps what it uses.
  bench.engine.free(x);
  bench.engine.free(y);
  const int32_t other = bench.filled(40, -1);
  bench.engine.release(program);
  CHECK(bench.engine.buffer_count() == 1);
  std::vector<float> values;
  CHECK(bench.read(other, &values).empty() && values[0] == -1);
}

void packs_once_a_version() {
  Pool pool(1);
  Scratch scratch;
  CpuDevice device = lend(&pool, &scratch);
  Buffer weight = {};
  bool fresh;
  float* first = device.packed(&device, &weight, 7, 100, &fresh);
  CHECK(fresh);
  CHECK(device.packed(&device, &weight, 7, 100, &fresh) == first && !fresh);
  for (int key = 0; key < 6; key++) {
    float* data = device.packed(&device, &weight, key, 1000, &fresh);
    CHECK(fresh);
    data[999] = 1;
  }
  weight.version++;
  device.packed(&device, &weight, 5, 1000, &fresh);
  CHECK(fresh);
  device.packed(&device, &weight, 5, 2000, &fresh)[1999] = 1;
  CHECK(fresh);
  release_packed(&weight, throughtime::host_memory());
}

void threads_meet() {
  for (int threads : {1, 2, 3, 5}) {
    Pool pool(threads);
    struct Shared {
      Pool* pool;
      int ranks;
      std::vector<int> sums;
    } shared = {&pool, 0, {}};
    for (int round = 0; round < 200; round++) {
      shared.ranks = 1 + round % threads;
      shared.sums.assign(2 * shared.ranks, 0);
      pool.run(
          shared.ranks,
          [](void* context, int rank, int ranks) {
            Shared& s = *static_cast<Shared*>(context);
            CHECK(ranks == s.ranks);
            for (int step = 0; step < 20; step++) {
              int* mine = s.sums.data() + (step % 2) * ranks;
              const int* others = s.sums.data() + (1 - step % 2) * ranks;
              int total = 1;
              for (int r = 0; r < ranks && step > 0; r++) total = std::max(total, others[r] + 1);
              mine[rank] = total;
              s.pool->barrier();
            }
          },
          &shared);
      for (int r = 0; r < shared.ranks; r++) CHECK(shared.sums[shared.ranks + r] == 20);
      if (round % 50 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));  // the workers go to sleep
    }
    pool.resize(threads + 1);
  }
}

void late_ranks_wake_the_others() {
  for (int threads : {2, 3, 7}) {
    Pool pool(threads);
    std::atomic<int> arrivals{0};
    struct Shared {
      Pool* pool;
      std::atomic<int>* arrivals;
      int late;  // the rank that keeps the others waiting until they sleep
    } shared = {&pool, &arrivals, 0};
    for (shared.late = 0; shared.late < threads; shared.late++) {
      arrivals = 0;
      pool.run(
          threads,
          [](void* context, int rank, int ranks) {
            const Shared& s = *static_cast<Shared*>(context);
            for (int step = 1; step <= 4; step++) {
              if (rank == s.late) std::this_thread::sleep_for(std::chrono::milliseconds(step % 2));
              s.arrivals->fetch_add(1);
              s.pool->barrier();
              CHECK(s.arrivals->load() >= step * ranks);
            }
            if (rank == s.late) std::this_thread::sleep_for(std::chrono::milliseconds(1));
            s.arrivals->fetch_add(1);
          },
          &shared);
      CHECK(arrivals == 5 * threads);
    }
  }
}

// Node starts other programs in its children; a native library may fork without that.
void a_fork_has_an_engine_of_its_own() {
#if defined(__SANITIZE_THREAD__)
  std::printf("left out: the thread sanitizer takes no threads after a fork\n");
#else
  Bench bench(2);
  const size_t n = 1 << 18;
  const int32_t x = bench.filled(n, 0.5), y = bench.floats(n);
  std::vector<float> values;
  for (int i = 0; i < 20; i++) bench.run("tanh", {x}, {y});
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    Bench own(2);
    const int32_t a = own.filled(n, 2), b = own.floats(n);
    own.run("square", {a}, {b});
    const bool right = own.read(b, &values).empty() && values[n - 1] == 4;
    own.engine.shutdown();
    _exit(right ? 0 : 1);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  CHECK(bench.read(y, &values).empty() && std::fabs(values[n - 1] - std::tanh(0.5f)) < 1e-6f);
#endif
}

// Time spent by so many runs that take this long alone and together, in ns.
double paced(Pace* pace, int runs, double alone, double together) {
  double total = 0;
  for (int i = 0; i < runs; i++) {
    const double ns = pace->together() ? together : alone;
    pace->ran(ns);
    total += ns;
  }
  return total;
}

// A tenth above the better way: half of it is what trials may lose, the rest what is lost at the beginning.
void paces_itself() {
  const int runs = 100000;
  const struct { double alone, together; } cases[] = {{24e3, 12e3}, {2e3, 2.5e3}, {24e3, 3e6}, {1200e3, 600e3}};
  Pace moody;
  for (const auto& [alone, together] : cases) {
    const double best = runs * std::min(alone, together);
    Pace pace;
    CHECK(!pace.together());
    CHECK(paced(&pace, runs, alone, together) <= 1.1 * best);
    // What held before does not hold it up for long.
    CHECK(paced(&moody, runs, alone, together) <= 1.1 * best);
  }
  // One run in a hundred waits for a thread that was stopped: alone is better on the whole.
  Pace shared;
  double total = 0;
  for (int i = 0; i < runs / 100; i++) total += paced(&shared, 99, 24e3, 12e3) + paced(&shared, 1, 24e3, 3e6);
  CHECK(total <= 1.1 * runs * 24e3);
  // Each time they are called, the threads share a core for a millisecond before the system parts them.
  Pace slow_start;
  double since = 0;
  total = 0;
  for (int i = 0; i < runs; i++) {
    const double ns = !slow_start.together() ? 24e3 : since < 1e6 ? 90e3 : 12e3;
    since = slow_start.together() ? since + ns : 0;
    slow_start.ran(ns);
    total += ns;
  }
  CHECK(total <= 1.1 * runs * 12e3);
  // One run in a thousand waits for a millisecond: together is better on the whole.
  Pace hit;
  total = 0;
  for (int i = 0; i < runs / 1000; i++) total += paced(&hit, 999, 24e3, 12e3) + paced(&hit, 1, 24e3, 1e6);
  CHECK(total <= 1.1 * (runs / 1000) * (999 * 12e3 + 1e6));
}

void results_do_not_depend_on_threads() {
  const size_t n = 1 << 19;
  std::vector<float> data(n), one, several;
  for (size_t i = 0; i < n; i++) data[i] = std::sin(float(i));
  for (int threads : {1, 3}) {
    Bench bench(threads);
    const int32_t x = bench.floats(n), y = bench.floats(1), z = bench.floats(64);
    bench.engine.write(x, data.data());
    bench.run("sum", {x}, {y}, {1, int32_t(n), 1});
    bench.run("sum", {x}, {z}, {1, int32_t(n / 64), 64});
    bench.run("affine", {z}, {z}, {}, {1, 0});
    std::vector<float>& into = threads == 1 ? one : several;
    std::vector<float> rest;
    CHECK(bench.read(y, &into).empty() && bench.read(z, &rest).empty());
    into.insert(into.end(), rest.begin(), rest.end());
    bench.engine.set_threads(2);
    bench.run("tanh", {x}, {x});
    CHECK(bench.read(x, &rest).empty() && std::fabs(rest[5] - std::tanh(data[5])) < 1e-6f);
  }
  CHECK(one == several);
}

void stops_with_work_left() {
  for (int round = 0; round < 20; round++) {
    auto bench = std::make_unique<Bench>(2);
    const size_t n = 1 << 18;
    const int32_t x = bench->filled(n, 1), y = bench->floats(n);
    std::vector<float> data(n);
    for (int i = 0; i < round * 5; i++) bench->run("tanh", {x}, {y});
    bench->engine.write(x, data.data());
    Read read;
    read.into = data.data();
    bench->engine.read(y, &read);
    bench->engine.shutdown();
  }
}

}  // namespace

// `emulated` as an argument leaves out what an emulator of user programs cannot do.
int main(int argc, char**) {
  const struct {
    const char* name;
    void (*test)();
  } tests[] = {
      {"keeps order", keeps_order},
      {"reuses memory", reuses_memory},
      {"reports failures once", reports_failures_once},
      {"replays programs", replays_programs},
      {"packs once a version", packs_once_a_version},
      {"threads meet", threads_meet},
      {"late ranks wake the others", late_ranks_wake_the_others},
      {"a fork has an engine of its own", a_fork_has_an_engine_of_its_own},
      {"paces itself", paces_itself},
      {"results do not depend on threads", results_do_not_depend_on_threads},
      {"stops with work left", stops_with_work_left},
  };
  for (const auto& [name, test] : tests) {
    if (argc > 1 && test == a_fork_has_an_engine_of_its_own) continue;
    const auto start = std::chrono::steady_clock::now();
    test();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("ok  %s, %.2f s\n", name, seconds);
  }
}
