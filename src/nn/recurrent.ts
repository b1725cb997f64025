import { mul } from "../ops/elementwise.js";
import { linear } from "../ops/matmul.js";
import { concat, expand, reshape, slice, stack } from "../ops/movement.js";
import { layerNorm } from "../ops/norm.js";
import { zeroPadding } from "../ops/sequence.js";
import type { Precision } from "../ops/precision.js";
import { sweep, type Cell } from "../ops/sweep.js";
import { checkChoice, checkCount, checkOptions } from "../tensor/check.js";
import { full, zeros } from "../tensor/create.js";
import { isDebugging } from "../tensor/debug.js";
import { isRecording, noGrad } from "../tensor/graph.js";
import { sameShape, showShape, type MaybeTensor } from "../tensor/op.js";
import { defaultGenerator, type Generator } from "../tensor/random.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { BatchNorm1d } from "./batchNorm.js";
import { checkLengths } from "./lengths.js";
import { checkMasks, drawMasks, type Masks, type MaskSizes } from "./masks.js";
import { ofHeads } from "./heads.js";
import { lookedUp, productTable, type Lookup } from "./lookup.js";
import { inference } from "./mode.js";
import { Module, place, type Placement } from "./module.js";
import { checkTrains } from "./quantized.js";
import { drawParameters, type Structure } from "./recurrentParameters.js";
import { regularisationOf, regularisationOptions, type Regularisation, type RegularisationOptions } from "./regularisation.js";
import { Stream, type Stepper } from "./stream.js";
import { Streams, type StreamsOptions } from "./streams.js";

/** Options of every recurrent layer. */
export interface RecurrentOptions extends RegularisationOptions, Placement {
  /** Layers stacked on top of each other. Default 1. */
  readonly layers?: number;
  /** Run a second sweep from the end to the start and concatenate the outputs. Default false. */
  readonly bidirectional?: boolean;
  /** Run the one sweep from the end to the start; output t still belongs to input t. Default false. */
  readonly reverse?: boolean;
  /** Default true. */
  readonly bias?: boolean;
  /**
   * `"batch"`: W x is batch-normalised over all rows and valid steps before the bias is added, as Deep Speech 2 has it
   * (Amodei et al. 2016, "sequence-wise"): f(BN(W x_t) + U h_{t-1}). Adds a BatchNorm1d `norm_ih_l{k}` of gates * H
   * features to each layer and direction; its own shift is `bias_ih`. Default `"none"`.
   */
  readonly inputNorm?: "none" | "batch";
  /**
   * Keep only the states for the gradients, which then compute the gates again: less memory in training, about half that of
   * an LSTM, for one more product of the weights with all steps. Gradients are the same. Where the cell runs with options
   * that the kernels of the plain cell do not have (masks, normalisation, a projection, a cell of your own), the whole pass
   * of a layer and direction is repeated instead when its turn comes, so that only one of them at a time holds all it needs
   * (Chen et al. 2016). Default false.
   */
  readonly checkpoint?: boolean;
  /**
   * What W x, U h and a projection multiply: float32, or both operands rounded to bfloat16, with sums, gates and states in
   * float32. Faster where the processor has AVX-512 BF16. The products of the gradients (of weights, x and h) round their
   * operands in the same way, as if rounding had derivative one ("straight-through"); their sums, and the gradients of
   * gates, states and biases, are float32 (Micikevicius et al. 2018, without the scaling of the loss, for bfloat16 has the
   * range of float32). For bytes see `quantize`. Default `"float32"`.
   */
  readonly precision?: "float32" | "bf16";
  /** Source of the initial weights and of all masks. Default: the process's generator. */
  readonly generator?: Generator;
}

export const recurrentOptions = [
  "layers",
  "bidirectional",
  "reverse",
  "bias",
  "inputNorm",
  "checkpoint",
  "precision",
  ...regularisationOptions,
  "generator",
  "device",
  "dtype",
] as const;

