import { greater, mul, scale, square, sub, sqrt } from "../ops/elementwise.js";
import { linear, matmul } from "../ops/matmul.js";
import { reshape, split, transpose } from "../ops/movement.js";
import { dropout } from "../ops/random.js";
import { max, sum } from "../ops/reduce.js";
import { where as choose } from "../ops/select.js";
import { sequenceMask } from "../ops/sequence.js";
import { softmax } from "../ops/softmax.js";
import { checkCount, checkNumber, checkOptions } from "../tensor/check.js";
import { full, zeros } from "../tensor/create.js";
import { noGrad } from "../tensor/graph.js";
import { showShape, type MaybeTensor } from "../tensor/op.js";
import { normal, type Generator } from "../tensor/random.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import * as init from "./init.js";
import { Linear } from "./linear.js";
import { Module, place, type Placement } from "./module.js";
import { LayerNorm } from "./norm.js";
import { checkLengths } from "./lengths.js";

export interface HopfieldOptions extends Placement {
  /** Size D of the space that each head associates in. Default: the input size. */
  readonly hiddenSize?: number;
  /** Size of the output. Default: the input size. */
  readonly outputSize?: number;
  /** Number of heads, each with an association of its own. Default 1. */
  readonly heads?: number;
  /** Inverse temperature. Default 1 / sqrt(hiddenSize). */
  readonly beta?: number;
  /** Updates of the state before the patterns are read. Default 0: one reading, as attention. */
  readonly updateSteps?: number;
  /**
   * A head stops when an update moves its association by no more than this in every row of the batch (Euclidean norm
   * over states and patterns). Default 1e-4; 0 takes all steps.
   */
  readonly updateEps?: number;
  /** Probability of dropping an association while training. Default 0. */
  readonly dropout?: number;
  /** Biases of the projections. Default true. */
  readonly bias?: boolean;
  readonly generator?: Generator;
}

const options = [
  "hiddenSize",
  "outputSize",
  "heads",
  "beta",
  "updateSteps",
  "updateEps",
  "dropout",
  "bias",
  "generator",
  "device",
  "dtype",
];

export interface HopfieldForwardOptions {
  /** Stored patterns [N, S, inputSize]. Default: the states themselves. */
  readonly stored?: Tensor;
  /** What is read out of each stored pattern, [N, S, inputSize]. Default: the stored patterns. */
  readonly projection?: Tensor;
  /** Valid stored patterns of each row, 0 to S; all by default. */
  readonly lengths?: readonly number[] | Int32Array;
}

/** The projections of a Hopfield layer, apart so that they have the names of hflayers. */
class AssociationCore extends Module {
  readonly in_proj_weight: Tensor;
  readonly in_proj_bias: Tensor | null;
  readonly out_proj: Linear;

  constructor(inputSize: number, width: number, outputSize: number, bias: boolean, generator: Generator | undefined, placement: Placement) {
    super();
    const settings = { requiresGrad: true, ...place(placement) };
    this.in_proj_weight = normal([3 * width, inputSize], { std: 0.02, generator, ...settings });
    this.in_proj_bias = bias ? zeros([3 * width], settings) : null;
    this.out_proj = new Linear(width, outputSize, { bias, generator, ...placement });
    init.normal(this.out_proj.weight, { std: 0.02, generator });
    if (this.out_proj.bias) init.zeros(this.out_proj.bias);
  }
}

/**
 * Hopfield layer (Ramsauer et al. 2020): states R retrieve from stored patterns Y, and what they find is read out of the
 * projection patterns P. LN is a layer normalisation of each with its own gain and shift; for each head
 *
 *     Q = LN(R) W_q   K = LN(Y) W_k   V = LN(P) W_v
 *     A = softmax(beta Q K^T), and updateSteps times:   Q <- A K   A <- softmax(beta Q K^T)
 *     output = (A V, heads side by side) W_o
 *
 * Parameters have the names and layout of hflayers.Hopfield: `association_core.in_proj_weight` [3 * heads * D, in] (rows
 * of q, k, v), `association_core.in_proj_bias`, `association_core.out_proj.weight` and `.bias`, and `weight` and `bias` of
 * `norm_stored_pattern`, `norm_state_pattern` and `norm_pattern_projection`. The weights of all projections start normal
 * with deviation 0.02, their biases at 0.
 */
export class Hopfield extends Module {
  readonly association_core: AssociationCore;
  readonly norm_stored_pattern: LayerNorm;
  readonly norm_state_pattern: LayerNorm;
  readonly norm_pattern_projection: LayerNorm;
  readonly hiddenSize: number;
  readonly outputSize: number;
  readonly heads: number;
  readonly beta: number;
  readonly updateSteps: number;
  readonly updateEps: number;
  readonly dropout: number;
  private readonly generator: Generator | undefined;

