// The Node-API face of the native devices. It knows no op: kernels are found by number, and a call is described in two
// shared arrays (the mailbox), because arguments cost more than most small kernels.
#include <napi.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cuda_library.h"
#include "engine.h"

namespace throughtime {
namespace {

constexpr size_t kMailInts = 16384;
constexpr size_t kMailFloats = 1024;
constexpr int64_t kMemoryStep = int64_t{1} << 20;  // bytes; smaller changes are not reported to V8

struct PendingRead : Read {
  PendingRead(Napi::Env env, Napi::TypedArray array)
      : promise(Napi::Promise::Deferred::New(env)), target(Napi::Persistent(array.As<Napi::Object>())) {}
  Napi::Promise::Deferred promise;
  Napi::ObjectReference target;
};

// One engine as JavaScript sees it: an object of functions and the mailbox.
class Opened {
 public:
  // `made` gives the engine, told what to call when a read is done.
  template <class F>
  Opened(Napi::Env env, const F& made);
  ~Opened() { engine_->shutdown(); }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;

  Napi::Object face() const { return face_.Value(); }
  // Called while the environment goes: nothing may reach it any more.
  void shutdown() { engine_->shutdown(); }

  Napi::Value alloc(const Napi::CallbackInfo&);
  Napi::Value free(const Napi::CallbackInfo&);
  Napi::Value run(const Napi::CallbackInfo&);
  Napi::Value write(const Napi::CallbackInfo& info);
  Napi::Value read(const Napi::CallbackInfo& info);
  Napi::Value read_sync(const Napi::CallbackInfo& info);
  Napi::Value compile(const Napi::CallbackInfo& info);
  Napi::Value replay(const Napi::CallbackInfo& info);
  Napi::Value release(const Napi::CallbackInfo& info);
  Napi::Value memory(const Napi::CallbackInfo&);
  Napi::Value set_threads(const Napi::CallbackInfo& info);
  Napi::Value profile(const Napi::CallbackInfo& info);

 private:
  static void settle(Napi::Env env, Napi::Function, Opened* self, void*);
  using Notify = Napi::TypedThreadSafeFunction<Opened, void, settle>;

  void finished(Read* read);
  void report_memory();
  // The elements of a typed array that must match the buffer.
  void* data_of(const Napi::Value& value, int32_t buffer) const;

  Napi::Env env_;
  Napi::ObjectReference face_;  // keeps the mailbox alive
  int32_t* ints_;
  double* floats_;
  int64_t reported_ = 0;
  Notify notify_;
  std::vector<std::unique_ptr<PendingRead>> pending_;
  std::mutex mutex_;
  std::vector<Read*> finished_;  // guarded by mutex_
  std::unique_ptr<Engine> engine_;
};

// A call as it lies in the mailbox: [kernel, inputs, outputs, ints, floats, then the entries of each but the floats].
// Returns the number of ints read.
size_t parse(const int32_t* ints, const double* floats, Call* call) {
  call->kernel = ints[0];
  call->input_count = ints[1];
  call->output_count = ints[2];
  call->int_count = ints[3];
  call->float_count = ints[4];
  call->inputs = ints + 5;
  call->outputs = call->inputs + call->input_count;
  call->ints = call->outputs + call->output_count;
  call->floats = floats;
  return 5 + call->input_count + call->output_count + call->int_count;
}

template <class F>
Napi::Value guarded(Napi::Env env, const F& body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw Napi::Error::New(env, "out of memory");
  } catch (const std::exception& error) {
    throw Napi::Error::New(env, error.what());
  }
}

template <Napi::Value (Opened::*method)(const Napi::CallbackInfo&)>
Napi::Value call(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return (static_cast<Opened*>(info.Data())->*method)(info); });
}