/** What a forward pass may be given beside x. */
export interface ForwardOptions<S extends string> {
  /** Initial states, each [layers * directions, N, H] ([.., P] of a projected h); zero by default. */
  readonly state?: Readonly<Record<S, Tensor>>;
  /** Valid steps of each row, 0 to T; all by default. */
  readonly lengths?: readonly number[] | Int32Array;
  /**
   * 1 where a step counts and 0 where all states stay as they are and the output repeats (before the first step that counts
   * it is the initial h), [N, T], in any places: Keras' masks. Every step by default.
   */
  readonly update?: Tensor;
  /** Exactly these masks, in training as in inference, instead of drawn ones: see `drawMasks`. */
  readonly masks?: Masks<S>;
}

/** One sweep among those of a stack. */
interface Sweep<S extends string> {
  readonly suffix: string;
  readonly index: number;
  readonly reverse: boolean;
  readonly lengths: Tensor | null;
  /** Valid steps of all rows together. */
  readonly valid: number;
  readonly state: Readonly<Record<S, Tensor>> | undefined;
  readonly masks: Masks<S>;
  readonly update: Readonly<Record<S, MaybeTensor>>;
}

/**
 * A stack of recurrent layers over one cell, with PyTorch's parameter names, gate order and initialisation: every
 * parameter uniform in [-1/sqrt(H), 1/sqrt(H)], `weight_ih_l{k}`, `weight_hh_l{k}`, `bias_ih_l{k}`, `bias_hh_l{k}`,
 * with `_reverse` for the second direction of a bidirectional stack; what options add is named by each class.
 *
 * From torch.nn: `num_layers` is `layers`, `proj_size` is `projSize`, `bias`, `dropout`, `bidirectional` and
 * `nonlinearity` are the same; sequences are always batch first; instead of a packed sequence, `forward` takes `lengths`,
 * unsorted; `(h_n, c_n)` is `state`, `{ h, c }`, also where there is only h. From Keras: a mask is `update`,
 * `go_backwards` is `reverse` (whose output stays in the order of the input), `recurrent_dropout` is
 * `lockedDropout.hidden`, `unit_forget_bias` is `forgetBias: 1`, `recurrent_activation` is `recurrentActivation`.
 */
export abstract class Recurrent<S extends string> extends Module {
  readonly layers: number;
  readonly directions: 1 | 2;
  readonly reverse: boolean;
  private readonly checkpoint: boolean;
  /** Of its products, from the next forward on; a stream keeps that of its first step. `"int8"` is for inference only. */
  precision: Precision;
  private readonly generator: Generator | undefined;
  private readonly regularisation: Regularisation<S>;
  private readonly stateNames: readonly S[];
  private readonly inputNorms = new Map<string, BatchNorm1d>();
  /** By suffix and name, `name_suffix`, of the parameters there are: looking for others, or by new strings, takes long. */
  private readonly fullNames = new Map<string, ReadonlyMap<string, string>>();

  /** @throws on an option that is out of range, or that contradicts another or the cell. */
  protected constructor(
    protected readonly cell: Cell,
    readonly inputSize: number,
    readonly hiddenSize: number,
    {
      layers = 1,
      bidirectional = false,
      reverse = false,
      bias = true,
      inputNorm = "none",
      checkpoint = false,
      precision = "float32",
      generator,
      device,
      dtype,
      ...regularisation
    }: RecurrentOptions,
    private readonly structure: Structure = {},
  ) {
    super();
    const where = new.target.name;
    checkCount(where, "inputSize", inputSize);
    checkCount(where, "hiddenSize", hiddenSize);
    checkCount(where, "layers", layers);
    checkChoice(where, "inputNorm", inputNorm, ["none", "batch"]);
    checkChoice(where, "precision", precision, ["float32", "bf16"]);
    if (inputNorm === "batch" && structure.norms?.includes("ih"))
      throw new RangeError(`${where}: layerNorm normalises W x already, so inputNorm cannot be "batch"`);
    if (bidirectional && reverse) throw new RangeError(`${where}: bidirectional already has a reverse direction; give one of the two`);
    this.layers = layers;
    this.precision = precision;
    this.directions = bidirectional ? 2 : 1;
    this.reverse = reverse;
    checkChoice(where, "checkpoint", checkpoint, [true, false]);
    this.checkpoint = checkpoint;
    this.generator = generator;
    this.stateNames = (structure.stateNames ?? cell.states) as readonly S[];
    const hasCandidate = structure.candidate ?? cell.gates.some((gate) => gate === "g" || gate === "n");
    this.regularisation = regularisationOf(where, regularisation, this.stateNames, hasCandidate);
    const settings = { generator, ...place({ device, dtype }) };
    for (let layer = 0; layer < layers; layer++) {
      const inputs = layer === 0 ? inputSize : this.outputSize;
      for (const suffix of this.suffixes(layer))
        this.fullNames.set(
          suffix,
          this.registerAll(suffix, drawParameters(cell, { inputs, hidden: hiddenSize, bias }, structure, settings)),
        );
      if (inputNorm === "none") continue;
      for (const suffix of this.suffixes(layer)) {
        const norm = new BatchNorm1d(cell.gates.length * hiddenSize, { device, dtype });
        this.inputNorms.set(suffix, norm);
        Object.defineProperty(this, `norm_ih_${suffix}`, { value: norm, enumerable: true });
      }
    }
  }

