// Sweeps with stages around the cell: every number is written, finite, within its buffer (under a sanitizer), the same
// in training as in inference, and the same bits on one, two and three threads. Their values are compared with the
// composed steps where Node is.
#include "staged.h"

#include <cmath>
#include <string>

namespace {

using namespace throughtime;

struct Cell {
  const char* name;
  int gates, states, vectors;
  bool diagonal, inner, normed;
};

const Cell cells[] = {
    {"elman_tanh", 1, 1, 0, false, false, false},
    {"indrnn_relu", 1, 1, 0, true, false, false},
    {"lstm", 4, 2, 0, false, false, true},
    {"lstm_peephole", 4, 2, 3, false, false, true},
    {"lstm_coupled_forget_peephole", 3, 2, 2, false, false, true},
    {"lstm_no_output", 3, 2, 0, false, false, true},
    {"gru", 3, 1, 0, false, false, false},
    {"gru_before_write", 3, 1, 0, false, true, false},
    {"mgu", 2, 1, 0, false, true, false},
};

uint64_t seed = 7;
double draw() {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (double)(seed >> 40) / (1 << 24);
}
bool coin() { return draw() < 0.5; }

constexpr int kTable = 5;  // rows of a table of W x

class Example {
 public:
  Example(const KernelList& kernels, const Cell& cell, int n, int steps, int features, int hidden)
      : kernels(kernels), cell(cell), n(n), steps(steps), hidden(hidden) {
    const bool product = !cell.diagonal && !cell.inner;
    const bool projected = product && cell.gates != 3 && coin();
    const bool gain = product && coin(), gain_c = cell.normed && coin(), given_x = coin(), table = given_x && coin();
    const int rows = cell.gates * hidden;
    width = !projected ? hidden : cell.gates == 1 ? 3 * hidden + 2 : (hidden + 1) / 2;
    ints = {n, steps, given_x ? rows : features, hidden, coin(), width, projected, coin()};
    floats = {cell.states > 1 && coin() ? 0.3 : 0.0};
    const bool bias = coin();
    in = {array(table ? kTable * rows : n * steps * ints[2]),
          given_x ? nullptr : array(rows * features),
          array(cell.diagonal ? rows : rows * width),
          bias ? array(rows) : nullptr,
          bias ? array(rows) : nullptr,
          coin() ? lengths() : nullptr,
          gain ? array(rows) : nullptr,
          cell.vectors ? array(cell.vectors * hidden) : nullptr,
          projected ? array(width * hidden) : nullptr,
          projected && coin() ? array(width) : nullptr,
          gain_c ? array(hidden) : nullptr,
          gain_c && coin() ? array(hidden) : nullptr};
    in.push_back(mask(width));
    in.push_back(mask(hidden));
    in.push_back(table ? ids() : nullptr);
    for (int i = 0; i < cell.states; i++) in.push_back(mask(i == 0 ? width : hidden));
    masks_end = in.size();
    ints.push_back(0);       // nothing is computed again
    ints.push_back(coin());  // float32 or bfloat16
    for (int i = 0; i < cell.states; i++) in.push_back(coin() ? array(n * (i == 0 ? width : hidden)) : nullptr);
    sizes = {(size_t)n * steps * width};
    for (int i = 0; i < cell.states; i++) sizes.push_back((size_t)n * (i == 0 ? width : hidden));
    if (projected) sizes.push_back((size_t)n * steps * hidden);
    const int normalised = (gain ? cell.gates : 0) + gain_c;
    const int kept = std::abs(info()) - (info() < 0) + cell.states + normalised;
    saved = {(size_t)n * steps * kept * hidden};
    if (normalised) saved.push_back((size_t)n * steps * 2);
    for (size_t size : sizes) grads.push_back(coin() ? array(size) : nullptr);
    plain = info() >= 0 && (!given_x || table) && floats[0] == 0;
    for (size_t i = 6; i < masks_end; i++) plain = plain && (!in[i] || i == 14);
  }