  constructor(
    readonly inputSize: number,
    { hiddenSize = inputSize, outputSize = inputSize, heads = 1, updateSteps = 0, updateEps = 1e-4, ...rest }: HopfieldOptions = {},
  ) {
    super();
    checkOptions("Hopfield", rest, options);
    const { beta = 1 / Math.sqrt(hiddenSize), dropout = 0, bias = true, generator, ...placement } = rest;
    Object.entries({ inputSize, hiddenSize, outputSize, heads }).forEach(([name, value]) => checkCount("Hopfield", name, value));
    checkCount("Hopfield", "updateSteps", updateSteps, 0);
    checkNumber("Hopfield", "updateEps", updateEps, 0);
    checkNumber("Hopfield", "beta", beta, Number.MIN_VALUE);
    checkNumber("Hopfield", "dropout", dropout, 0, 1);
    this.hiddenSize = hiddenSize;
    this.outputSize = outputSize;
    this.heads = heads;
    this.beta = beta;
    this.updateSteps = updateSteps;
    this.updateEps = updateEps;
    this.dropout = dropout;
    this.generator = generator;
    this.association_core = new AssociationCore(inputSize, heads * hiddenSize, outputSize, bias, generator, placement);
    this.norm_stored_pattern = new LayerNorm(inputSize, placement);
    this.norm_state_pattern = new LayerNorm(inputSize, placement);
    this.norm_pattern_projection = new LayerNorm(inputSize, placement);
  }

  /**
   * Retrieves for states [N, L, inputSize]. Returns `output` [N, L, outputSize] and the `association` [N, heads, L, S]:
   * how much of each stored pattern each state ended up with; rows without valid patterns have none.
   *
   * @throws on a wrong shape, a length outside 0..S or not an integer, an unknown option.
   */
  forward(state: Tensor, options: HopfieldForwardOptions = {}): { output: Tensor; association: Tensor } {
    const where = "Hopfield.forward";
    checkOptions(where, options, ["stored", "projection", "lengths"]);
    const { stored = state, projection = stored } = options;
    const n = state.shape[0];
    const expect = (name: string, t: Tensor, patterns: number | string) => {
      const fits = t.shape.length === 3 && t.shape[0] === n && t.shape[2] === this.inputSize;
      if (!fits || (typeof patterns === "number" && t.shape[1] !== patterns))
        throw new RangeError(`${where}: ${name} must be ${showShape([n, patterns, this.inputSize])} but is ${showShape(t.shape)}`);
    };
    expect("state", state, "L");
    expect("stored", stored, "S");
    expect("projection", projection, stored.shape[1]);
    return scope(() => {
      const { in_proj_weight: weight, in_proj_bias: bias, out_proj: out } = this.association_core;
      const width = this.heads * this.hiddenSize;
      const weights = split(weight, [width, width, width], 0);
      const biases = bias ? split(bias, [width, width, width], 0) : [null, null, null];
      const project = (norm: LayerNorm, x: Tensor, i: number) => this.byHead(linear(norm.forward(x), weights[i], biases[i]));
      const q = project(this.norm_state_pattern, state, 0);
      const valid = options.lengths ? patternMask(checkLengths(where, stored, options.lengths), stored) : null;
      const k = project(this.norm_stored_pattern, onlyValid(stored, valid), 1);
      const v = project(this.norm_pattern_projection, onlyValid(projection, valid), 2);
      const association = this.associate(q, k, valid && reshape(valid, [n, 1, 1, stored.shape[1]]));
      const kept = this.training && this.dropout > 0 ? dropout(association, this.dropout, { generator: this.generator }) : association;
      const read = reshape(transpose(matmul(kept, v), [0, 2, 1, 3]), [n, state.shape[1], width]);
      return { output: out.forward(read), association };
    });
  }

  /** The association [N, heads, L, S] after the updates; heads that have converged keep theirs. */
  private associate(query: Tensor, k: Tensor, valid: MaybeTensor): Tensor {
    const { device, dtype } = query;
    const floor = valid && full([], -1e30, { device, dtype });
    const read = (q: Tensor) => {
      const similarity = scale(matmul(q, k, { transposeB: true }), this.beta);
      return valid ? mul(valid, softmax(choose(valid, similarity, floor!))) : softmax(similarity);
    };
    const eps = full([], this.updateEps, { device, dtype });
    let q = query;
    let association = read(q);
    let moving: MaybeTensor = null;
    for (let step = 0; step < this.updateSteps; step++) {
      const before = association;
      const next = matmul(before, k);
      q = moving ? choose(moving, next, q) : next;
      association = moving ? choose(moving, read(q), before) : read(q);
      moving = noGrad(() => greater(largestMove(association, before), eps));
    }
    return association;
  }

  /** [N, L, heads * D] -> [N, heads, L, D] */
  private byHead(t: Tensor): Tensor {
    return transpose(reshape(t, [t.shape[0], t.shape[1], this.heads, this.hiddenSize]), [0, 2, 1, 3]);
  }
}

/** Euclidean distance of two associations [N, heads, L, S], the largest of the batch for each head: [1, heads, 1, 1]. */
function largestMove(a: Tensor, b: Tensor): Tensor {
  return max(sqrt(sum(square(sub(a, b)), { axis: [2, 3], keepDims: true })), { axis: 0, keepDims: true });
}

/** 1 for each valid pattern, else 0: [N, S, 1]. */
function patternMask(lengths: Tensor, { shape: [n, patterns], dtype }: Tensor): Tensor {
  return reshape(sequenceMask(lengths, patterns, dtype as "float32" | "float64"), [n, patterns, 1]);
}

/** Patterns [N, S, C] with zeros for those that are not valid, whatever was there. */
function onlyValid(patterns: Tensor, valid: MaybeTensor): Tensor {
  const { device, dtype } = patterns;
  return valid ? choose(valid, patterns, zeros([], { device, dtype })) : patterns;
}
