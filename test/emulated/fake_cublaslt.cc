// As much of cuBLASLt's C interface as a caller of cublasLtMatmul meets, on the processor, after its documentation:
//   D = alpha op(A) op(B) + beta C, then the epilogue's bias for each row of D; every matrix is stored column by
//   column, element (i, j) at i + j * ld, and the next matrix of a batch a fixed number of elements further on.
// Attributes are taken only in their documented size. FAKE_CUBLASLT_LOG names a file that gets a line for each product;
// FAKE_CUBLASLT_FAIL=matmul or =heuristic lets that fail.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

namespace {

enum Status { OK = 0, NOT_INITIALIZED = 1, INVALID = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
enum DataType { REAL_32F = 0, REAL_16BF = 14 };
enum ComputeType { IN_32F = 68, IN_TF32 = 77 };

struct Attributes {
  std::map<int, std::vector<unsigned char>> values;

  int set(const std::map<int, size_t>& sizes, int attribute, const void* value, size_t size) {
    const auto known = sizes.find(attribute);
    if (!value || known == sizes.end() || known->second != size) return INVALID;
    const auto* bytes = static_cast<const unsigned char*>(value);
    values[attribute].assign(bytes, bytes + size);
    return OK;
  }
  template <class T>
  T get(int attribute, T otherwise) const {
    const auto found = values.find(attribute);
    if (found != values.end()) memcpy(&otherwise, found->second.data(), sizeof otherwise);
    return otherwise;
  }
};

struct Layout : Attributes {
  int type;
  uint64_t rows, columns;
  int64_t ld;