  /** Size of the last axis of the output: H, or that of the projection, times the directions. */
  get outputSize(): number {
    return this.width * this.directions;
  }

  /** Zero states for a batch of `rows`, each [layers * directions, rows, H]. */
  initialState(rows: number): Record<S, Tensor> {
    const { device, dtype } = this.parameter("weight_hh_l0")!;
    return this.named((s) => zeros([this.layers * this.directions, rows, this.widthOf(s)], { device, dtype }));
  }

  /**
   * The masks that a training pass over `rows` sequences of `steps` steps draws, from the same generator. Given to
   * `forward`, they make a pass that can be repeated.
   */
  drawMasks(rows: number, steps: number): Masks<S> {
    checkCount(`${this.constructor.name}.drawMasks`, "rows", rows, 0);
    checkCount(`${this.constructor.name}.drawMasks`, "steps", steps, 0);
    const { device, dtype } = this.parameter("weight_hh_l0")!;
    return drawMasks(this.maskSizes(), this.regularisation, rows, steps, { device, dtype, generator: this.generator ?? defaultGenerator });
  }

  /**
   * Runs x [N, T, inputSize], or what `Embedding.lookup` gives, through the stack.
   *
   * Returns `output` [N, T, H * directions] of the last layer, zero after each row's last valid step, and the final
   * `state`, each [layers * directions, N, H], frozen at the last valid step (layer-major, then direction); a projected
   * h has P numbers instead of H. The second direction starts at each row's last valid step. To go on in a later batch,
   * pass the state on, detached.
   *
   * @throws on a wrong shape, a length outside 0..T or not an integer, an unknown option; in `debug` mode on an initial
   * state that is not finite.
   */
  forward(x: Tensor | Lookup, options: ForwardOptions<S> = {}): { output: Tensor; state: Record<S, Tensor> } {
    return scope(() => {
      const { output, state } = this.run(lookedUp(x), options);
      return { output, state };
    });
  }

  /** A stream over one sequence: the state stays on the device from step to step. @throws if bidirectional or reverse. */
  override stream(): Stream {
    return new Stream(this.stepper("stream"));
  }

  /** Many sequences, stepped together: see `Streams`. @throws if bidirectional or reverse, or on an unknown option. */
  override streams(options: StreamsOptions = {}): Streams {
    return new Streams(`${this.constructor.name}.streams`, this.stepper("streams"), options);
  }

  private stepper(method: string): Stepper {
    const kind = this.directions === 2 ? "bidirectional" : this.reverse ? "reverse" : null;
    if (kind) throw new Error(`${this.constructor.name}.${method}: a ${kind} layer needs the whole sequence and cannot be streamed`);
    const { device, dtype } = this.parameter("weight_hh_l0")!;
    return {
      advance: (x, state) => inference(this, () => this.forward(x, { state: state as Record<S, Tensor> })),
      spec: { shape: [1, 1, this.inputSize], dtype },
      initial: (rows) => this.initialState(rows),
      device,
    };
  }

