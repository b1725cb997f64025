#include "registry.h"

#include <stdexcept>

#include "cpu/kernel_files.h"

namespace throughtime {

#define DECLARE(file) KernelList kernels_##file##_base();
THROUGHTIME_KERNEL_FILES(DECLARE)
#undef DECLARE
#if defined(__x86_64__) && !defined(THROUGHTIME_BASE_ONLY)
#define SEVERAL_ISAS
#define DECLARE(file)                 \
  KernelList kernels_##file##_avx2(); \
  KernelList kernels_##file##_avx512();
THROUGHTIME_KERNEL_FILES(DECLARE)
#undef DECLARE
#endif

namespace {

using List = KernelList (*)();

struct Isa {
  const char* name;
  bool usable;
  std::vector<List> files;
};

std::vector<Isa> isas() {
  std::vector<Isa> list;
#define ENTRY(file) kernels_##file##_base,
  list.push_back({"base", true, {THROUGHTIME_KERNEL_FILES(ENTRY)}});
#undef ENTRY
#if defined(SEVERAL_ISAS)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#if defined(THROUGHTIME_EMULATE_AVX512)
  const bool avx512 = avx2;
#else
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
#define ENTRY(file) kernels_##file##_avx2,
  list.push_back({"avx2", avx2, {THROUGHTIME_KERNEL_FILES(ENTRY)}});
#undef ENTRY
#define ENTRY(file) kernels_##file##_avx512,
  list.push_back({"avx512", avx512, {THROUGHTIME_KERNEL_FILES(ENTRY)}});
#undef ENTRY
#endif
  return list;
}

}  // namespace

std::vector<std::string> usable_isas() {
  std::vector<std::string> names;
  for (const Isa& isa : isas())
    if (isa.usable) names.push_back(isa.name);
  return names;
}

KernelSet cpu_kernels(const std::string& name) {
  const std::vector<std::string> usable = usable_isas();
  const std::string wanted = name.empty() ? usable.back() : name;
  for (const Isa& isa : isas()) {
    if (!isa.usable || wanted != isa.name) continue;
    KernelSet set{wanted, {}};
    for (List list : isa.files) {
      const KernelList found = list();
      set.kernels.insert(set.kernels.end(), found.entries, found.entries + found.count);
    }
    return set;
  }
  std::string choices;
  for (const std::string& isa : usable) choices += (choices.empty() ? "" : ", ") + isa;
  throw std::runtime_error("THROUGHTIME_ISA: must be one of " + choices + " on this processor but is " + wanted);
}

}  // namespace throughtime
