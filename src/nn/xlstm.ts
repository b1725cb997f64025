import { add, gelu, mul } from "../ops/elementwise.js";
import { split } from "../ops/movement.js";
import { zeroPadding } from "../ops/sequence.js";
import { checkChoice, checkCount, checkNumber, checkOptions } from "../tensor/check.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkLengths } from "./lengths.js";
import { Linear } from "./linear.js";
import { MLSTM } from "./mlstm.js";
import { Module } from "./module.js";
import { checkSequence, type RecurrentLayer, type SequenceOptions } from "./recurrentLayer.js";
import type { ScanState } from "./scanLayer.js";
import { SLSTMBlock } from "./slstmBlock.js";
import { streamModel, type Stream } from "./stream.js";
import { streamsModel, type Streams, type StreamsOptions } from "./streams.js";
import { GainNorm, roundedUp, type PartOptions } from "./xlstmParts.js";

export interface XLSTMOptions extends PartOptions {
  /** From the bottom to the top: `m` a matrix memory, `s` a recurrence with exponential gates. Default `["m", "s"]`. */
  readonly blocks?: readonly ("m" | "s")[];
  /** Default 4. */
  readonly heads?: number;
  /** Steps that the convolutions see. Default 4. */
  readonly convKernel?: number;
  /** Of the blocks m, as in `MLSTM`. Defaults 2 and 4. */
  readonly projFactor?: number;
  readonly blockSize?: number;
  /** Width of the feed-forward networks behind the blocks s, as a multiple of the input's, rounded up to a multiple of 64. Default 1.3. */
  readonly ffnFactor?: number;
}

const xlstmOptions = ["blocks", "heads", "convKernel", "projFactor", "blockSize", "ffnFactor", "generator", "device", "dtype"] as const;

/** The states of the blocks, in their order. */
export type XLSTMState = readonly ScanState<string>[];

/** y = W_down (gelu(g) * u), g, u = W_up x. */
class FeedForward extends Module {
  readonly proj_up: Linear;
  readonly proj_down: Linear;

  constructor(size: number, inner: number, options: PartOptions) {
    super();
    this.proj_up = new Linear(size, 2 * inner, { bias: false, ...options });
    this.proj_down = new Linear(inner, size, { bias: false, ...options });
  }

  forward(x: Tensor): Tensor {
    const inner = this.proj_down.inFeatures;
    const [gate, up] = split(this.proj_up.forward(x), [inner, inner], 2);
    return this.proj_down.forward(mul(gelu(gate), up));
  }
}

/** One residual block; s has a feed-forward network behind it. */
class Block extends Module {
  readonly xlstm_norm: GainNorm;
  readonly xlstm: MLSTM | SLSTMBlock;
  readonly ffn_norm?: GainNorm;
  readonly ffn?: FeedForward;

  constructor(xlstm: MLSTM | SLSTMBlock, ffn: number, options: PartOptions) {
    super();
    const size = xlstm.inputSize;
    this.xlstm_norm = new GainNorm(size, 1, options);
    this.xlstm = xlstm;
    if (xlstm instanceof MLSTM) return;
    this.ffn_norm = new GainNorm(size, 1, options);
    this.ffn = new FeedForward(size, ffn, options);
  }

  forward(x: Tensor, options: SequenceOptions<ScanState<string>>): { output: Tensor; state: ScanState<string> } {
    const { output, state } = (this.xlstm as RecurrentLayer<ScanState<string>>).forward(this.xlstm_norm.forward(x), options);
    const y = add(x, output);
    return { output: this.ffn ? add(y, this.ffn.forward(this.ffn_norm!.forward(y))) : y, state };
  }
}

/**
 * xLSTM (Beck et al. 2024, "xLSTM: Extended Long Short-Term Memory"): residual blocks of mLSTM and sLSTM, normalised before
 * each and after the last,
 *
 *     m:  x + mLSTM(norm(x))        s:  y + W_down (gelu(g) * u),  y = x + sLSTM(norm(x)),  g, u = W_up norm(y)
 *
 * x [N, T, C] -> [N, T, C]; the state is a list, that of each block. Parameters, as NX-AI's xLSTMBlockStack names them:
 * `blocks.{k}.xlstm_norm.weight`, `blocks.{k}.xlstm.*` as in `MLSTM` and `SLSTMBlock`, `blocks.{k}.ffn_norm.weight`,
 * `blocks.{k}.ffn.proj_up.weight`, `blocks.{k}.ffn.proj_down.weight`, `post_blocks_norm.weight`.
 */
export class XLSTM extends Module {
  readonly blocks: readonly Block[];
  readonly post_blocks_norm: GainNorm;

  /** @throws on an option that is not known, and as the blocks do. */
  constructor(
    readonly inputSize: number,
    options: XLSTMOptions = {},
  ) {
    super();
    checkOptions("XLSTM", options, xlstmOptions);
    checkCount("XLSTM", "inputSize", inputSize);
    const { blocks = ["m", "s"], heads, convKernel, projFactor, blockSize, ffnFactor = 1.3, generator, device, dtype } = options;
    if (blocks.length === 0) throw new RangeError("XLSTM: blocks must be a list of at least one block");
    blocks.forEach((kind, k) => checkChoice("XLSTM", `blocks[${k}]`, kind, ["m", "s"]));
    checkNumber("XLSTM", "ffnFactor", ffnFactor, Number.MIN_VALUE);
    const settings = { generator, device, dtype };
    const mixer = (kind: "m" | "s", k: number) =>
      kind === "m"
        ? new MLSTM(inputSize, { heads, convKernel, projFactor, blockSize, ...settings })
        : new SLSTMBlock(inputSize, { heads, convKernel, depth: blocks.length > 1 ? k / (blocks.length - 1) : 0, ...settings });
    this.blocks = blocks.map((kind, k) => new Block(mixer(kind, k), roundedUp(ffnFactor * inputSize), settings));
    this.post_blocks_norm = new GainNorm(inputSize, 1, settings);
  }

  get outputSize(): number {
    return this.inputSize;
  }

  /** x [N, T, C] -> `output` [N, T, C], zero behind each row's end, `state`. @throws on a wrong shape, length or state. */
  forward(x: Tensor, options: SequenceOptions<XLSTMState> = {}): { output: Tensor; state: XLSTMState } {
    const where = "XLSTM.forward";
    checkOptions(where, options, ["state", "lengths"]);
    checkSequence(where, x, this.inputSize);
    const { lengths, state } = options;
    if (state && state.length !== this.blocks.length)
      throw new RangeError(`${where}: state must be a list of ${this.blocks.length} but has ${state.length}`);
    return scope(() => {
      let below = zeroPadding(x, lengths ? checkLengths(where, x, lengths) : null);
      const states = this.blocks.map((block, k) => {
        const result = block.forward(below, { state: state?.[k], lengths });
        below = result.output;
        return result.state;
      });
      return { output: this.post_blocks_norm.forward(below), state: states };
    });
  }

  /** A stream over one sequence, fed `inputSize` numbers a step. */
  override stream(): Stream {
    return streamModel(this, { shape: [1, 1, this.inputSize] });
  }

  /** Many sequences, stepped together: see `Streams`. */
  override streams(options: StreamsOptions = {}): Streams {
    return streamsModel(this, { ...options, shape: [1, 1, this.inputSize] });
  }
}
