#include "engine.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <stdexcept>

namespace throughtime {

namespace {

// Below this number of elements a call is taken to be short; above, its last run tells.
constexpr size_t kShort = 8192;
// ns: the longest call to run on the owner's thread, and how much of them in a row before the owner waits for a read.
constexpr float kInline = 50e3f;
constexpr double kBudget = 100e3;
// ns: what waking the pool costs, and the longest call that is not worth it.
constexpr float kWake = 20e3f;
constexpr float kAlone = 40e3f;
// Blocks kept for reuse beyond those in use.
constexpr size_t kSpare = size_t{256} << 20;

double now() {
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

struct Engine::KernelCommand : Command {
  const KernelEntry* kernel;
  Args args;
  uint64_t key;  // of its cost; 0 if it need not be timed
  // followed by inputs, outputs, floats, ints
};

struct Engine::WriteCommand : Command {
  Holding* target;
  void* staged;  // from malloc; null if the data follows
};

struct Engine::ReadCommand : Command {
  Holding* source;
  Read* read;
};

Engine::Engine(const std::string& isa, int threads, std::function<void(Read*)> finished)
    : kernels_(cpu_kernels(isa)),
      finished_(std::move(finished)),
      buffers_(host_memory(), "cpu"),
      pool_(threads),
      costs_(kCosts),
      budget_(kBudget),
      queue_(this) {
  device_ = lend(&pool_, &scratch_);
}

Engine::Engine(std::unique_ptr<Machine> machine, std::function<void(Read*)> finished)
    : machine_(std::move(machine)),
      kernels_(machine_->kernels()),
      finished_(std::move(finished)),
      buffers_(*machine_, machine_->name()),
      pool_(1),
      costs_(kCosts),
      queue_(this) {
  device_ = lend(&pool_, &scratch_);
}

Engine::~Engine() {
  queue_.stop();
  for (const Leaving& leaving : leaving_) buffers_.blocks().release(leaving.block);
}

void Engine::set_threads(int threads) {
  queue_.drain();
  pool_.resize(threads);
  std::fill(costs_.begin(), costs_.end(), Cost{});
  awake_until_ = 0;
  for (auto& program : programs_)
    if (program) program->pace[0] = program->pace[1] = Pace();
}

int32_t Engine::alloc(size_t elements, DType dtype) {
  if (elements > SIZE_MAX / 8) throw std::bad_alloc();
  BlockCache& blocks = buffers_.blocks();
  const size_t bytes = elements * 4;
  Block block = blocks.reuse(bytes);
  if (!block.data) {
    // Commands on their way may still use what is cached: it goes when they are done, and only as fast as memory grows.
    const size_t keep = std::max(kSpare, buffers_.bytes());
    for (size_t shed = 0; shed < 2 * bytes && blocks.cached() > keep; shed += leaving_.back().block.bytes)
      leaving_.push_back({blocks.take_largest(), queue_.published()});
    release_left();
    try {
      block = blocks.grow(bytes);
    } catch (const std::bad_alloc&) {
      queue_.drain();
      release_left();
      while (blocks.cached() > 0) blocks.release(blocks.take_largest());
      block = blocks.grow(bytes);
    }
  }
  return buffers_.add(block, elements, dtype, queue_.done());
}

void Engine::release_left() {
  for (; !leaving_.empty() && leaving_.front().position <= queue_.done(); leaving_.pop_front())
    buffers_.blocks().release(leaving_.front().block);
}

size_t Engine::bytes_of(const Call& call) {
  return sizeof(KernelCommand) + (call.input_count + call.output_count) * sizeof(Buffer*) +
         call.float_count * sizeof(double) + call.int_count * sizeof(int32_t);
}

void Engine::fill(KernelCommand* command, const Call& call) const {
  if (call.kernel < 0 || static_cast<size_t>(call.kernel) >= kernels_.kernels.size())
    throw std::runtime_error(std::string(name()) + ": there is no kernel " + std::to_string(call.kernel));
  Buffer** in = reinterpret_cast<Buffer**>(command + 1);
  Buffer** out = in + call.input_count;
  double* floats = reinterpret_cast<double*>(out + call.output_count);
  int32_t* ints = reinterpret_cast<int32_t*>(floats + call.float_count);
  for (int i = 0; i < call.input_count; i++) in[i] = buffers_.at(call.inputs[i]);
  for (int i = 0; i < call.output_count; i++) out[i] = buffers_.at(call.outputs[i]);
  std::copy_n(call.floats, call.float_count, floats);
  std::copy_n(call.ints, call.int_count, ints);
  command->run = run_kernel;
  command->kernel = &kernels_.kernels[call.kernel];
  command->args = {in, call.input_count, out, call.output_count, ints, call.int_count, floats, call.float_count};
}

// Identifies calls that take the same time: kernel, ints and sizes. 0 for a short one.
uint64_t Engine::key_of(const Call& call, const KernelCommand& command) const {
  size_t total = 0;
  uint64_t key = call.kernel + 1;
  const auto mix = [&key](uint64_t value) {
    key = (key ^ value) * 0x9e3779b97f4a7c15u;
    key ^= key >> 29;
  };
  const auto add = [&](const Buffer* buffer) {
    const size_t elements = buffer ? buffer->elements : 0;
    total += elements;
    mix(elements);
  };
  for (int i = 0; i < call.input_count; i++) add(command.args.in[i]);
  for (int i = 0; i < call.output_count; i++) add(command.args.out[i]);
  if (total <= kShort) return 0;
  for (int i = 0; i < call.int_count; i++) mix(static_cast<uint32_t>(call.ints[i]));
  return key | 1;
}

void Engine::run(const Call& call) {
  const size_t bytes = bytes_of(call);
  if (bytes > Queue::kLargest) throw std::runtime_error(std::string(name()) + ": a call has too many arguments");
  auto* command = static_cast<KernelCommand*>(queue_.reserve(bytes));
  fill(command, call);
  command->key = key_of(call, *command);
  if (!machine_ && budget_ > 0 && queue_.idle() && expected(command->key, 2 * kInline) <= kInline) {
    budget_ -= execute_timed(*command);
    return;
  }
  queue_.publish(command);
}

float Engine::expected(uint64_t key, float unknown) const {
  if (key == 0) return 0;
  const Cost& cost = costs_[key % kCosts];
  return cost.key == key ? cost.ns : unknown;
}

template <class F>
float Engine::timed(float expected, const F& body) {
  const double start = now();
  const bool resting = start > awake_until_;
  device_.threads = resting && expected < kAlone ? 1 : pool_.threads();
  const uint32_t regions = pool_.regions();
  body();
  const double end = now();
  const float spent = static_cast<float>(end - start);
  if (regions == pool_.regions()) return spent;
  awake_until_ = end + kSpin;
  return resting ? std::max(spent - kWake, 0.0f) : spent;
}

float Engine::execute_timed(KernelCommand& command) {
  const float ns = timed(expected(command.key, 2 * kAlone), [&] { execute(command); });
  if (command.key) costs_[command.key % kCosts] = {command.key, ns};
  return ns;
}

void Engine::execute(KernelCommand& command) {
  // After a failure nothing runs until a read has reported it, so that no kernel sees what was never computed.
  if (!failure_.empty() || queue_.stopping()) return;
  const bool profiled = !profile_.kernels.empty();
  const double start = profiled ? now() : 0;
  try {
    if (machine_)
      machine_->run(*command.kernel, command.args);
    else
      command.kernel->run(command.args, &device_);
    if (machine_ && profiled) machine_->wait();
  } catch (const std::exception& error) {
    failure_ = std::string(command.kernel->name) + ": " + error.what();
  }
  if (profiled) {
    const double spent = now() - start;
    Tally& tally = profile_.kernels[command.kernel - kernels_.kernels.data()];
    tally.calls++;
    tally.ns += spent;
    if (std::this_thread::get_id() == owner_) profile_.owner_ns += spent;
  }
  scratch_.reset();
  const Args& args = command.args;
  for (int i = 0; i < args.outputs; i++)
    if (args.out[i]) args.out[i]->version++;
  // What a failed kernel packed may be half done.
  for (int i = 0; i < args.inputs && !failure_.empty(); i++)
    if (args.in[i]) args.in[i]->version++;
}

void Engine::run_kernel(void* self, Command* command) {
  static_cast<Engine*>(self)->execute_timed(*static_cast<KernelCommand*>(command));
}

void Engine::write(int32_t buffer, const void* data) {
  Holding* target = buffers_.at(buffer);
  const size_t bytes = target->elements * 4;
  if (queue_.idle()) return copy_in(target, data);
  const bool inside = bytes <= 4096;
  void* staged = inside ? nullptr : std::malloc(bytes);
  if (!inside && !staged) throw std::bad_alloc();
  auto* command = static_cast<WriteCommand*>(queue_.reserve(sizeof(WriteCommand) + (inside ? bytes : 0)));
  std::memcpy(inside ? command + 1 : staged, data, bytes);
  command->run = run_write;
  command->target = target;
  command->staged = staged;
  queue_.publish(command);
}

void Engine::run_write(void* self, Command* command) {
  const auto& write = *static_cast<WriteCommand*>(command);
  Engine& engine = *static_cast<Engine*>(self);
  if (!engine.queue_.stopping()) {
    try {
      engine.copy_in(write.target, write.staged ? write.staged : &write + 1);
    } catch (const std::exception& error) {
      engine.failure_ = error.what();
    }
  }
  std::free(write.staged);
}

void Engine::copy_in(Holding* target, const void* data) {
  if (machine_)
    machine_->write(target->data, data, target->elements * 4);
  else
    std::memcpy(target->data, data, target->elements * 4);
  target->version++;
}

void Engine::copy_out(const Holding& source, Read* read) {
  read->error.swap(failure_);
  failure_.clear();
  if (!read->error.empty()) return;
  if (!machine_) {
    std::memcpy(read->into, source.data, source.elements * 4);
    return;
  }
  try {
    machine_->read(read->into, source.data, source.elements * 4);
  } catch (const std::exception& error) {
    read->error = error.what();
  }
}

void Engine::read(int32_t buffer, Read* read) {
  Holding* source = buffers_.at(buffer);
  budget_ = kBudget;
  auto* command = static_cast<ReadCommand*>(queue_.reserve(sizeof(ReadCommand)));
  command->run = run_read;
  command->source = source;
  command->read = read;
  queue_.publish(command);
}

void Engine::run_read(void* self, Command* command) {
  Engine& engine = *static_cast<Engine*>(self);
  if (engine.queue_.stopping()) return;
  const auto& request = *static_cast<ReadCommand*>(command);
  engine.copy_out(*request.source, request.read);
  engine.finished_(request.read);
}

void Engine::read_now(int32_t buffer, Read* read) {
  const Holding* source = buffers_.at(buffer);
  wait_for_queue();
  budget_ = kBudget;
  copy_out(*source, read);
}

void Engine::wait_for_queue() {
  const double start = profile_.kernels.empty() ? 0 : now();
  queue_.drain();
  if (start > 0) profile_.waited_ns += now() - start;
}

Profile Engine::profile(bool on) {
  queue_.drain();
  if (machine_) machine_->wait();
  Profile taken;
  std::swap(taken, profile_);
  if (on) profile_.kernels.resize(kernels_.kernels.size());
  owner_ = std::this_thread::get_id();
  return taken;
}

int Engine::compile(const std::vector<Call>& calls) {
  auto program = std::make_unique<Program>();
  for (const Call& call : calls) {
    program->commands.emplace_back(new unsigned char[bytes_of(call)]);
    auto* command = reinterpret_cast<KernelCommand*>(program->commands.back().get());
    fill(command, call);
    for (int i = 0; i < call.input_count; i++) program->pinned.push_back(static_cast<Holding*>(command->args.in[i]));
    for (int i = 0; i < call.output_count; i++) program->pinned.push_back(static_cast<Holding*>(command->args.out[i]));
  }
  for (Holding* holding : program->pinned)
    if (holding) buffers_.pin(holding);
  for (size_t i = 0; i < programs_.size(); i++) {
    if (programs_[i]) continue;
    programs_[i] = std::move(program);
    return static_cast<int>(i);
  }
  programs_.push_back(std::move(program));
  return static_cast<int>(programs_.size()) - 1;
}

Engine::Program& Engine::program_at(int program) const {
  if (program < 0 || static_cast<size_t>(program) >= programs_.size() || !programs_[program])
    throw std::runtime_error(std::string(name()) + ": there is no program " + std::to_string(program));
  return *programs_[program];
}

void Engine::replay(int program, int32_t input, const void* data, int32_t output, Read* read) {
  Program& calls = program_at(program);
  Holding* target = buffers_.at(input);
  const Holding* source = buffers_.at(output);
  queue_.drain();
  budget_ = kBudget;
  copy_in(target, data);
  run_program(calls);
  copy_out(*source, read);
}

void Engine::run_program(Program& program) {
  const double start = now();
  const bool asleep = start > awake_until_, unborn = awake_until_ == 0, brisk = start < replayed_ + kSpin;
  Pace& pace = program.pace[brisk];
  const bool together = pool_.threads() > 1 && pace.together();
  device_.threads = together ? pool_.threads() : 1;
  const uint32_t regions = pool_.regions();
  for (const auto& command : program.commands) execute(*reinterpret_cast<KernelCommand*>(command.get()));
  const double end = replayed_ = now();
  const bool woke = asleep && regions != pool_.regions();
  if (regions != pool_.regions()) awake_until_ = end + kSpin;
  // Threads are made only once, and of runs one after another only the first wakes them.
  if (pool_.threads() > 1 && !(woke && (unborn || brisk))) pace.ran(end - start);
}

void Engine::release(int program) {
  for (Holding* holding : program_at(program).pinned)
    if (holding) buffers_.unpin(holding, queue_.published(), queue_.done());
  programs_[program].reset();
}

}  // namespace throughtime
