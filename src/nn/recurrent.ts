import { concat, reshape, slice, stack } from "../ops/movement.js";
import { sweep, type Cell } from "../ops/sweep.js";
import { dropout } from "../ops/random.js";
import { checkCount, checkNumber, checkOptions } from "../tensor/check.js";
import { tensor, zeros } from "../tensor/create.js";
import { sameShape, showShape } from "../tensor/op.js";
import { defaultGenerator, uniform, type Generator } from "../tensor/random.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { inference } from "./mode.js";
import { Module, place, type Placement } from "./module.js";
import { Stream } from "./stream.js";

/** Options of every recurrent layer. */
export interface RecurrentOptions extends Placement {
  /** Layers stacked on top of each other. Default 1. */
  readonly layers?: number;
  /** Run a second sweep from the end to the start and concatenate the outputs. Default false. */
  readonly bidirectional?: boolean;
  /** Default true. */
  readonly bias?: boolean;
  /** Probability of zeroing an output between layers while training. Default 0. */
  readonly dropout?: number;
  /** Source of the initial weights and of dropout. Default: the process's generator. */
  readonly generator?: Generator;
}

export const recurrentOptions = ["layers", "bidirectional", "bias", "dropout", "generator", "device", "dtype"] as const;

/** What a forward pass may be given beside x. */
export interface ForwardOptions<S extends string> {
  /** Initial states, each [layers * directions, N, H]; zero by default. */
  readonly state?: Readonly<Record<S, Tensor>>;
  /** Valid steps of each row, 0 to T; all by default. */
  readonly lengths?: readonly number[] | Int32Array;
}

/**
 * A stack of recurrent layers over one cell, with PyTorch's parameter names, gate order and initialisation: every
 * parameter uniform in [-1/sqrt(H), 1/sqrt(H)], `weight_ih_l{k}`, `weight_hh_l{k}`, `bias_ih_l{k}`, `bias_hh_l{k}`,
 * with `_reverse` for the second direction.
 */
export abstract class Recurrent<S extends string> extends Module {
  readonly layers: number;
  readonly directions: 1 | 2;
  readonly dropout: number;
  private readonly generator: Generator | undefined;

  protected constructor(
    protected readonly cell: Cell<string, S>,
    readonly inputSize: number,
    readonly hiddenSize: number,
    { layers = 1, bidirectional = false, bias = true, dropout = 0, generator, ...placement }: RecurrentOptions,
  ) {
    super();
    const where = new.target.name;
    checkCount(where, "inputSize", inputSize);
    checkCount(where, "hiddenSize", hiddenSize);
    checkCount(where, "layers", layers);
    checkNumber(where, "dropout", dropout, 0, 1);
    this.layers = layers;
    this.directions = bidirectional ? 2 : 1;
    this.dropout = dropout;
    this.generator = generator;
    const bound = 1 / Math.sqrt(hiddenSize);
    const rows = cell.gates.length * hiddenSize;
    const settings = { low: -bound, high: bound, generator, requiresGrad: true, ...place(placement) };
    const draw = (shape: readonly number[]) => uniform(shape, settings);
    for (let layer = 0; layer < layers; layer++) {
      for (const suffix of this.suffixes(layer)) {
        this.register(`weight_ih_${suffix}`, draw([rows, layer === 0 ? inputSize : hiddenSize * this.directions]));
        this.register(`weight_hh_${suffix}`, draw([rows, hiddenSize]));
        if (!bias) continue;
        this.register(`bias_ih_${suffix}`, draw([rows]));
        this.register(`bias_hh_${suffix}`, draw([rows]));
      }
    }
  }

  /** Size of the last axis of the output: H, or 2H if bidirectional. */
  get outputSize(): number {
    return this.hiddenSize * this.directions;
  }

  /** Zero states for a batch of `rows`, each [layers * directions, rows, H]. */
  initialState(rows: number): Record<S, Tensor> {
    const { device, dtype } = this.parameter("weight_hh_l0")!;
    const shape = [this.layers * this.directions, rows, this.hiddenSize];
    return this.named(() => zeros(shape, { device, dtype }));
  }

