#include "cuda_library.h"

#include <map>
#include <mutex>
#include <new>
#include <stdexcept>

#if defined(_WIN32)
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace throughtime {

namespace {

#if defined(_WIN32)
CudaEntry entry_of(const std::string& path) {
  const HMODULE library = LoadLibraryA(path.c_str());
  if (!library) throw std::runtime_error("the CUDA kernels cannot be loaded: " + path);
  return reinterpret_cast<CudaEntry>(GetProcAddress(library, kCudaEntry));
}
#else
CudaEntry entry_of(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) throw std::runtime_error(std::string("the CUDA kernels cannot be loaded: ") + dlerror());
  return reinterpret_cast<CudaEntry>(dlsym(library, kCudaEntry));
}
#endif

const CudaApi* load(const std::string& path) {
  const CudaEntry entry = entry_of(path);
  const CudaApi* api = entry ? entry() : nullptr;
  if (!api || api->revision != kRevision || api->cuda_revision != kCudaRevision)
    throw std::runtime_error("the CUDA kernels belong to another version: " + path);
  return api;
}

class CudaGpu : public Machine {
 public:
  CudaGpu(const CudaApi& api, CudaMachine* machine, int device) : api_(api), machine_(machine), device_(device) {}
  ~CudaGpu() override { api_.close(machine_); }

  const char* name() const override { return "cuda"; }
  KernelSet kernels() const override {
    KernelSet set{"cuda", {}};
    for (int file = 0;; file++) {
      const KernelList list = api_.kernels(file);
      if (!list.entries) return set;
      set.kernels.insert(set.kernels.end(), list.entries, list.entries + list.count);
    }
  }
  Block allocate(size_t bytes) override {
    void* data = api_.allocate(machine_, bytes);
    if (!data) throw std::bad_alloc();
    return {data, bytes};
  }
  void free(Block block) override { api_.release(machine_, block.data); }
  void run(const KernelEntry& kernel, const Args& args) override {
    Message why;
    expect(api_.run(machine_, &kernel, &args, &why), why);
  }
  void write(void* to, const void* from, size_t bytes) override {
    Message why;
    expect(api_.write(machine_, to, from, bytes, &why), why);
  }
  void read(void* into, const void* from, size_t bytes) override {
    Message why;
    expect(api_.read(machine_, into, from, bytes, &why), why);
  }
  void wait() override {
    Message why;
    expect(api_.wait(machine_, &why), why);
  }

  std::string memory() const override {
    CudaInfo info;
    Message why;
    if (!api_.info(device_, &info, &why)) return why.text;
    return std::to_string(info.free >> 20) + " of " + std::to_string(info.memory >> 20) + " MiB are free";
  }

 private:
  static void expect(bool done, const Message& why) {
    if (!done) throw std::runtime_error(why.text);
  }

  const CudaApi& api_;
  CudaMachine* machine_;
  int device_;
};

}  // namespace

const CudaApi& cuda_library(const std::string& path) {
  static std::mutex mutex;
  static std::map<std::string, const CudaApi*> opened;
  std::lock_guard<std::mutex> lock(mutex);
  const CudaApi*& api = opened[path];
  if (!api) api = load(path);
  return *api;
}

void require_gpu(const CudaApi& api, int device) {
  Message why = {};
  const int count = api.count(&why);
  if (count == 0) throw std::runtime_error(why.text);
  if (device >= count)
    throw std::runtime_error("there is no GPU " + std::to_string(device) + ": there " + (count == 1 ? "is " : "are ") +
                             std::to_string(count) + ", numbered from 0");
}

std::unique_ptr<Machine> open_cuda(const CudaApi& api, int device) {
  require_gpu(api, device);
  Message why = {};
  CudaMachine* machine = api.open(device, &why);
  if (!machine) throw std::runtime_error(why.text);
  return std::make_unique<CudaGpu>(api, machine, device);
}

}  // namespace throughtime
