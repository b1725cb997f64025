import { abs, add, equal, mul, scale, silu } from "../ops/elementwise.js";
import { matrixMemory } from "../ops/mlstm.js";
import { concat, reshape, split } from "../ops/movement.js";
import { max } from "../ops/reduce.js";
import { where } from "../ops/select.js";
import { checkCount, checkNumber, checkOptions } from "../tensor/check.js";
import { full, ones, tensor, zeros } from "../tensor/create.js";
import type { Shape } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { constant, fill, normal } from "./fill.js";
import { Headwise } from "./headwise.js";
import { Linear } from "./linear.js";
import { Module, place } from "./module.js";
import { ScanLayer, type ScanInput, type ScanState } from "./scanLayer.js";
import { BlockConv, GainNorm, roundedUp, type PartOptions } from "./xlstmParts.js";

export interface MLSTMOptions extends PartOptions {
  /** Default 4. */
  readonly heads?: number;
  /** Steps that the convolution sees. Default 4. */
  readonly convKernel?: number;
  /** Width inside, as a multiple of the input's, rounded up to a multiple of 64. Default 2. */
  readonly projFactor?: number;
  /** Queries, keys and values are products in blocks of this many channels. Default 4. */
  readonly blockSize?: number;
}

export type MLSTMState = ScanState<"C" | "n" | "m" | "conv">;

const mlstmOptions = ["heads", "convKernel", "projFactor", "blockSize", "generator", "device", "dtype"] as const;

/** The gates of the heads, and the norm of what is read. */
class MatrixCell extends Module {
  readonly igate: Linear;
  readonly fgate: Linear;
  readonly outnorm: GainNorm;

  constructor(width: number, heads: number, options: PartOptions) {
    super();
    this.igate = new Linear(3 * width, heads, options);
    this.fgate = new Linear(3 * width, heads, options);
    this.outnorm = new GainNorm(width, heads, options);
    constant(this.igate.weight, 0);
    constant(this.fgate.weight, 0);
    normal(this.igate.bias!, { std: 0.1, generator: options.generator });
    const rates = Array.from({ length: heads }, (_, h) => 3 + (heads > 1 ? (3 * h) / (heads - 1) : 0));
    fill(this.fgate.bias!, tensor(rates, place(options)));
  }
}

/** m, but minus infinity where n is zero, as it is before the first step: there is nothing yet that m would scale. */
function started(n: Tensor, m: Tensor): Tensor {
  const settings = { device: m.device, dtype: m.dtype as "float32" | "float64" };
  const nothing = equal(max(abs(n), { axis: -1 }), zeros([], settings));
  return where(nothing, full([], -Infinity, settings), m);
}

/**
 * The block of mLSTM (Beck et al. 2024, "xLSTM", fig. 11), without the residual around it: a matrix memory in each head
 * between a product up and a product down,
 *
 *     u_t, z_t = W_up x_t        c_t = silu(conv(u_{t-K+1} ... u_t))        q_t, k_t = W_q c_t, W_k c_t    v_t = W_v u_t
 *     i_t, f_t = W_i [q, k, v]_t + b_i, W_f [q, k, v]_t + b_f               h_t = memory(q_t, k_t / sqrt(D), v_t, i_t, f_t)
 *     y_t = W_down ((norm(h_t) + skip * c_t) * silu(z_t))
 *
 * with `memory` as in `matrixMemory`, W_q, W_k and W_v in blocks, and the norm of each head by itself. x [N, T, C] -> [N, T, C].
 * State `C` [1, N, heads, D, D], `n` [1, N, heads, D], `m` [1, N, heads] and `conv` [1, N, K - 1, E], E the width inside.
 * Parameters, as NX-AI's xlstm names them: `proj_up.weight` [2E, C], `conv1d.conv.weight` [E, 1, K], `conv1d.conv.bias`,
 * `q_proj.weight` [E / block, block, block] and so for k and v, `mlstm_cell.igate.*`, `mlstm_cell.fgate.*` (zero weights, and
 * biases from 3 to 6 so that heads begin with long memories), `mlstm_cell.outnorm.weight` [E] (the gain less 1),
 * `learnable_skip` [E], `proj_down.weight` [C, E].
 */
