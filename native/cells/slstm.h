// LSTM with exponential input gate, normaliser and stabiliser: sLSTM (Beck et al. 2024, eq. 8-18), z = W x_t + U h_{t-1}:
//   l = log s(z_f) + m_{t-1}     m_t = max(l, z_i), but z_i while n is 0 as at the start
//   i = exp(z_i - m_t)           f = exp(l - m_t)            z = tanh(z_z)     o = s(z_o)
//   c_t = f * c_{t-1} + i * z    n_t = f * n_{t-1} + i       h_t = o * c_t / n_t
// i and f are at most 1, so nothing overflows, however far the gates are driven.
#pragma once
#include "cell.h"

namespace throughtime {

struct Slstm : CellDefaults {
  enum Gate { I, F, Z, O };
  enum State { H, C, N, M };
  enum Keep { FORGETS = 4, NEW = 5 };  // s(-z_f), and 1 where m_t is z_i
  static constexpr int gates = 4, states = 4, saved = 6;
  static constexpr bool one_gradient = true;

  template <class V, class S>
  static HD void forward(const V* wx, const V* rh, const V* prev, V* next, V* keep, const S& stages) {
    const V zi = wx[I] + rh[I], zf = wx[F] + rh[F], one = 1.0f - V{};
    const V l = prev[M] - softplus(-zf);
    const auto fresh = (prev[N] == 0.0f) | (l < zi);
    const V m = fresh ? zi : l;
    keep[I] = exp(zi - m);
    keep[F] = exp(min(l - m, V{}));
    keep[Z] = tanh(wx[Z] + rh[Z]);
    keep[O] = sigmoid(wx[O] + rh[O]);
    keep[FORGETS] = sigmoid(-zf);
    keep[NEW] = fresh ? one : V{};
    next[C] = stages.clip(keep[F] * prev[C] + keep[I] * keep[Z]);
    next[N] = keep[F] * prev[N] + keep[I];
    next[M] = m;
    next[H] = keep[O] * (next[C] / next[N]);
  }

  template <class V, class S>
  static HD void backward(const V* keep, const V* prev, const V* next, const V* dnext, V* dwx, V*, V* dprev,
                          const S& stages, V*) {
    const V i = keep[I], f = keep[F], z = keep[Z], o = keep[O], ratio = next[C] / next[N];
    const V dratio = dnext[H] * o / next[N];
    const V dc = stages.clip_backward(next[C], dnext[C] + dratio), dn = dnext[N] - dratio * ratio;
    const V di = (dc * z + dn) * i, df = (dc * prev[C] + dn * prev[N]) * f;  // of z_i - m, and l - m
    const V dm = dnext[M] - di - df, dl = df + (1.0f - keep[NEW]) * dm;
    dwx[I] = di + keep[NEW] * dm;
    dwx[F] = dl * keep[FORGETS];
    dwx[Z] = dc * i * (1.0f - z * z);
    dwx[O] = dnext[H] * ratio * (o * (1.0f - o));
    dprev[H] = V{};
    dprev[C] = dc * f;
    dprev[N] = dn * f;
    dprev[M] = dl;
  }
};

}  // namespace throughtime