  /**
   * Runs x [N, T, inputSize] through the stack.
   *
   * Returns `output` [N, T, H * directions] of the last layer, zero after each row's last valid step, and the final
   * `state`, each [layers * directions, N, H], frozen at the last valid step (layer-major, then direction). The
   * second direction starts at each row's last valid step. To go on in a later batch, pass the state on, detached.
   *
   * @throws on a wrong shape, a length outside 0..T or not an integer, an unknown option.
   */
  forward(x: Tensor, options: ForwardOptions<S> = {}): { output: Tensor; state: Record<S, Tensor> } {
    const where = `${this.constructor.name}.forward`;
    checkOptions(where, options, ["state", "lengths"]);
    if (x.shape.length !== 3 || x.shape[2] !== this.inputSize)
      throw new RangeError(`${where}: x must be [N, T, ${this.inputSize}] but is ${showShape(x.shape)}`);
    this.checkState(where, x.shape[0], options.state);
    return scope(() => {
      const lengths = options.lengths ? checkLengths(where, x, options.lengths) : null;
      const finals: Record<S, Tensor>[] = [];
      let input = x;
      for (let layer = 0; layer < this.layers; layer++) {
        if (layer > 0 && this.dropout > 0 && this.training)
          input = dropout(input, this.dropout, { generator: this.generator ?? defaultGenerator });
        const outputs = this.suffixes(layer).map((suffix, direction) => {
          const { output, state } = this.sweepOne(input, suffix, lengths, options.state, layer * this.directions + direction);
          finals.push(state);
          return output;
        });
        input = outputs.length === 1 ? outputs[0] : concat(outputs, 2);
      }
      return { output: input, state: this.named((s) => this.join(finals.map((state) => state[s]))) };
    });
  }

  /** A stream over one sequence: the state stays on the device from step to step. @throws if bidirectional. */
  override stream(): Stream {
    if (this.directions === 2)
      throw new Error(`${this.constructor.name}.stream: a bidirectional layer needs the whole sequence and cannot be streamed`);
    const { device, dtype } = this.parameter("weight_hh_l0")!;
    return new Stream(
      (x, state) => inference(this, () => this.forward(x, { state: state as Record<S, Tensor> })),
      { shape: [1, 1, this.inputSize], dtype },
      this.initialState(1),
      device,
    );
  }

  private sweepOne(x: Tensor, suffix: string, lengths: Tensor | null, state: Readonly<Record<S, Tensor>> | undefined, index: number) {
    const initial = state ? this.named((s) => this.part(state[s], index)) : {};
    return sweep(
      this.cell,
      {
        x,
        weightIh: this.parameter(`weight_ih_${suffix}`)!,
        weightHh: this.parameter(`weight_hh_${suffix}`)!,
        biasIh: this.parameter(`bias_ih_${suffix}`),
        biasHh: this.parameter(`bias_hh_${suffix}`),
        lengths,
      },
      initial as Partial<Record<S, Tensor>>,
      { reverse: suffix.endsWith("_reverse") },
    );
  }

  /** [layers * directions, N, H] -> [N, H] of one layer and direction. */
  private part(state: Tensor, index: number): Tensor {
    const one = state.shape[0] === 1 ? state : slice(state, 0, index, index + 1);
    return reshape(one, state.shape.slice(1));
  }

  private join(parts: readonly Tensor[]): Tensor {
    return parts.length === 1 ? reshape(parts[0], [1, ...parts[0].shape]) : stack(parts, 0);
  }

  private named<T>(make: (state: S) => T): Record<S, T> {
    return Object.fromEntries(this.cell.states.map((s) => [s, make(s)])) as Record<S, T>;
  }

  private suffixes(layer: number): string[] {
    return this.directions === 2 ? [`l${layer}`, `l${layer}_reverse`] : [`l${layer}`];
  }

  private checkState(where: string, rows: number, state: Readonly<Record<S, Tensor>> | undefined): void {
    if (!state) return;
    checkOptions(`${where}: state`, state, this.cell.states);
    const shape = [this.layers * this.directions, rows, this.hiddenSize];
    for (const s of this.cell.states) {
      const t = state[s] as Tensor | undefined;
      if (!t || !sameShape(t.shape, shape))
        throw new RangeError(`${where}: state.${s} must be ${showShape(shape)} but is ${t ? showShape(t.shape) : "absent"}`);
    }
  }
}

/** Valid steps of each row as int32 [N]. @throws RangeError unless there is one integer from 0 to T for each row. */
export function checkLengths(where: string, x: Tensor, lengths: readonly number[] | Int32Array): Tensor {
  const [n, steps] = x.shape;
  if (lengths.length !== n) throw new RangeError(`${where}: lengths must have ${n} entries but has ${lengths.length}`);
  const bad = lengths.findIndex((v: number) => !Number.isInteger(v) || v < 0 || v > steps);
  if (bad >= 0) throw new RangeError(`${where}: lengths must be integers from 0 to ${steps} but entry ${bad} is ${lengths[bad]}`);
  return tensor([...lengths], { dtype: "int32", device: x.device });
}
