import { lstmCell, lstmVariant, type LSTMVariant } from "../cells/lstm.js";
import { checkChoice, checkCount, checkNumber, checkOptions } from "../tensor/check.js";
import type { Tensor } from "../tensor/tensor.js";
import { Recurrent, recurrentOptions, type RecurrentOptions } from "./recurrent.js";

export interface LSTMOptions extends RecurrentOptions, LSTMVariant {
  /** h is projected to this many numbers, at most H: h_t = W_hr (o * tanh(c_t)) (Sak, Senior & Beaufays 2014). Default: no projection. */
  readonly projSize?: number;
  /**
   * Layer normalisation (Ba, Kiros & Hinton 2016) of W x and of U h, all gates together, and of c. With `"output"`, which
   * is also what `true` means, c is normalised where the output reads it and carried as it is (haste's placement); with
   * `"carried"` the normalised c is the state (that of PyTorch's fastrnns). Default false.
   */
  readonly layerNorm?: boolean | "output" | "carried";
  /** What the biases of the forget gate add up to at first; 1 lets gradients through from the start (Jozefowicz et al. 2015). Default: drawn as the others. */
  readonly forgetBias?: number;
  /** Keep c within [-cellClip, cellClip]. Default: unbounded. */
  readonly cellClip?: number;
}

export interface LSTMState {
  /** Hidden state, [layers * directions, N, H]; P instead of H with a projection. */
  readonly h: Tensor;
  /** Cell state, [layers * directions, N, H]. */
  readonly c: Tensor;
}

/**
 * Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate of Gers, Schmidhuber & Cummins 2000), torch.nn.LSTM.
 * State `{ h, c }`. Gate order i, f, g, o; a variant without one of them leaves it out.
 *
 *     i, f, o = sigmoid(W x_t + b_ih + U h_{t-1} + b_hh)   g = tanh(W_g x_t + b_ig + U_g h_{t-1} + b_hg)
 *     c_t = f * c_{t-1} + i * g
 *     h_t = o * tanh(c_t)                                  projSize:  h_t = W_hr (o * tanh(c_t))
 *
 * What the options change: `peephole` adds p_i * c_{t-1}, p_f * c_{t-1} and p_o * c_t to what i, f and o are the sigmoid
 * of; `coupled` sets f = 1 - i or i = 1 - f; `without` sets i, f or o to 1; `cellClip` bounds c_t before o sees it;
 * `layerNorm` makes LN(W x_t) and LN(U h_{t-1}) of the products, and tanh(LN(c_t)) of tanh(c_t).
 *
 * Parameters, G gates: `weight_ih_l{k}` [G * H, in], `weight_hh_l{k}` [G * H, H], `bias_ih_l{k}`, `bias_hh_l{k}`
 * [G * H]; with `projSize` P also `weight_hr_l{k}` [P, H], and `weight_hh_l{k}` is [G * H, P]; with `peephole`
 * `weight_peephole_l{k}`, a row of H for each of i, f, o that there is; with `layerNorm` the gains `gain_ih_l{k}` and
 * `gain_hh_l{k}` [G * H], `gain_c_l{k}` and `bias_c_l{k}` [H]. The second direction has `_reverse` behind each.
 */
export class LSTM extends Recurrent<"h" | "c"> {
  /** @throws on a projection larger than H, coupled gates of which one is missing, a forget bias without a forget gate or biases. */
  constructor(inputSize: number, hiddenSize: number, options: LSTMOptions = {}) {
    checkOptions("LSTM", options, [...recurrentOptions, ...lstmVariant, "projSize", "layerNorm", "forgetBias", "cellClip"]);
    const { peephole, coupled, without, activation, recurrentActivation, stateActivation, ...others } = options;
    const { projSize, layerNorm = false, forgetBias, cellClip, ...rest } = others;
    const cell = lstmCell({ peephole, coupled, without, activation, recurrentActivation, stateActivation });
    checkChoice("LSTM", "layerNorm", layerNorm, [true, false, "output", "carried"]);
    if (projSize !== undefined) {
      checkCount("LSTM", "projSize", projSize);
      if (projSize > hiddenSize) throw new RangeError(`LSTM: projSize must be at most hiddenSize, ${hiddenSize}, but is ${projSize}`);
    }
    if (cellClip !== undefined && !(cellClip > 0)) throw new RangeError(`LSTM: cellClip must be above 0 but is ${cellClip}`);
    if (forgetBias !== undefined) {
      checkNumber("LSTM", "forgetBias", forgetBias);
      if (!cell.gates.includes("f")) throw new RangeError("LSTM: forgetBias needs a forget gate, which this variant has not");
      if (rest.bias === false) throw new RangeError("LSTM: forgetBias needs biases, but bias is false");
    }
    super(cell, inputSize, hiddenSize, rest, {
      vectors: "weight_peephole",
      norms: layerNorm === false ? [] : ["ih", "hh", "c"],
      carryNormalised: layerNorm === "carried",
      ...(projSize !== undefined && { projection: { size: projSize, bias: false } }),
      forgetBias,
      cellClip,
    });
  }
}
