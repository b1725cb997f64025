// Products and sweeps against double precision, with one, two and three threads that must agree bit for bit.
//   gemm_sweep        every case; prints the worst error by tensor, exits 1 on a failure
#include <cstdint>
#include <map>
#include <string>

#include "device.h"
#include "oracle.h"
#include "reduced.h"
#include "staged.h"

using namespace throughtime;

#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)
namespace throughtime {
KernelList JOIN(kernels_matmul_, THROUGHTIME_ISA)();
KernelList JOIN(kernels_reduced_, THROUGHTIME_ISA)();
KernelList JOIN(kernels_sweep_, THROUGHTIME_ISA)();
}  // namespace throughtime

namespace {

int failures = 0;
std::map<std::string, double> worst;  // error over tolerance

uint64_t seed = 1;
double draw(double low = -1, double high = 1) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return low + (high - low) * (double)(seed >> 40) / (1 << 24);
}
oracle::Numbers draws(size_t n, double scale = 1) {
  oracle::Numbers v(n);
  for (double& x : v) x = (float)draw(-scale, scale);
  return v;
}
void set(Array& to, const oracle::Numbers& from) {
  for (size_t i = 0; i < from.size(); i++) to.floats()[i] = (float)from[i];
}

// float32 sums of `terms` products, each rounded, on the way to a number: their errors add up like a random walk. Of
// products of bfloat16 each operand is rounded, to 2^-9 of it at worst.
void check(const std::string& what, const std::string& tensor, Array& got, const oracle::Numbers& want, double terms,
           bool bf16 = false) {
  double scale = 1;
  for (double x : want) scale = std::fmax(scale, std::fabs(x));
  const double tolerance = scale * (bf16 ? 1.0 / 512 : 6e-8) * (4 + std::sqrt(terms));
  double error = 0;
  for (size_t i = 0; i < want.size(); i++) {
    const double e = std::fabs(got.floats()[i] - want[i]);
    if (!(e <= error)) error = std::isnan(e) ? INFINITY : e;
  }
  double& ratio = worst[tensor + (bf16 ? " of bf16" : "")];
  ratio = std::fmax(ratio, error / tolerance);
  if (error <= tolerance) return;
  failures++;
  std::printf("FAIL %s: %s is off by %g, tolerance %g\n", what.c_str(), tensor.c_str(), error, tolerance);
}

void same(const std::string& what, const std::string& tensor, Array& got, Array& want) {
  if (got.elements == 0 || std::memcmp(got.data, want.data, got.elements * 4) == 0) return;
  failures++;
  std::printf("FAIL %s: %s has other bits\n", what.c_str(), tensor.c_str());
}

