import type { Cell } from "../ops/sweep.js";
import { checkOptions } from "../tensor/check.js";
import { Recurrent, recurrentOptions, type RecurrentOptions } from "./recurrent.js";

export interface CellLayerOptions extends RecurrentOptions {
  readonly inputSize: number;
  /** Units of each layer. */
  readonly hiddenSize: number;
}

/**
 * A recurrent layer of your own cell: write one step, and it trains, streams, stacks, runs in both directions and takes
 * ragged batches and all masks. The state has the names that the cell gives it.
 *
 *     const leaky = defineCell({
 *       name: "leaky", gates: ["h"], states: ["h"], fused: false,
 *       step: (wx, rh, { h }) => ({ h: add(scale(h, 0.9), scale(tanh(add(wx.h, rh.h)), 0.1)) }),
 *     });
 *     const layer = new CellLayer(leaky, { inputSize: 3, hiddenSize: 16 });
 *
 * Parameters, G gates: `weight_ih_l{k}` [G * H, in], `weight_hh_l{k}` [G * H, H] ([G * H] of a diagonal recurrence),
 * `bias_ih_l{k}`, `bias_hh_l{k}` [G * H], and `weight_unit_l{k}`, a row of H for each of the cell's vectors.
 * `recurrentDropout` is what the cell's step makes of `stages.drop`.
 */
export class CellLayer<S extends string> extends Recurrent<S> {
  /** @throws unless the first of the cell's states is h. */
  constructor(cell: Cell<string, S>, options: CellLayerOptions) {
    checkOptions("CellLayer", options, [...recurrentOptions, "inputSize", "hiddenSize"]);
    const states: readonly string[] = cell.states;
    if (states[0] !== "h") throw new RangeError(`CellLayer: the cell's first state must be h but its states are ${states.join(", ")}`);
    const { inputSize, hiddenSize, ...rest } = options;
    super(cell, inputSize, hiddenSize, rest, { candidate: true });
  }
}