  /** The work of `forward`, which also gives what was projected, [N, T, H * directions] of the last layer. */
  protected run(x: Tensor, options: ForwardOptions<S>): { output: Tensor; state: Record<S, Tensor>; hidden?: Tensor } {
    const where = `${this.constructor.name}.forward`;
    checkTrains(where, this, x);
    if (this.precision === "int8" && isRecording()) return noGrad(() => this.run(x, options));
    checkOptions(where, options, ["state", "lengths", "update", "masks"]);
    if (x.shape.length !== 3 || x.shape[2] !== this.inputSize)
      throw new RangeError(`${where}: x must be [N, T, ${this.inputSize}] but is ${showShape(x.shape)}`);
    const [rows, steps] = x.shape;
    const { state, update: counts } = options;
    this.checkState(where, rows, state);
    if (counts && !sameShape(counts.shape, [rows, steps]))
      throw new RangeError(`${where}: update must be ${showShape([rows, steps])} but is ${showShape(counts.shape)}`);
    if (options.masks) checkMasks(where, options.masks, this.maskSizes(), rows, steps);
    const masks = options.masks ?? (this.training ? this.drawMasks(rows, steps) : {});
    const lengths = options.lengths ? checkLengths(where, x, options.lengths) : null;
    const valid = options.lengths ? Array.from(options.lengths).reduce((a, b) => a + b, 0) : rows * steps;
    const expected = options.masks || this.training ? undefined : this.expectations(x);
    const counted = counts && this.named((s) => expand(reshape(counts, [rows, steps, 1]), [rows, steps, this.widthOf(s)]));
    const masked = (t: Tensor, mask: Tensor | undefined) => (mask ? mul(t, mask) : t);

    const finals: Record<S, Tensor>[] = [];
    let input = masked(x, masks.input);
    let hidden: readonly Tensor[] = [];
    for (let layer = 0; layer < this.layers; layer++) {
      if (layer > 0) input = masked(input, masks.between?.[layer - 1]);
      const results = this.suffixes(layer).map((suffix, direction) => {
        const index = layer * this.directions + direction;
        const update = this.named((s) => both(masks.update?.[s]?.[index] ?? expected?.[s], counted?.[s]));
        return this.sweepOne(input, { suffix, index, reverse: this.reverse || direction === 1, lengths, valid, state, masks, update });
      });
      finals.push(...results.map((result) => result.state));
      hidden = results.flatMap((result) => result.hidden ?? []);
      input = sideBySide(results.map(({ output }) => output));
    }
    const output = masked(input, masks.output);
    const states = this.named((s) => stacked(finals.map((final) => final[s])));
    return { output, state: states, ...(hidden.length > 0 && { hidden: sideBySide(hidden) }) };
  }

  private sweepOne(x: Tensor, { suffix, index, reverse, lengths, valid, state, masks, update }: Sweep<S>) {
    const parameter = (name: string) => this.parameterOf(name, suffix);
    const weightHh = parameter("weight_hh")!;
    const { structure } = this;
    const inner = <T>(values: Readonly<Partial<Record<S, T>>>) => {
      const renamed: Partial<Record<string, T>> = {};
      this.cell.states.forEach((s, i) => (renamed[s] = values[this.stateNames[i]]));
      return renamed;
    };
    const { x: input, ids, weightIh, biasIh } = this.project(x, suffix, lengths, valid);
    const result = sweep(
      this.cell,
      {
        x: input,
        ids,
        weightIh,
        biasIh,
        weightHh: ofHeads(masks.weight ? mul(weightHh, masks.weight[index]) : weightHh, structure.heads ?? 1),
        biasHh: parameter("bias_hh"),
        lengths,
        gainHh: parameter("gain_hh"),
        vectors: parameter(structure.vectors ?? "weight_unit"),
        weightHr: parameter("weight_hr"),
        biasHr: parameter("bias_hr"),
        gainC: parameter("gain_c"),
        biasC: parameter("bias_c"),
        dropHidden: masks.hidden?.[index],
        dropCandidate: masks.candidate?.[index],
        update: inner(update) as Record<string, MaybeTensor>,
      },
      state ? inner(this.named((s) => part(state[s], index))) : {},
      {
        reverse,
        cellClip: structure.cellClip,
        carryNormalised: structure.carryNormalised,
        outputActivation: structure.projection?.activation,
        checkpoint: this.checkpoint,
        precision: this.precision,
      },
    );
    return { ...result, state: this.named((_, i) => result.state[this.cell.states[i]]) };
  }