void products() {
  const int sizes[][3] = {{1, 1, 1}, {1, 100, 70}, {2, 33, 300},  {3, 64, 17},    {7, 13, 33},    {33, 7, 1},
                          {5, 5, 0}, {0, 3, 2},    {64, 96, 128}, {13, 130, 513}, {200, 70, 260}, {97, 1100, 40}};
  for (const auto& [m, n, k] : sizes)
    for (int batch : {1, 3, 8})
      for (int flags = 0; flags < 4; flags++) {
        if (batch > 1 && m * n * k > 200000) continue;
        const int ta = flags & 1, tb = flags >> 1;
        const auto a = draws((size_t)batch * m * k), b = draws((size_t)batch * k * n);
        oracle::Numbers want((size_t)batch * m * n, 0);
        for (int s = 0; s < batch; s++)
          for (int i = 0; i < m; i++)
            for (int p = 0; p < k; p++)
              for (int j = 0; j < n; j++)
                want[((size_t)s * m + i) * n + j] += a[(size_t)s * m * k + (ta ? p * m + i : i * k + p)] *
                                                     b[(size_t)s * k * n + (tb ? j * k + p : p * n + j)];
        Array A(a.size()), B(b.size()), first(want.size());
        set(A, a), set(B, b);
        const std::string what = "matmul " + std::to_string(batch) + "x" + std::to_string(m) + "x" + std::to_string(n) +
                                 "x" + std::to_string(k) + " " + std::to_string(flags);
        for (int threads = 1; threads <= 3; threads++) {
          TestDevice device(threads);
          Array C(want.size());
          device.call(JOIN(kernels_matmul_, THROUGHTIME_ISA)(), "matmul", {&A, &B}, {&C}, {batch, m, n, k, ta, tb});
          check(what, "matmul", C, want, k);
          if (threads == 1) std::memcpy(first.data, C.data, want.size() * 4);
          same(what, "matmul", C, first);
        }
        if (batch > 1 || ta || !tb) continue;
        const auto bias = draws(n);
        Array D(n), first_row(n);
        set(D, bias);
        for (size_t i = 0; i < want.size(); i++) want[i] += bias[i % n];
        for (int threads = 1; threads <= 3; threads++) {
          TestDevice device(threads);
          Array C(want.size());
          device.call(JOIN(kernels_matmul_, THROUGHTIME_ISA)(), "linear", {&A, &B, &D}, {&C}, {m, k, n});
          check(what, "linear", C, want, k);
          if (m == 0) continue;
          // one row alone gives what it gives in a batch
          Array row(n), x(k);
          if (k) std::memcpy(x.data, A.data, k * 4);
          device.call(JOIN(kernels_matmul_, THROUGHTIME_ISA)(), "linear", {&x, &B, &D}, {&row}, {1, k, n});
          std::memcpy(first_row.data, C.data, n * 4);
          same(what, "a row of linear", row, first_row);
        }
      }
}

struct Options {
  bool reverse, lengths, bias, initial, bf16;
};

// Keeping the states alone, a sweep gives the same outputs and gradients to the last bit.
void checkpointed(const std::string& what, TestDevice& device, const KernelList& kernels, const std::string& name,
                  const std::vector<Buffer*>& in, const std::vector<Buffer*>& grads, const std::vector<Buffer*>& out,
                  const std::vector<Buffer*>& back, std::vector<int32_t> ints, size_t states) {
  ints[ints.size() - 2] = 1;
  std::vector<std::unique_ptr<Array>> made;
  const auto like = [&](const Buffer* b) -> Buffer* {
    if (!b) return nullptr;
    made.push_back(std::make_unique<Array>(b->elements));
    return made.back().get();
  };
  std::vector<Buffer*> other_out, other_back;
  for (size_t i = 0; i + 1 < out.size(); i++) other_out.push_back(like(out[i]));
  Array saved(states);
  other_out.push_back(&saved);
  for (const Buffer* b : back) other_back.push_back(like(b));
  device.call(kernels, name.c_str(), in, other_out, ints);
  std::vector<Buffer*> all = grads;
  all.insert(all.end(), in.begin(), in.end());
  all.insert(all.end(), other_out.begin(), other_out.end());
  device.call(kernels, (name + ".backward").c_str(), all, other_back, ints);
  const auto equal = [&](const char* tensor, Buffer* a, Buffer* b) {
    if (a) same(what, tensor, *static_cast<Array*>(a), *static_cast<Array*>(b));
  };
  for (size_t i = 0; i + 1 < out.size(); i++) equal("an output with states alone kept", other_out[i], out[i]);
  for (size_t i = 0; i < back.size(); i++) equal("a gradient with states alone kept", other_back[i], back[i]);
}