template <class F>
Opened::Opened(Napi::Env env, const F& made) : env_(env), engine_(made([this](Read* read) { finished(read); })) {
  Napi::Object face = Napi::Object::New(env_);
  Napi::Int32Array ints = Napi::Int32Array::New(env_, kMailInts);
  Napi::Float64Array floats = Napi::Float64Array::New(env_, kMailFloats);
  ints_ = ints.Data();
  floats_ = floats.Data();
  face["ints"] = ints;
  face["floats"] = floats;
  face["isa"] = engine_->kernels().isa;
  face["threads"] = engine_->threads();
  Napi::Object kernels = Napi::Object::New(env_);
  int index = 0;
  for (const KernelEntry& entry : engine_->kernels().kernels) {
    Napi::Object kernel = Napi::Object::New(env_);
    kernel["index"] = index++;
    kernel["info"] = entry.info;
    kernels[entry.name] = kernel;
  }
  face["kernels"] = kernels;
  const auto add = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    face[name] = Napi::Function::New(env_, function, name, this);
  };
  add("alloc", call<&Opened::alloc>);
  add("free", call<&Opened::free>);
  add("run", call<&Opened::run>);
  add("write", call<&Opened::write>);
  add("read", call<&Opened::read>);
  add("readSync", call<&Opened::read_sync>);
  add("compile", call<&Opened::compile>);
  add("replay", call<&Opened::replay>);
  add("release", call<&Opened::release>);
  add("memory", call<&Opened::memory>);
  add("setThreads", call<&Opened::set_threads>);
  add("profile", call<&Opened::profile>);
  face_ = Napi::Persistent(face);
  notify_ = Notify::New(env_, "throughtime", 0, 1, this);
  notify_.Unref(env_);
}

void Opened::report_memory() {
  const int64_t change = static_cast<int64_t>(engine_->held_bytes()) - reported_;
  if (change < kMemoryStep && change > -kMemoryStep) return;
  reported_ += change;
  Napi::MemoryManagement::AdjustExternalMemory(env_, change);
}

// Mailbox: floats[0] elements, ints[0] dtype; leaves the handle in ints[0].
Napi::Value Opened::alloc(const Napi::CallbackInfo&) {
  try {
    if (!(floats_[0] >= 0 && floats_[0] < 9e15)) throw std::bad_alloc();
    ints_[0] = engine_->alloc(static_cast<size_t>(floats_[0]), static_cast<DType>(ints_[0]));
  } catch (const std::bad_alloc&) {
    throw std::runtime_error(engine_->out_of_memory());
  }
  report_memory();
  return {};
}

// Mailbox: ints[0] handle.
Napi::Value Opened::free(const Napi::CallbackInfo&) {
  engine_->free(ints_[0]);
  return {};
}

Napi::Value Opened::run(const Napi::CallbackInfo&) {
  Call call;
  parse(ints_, floats_, &call);
  engine_->run(call);
  return {};
}

void* Opened::data_of(const Napi::Value& value, int32_t buffer) const {
  napi_typedarray_type type;
  size_t length;
  void* data;
  if (napi_get_typedarray_info(env_, value, &type, &length, &data, nullptr, nullptr) != napi_ok)
    throw Napi::TypeError::New(env_, engine_->name() + std::string(": data must be a typed array"));
  const bool right = type == (engine_->dtype(buffer) == F32 ? napi_float32_array : napi_int32_array);
  const size_t elements = engine_->elements(buffer);
  if (!right || length != elements) {
    throw Napi::RangeError::New(env_, engine_->name() + std::string(": data must be ") + std::to_string(elements) +
                                          (engine_->dtype(buffer) == F32 ? " float32" : " int32") +
                                          " elements but is " + std::to_string(length) +
                                          (right ? "" : " of another type"));
  }
  return data;
}

// write(buffer, data)
Napi::Value Opened::write(const Napi::CallbackInfo& info) {
  const int32_t buffer = info[0].As<Napi::Number>().Int32Value();
  engine_->write(buffer, data_of(info[1], buffer));
  return {};
}

