#include "blas.h"

#include <dlfcn.h>
#include <sys/stat.h>

#include <array>
#include <cstdlib>
#include <map>

namespace throughtime {

namespace {

// Of cublasLt.h, as in its versions 12 and 13.
using Status = int;
using Handle = struct cublasLtContext*;
using Descriptor = void*;
struct Algorithm {
  uint64_t data[8];
};
struct Heuristic {
  Algorithm algorithm;
  size_t workspace;
  Status state;
  float waves;
  int reserved[4];
};
enum : int { SUCCESS = 0 };
enum : int { R_32F = 0, R_16BF = 14 };
enum : int { COMPUTE_32F = 68, COMPUTE_32F_FAST_TF32 = 77 };
enum : int { OP_N = 0, OP_T = 1 };
enum : int { LAYOUT_BATCH_COUNT = 5, LAYOUT_STRIDED_BATCH_OFFSET = 6 };
enum : int { DESC_TRANSA = 3, DESC_TRANSB = 4, DESC_EPILOGUE = 7, DESC_BIAS_POINTER = 8 };
enum : uint32_t { EPILOGUE_BIAS = 4 };
enum : int { PREF_MAX_WORKSPACE_BYTES = 1, PREF_MIN_ALIGNMENT_A_BYTES = 5 };  // and those of B, C and D

// X(name, its parameters), all of which return a status.
#define FUNCTIONS(X)                                                                                                \
  X(Create, (Handle*))                                                                                              \
  X(Destroy, (Handle))                                                                                              \
  X(MatrixLayoutCreate, (Descriptor*, int type, uint64_t rows, uint64_t columns, int64_t ld))                       \
  X(MatrixLayoutDestroy, (Descriptor))                                                                              \
  X(MatrixLayoutSetAttribute, (Descriptor, int attribute, const void*, size_t))                                     \
  X(MatmulDescCreate, (Descriptor*, int compute, int scale))                                                        \
  X(MatmulDescDestroy, (Descriptor))                                                                                \
  X(MatmulDescSetAttribute, (Descriptor, int attribute, const void*, size_t))                                       \
  X(MatmulPreferenceCreate, (Descriptor*))                                                                          \
  X(MatmulPreferenceDestroy, (Descriptor))                                                                          \
  X(MatmulPreferenceSetAttribute, (Descriptor, int attribute, const void*, size_t))                                 \
  X(MatmulAlgoGetHeuristic, (Handle, Descriptor operation, Descriptor a, Descriptor b, Descriptor c, Descriptor d,  \
                             Descriptor preference, int wanted, Heuristic*, int* found))                            \
  X(Matmul, (Handle, Descriptor operation, const void* alpha, const void* a, Descriptor, const void* b, Descriptor, \
             const void* beta, const void* c, Descriptor, void* d, Descriptor, const Algorithm*, void* workspace,   \
             size_t, cudaStream_t))

struct Library {
  bool usable = false;
  std::string told;
#define MEMBER(name, parameters) Status(*name) parameters = nullptr;
  FUNCTIONS(MEMBER)
#undef MEMBER
};

std::string version_text(size_t version) {
  const size_t unit = version < 100000 ? 1000 : 10000;  // before 12
  return std::to_string(version / unit) + "." + std::to_string(version % unit / 100) + "." +
         std::to_string(version % 100);
}

// Takes the functions of an open library, or says what is wrong with it.
bool take(void* opened, const std::string& path, Library* library) {
  const std::string name = path.substr(path.rfind('/') + 1);
  const char* missing = nullptr;
  const auto symbol = [&](const char* function) {
    void* address = dlsym(opened, function);
    if (!address && !missing) missing = function;
    return address;
  };
#define TAKE(function, parameters) \
  library->function = reinterpret_cast<decltype(library->function)>(symbol("cublasLt" #function));
  FUNCTIONS(TAKE)
#undef TAKE
  const auto version_of = reinterpret_cast<size_t (*)()>(symbol("cublasLtGetVersion"));
  if (missing) return library->told = "none: " + name + " has no " + missing, false;
  const size_t version = version_of();
  if (version < 120000 || version >= 140000)
    return library->told = "none: " + name + " is version " + version_text(version) + ", and 12 or 13 is needed", false;
  library->told = "cuBLASLt " + version_text(version) + " (" + name + ")";
  return library->usable = true;
}

// THROUGHTIME_CUBLASLT: a library or the folder it is in, or "0" or nothing for none.
Library open_library() {
  Library library;
  const char* asked = getenv("THROUGHTIME_CUBLASLT");
  if (asked && (!*asked || std::string(asked) == "0"))
    return library.told = "none: THROUGHTIME_CUBLASLT forbids it", library;
  struct stat place;
  const bool folder = asked && stat(asked, &place) == 0 && S_ISDIR(place.st_mode);
  std::string why;
  for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"}) {
    const std::string path = !asked ? name : folder ? std::string(asked) + "/" + name : asked;
    void* opened = dlopen(path.c_str(), RTLD_LAZY | RTLD_LOCAL);
    if (!opened) {
      const char* error = dlerror();
      if (asked && !folder) why = std::string("none: THROUGHTIME_CUBLASLT: ") + (error ? error : asked);
    } else if (take(opened, path, &library)) {
      return library;
    } else {
      if (why.empty()) why = library.told;
      dlclose(opened);
    }
    if (asked && !folder) break;
  }
  if (why.empty()) why = folder ? "none: THROUGHTIME_CUBLASLT: no libcublasLt.so is there" : "none: no libcublasLt.so";
  library.told = why;
  return library;
}

constexpr size_t kWorkspace = size_t{32} << 20;
constexpr double kLeast = 1 << 24;  // multiplications; fewer are not worth a call
constexpr size_t kMostPlans = 1024;

// A matrix as the library sees it, column by column.
struct Operand {
  const void* data;
  int64_t rows, columns, ld, step;
  int operation, type;
};

// What is made once for a shape.
struct Plan {
  Descriptor operation = nullptr, a = nullptr, b = nullptr, c = nullptr;
  Heuristic chosen = {};
  bool usable = false;
};

using Key = std::array<int64_t, 24>;

// The matrix whose element (i, j) is at data[i * down + j * across], i < rows: column by column as it is, or
// transposed.
bool operand_of(const float* data, int64_t rows, int64_t columns, int64_t down, int64_t across, int64_t step,
                Operand* operand) {
  if (down == 1 && (across >= rows || columns == 1))
    *operand = {data, rows, columns, across > rows ? across : rows, step, OP_N, R_32F};
  else if (across == 1 && (down >= columns || rows == 1))
    *operand = {data, columns, rows, down > columns ? down : columns, step, OP_T, R_32F};
  else
    return false;
  return true;
}

// The operand rounded to bfloat16.
void round(Device* device, Operand* operand, int64_t batch) {
  const Operand from = *operand;
  const int64_t words = (from.rows + 7) / 8 * 4;  // of a column
  const bool shared = from.step == 0;
  uint32_t* to = scratch<uint32_t>(device, (shared ? 1 : batch) * from.columns * words);
  const float* data = static_cast<const float*>(from.data);
  for_each(device, (shared ? 1 : batch) * from.columns * words, [=] __device__(int64_t i) {
    const int64_t row = i % words * 2, column = i / words % from.columns, z = i / words / from.columns;
    const float* at = data + z * from.step + column * from.ld + row;
    to[i] = to_bf16(row < from.rows ? at[0] : 0.0f, row + 1 < from.rows ? at[1] : 0.0f);
  });
  operand->data = to, operand->ld = 2 * words, operand->type = R_16BF;
  operand->step = shared ? 0 : from.columns * 2 * words;
}

// In bytes, 256 at most.
uint32_t alignment_of(const void* data) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(data) | 256;
  return (uint32_t)(address & (~address + 1));
}

}  // namespace

struct Blas {
  double least = kLeast;
  bool opened = false;
  Library library;
  Handle handle = nullptr;
  void* workspace = nullptr;
  std::map<Key, Plan> plans;