void sweep(const oracle::Cell& cell, int n, int steps, int features, int hidden, Options options) {
  const int rows = cell.gates * hidden;
  const double scale = 1 / std::sqrt((double)hidden + features);
  oracle::Problem p = {cell,
                       n,
                       steps,
                       features,
                       hidden,
                       options.reverse,
                       std::vector<int>(n, steps),
                       draws((size_t)n * steps * features),
                       draws((size_t)rows * features, scale),
                       draws((size_t)rows * hidden, scale),
                       oracle::Numbers(rows, 0),
                       oracle::Numbers(rows, 0),
                       {},
                       draws((size_t)n * steps * hidden),
                       {}};
  if (options.bias) p.bias_ih = draws(rows, scale), p.bias_hh = draws(rows, scale);
  const int choices[] = {0, steps, 1, steps - 1, steps / 2};
  if (options.lengths)
    for (int i = 0; i < n; i++) p.lengths[i] = choices[(int)draw(0, 5)];
  for (int i = 0; i < cell.states; i++) {
    p.initial.push_back(options.initial ? draws((size_t)n * hidden) : oracle::Numbers((size_t)n * hidden, 0));
    p.dfinal.push_back(options.initial ? draws((size_t)n * hidden) : oracle::Numbers((size_t)n * hidden, 0));
  }
  const oracle::Result want = oracle::solve(p);

  const std::string what = std::string(cell.name) + " N=" + std::to_string(n) + " T=" + std::to_string(steps) +
                           " I=" + std::to_string(features) + " H=" + std::to_string(hidden) +
                           (options.reverse ? " reverse" : "") + (options.lengths ? " lengths" : "") +
                           (options.bias ? " bias" : "") + (options.initial ? " states" : "") +
                           (options.bf16 ? " bf16" : "");
  const KernelList kernels = JOIN(kernels_sweep_, THROUGHTIME_ISA)();
  const std::string name = std::string("sweep.") + cell.name;
  int keep = 0;
  for (int i = 0; i < kernels.count; i++)
    if (name == kernels.entries[i].name) keep = kernels.entries[i].info;
  std::vector<int32_t> ints = {n, steps, features, hidden, options.reverse, hidden};
  ints.resize(13 + 2 * cell.states, 0);  // neither projection nor masks
  ints.push_back(options.bf16);
  std::vector<std::unique_ptr<Array>> arrays;
  const auto array = [&](const oracle::Numbers& values) {
    arrays.push_back(std::make_unique<Array>(values.size()));
    set(*arrays.back(), values);
    return arrays.back().get();
  };
  Array* lengths = array(oracle::Numbers(n, 0));
  for (int i = 0; i < n; i++) lengths->ints()[i] = p.lengths[i];
  std::vector<Buffer*> in = {array(p.x),
                             array(p.weight_ih),
                             array(p.weight_hh),
                             options.bias ? array(p.bias_ih) : nullptr,
                             options.bias ? array(p.bias_hh) : nullptr,
                             options.lengths ? lengths : nullptr};
  in.resize(15 + cell.states, nullptr);  // options and update masks
  const size_t initial = in.size();
  std::vector<Buffer*> grads = {array(p.dy)};
  for (int i = 0; i < cell.states; i++) {
    in.push_back(options.initial ? array(p.initial[i]) : nullptr);
    grads.push_back(options.initial ? array(p.dfinal[i]) : nullptr);
  }
  std::vector<std::unique_ptr<Array>> first;
  for (int threads = 1; threads <= 3; threads++) {
    TestDevice device(threads);
    std::vector<std::unique_ptr<Array>> made;
    const auto make = [&](size_t count) {
      made.push_back(std::make_unique<Array>(count));
      return made.back().get();
    };
    std::vector<Buffer*> infer = {make(want.y.size())}, out = {make(want.y.size())}, back;
    for (int i = 0; i < cell.states; i++) infer.push_back(make(n * hidden)), out.push_back(make(n * hidden));
    device.call(kernels, name.c_str(), in, infer, ints);
    Array saved((size_t)n * steps * keep * hidden);
    out.push_back(&saved);
    device.call(kernels, name.c_str(), in, out, ints);
    std::vector<Buffer*> all = grads;
    all.insert(all.end(), in.begin(), in.end());
    all.insert(all.end(), out.begin(), out.end());
    const std::vector<const oracle::Numbers*> gradients = {&want.dx,
                                                           &want.dweight_ih,
                                                           &want.dweight_hh,
                                                           options.bias ? &want.dbias_ih : nullptr,
                                                           options.bias ? &want.dbias_hh : nullptr,
                                                           nullptr};
    for (const auto* g : gradients) back.push_back(g ? make(g->size()) : nullptr);
    back.resize(initial, nullptr);
    for (int i = 0; i < cell.states; i++) back.push_back(options.initial ? make(n * hidden) : nullptr);
    device.call(kernels, (name + ".backward").c_str(), all, back, ints);
    checkpointed(what, device, kernels, name, in, grads, out, back, ints,
                 (size_t)n * steps * (cell.states - 1) * hidden);
    if (threads == 1) {
      const auto at = [](Buffer* b) -> Array& { return *static_cast<Array*>(b); };
      for (const auto& outputs : {infer, out}) {
        check(what, "output", at(outputs[0]), want.y, hidden + features, options.bf16);
        for (int i = 0; i < cell.states; i++)
          check(what, "final states", at(outputs[1 + i]), want.final[i], hidden + features, options.bf16);
      }
      const char* names[] = {"dx", "dweight_ih", "dweight_hh", "dbias_ih", "dbias_hh"};
      for (int i = 0; i < 5; i++)
        if (back[i]) check(what, names[i], at(back[i]), *gradients[i], n * steps + steps * rows, options.bf16);
      for (int i = 0; i < cell.states; i++)
        if (back[initial + i])
          check(what, "dinitial", at(back[initial + i]), want.dinitial[i], steps * rows, options.bf16);
      // gradients that are not wanted are left out, and the others stay what they were
      for (size_t skip = 0; skip < back.size(); skip++) {
        if (!back[skip]) continue;
        std::vector<Buffer*> one(back.size(), nullptr);
        Array alone(back[skip]->elements);
        one[skip] = &alone;
        device.call(kernels, (name + ".backward").c_str(), all, one, ints);
        same(what, "a gradient alone", alone, at(back[skip]));
      }
      first = std::move(made);
    } else {
      for (size_t i = 0; i < made.size(); i++) same(what, "tensor " + std::to_string(i), *made[i], *first[i]);
    }
  }
}