  // What is wrong, if anything.
  std::string run() {
    if (plain) return "";
    const std::string name = std::string("sweep.") + cell.name;
    std::vector<std::unique_ptr<Array>> first;
    for (int threads = 1; threads <= 3; threads++) {
      TestDevice device(threads);
      std::vector<std::unique_ptr<Array>> made;
      const auto make = [&](size_t size) {
        made.push_back(std::make_unique<Array>(size));
        return made.back().get();
      };
      std::vector<Buffer*> infer, out, back;
      for (size_t size : sizes) infer.push_back(make(size)), out.push_back(make(size));
      device.call(kernels, name.c_str(), in, infer, ints, floats);
      std::vector<std::unique_ptr<Array>> kept;
      for (size_t size : saved) kept.push_back(std::make_unique<Array>(size)), out.push_back(kept.back().get());
      device.call(kernels, name.c_str(), in, out, ints, floats);
      for (size_t i = 0; i < infer.size(); i++)
        if (!equal(*infer[i], *out[i])) return "training gives another output " + std::to_string(i) + " than inference";
      std::vector<Buffer*> all = grads;
      all.insert(all.end(), in.begin(), in.end());
      all.insert(all.end(), out.begin(), out.end());
      for (size_t i = 0; i < in.size(); i++) {
        const bool constant = i == 5 || (i >= 12 && i < masks_end);
        back.push_back(in[i] && !constant ? make(in[i]->elements) : nullptr);
      }
      device.call(kernels, (name + ".backward").c_str(), all, back, ints, floats);
      for (size_t i = 0; i < made.size(); i++) {
        for (size_t j = 0; j < made[i]->elements; j++)
          if (!std::isfinite(made[i]->floats()[j])) return "number " + std::to_string(j) + " of " + std::to_string(i);
        if (threads > 1 && !equal(*made[i], *first[i]))
          return "tensor " + std::to_string(i) + " depends on the threads";
      }
      if (threads == 1) first = std::move(made);
    }
    return "";
  }

 private:
  static bool equal(const Buffer& a, const Buffer& b) {
    return a.elements == 0 || std::memcmp(a.data, b.data, a.elements * 4) == 0;
  }

  int info() const {
    const std::string name = std::string("sweep.") + cell.name;
    for (int i = 0; i < kernels.count; i++)
      if (name == kernels.entries[i].name) return kernels.entries[i].info;
    std::abort();
  }

  Buffer* array(size_t size) {
    owned.push_back(std::make_unique<Array>(size));
    for (size_t i = 0; i < size; i++) owned.back()->floats()[i] = (float)(2 * draw() - 1);
    return owned.back().get();
  }

  Buffer* lengths() {
    owned.push_back(std::make_unique<Array>(n));
    for (int i = 0; i < n; i++) owned.back()->ints()[i] = (int)(draw() * (steps + 1));
    return owned.back().get();
  }

  Buffer* ids() {
    owned.push_back(std::make_unique<Array>(n * steps));
    for (int i = 0; i < n * steps; i++) owned.back()->ints()[i] = (int)(draw() * kTable);
    return owned.back().get();
  }

  // Absent, or with a row and a step of its own or the same for all.
  Buffer* mask(int last) {
    if (coin()) return ints.insert(ints.end(), {0, 0}), nullptr;
    const int rows = coin() ? n : 1, moments = coin() ? steps : 1;
    ints.push_back(rows > 1 ? moments * last : 0);
    ints.push_back(moments > 1 ? last : 0);
    return array((size_t)rows * moments * last);
  }

  const KernelList& kernels;
  const Cell& cell;
  int n, steps, hidden, width;
  size_t masks_end;
  bool plain;
  std::vector<int32_t> ints;
  std::vector<double> floats;
  std::vector<Buffer*> in, grads;
  std::vector<size_t> sizes, saved;
  std::vector<std::unique_ptr<Array>> owned;
};

}  // namespace

int staged(const KernelList& kernels, bool quick) {
  int failures = 0;
  for (const Cell& cell : cells)
    for (int hidden : {1, 7, 16, 33})
      for (int n : {1, 3, 18})
        for (int i = 0; i < (quick ? 2 : 10); i++) {
          const int steps = 1 + (int)(draw() * 6);
          const std::string wrong = Example(kernels, cell, n, steps, 1 + (int)(draw() * 20), hidden).run();
          if (wrong.empty()) continue;
          failures++;
          std::printf("FAIL %s N=%d T=%d H=%d with stages: %s\n", cell.name, n, steps, hidden, wrong.c_str());
        }
  return failures;
}
