// Recurrent cells in double precision, spelt out a number at a time. Derivatives of a step come from dual numbers, so
// nothing here shares its algebra with the kernels.
#pragma once
#include <cmath>
#include <vector>

namespace oracle {

struct Dual {
  double value, slope;
  Dual(double v = 0, double s = 0) : value(v), slope(s) {}
};
inline Dual operator+(Dual a, Dual b) { return {a.value + b.value, a.slope + b.slope}; }
inline Dual operator-(Dual a, Dual b) { return {a.value - b.value, a.slope - b.slope}; }
inline Dual operator*(Dual a, Dual b) { return {a.value * b.value, a.slope * b.value + a.value * b.slope}; }
inline Dual tanh(Dual x) { return {std::tanh(x.value), x.slope * (1 - std::tanh(x.value) * std::tanh(x.value))}; }
inline Dual sigmoid(Dual x) {
  const double y = 1 / (1 + std::exp(-x.value));
  return {y, x.slope * y * (1 - y)};
}
inline Dual relu(Dual x) { return x.value > 0 ? x : Dual(0); }

// gates, of which the last `inner` take their recurrent product of `operand`; states, the first being h.
struct Cell {
  const char* name;
  int gates, inner, states;
  Dual (*operand)(const Dual* wx, const Dual* rh, const Dual* prev);
  void (*step)(const Dual* wx, const Dual* rh, const Dual* prev, Dual* next);
};

inline const std::vector<Cell>& cells() {
  static const auto reset_h = [](const Dual* wx, const Dual* rh, const Dual* prev) {
    return sigmoid(wx[0] + rh[0]) * prev[0];
  };
  static const std::vector<Cell> list = {
      {"elman_tanh", 1, 0, 1, nullptr,
       [](const Dual* wx, const Dual* rh, const Dual*, Dual* next) { next[0] = tanh(wx[0] + rh[0]); }},
      {"elman_relu", 1, 0, 1, nullptr,
       [](const Dual* wx, const Dual* rh, const Dual*, Dual* next) { next[0] = relu(wx[0] + rh[0]); }},
      {"lstm", 4, 0, 2, nullptr,
       [](const Dual* wx, const Dual* rh, const Dual* prev, Dual* next) {
         next[1] = sigmoid(wx[1] + rh[1]) * prev[1] + sigmoid(wx[0] + rh[0]) * tanh(wx[2] + rh[2]);
         next[0] = sigmoid(wx[3] + rh[3]) * tanh(next[1]);
       }},
      {"gru", 3, 0, 1, nullptr,
       [](const Dual* wx, const Dual* rh, const Dual* prev, Dual* next) {
         const Dual z = sigmoid(wx[1] + rh[1]), n = tanh(wx[2] + sigmoid(wx[0] + rh[0]) * rh[2]);
         next[0] = (Dual(1) - z) * n + z * prev[0];
       }},
      {"gru_before", 3, 1, 1, reset_h,
       [](const Dual* wx, const Dual* rh, const Dual* prev, Dual* next) {
         const Dual z = sigmoid(wx[1] + rh[1]), n = tanh(wx[2] + rh[2]);
         next[0] = (Dual(1) - z) * n + z * prev[0];
       }},
  };
  return list;
}

using Numbers = std::vector<double>;

struct Problem {
  const Cell& cell;
  int n, steps, features, hidden;
  bool reverse;
  std::vector<int> lengths;
  Numbers x, weight_ih, weight_hh, bias_ih, bias_hh;  // biases and states are zeros where they are absent
  std::vector<Numbers> initial;
  Numbers dy;
  std::vector<Numbers> dfinal;
};

struct Result {
  Numbers y;
  std::vector<Numbers> final;
  Numbers dx, dweight_ih, dweight_hh, dbias_ih, dbias_hh;
  std::vector<Numbers> dinitial;
};

// One sequence after another: forward with every number kept, then back.
inline Result solve(const Problem& p) {
  const int G = p.cell.gates, S = p.cell.states, H = p.hidden, I = p.features, outer = G - p.cell.inner;
  Result r;
  r.y.assign(p.n * p.steps * H, 0);
  r.dx.assign(p.n * p.steps * I, 0);
  r.dweight_ih.assign(G * H * I, 0);
  r.dweight_hh.assign(G * H * H, 0);
  r.dbias_ih.assign(G * H, 0);
  r.dbias_hh.assign(G * H, 0);
  r.final = r.dinitial = p.initial;
  for (int n = 0; n < p.n; n++) {
    const int length = p.lengths[n];
    const auto time = [&](int s) { return n * p.steps + (p.reverse ? length - 1 - s : s); };
    // by [step][unit]: the inputs of the cell's step, and the states before it
    std::vector<std::vector<std::vector<Dual>>> wx(length), rh(length), prev(length + 1);
    std::vector<Numbers> operand(length, Numbers(H));
    prev[0].assign(H, std::vector<Dual>(S));
    for (int u = 0; u < H; u++)
      for (int i = 0; i < S; i++) prev[0][u][i] = p.initial[i][n * H + u];
    for (int s = 0; s < length; s++) {
      wx[s].assign(H, std::vector<Dual>(G));
      rh[s] = wx[s];
      prev[s + 1] = prev[0];
      for (int u = 0; u < H; u++)
        for (int g = 0; g < G; g++) {
          double w = p.bias_ih[g * H + u], q = p.bias_hh[g * H + u];
          for (int j = 0; j < I; j++) w += p.weight_ih[(g * H + u) * I + j] * p.x[time(s) * I + j];
          for (int j = 0; j < H; j++) q += p.weight_hh[(g * H + u) * H + j] * prev[s][j][0].value;
          wx[s][u][g] = w;
          rh[s][u][g] = q;
        }
      for (int u = 0; u < H && p.cell.inner; u++)
        operand[s][u] = p.cell.operand(wx[s][u].data(), rh[s][u].data(), prev[s][u].data()).value;
      for (int u = 0; u < H; u++)
        for (int g = outer; g < G && p.cell.inner; g++) {
          double q = p.bias_hh[g * H + u];
          for (int j = 0; j < H; j++) q += p.weight_hh[(g * H + u) * H + j] * operand[s][j];
          rh[s][u][g] = q;
        }
      for (int u = 0; u < H; u++) {
        p.cell.step(wx[s][u].data(), rh[s][u].data(), prev[s][u].data(), prev[s + 1][u].data());
        r.y[time(s) * H + u] = prev[s + 1][u][0].value;
      }
    }
    std::vector<Numbers> d(S, Numbers(H));
    for (int i = 0; i < S; i++)
      for (int u = 0; u < H; u++) {
        r.final[i][n * H + u] = prev[length][u][i].value;
        d[i][u] = p.dfinal[i][n * H + u];
      }
    for (int s = length - 1; s >= 0; s--) {
      Numbers dwx(G * H, 0), drh(G * H, 0), doperand(H, 0);
      std::vector<Numbers> before(S, Numbers(H, 0));
      for (int u = 0; u < H; u++) {
        d[0][u] += p.dy[time(s) * H + u];
        std::vector<Dual> next(S);
        const auto pull = [&](Dual& input, double& to) {
          input.slope = 1;
          p.cell.step(wx[s][u].data(), rh[s][u].data(), prev[s][u].data(), next.data());
          input.slope = 0;
          for (int i = 0; i < S; i++) to += d[i][u] * next[i].slope;
        };
        for (int g = 0; g < G; g++) pull(wx[s][u][g], dwx[g * H + u]);
        for (int g = 0; g < G; g++) pull(rh[s][u][g], drh[g * H + u]);
        for (Dual& input : prev[s][u]) input.slope = 0;
        for (int i = 0; i < S; i++) pull(prev[s][u][i], before[i][u]);
      }
      for (int g = outer; g < G; g++)
        for (int u = 0; u < H; u++)
          for (int j = 0; j < H; j++) doperand[j] += drh[g * H + u] * p.weight_hh[(g * H + u) * H + j];
      for (int u = 0; u < H && p.cell.inner; u++) {
        const auto pull = [&](Dual& input, double& to) {
          input.slope = 1;
          to += doperand[u] * p.cell.operand(wx[s][u].data(), rh[s][u].data(), prev[s][u].data()).slope;
          input.slope = 0;
        };
        for (int g = 0; g < outer; g++) pull(wx[s][u][g], dwx[g * H + u]);
        for (int g = 0; g < outer; g++) pull(rh[s][u][g], drh[g * H + u]);
        for (int i = 0; i < S; i++) pull(prev[s][u][i], before[i][u]);
      }
      for (int g = 0; g < G; g++)
        for (int u = 0; u < H; u++) {
          const int row = g * H + u;
          r.dbias_ih[row] += dwx[row];
          r.dbias_hh[row] += drh[row];
          for (int j = 0; j < I; j++) {
            r.dweight_ih[row * I + j] += dwx[row] * p.x[time(s) * I + j];
            r.dx[time(s) * I + j] += dwx[row] * p.weight_ih[row * I + j];
          }
          for (int j = 0; j < H; j++) {
            r.dweight_hh[row * H + j] += drh[row] * (g < outer ? prev[s][j][0].value : operand[s][j]);
            if (g < outer) before[0][j] += drh[row] * p.weight_hh[row * H + j];
          }
        }
      d = before;
    }
    for (int i = 0; i < S; i++)
      for (int u = 0; u < H; u++) r.dinitial[i][n * H + u] = d[i][u];
  }
  return r;
}

}  // namespace oracle