  private registerAll(suffix: string, parameters: Iterable<readonly [string, Tensor]>): Map<string, string> {
    const names = new Map<string, string>();
    for (const [name, parameter] of parameters) {
      names.set(name, `${name}_${suffix}`);
      this.register(`${name}_${suffix}`, parameter);
    }
    return names;
  }

  private parameterOf(name: string, suffix: string): Tensor | null {
    const fullName = this.fullNames.get(suffix)!.get(name);
    return fullName === undefined ? null : this.parameter(fullName);
  }

  /** What the sweep makes W x + b of; W x is normalised before, where it is to be. */
  private project(x: Tensor, suffix: string, lengths: MaybeTensor, valid: number) {
    const [weightIh, biasIh, gainIh] = ["weight_ih", "bias_ih", "gain_ih"].map((name) => this.parameterOf(name, suffix));
    const batchNorm = this.inputNorms.get(suffix);
    if (!gainIh && !batchNorm) {
      const products = productTable(x, weightIh!, this.precision);
      return products ? { x: products.table, ids: products.ids, weightIh: null, biasIh } : { x, ids: null, weightIh, biasIh };
    }
    const wx = linear(zeroPadding(x, lengths), weightIh!, null, this.precision);
    if (gainIh) return { x: layerNorm(wx, gainIh, biasIh), ids: null, weightIh: null, biasIh: null };
    return { x: batchNorm!.over(wx, lengths, valid), ids: null, weightIh: null, biasIh };
  }

  /** Zoneout in inference: the mask is its own expectation. */
  private expectations({ device, dtype }: Tensor): Record<S, MaybeTensor> {
    const { zoneout } = this.regularisation;
    return this.named((s) => (zoneout[s] > 0 ? full([1, 1, this.widthOf(s)], 1 - zoneout[s], { device, dtype }) : null));
  }

  private get width(): number {
    return this.structure.projection?.size ?? this.hiddenSize;
  }

  /** Of the state of the cell that is its output, what is projected; of others the number of units. */
  private widthOf(state: S): number {
    return this.cell.states[this.stateNames.indexOf(state)] === "h" ? this.width : this.hiddenSize;
  }

  private maskSizes(): MaskSizes<S> {
    const { inputSize, outputSize, hiddenSize, layers, directions, width } = this;
    const weight = this.parameter("weight_hh_l0")!.shape;
    return { inputSize, outputSize, hiddenSize, layers, directions, width, weight, widths: this.named((s) => this.widthOf(s)) };
  }

  private named<T>(make: (state: S, index: number) => T): Record<S, T> {
    const all = {} as Record<S, T>;
    this.stateNames.forEach((s, i) => (all[s] = make(s, i)));
    return all;
  }

  private suffixes(layer: number): string[] {
    return this.directions === 2 ? [`l${layer}`, `l${layer}_reverse`] : [`l${layer}`];
  }

  private checkState(where: string, rows: number, state: Readonly<Record<S, Tensor>> | undefined): void {
    if (!state) return;
    checkOptions(`${where}: state`, state, this.stateNames);
    for (const s of this.stateNames) {
      const shape = [this.layers * this.directions, rows, this.widthOf(s)];
      const t = state[s] as Tensor | undefined;
      if (!t || !sameShape(t.shape, shape))
        throw new RangeError(`${where}: state.${s} must be ${showShape(shape)} but is ${t ? showShape(t.shape) : "absent"}`);
      if (isDebugging() && !t.dataSync().every(Number.isFinite)) throw new RangeError(`${where}: state.${s} must be finite but is not`);
    }
  }
}

/** The product of two masks, either of which may be missing. */
function both(a: MaybeTensor | undefined, b: MaybeTensor | undefined): MaybeTensor {
  return a && b ? mul(a, b) : (a ?? b ?? null);
}

/** [layers * directions, N, H] -> [N, H] of one layer and direction. */
function part(state: Tensor, index: number): Tensor {
  const one = state.shape[0] === 1 ? state : slice(state, 0, index, index + 1);
  return reshape(one, state.shape.slice(1));
}

function stacked(parts: readonly Tensor[]): Tensor {
  return parts.length === 1 ? reshape(parts[0], [1, ...parts[0].shape]) : stack(parts, 0);
}

function sideBySide(parts: readonly Tensor[]): Tensor {
  return parts.length === 1 ? parts[0] : concat(parts, 2);
}
