import { slstm } from "../cells/slstm.js";
import { concat, reshape, transpose } from "../ops/movement.js";
import { sweep } from "../ops/sweep.js";
import { checkCount, checkOptions } from "../tensor/check.js";
import { tensor, zeros } from "../tensor/create.js";
import type { Shape } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { ofHeads } from "./heads.js";
import { Headwise } from "./headwise.js";
import { Module, place } from "./module.js";
import { ScanLayer, type ScanInput, type ScanState } from "./scanLayer.js";
import { BlockConv, GainNorm, type PartOptions } from "./xlstmParts.js";

export interface SLSTMBlockOptions extends PartOptions {
  /** Default 4. */
  readonly heads?: number;
  /** Steps that the convolution sees. Default 4. */
  readonly convKernel?: number;
  /** Where the block is in its stack, from 0 at the bottom to 1 at the top: how the biases of forgetting are spread. Default 0. */
  readonly depth?: number;
}

const slstmBlockOptions = ["heads", "convKernel", "depth", "generator", "device", "dtype"] as const;

type States = "h" | "c" | "n" | "m" | "conv";
export type SLSTMBlockState = ScanState<States>;

/** The recurrent weights [heads, 4 D, D] and biases [4 C], gates i, f, z, o. */
class ScalarCell extends Module {
  readonly _recurrent_kernel_: Tensor;
  readonly _bias_: Tensor;

  constructor(width: number, heads: number, depth: number, options: PartOptions) {
    super();
    const settings = { requiresGrad: true, ...place(options) };
    const size = width / heads;
    const forget = (unit: number) => 5 - 12 * (size > 1 ? (unit / (size - 1)) ** (0.3 + 1.3 * depth) : 0);
    const bias = Array.from({ length: 4 * width }, (_, i) => (Math.floor(i / width) === 1 ? forget(i % size) : 0));
    this._recurrent_kernel_ = zeros([heads, 4 * size, size], settings);
    this._bias_ = tensor(bias, settings);
  }
}

/**
 * The block of sLSTM (Beck et al. 2024, "xLSTM", fig. 10), without the residual and the feed-forward network around it:
 *
 *     c_t = silu(conv(x_{t-K+1} ... x_t))        z_i, z_f = W_i c_t, W_f c_t      z_z, z_o = W_z x_t, W_o x_t
 *     y_t = norm(slstm(z_t))
 *
 * with `slstm` as in `SLSTM`, all products in heads, and the norm of each head by itself. x [N, T, C] -> [N, T, C]; state `h`,
 * `c`, `n`, `m` [1, N, C] and `conv` [1, N, K - 1, C]. Parameters, as NX-AI's xlstm names them: `conv1d.conv.weight`
 * [C, 1, K], `conv1d.conv.bias`, `fgate.weight` [heads, D, D] of the input gate and `igate.weight` of the forget gate (the
 * names are the wrong way round there, and checkpoints have them so), `zgate.weight`, `ogate.weight`,
 * `slstm_cell._recurrent_kernel_` [heads, 4 D, D] (zero at first), `slstm_cell._bias_` [4 C], `group_norm.weight` [C] (the
 * gain less 1).
 */
export class SLSTMBlock extends ScanLayer<States> {
  readonly conv1d: BlockConv;
  readonly fgate: Headwise;
  readonly igate: Headwise;
  readonly zgate: Headwise;
  readonly ogate: Headwise;
  readonly slstm_cell: ScalarCell;
  readonly group_norm: GainNorm;
  readonly heads: number;
  readonly convKernel: number;

  /** @throws on an option that is not known, a size that is not a positive integer, or heads that do not divide inputSize. */
  constructor(
    readonly inputSize: number,
    options: SLSTMBlockOptions = {},
  ) {
    super();
    checkOptions("SLSTMBlock", options, slstmBlockOptions);
    checkCount("SLSTMBlock", "inputSize", inputSize);
    const { heads = 4, convKernel = 4, depth = 0, generator, device, dtype } = options;
    checkCount("SLSTMBlock", "heads", heads);
    checkCount("SLSTMBlock", "convKernel", convKernel);
    if (inputSize % heads !== 0) throw new RangeError(`SLSTMBlock: heads must divide inputSize, ${inputSize}, but are ${heads}`);
    const settings = { generator, device, dtype };
    const gate = () => new Headwise(heads, inputSize / heads, inputSize / heads, settings);
    this.heads = heads;
    this.convKernel = convKernel;
    this.conv1d = new BlockConv(inputSize, convKernel, settings);
    this.fgate = gate();
    this.igate = gate();
    this.zgate = gate();
    this.ogate = gate();
    this.slstm_cell = new ScalarCell(inputSize, heads, depth, settings);
    this.group_norm = new GainNorm(inputSize, heads, settings);
  }

  get outputSize(): number {
    return this.inputSize;
  }

  protected stateShapes(): Record<States, Shape> {
    const { inputSize, convKernel } = this;
    return { h: [inputSize], c: [inputSize], n: [inputSize], m: [inputSize], conv: [convKernel - 1, inputSize] };
  }

  protected run({ x, state: { conv: before, ...initial }, lengths }: ScanInput<States>) {
    const { heads, inputSize } = this;
    const { output: seen, state: conv } = this.conv1d.forward(x, before, lengths);
    const z = concat([this.fgate.forward(seen), this.igate.forward(seen), this.zgate.forward(x), this.ogate.forward(x)], 2);
    const size = inputSize / heads;
    const kernel = reshape(this.slstm_cell._recurrent_kernel_, [heads, 4, size, size]);
    const weightHh = ofHeads(reshape(transpose(kernel, [1, 0, 2, 3]), [4 * inputSize, size]), heads);
    const inputs = { x: z, weightIh: null, weightHh, biasIh: null, biasHh: this.slstm_cell._bias_, lengths };
    const given = Object.fromEntries(Object.entries(initial).filter(([, t]) => t));
    const { output, state } = sweep(slstm, inputs, given);
    return { output: this.group_norm.forward(output), state: { ...state, conv } };
  }
}
