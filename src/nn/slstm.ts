import { slstm } from "../cells/slstm.js";
import { checkCount, checkOptions } from "../tensor/check.js";
import type { Tensor } from "../tensor/tensor.js";
import { Recurrent, recurrentOptions, type RecurrentOptions } from "./recurrent.js";

export interface SLSTMOptions extends RecurrentOptions {
  /** Groups of units that hear only each other; they divide hiddenSize. Default 1. */
  readonly heads?: number;
}

/** Each [layers * directions, N, H]: output, cell, normaliser, stabiliser. */
export interface SLSTMState {
  readonly h: Tensor;
  readonly c: Tensor;
  readonly n: Tensor;
  readonly m: Tensor;
}

/**
 * sLSTM (Beck et al. 2024, "xLSTM: Extended Long Short-Term Memory", eq. 8-18): an LSTM whose input gate is exponential, so
 * that it can revise what it has stored, with a normaliser n and a stabiliser m:
 *
 *     l_t = log sigmoid(z_f) + m_{t-1}    m_t = max(l_t, z_i)    i = exp(z_i - m_t)    f = exp(l_t - m_t)
 *     c_t = f * c_{t-1} + i * tanh(z_z)   n_t = f * n_{t-1} + i  h_t = sigmoid(z_o) * c_t / n_t
 *
 * with z = W x_t + b_ih + U h_{t-1} + b_hh, gate order i, f, z, o. Unlike mLSTM it mixes its units over time, and so can keep
 * track of a state (parity). State `{ h, c, n, m }`, zero at first. Parameters `weight_ih_l{k}` [4H, in], `weight_hh_l{k}`
 * [4H, H / heads], `bias_ih_l{k}`, `bias_hh_l{k}` [4H], drawn as those of an LSTM.
 */
export class SLSTM extends Recurrent<keyof SLSTMState> {
  /** @throws on an unknown option, a size that is not a positive integer, or heads that do not divide hiddenSize. */
  constructor(inputSize: number, hiddenSize: number, options: SLSTMOptions = {}) {
    checkOptions("SLSTM", options, [...recurrentOptions, "heads"]);
    const { heads = 1, ...rest } = options;
    checkCount("SLSTM", "heads", heads);
    if (hiddenSize % heads !== 0) throw new RangeError(`SLSTM: heads must divide hiddenSize, ${hiddenSize}, but are ${heads}`);
    super(slstm, inputSize, hiddenSize, rest, { heads });
  }
}