  Blas() {
    if (const char* asked = getenv("THROUGHTIME_CUBLASLT_FROM")) least = atof(asked);
  }
  ~Blas() {
    forget();
    if (handle) library.Destroy(handle);
    if (workspace) cudaFree(workspace);
  }

  // When the first large product comes.
  bool ready() {
    if (!opened) {
      opened = true;
      library = open_library();
      if (!library.usable) return false;
      if (library.Create(&handle) != SUCCESS) handle = nullptr;
      if (cudaMalloc(&workspace, kWorkspace) != cudaSuccess) workspace = nullptr;
      cudaGetLastError();
    }
    return handle && workspace;
  }

  void drop(const Plan& plan) {
    for (Descriptor layout : {plan.a, plan.b, plan.c})
      if (layout) library.MatrixLayoutDestroy(layout);
    if (plan.operation) library.MatmulDescDestroy(plan.operation);
  }
  void forget() {
    for (const auto& entry : plans) drop(entry.second);
    plans.clear();
  }

  bool layout(Descriptor* made, const Operand& m, int64_t batch) {
    const int32_t count = (int32_t)batch;
    return library.MatrixLayoutCreate(made, m.type, m.rows, m.columns, m.ld) == SUCCESS &&
           library.MatrixLayoutSetAttribute(*made, LAYOUT_BATCH_COUNT, &count, sizeof count) == SUCCESS &&
           library.MatrixLayoutSetAttribute(*made, LAYOUT_STRIDED_BATCH_OFFSET, &m.step, sizeof m.step) == SUCCESS;
  }

  bool set(Descriptor operation, int attribute, const void* value, size_t size) {
    return library.MatmulDescSetAttribute(operation, attribute, value, size) == SUCCESS;
  }