// read(buffer, into): undefined if `into` is filled, else a promise of it.
Napi::Value Opened::read(const Napi::CallbackInfo& info) {
  if (engine_->idle()) return read_sync(info);
  const int32_t buffer = info[0].As<Napi::Number>().Int32Value();
  void* into = data_of(info[1], buffer);
  auto pending = std::make_unique<PendingRead>(env_, info[1].As<Napi::TypedArray>());
  pending->into = into;
  engine_->read(buffer, pending.get());
  if (pending_.empty()) notify_.Ref(env_);
  const Napi::Value promise = pending->promise.Promise();
  pending_.push_back(std::move(pending));
  return promise;
}

// On the queue's thread.
void Opened::finished(Read* read) {
  bool first;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    first = finished_.empty();
    finished_.push_back(read);
  }
  if (first) notify_.NonBlockingCall();
}

void Opened::settle(Napi::Env env, Napi::Function, Opened* self, void*) {
  if (env == nullptr) return;
  std::vector<Read*> done;
  {
    std::lock_guard<std::mutex> lock(self->mutex_);
    done.swap(self->finished_);
  }
  // Reads finish in the order they were asked for.
  for (size_t i = 0; i < done.size(); i++) {
    PendingRead& read = *self->pending_[i];
    if (read.error.empty())
      read.promise.Resolve(read.target.Value());
    else
      read.promise.Reject(Napi::Error::New(env, read.error).Value());
  }
  self->pending_.erase(self->pending_.begin(), self->pending_.begin() + done.size());
  if (self->pending_.empty()) self->notify_.Unref(env);
}

// readSync(buffer, into)
Napi::Value Opened::read_sync(const Napi::CallbackInfo& info) {
  const int32_t buffer = info[0].As<Napi::Number>().Int32Value();
  Read read;
  read.into = data_of(info[1], buffer);
  engine_->read_now(buffer, &read);
  if (!read.error.empty()) throw Napi::Error::New(env_, read.error);
  return {};
}

// compile(ints, floats): calls one after another, each as in the mailbox.
Napi::Value Opened::compile(const Napi::CallbackInfo& info) {
  Napi::Int32Array ints = info[0].As<Napi::Int32Array>();
  const double* floats = info[1].As<Napi::Float64Array>().Data();
  std::vector<Call> calls;
  for (size_t at = 0; at < ints.ElementLength();) {
    Call call;
    at += parse(ints.Data() + at, floats, &call);
    floats += call.float_count;
    calls.push_back(call);
  }
  return Napi::Number::New(env_, engine_->compile(calls));
}

// replay(program, input, data, output, into)
Napi::Value Opened::replay(const Napi::CallbackInfo& info) {
  const int program = info[0].As<Napi::Number>().Int32Value();
  const int32_t input = info[1].As<Napi::Number>().Int32Value();
  const int32_t output = info[3].As<Napi::Number>().Int32Value();
  const void* data = data_of(info[2], input);
  Read read;
  read.into = data_of(info[4], output);
  engine_->replay(program, input, data, output, &read);
  if (!read.error.empty()) throw Napi::Error::New(env_, read.error);
  return {};
}

Napi::Value Opened::release(const Napi::CallbackInfo& info) {
  engine_->release(info[0].As<Napi::Number>().Int32Value());
  return {};
}

// Mailbox: leaves the number of live buffers in floats[0] and their bytes in floats[1].
Napi::Value Opened::memory(const Napi::CallbackInfo&) {
  floats_[0] = static_cast<double>(engine_->buffer_count());
  floats_[1] = static_cast<double>(engine_->buffer_bytes());
  return {};
}

Napi::Value Opened::set_threads(const Napi::CallbackInfo& info) {
  engine_->set_threads(info[0].As<Napi::Number>().Int32Value());
  return {};
}