  int batch() const { return get<int32_t>(5, 1); }
  int64_t offset(int z, int64_t row, int64_t column) const { return z * get<int64_t>(6, 0) + row + column * ld; }
};

struct Operation : Attributes {
  int compute;
  bool transposed(int which) const { return get<int32_t>(3 + which, 0) == 1; }
};

struct Preference : Attributes {};

struct Algo {
  uint64_t data[8];
};
struct Result {
  Algo algo;
  size_t workspaceSize;
  int state;
  float wavesCount;
  int reserved[4];
};
static_assert(sizeof(Result) == 96, "as cublasLtMatmulHeuristicResult_t");

struct Context {
  int alive = 0x600d;
};
constexpr uint64_t kMark = 0xfa4e;  // of an algorithm that this library chose

bool is(const char* name, const char* value) {
  const char* set = getenv(name);
  return set && strcmp(set, value) == 0;
}

float from_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

float element(const void* data, const Layout& layout, int compute, int z, int64_t row, int64_t column) {
  const int64_t at = layout.offset(z, row, column);
  if (layout.type == REAL_16BF) return from_bits((uint32_t) static_cast<const uint16_t*>(data)[at] << 16);
  const float x = static_cast<const float*>(data)[at];
  if (compute != IN_TF32) return x;
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return from_bits((bits + 0x1000) & 0xffffe000u);
}

// Whether the shapes of a product agree.
bool agree(const Operation& op, const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
  const uint64_t m = op.transposed(0) ? a.columns : a.rows, k = op.transposed(0) ? a.rows : a.columns;
  const uint64_t n = op.transposed(1) ? b.rows : b.columns, k2 = op.transposed(1) ? b.columns : b.rows;
  for (const Layout* l : {&a, &b, &c, &d})
    if (l->ld < (int64_t)l->rows || l->batch() != d.batch()) return false;
  return k == k2 && d.rows == m && d.columns == n && c.rows == m && c.columns == n && a.type == b.type &&
         c.type == REAL_32F && d.type == REAL_32F && (op.compute == IN_32F || a.type == REAL_32F);
}

uint64_t alignment(const void* p) { return reinterpret_cast<uintptr_t>(p) & (~reinterpret_cast<uintptr_t>(p) + 1); }

}  // namespace

#define FAKE extern "C" __attribute__((visibility("default")))

#if defined(FAKE_OLD)
FAKE size_t cublasLtGetVersion() { return 11103; }
#else
FAKE size_t cublasLtGetVersion() { return 130201; }
#endif

FAKE int cublasLtCreate(Context** handle) { return *handle = new Context(), OK; }
FAKE int cublasLtDestroy(Context* handle) { return handle->alive = 0, delete handle, OK; }

FAKE int cublasLtMatrixLayoutCreate(Layout** made, int type, uint64_t rows, uint64_t columns, int64_t ld) {
  *made = new Layout();
  (*made)->type = type, (*made)->rows = rows, (*made)->columns = columns, (*made)->ld = ld;
  return OK;
}
FAKE int cublasLtMatrixLayoutDestroy(Layout* layout) { return delete layout, OK; }
FAKE int cublasLtMatrixLayoutSetAttribute(Layout* layout, int attribute, const void* value, size_t size) {
  return layout->set({{0, 4}, {1, 4}, {2, 8}, {3, 8}, {4, 8}, {5, 4}, {6, 8}}, attribute, value, size);
}

FAKE int cublasLtMatmulDescCreate(Operation** made, int compute, int scale) {
  if (scale != REAL_32F || (compute != IN_32F && compute != IN_TF32)) return NOT_SUPPORTED;
  *made = new Operation();
  (*made)->compute = compute;
  return OK;
}
FAKE int cublasLtMatmulDescDestroy(Operation* operation) { return delete operation, OK; }
FAKE int cublasLtMatmulDescSetAttribute(Operation* operation, int attribute, const void* value, size_t size) {
  return operation->set({{0, 4}, {1, 4}, {2, 4}, {3, 4}, {4, 4}, {5, 4}, {6, 4}, {7, 4}, {8, 8}}, attribute, value,
                        size);
}

FAKE int cublasLtMatmulPreferenceCreate(Preference** made) { return *made = new Preference(), OK; }
#if !defined(FAKE_LACKING)
FAKE int cublasLtMatmulPreferenceDestroy(Preference* preference) { return delete preference, OK; }
#endif
FAKE int cublasLtMatmulPreferenceSetAttribute(Preference* preference, int attribute, const void* value, size_t size) {
  return preference->set({{0, 4}, {1, 8}, {3, 4}, {5, 4}, {6, 4}, {7, 4}, {8, 4}}, attribute, value, size);
}

// The algorithm remembers what alignment and workspace it was promised.
FAKE int cublasLtMatmulAlgoGetHeuristic(Context* handle, Operation* operation, Layout* a, Layout* b, Layout* c,
                                        Layout* d, Preference* preference, int wanted, Result* results, int* found) {
  *found = 0;
  if (handle->alive != 0x600d) return NOT_INITIALIZED;
  if (wanted < 1 || !agree(*operation, *a, *b, *c, *d)) return INVALID;
  if (is("FAKE_CUBLASLT_FAIL", "heuristic")) return NOT_SUPPORTED;
  memset(results, 0, sizeof *results);
  uint64_t* data = results->algo.data;
  data[0] = kMark;
  for (int i = 0; i < 4; i++) data[1 + i] = preference->get<uint32_t>(5 + i, 256);
  data[5] = results->workspaceSize = preference->get<uint64_t>(1, 0) / 2;
  *found = 1;
  return OK;
}

FAKE int cublasLtMatmul(Context* handle, Operation* operation, const void* alpha, const void* a_data, Layout* a,
                        const void* b_data, Layout* b, const void* beta, const void* c_data, Layout* c, void* d_data,
                        Layout* d, const Algo* algo, void* workspace, size_t workspace_size, void* stream) {
  (void)stream;
  if (handle->alive != 0x600d) return NOT_INITIALIZED;
  if (!agree(*operation, *a, *b, *c, *d) || !algo || algo->data[0] != kMark) return INVALID;
  const void* all[] = {a_data, b_data, c_data, d_data};
  for (int i = 0; i < 4; i++)
    if (alignment(all[i]) < algo->data[1 + i]) return INVALID;
  if (!workspace || workspace_size < algo->data[5]) return INVALID;
  if (is("FAKE_CUBLASLT_FAIL", "matmul")) return EXECUTION_FAILED;
  memset(workspace, 0xff, workspace_size);

  const bool with_bias = operation->get<uint32_t>(7, 1) == 4;
  const float* bias = operation->get<const float*>(8, nullptr);
  if (with_bias != (bias != nullptr)) return INVALID;
  const float scale = *static_cast<const float*>(alpha), keep = *static_cast<const float*>(beta);
  const int64_t m = d->rows, n = d->columns, k = operation->transposed(0) ? a->rows : a->columns;
  if (const char* path = getenv("FAKE_CUBLASLT_LOG"))
    if (FILE* log = fopen(path, "a")) {
      fprintf(log, "%ld %ld %ld %d %d\n", (long)m, (long)n, (long)k, a->type, operation->compute);
      fclose(log);
    }
  for (int z = 0; z < d->batch(); z++)
    for (int64_t j = 0; j < n; j++)
      for (int64_t i = 0; i < m; i++) {
        double sum = 0;
        for (int64_t l = 0; l < k; l++) {
          const int64_t ai = operation->transposed(0) ? l : i, aj = operation->transposed(0) ? i : l;
          const int64_t bi = operation->transposed(1) ? j : l, bj = operation->transposed(1) ? l : j;
          sum += (double)element(a_data, *a, operation->compute, z, ai, aj) *
                 element(b_data, *b, operation->compute, z, bi, bj);
        }
        double value = scale * sum;
        // With beta = 0, C need not hold numbers.
        if (keep != 0) value += keep * (double)static_cast<const float*>(c_data)[c->offset(z, i, j)];
        if (bias) value += bias[i];
        static_cast<float*>(d_data)[d->offset(z, i, j)] = (float)value;
      }
  return OK;
}
