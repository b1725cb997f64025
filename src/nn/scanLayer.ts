import { reshape } from "../ops/movement.js";
import { zeroPadding } from "../ops/sequence.js";
import { checkCount, checkOptions } from "../tensor/check.js";
import { zeros } from "../tensor/create.js";
import { sameShape, showShape, type MaybeTensor, type Shape } from "../tensor/op.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkLengths } from "./lengths.js";
import { Module } from "./module.js";
import { checkSequence, type SequenceOptions } from "./recurrentLayer.js";
import { streamModel, type Stream } from "./stream.js";
import { streamsModel, type Streams, type StreamsOptions } from "./streams.js";

/** The state of a layer whose recurrence is linear: tensors by name, each [1, N, ...]. */
export type ScanState<S extends string> = Readonly<Record<S, Tensor>>;

/** What a layer's recurrence is given: x [N, T, inputSize], states [N, ...] (null at the start), int32 lengths [N] or null. */
export interface ScanInput<S extends string> {
  readonly x: Tensor;
  readonly state: Readonly<Record<S, MaybeTensor>>;
  readonly lengths: MaybeTensor;
}

/**
 * A layer whose recurrence is linear in its state, so that no step waits for a product of the one before it: what MinGRU,
 * Mamba and their kin have in common. They can be put into `Bidirectional`, `Stacked`, `Dilated` and `Reversed`.
 */
export abstract class ScanLayer<S extends string> extends Module {
  abstract readonly inputSize: number;
  abstract readonly outputSize: number;

  /** By state, its shape for one row. */
  protected abstract stateShapes(): Readonly<Record<S, Shape>>;

  /** The recurrence. Behind a row's end x is zero, and what is given there is set to zero by `forward`. */
  protected abstract run(input: ScanInput<S>): { readonly output: Tensor; readonly state: Record<S, Tensor> };

  /**
   * x [N, T, inputSize] -> `output` [N, T, outputSize], zero behind each row's valid steps, and `state`, each [1, N, ...],
   * after them.
   *
   * @throws on a wrong shape, length or option.
   */
  forward(x: Tensor, options: SequenceOptions<ScanState<S>> = {}): { output: Tensor; state: ScanState<S> } {
    return this.through(x, options, (input) => this.run(input));
  }

  /** `forward`, by a recurrence that may return more than its output and state. */
  protected through<M extends object>(
    x: Tensor,
    options: SequenceOptions<ScanState<S>>,
    run: (input: ScanInput<S>) => M & { readonly output: Tensor; readonly state: Record<S, Tensor> },
  ): M & { output: Tensor; state: ScanState<S> } {
    const where = `${this.constructor.name}.forward`;
    checkOptions(where, options, ["state", "lengths"]);
    checkSequence(where, x, this.inputSize);
    const [rows] = x.shape;
    const shapes = Object.entries<Shape>(this.stateShapes()) as [S, Shape][];
    if (options.state) this.checkState(where, options.state, rows);
    return scope(() => {
      const lengths = options.lengths ? checkLengths(where, x, options.lengths) : null;
      const given = Object.fromEntries(
        shapes.map(([name, shape]) => [name, options.state ? reshape(options.state[name], [rows, ...shape]) : null]),
      ) as Record<S, MaybeTensor>;
      const { output, state, ...more } = run({ x: zeroPadding(x, lengths), state: given, lengths });
      const next = Object.fromEntries(shapes.map(([name, shape]) => [name, reshape(state[name], [1, rows, ...shape])]));
      return { ...more, output: zeroPadding(output, lengths), state: next } as unknown as M & { output: Tensor; state: ScanState<S> };
    });
  }

  /** The state of so many rows before their first step: zero. */
  initialState(rows: number): ScanState<S> {
    checkCount(`${this.constructor.name}.initialState`, "rows", rows, 0);
    const { device, dtype } = this.parameters()[0];
    const entries = Object.entries<Shape>(this.stateShapes());
    return Object.fromEntries(
      entries.map(([name, shape]) => [name, zeros([1, rows, ...shape], { device, dtype: dtype as "float32" })]),
    ) as Record<S, Tensor>;
  }

  /** A stream over one sequence, fed `inputSize` numbers a step, its state resident on the device. */
  override stream(): Stream {
    return streamModel(this, { shape: [1, 1, this.inputSize] });
  }

  /** Many sequences, stepped together: see `Streams`. */
  override streams(options: StreamsOptions = {}): Streams {
    return streamsModel(this, { ...options, shape: [1, 1, this.inputSize] });
  }

  private checkState(where: string, state: ScanState<S>, rows: number): void {
    const shapes = this.stateShapes();
    checkOptions(`${where}: state`, state, Object.keys(shapes));
    for (const [name, shape] of Object.entries<Shape>(shapes)) {
      const given = (state as Record<string, Tensor | undefined>)[name];
      const wanted = [1, rows, ...shape];
      if (!given || !sameShape(given.shape, wanted))
        throw new RangeError(`${where}: state.${name} must be ${showShape(wanted)} but is ${given ? showShape(given.shape) : "absent"}`);
    }
  }
}