// profile(on): Float64Array of ns: on the owner's thread, waited, then for each kernel the number of its calls and ns.
Napi::Value Opened::profile(const Napi::CallbackInfo& info) {
  const Profile taken = engine_->profile(info[0].As<Napi::Boolean>());
  Napi::Float64Array result = Napi::Float64Array::New(env_, 2 + 2 * taken.kernels.size());
  size_t at = 0;
  result[at++] = taken.owner_ns;
  result[at++] = taken.waited_ns;
  for (const Tally& tally : taken.kernels) {
    result[at++] = static_cast<double>(tally.calls);
    result[at++] = tally.ns;
  }
  return result;
}

// What lives as long as the environment (the process's main thread or a worker).
struct Addon {
  std::vector<std::unique_ptr<Opened>> devices;
};

// The device as an object of functions.
template <class F>
Napi::Value opened(const Napi::CallbackInfo& info, const F& made) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto device = std::make_unique<Opened>(info.Env(), made);
    // After the thread-safe function, so that this hook is called before it goes.
    info.Env().AddCleanupHook([](Opened* opened) { opened->shutdown(); }, device.get());
    const Napi::Object face = device->face();
    static_cast<Addon*>(info.Data())->devices.push_back(std::move(device));
    return face;
  });
}

// open(isa: string, threads: number): the processor. "" and 0 choose.
Napi::Value open(const Napi::CallbackInfo& info) {
  const std::string isa = info[0].As<Napi::String>().Utf8Value();
  const int threads = info[1].As<Napi::Number>().Int32Value();
  return opened(info, [&](std::function<void(Read*)> finished) {
    return std::make_unique<Engine>(isa, threads > 0 ? threads : available_cores(), std::move(finished));
  });
}

// openCuda(path of the library, device: number): a GPU.
Napi::Value open_gpu(const Napi::CallbackInfo& info) {
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  const int device = info[1].As<Napi::Number>().Int32Value();
  return opened(info, [&](std::function<void(Read*)> finished) {
    return std::make_unique<Engine>(open_cuda(cuda_library(path), device), std::move(finished));
  });
}

// cudaInfo(path of the library, device: number): what there is.
Napi::Value gpu_info(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const CudaApi& api = cuda_library(info[0].As<Napi::String>().Utf8Value());
    Message why = {};
    const int device = info[1].As<Napi::Number>().Int32Value();
    require_gpu(api, device);
    CudaInfo found;
    if (!api.info(device, &found, &why)) throw std::runtime_error(why.text);
    Napi::Object result = Napi::Object::New(info.Env());
    const auto version = [](int v) { return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10); };
    result["gpu"] = found.name;
    result["gpus"] = api.count(&why);
    result["memory"] = static_cast<double>(found.memory);
    result["free"] = static_cast<double>(found.free);
    result["capability"] = std::to_string(found.major) + "." + std::to_string(found.minor);
    result["processors"] = found.processors;
    result["driver"] = version(found.driver);
    result["runtime"] = version(found.runtime);
    result["blas"] = found.blas;
    result["tf32"] = found.tf32;
    return result;
  });
}

Napi::Object start(Napi::Env env, Napi::Object exports) {
  auto* addon = new Addon();
  env.SetInstanceData(addon);
  exports["open"] = Napi::Function::New(env, open, "open", addon);
  exports["openCuda"] = Napi::Function::New(env, open_gpu, "openCuda", addon);
  exports["cudaInfo"] = Napi::Function::New(env, gpu_info, "cudaInfo", addon);
  Napi::Array isas = Napi::Array::New(env);
  for (const std::string& isa : usable_isas()) isas[isas.Length()] = isa;
  exports["isas"] = isas;
  exports["cores"] = Napi::Number::New(env, available_cores());
  exports["revision"] = Napi::Number::New(env, kRevision);
  return exports;
}

NODE_API_MODULE(throughtime, start)

}  // namespace
}  // namespace throughtime