export class MLSTM extends ScanLayer<"C" | "n" | "m" | "conv"> {
  readonly proj_up: Linear;
  readonly conv1d: BlockConv;
  readonly q_proj: Headwise;
  readonly k_proj: Headwise;
  readonly v_proj: Headwise;
  readonly mlstm_cell: MatrixCell;
  readonly learnable_skip: Tensor;
  readonly proj_down: Linear;
  readonly heads: number;
  readonly convKernel: number;
  /** E */
  readonly innerSize: number;

  /** @throws on an option that is not known, and on sizes that are not positive integers or do not divide the width inside. */
  constructor(
    readonly inputSize: number,
    options: MLSTMOptions = {},
  ) {
    super();
    checkOptions("MLSTM", options, mlstmOptions);
    checkCount("MLSTM", "inputSize", inputSize);
    const { heads = 4, convKernel = 4, projFactor = 2, blockSize = 4, generator, device, dtype } = options;
    for (const [name, value] of Object.entries({ heads, convKernel, blockSize })) checkCount("MLSTM", name, value);
    checkNumber("MLSTM", "projFactor", projFactor, Number.MIN_VALUE);
    const inner = roundedUp(projFactor * inputSize);
    for (const [name, value] of Object.entries({ heads, blockSize }))
      if (inner % value !== 0) throw new RangeError(`MLSTM: ${name} must divide the width inside, ${inner}, but is ${value}`);
    const settings = { generator, device, dtype };
    this.heads = heads;
    this.convKernel = convKernel;
    this.innerSize = inner;
    this.proj_up = new Linear(inputSize, 2 * inner, { bias: false, ...settings });
    this.conv1d = new BlockConv(inner, convKernel, settings);
    const blocks = () => new Headwise(inner / blockSize, blockSize, blockSize, settings);
    this.q_proj = blocks();
    this.k_proj = blocks();
    this.v_proj = blocks();
    this.mlstm_cell = new MatrixCell(inner, heads, settings);
    this.learnable_skip = ones([inner], { requiresGrad: true, ...place(options) });
    this.proj_down = new Linear(inner, inputSize, { bias: false, ...settings });
  }

  get outputSize(): number {
    return this.inputSize;
  }

  protected stateShapes(): Record<"C" | "n" | "m" | "conv", Shape> {
    const { heads, innerSize, convKernel } = this;
    const size = innerSize / heads;
    return { C: [heads, size, size], n: [heads, size], m: [heads], conv: [convKernel - 1, innerSize] };
  }

  protected run({ x, state, lengths }: ScanInput<"C" | "n" | "m" | "conv">) {
    const { heads, innerSize } = this;
    const [rows, steps] = x.shape;
    const [inner, gate] = split(this.proj_up.forward(x), [innerSize, innerSize], 2);
    const { output: seen, state: conv } = this.conv1d.forward(inner, state.conv, lengths);
    const [q, k, v] = [this.q_proj.forward(seen), this.k_proj.forward(seen), this.v_proj.forward(inner)];
    const all = concat([q, k, v], 2);
    const size = innerSize / heads;
    const byHead = (t: Tensor) => reshape(t, [rows, steps, heads, size]);
    const { C, n, m } = state;
    const memory = matrixMemory({
      q: byHead(q),
      k: byHead(scale(k, size ** -0.5)),
      v: byHead(v),
      inputGate: this.mlstm_cell.igate.forward(all),
      forgetGate: this.mlstm_cell.fgate.forward(all),
      state: C && n && m && { C, n, m: started(n, m) },
      lengths,
    });
    const normal = this.mlstm_cell.outnorm.forward(reshape(memory.output, [rows, steps, innerSize]));
    const output = this.proj_down.forward(mul(add(normal, mul(this.learnable_skip, seen)), silu(gate)));
    return { output, state: { ...memory.state, conv } };
  }
}
