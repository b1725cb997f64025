import type { Tensor } from "../tensor/tensor.js";
import { elmanRelu, elmanTanh } from "../cells/elman.js";
import { gru, gruBefore } from "../cells/gru.js";
import { lstm } from "../cells/lstm.js";
import { checkOptions } from "../tensor/check.js";
import { Recurrent, recurrentOptions, type RecurrentOptions } from "./recurrent.js";

export interface RNNOptions extends RecurrentOptions {
  /** Default `tanh`. */
  readonly nonlinearity?: "tanh" | "relu";
}
export interface RNNState {
  /** [layers * directions, N, H] */
  readonly h: Tensor;
}

/** The simple recurrent network of Elman 1990: h_t = tanh(W x_t + U h_{t-1} + b), or with a rectifier. State `{ h }`. */
export class RNN extends Recurrent<"h"> {
  constructor(inputSize: number, hiddenSize: number, options: RNNOptions = {}) {
    checkOptions("RNN", options, [...recurrentOptions, "nonlinearity"]);
    const { nonlinearity = "tanh", ...rest } = options;
    if (nonlinearity !== "tanh" && nonlinearity !== "relu")
      throw new RangeError(`RNN: nonlinearity must be "tanh" or "relu" but is ${JSON.stringify(nonlinearity)}`);
    super(nonlinearity === "tanh" ? elmanTanh : elmanRelu, inputSize, hiddenSize, rest);
  }
}

export interface LSTMState {
  /** Hidden state, [layers * directions, N, H]. */
  readonly h: Tensor;
  /** Cell state, [layers * directions, N, H]. */
  readonly c: Tensor;
}

/** Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate of Gers et al. 2000). State `{ h, c }`. */
export class LSTM extends Recurrent<"h" | "c"> {
  constructor(inputSize: number, hiddenSize: number, options: RecurrentOptions = {}) {
    checkOptions("LSTM", options, recurrentOptions);
    super(lstm, inputSize, hiddenSize, options);
  }
}

export interface GRUOptions extends RecurrentOptions {
  /**
   * Where the reset gate acts: `"after"` the recurrent product as PyTorch and cuDNN (default), or `"before"` it as
   * Cho et al. 2014.
   */
  readonly reset?: "after" | "before";
}
export interface GRUState {
  /** [layers * directions, N, H] */
  readonly h: Tensor;
}

/** Gated recurrent unit (Cho et al. 2014). State `{ h }`. */
export class GRU extends Recurrent<"h"> {
  constructor(inputSize: number, hiddenSize: number, options: GRUOptions = {}) {
    checkOptions("GRU", options, [...recurrentOptions, "reset"]);
    const { reset = "after", ...rest } = options;
    if (reset !== "after" && reset !== "before")
      throw new RangeError(`GRU: reset must be "after" or "before" but is ${JSON.stringify(reset)}`);
    super(reset === "after" ? gru : gruBefore, inputSize, hiddenSize, rest);
  }
}