  bool choose(Plan* plan, const Operand& a, const Operand& b, const Operand& c) {
    Descriptor preference = nullptr;
    if (library.MatmulPreferenceCreate(&preference) != SUCCESS) return false;
    const auto prefer = [&](int attribute, const void* value, size_t size) {
      return library.MatmulPreferenceSetAttribute(preference, attribute, value, size) == SUCCESS;
    };
    const uint64_t most = kWorkspace;
    bool done = prefer(PREF_MAX_WORKSPACE_BYTES, &most, sizeof most);
    const void* all[] = {a.data, b.data, c.data, c.data};
    for (int i = 0; i < 4; i++) {
      const uint32_t alignment = alignment_of(all[i]);
      done = done && prefer(PREF_MIN_ALIGNMENT_A_BYTES + i, &alignment, sizeof alignment);
    }
    int found = 0;
    done = done &&
           library.MatmulAlgoGetHeuristic(handle, plan->operation, plan->a, plan->b, plan->c, plan->c, preference, 1,
                                          &plan->chosen, &found) == SUCCESS &&
           found > 0 && plan->chosen.state == SUCCESS && plan->chosen.workspace <= kWorkspace;
    library.MatmulPreferenceDestroy(preference);
    return done;
  }

  bool make(Plan* plan, const Product& p, const Operand& a, const Operand& b, const Operand& c, int compute) {
    if (library.MatmulDescCreate(&plan->operation, compute, R_32F) != SUCCESS) return false;
    const int32_t operations[] = {a.operation, b.operation};
    if (!set(plan->operation, DESC_TRANSA, &operations[0], sizeof(int32_t)) ||
        !set(plan->operation, DESC_TRANSB, &operations[1], sizeof(int32_t)))
      return false;
    const uint32_t epilogue = EPILOGUE_BIAS;
    if (p.bias && (!set(plan->operation, DESC_EPILOGUE, &epilogue, sizeof epilogue) ||
                   !set(plan->operation, DESC_BIAS_POINTER, &p.bias, sizeof p.bias)))
      return false;
    return layout(&plan->a, a, p.batch) && layout(&plan->b, b, p.batch) && layout(&plan->c, c, p.batch) &&
           choose(plan, a, b, c);
  }

  // The library's matrices are columns of ours: C' = B' A'.
  bool multiply(Device* device, const Product& p, bool tf32) {
    Operand a, b;
    if (!operand_of(p.b, p.n, p.k, p.b_column, p.b_row, p.b_step, &a) ||
        !operand_of(p.a, p.k, p.m, p.a_column, p.a_row, p.a_step, &b) || (p.c_row < p.n && p.m > 1))
      return false;
    const Operand c = {p.c, p.n, p.m, p.c_row > p.n ? p.c_row : p.n, p.c_step, OP_N, R_32F};
    if (p.precision == BF16) round(device, &a, p.batch), round(device, &b, p.batch);
    const int compute = tf32 ? COMPUTE_32F_FAST_TF32 : COMPUTE_32F;
    const Key key = {p.m,
                     p.n,
                     p.k,
                     p.batch,
                     a.ld,
                     b.ld,
                     c.ld,
                     a.step,
                     b.step,
                     c.step,
                     a.type,
                     compute,
                     p.bias ? 1 : 0,
                     a.operation,
                     b.operation,
                     alignment_of(a.data),
                     alignment_of(b.data),
                     alignment_of(c.data),
                     p.bias ? alignment_of(p.bias) : 0};
    if (plans.size() >= kMostPlans && plans.find(key) == plans.end()) forget();
    const auto placed = plans.emplace(key, Plan());
    Plan& plan = placed.first->second;
    if (placed.second) plan.usable = make(&plan, p, a, b, c, compute);
    if (plan.usable && p.bias) plan.usable = set(plan.operation, DESC_BIAS_POINTER, &p.bias, sizeof p.bias);
    const float alpha = 1.0f, beta = p.accumulate ? 1.0f : 0.0f;
    if (plan.usable)
      plan.usable =
          library.Matmul(handle, plan.operation, &alpha, a.data, plan.a, b.data, plan.b, &beta, p.c, plan.c, p.c,
                         plan.c, &plan.chosen.algorithm, workspace, kWorkspace, cuda(device)->stream) == SUCCESS;
    if (!plan.usable) cudaGetLastError();
    return plan.usable;
  }
};

Blas* make_blas() { return new Blas(); }
void drop_blas(Blas* blas) { delete blas; }

std::string blas_told() { return open_library().told; }

bool multiply_by_library(Device* device, const Product& p, bool tf32) {
  Blas* blas = cuda(device)->blas;
  if (p.precision == INT8 || p.k == 0 || p.batch > 65535) return false;
  if ((double)p.m * p.n * p.k * p.batch < blas->least || !blas->ready()) return false;
  return blas->multiply(device, p, tf32);
}

}  // namespace throughtime