void sweeps(bool quick, bool bf16) {
  std::vector<oracle::Cell> cells;
  // What is rounded in bfloat16 may go past zero, where the derivative of relu jumps.
  for (const oracle::Cell& cell : oracle::cells())
    if (!bf16 || std::string(cell.name) != "elman_relu") cells.push_back(cell);
  int turn = 0;
  for (const oracle::Cell& cell : cells)
    for (int hidden : {1, 7, 13, 16, 33, 64, 100})
      for (int n : {1, 2, 5, 7, 33})
        for (int steps : {1, 2, 9}) {
          const int some = n * steps * hidden > 2000 || quick || bf16 ? 1 : 4;
          for (int i = 0; i < some; i++, turn++) {
            const int flags = turn * 7 % 16, features[] = {1, 20, 5, 33, 0};
            sweep(cell, n, steps, features[turn % 5], hidden,
                  {(flags & 1) != 0, (flags & 2) != 0, (flags & 4) != 0, (flags & 8) != 0, bf16});
          }
        }
  for (const oracle::Cell& cell : cells) sweep(cell, 3, 150, 4, 9, {true, true, true, true, bf16});
  for (const oracle::Cell& cell : cells) sweep(cell, 2, 2, 270, 290, {false, false, true, true, bf16});
  for (const oracle::Cell& cell : cells) sweep(cell, 300, 3, 2, 5, {true, true, false, true, bf16});
}

}  // namespace

int main(int argc, char**) {
  products();
  for (bool bf16 : {false, true}) sweeps(argc > 1, bf16);
  failures += reduced(JOIN(kernels_reduced_, THROUGHTIME_ISA)());
  failures += staged(JOIN(kernels_sweep_, THROUGHTIME_ISA)(), argc > 1);
  for (const auto& [tensor, ratio] : worst) std::printf("%-16s worst error / tolerance %.2f\n", tensor.c_str(), ratio);
  std::printf("%d failed\n", failures);
  return failures > 0;
}
