import { allocate, type Backend, type DType, type TypedArray } from "../backend/backend.js";
import { noGrad } from "../tensor/graph.js";
import { sameShape, showShape, type Spec } from "../tensor/op.js";
import { Program, run } from "../tensor/program.js";
import { keep, scope } from "../tensor/scope.js";
import { empty, Tensor } from "../tensor/tensor.js";
import { inference } from "./mode.js";
import type { Module } from "./module.js";

/** A state: a tensor, or states by name or position. */
export type StateTree = Tensor | { readonly [name: string]: StateTree } | readonly StateTree[];

/** A copied state: the values of each tensor by its path, such as `h` or `encoder.c`. */
export type Snapshot = Readonly<Record<string, Float32Array | Float64Array | Int32Array>>;

/** One step: x and the state in, the output and the next state out. */
export type Step = (x: Tensor, state: StateTree) => { readonly output: Tensor; readonly state: StateTree };

/** @internal How a model is stepped: what streams are made of. */
export interface Stepper {
  readonly advance: Step;
  /** The input of one row. */
  readonly spec: Spec;
  /** The state of so many rows at their start. */
  readonly initial: (rows: number) => StateTree;
  readonly device: Backend;
}

/** @internal The tensors of a state by their paths. */
export function leaves(state: StateTree, path = ""): [string, Tensor][] {
  if (state instanceof Tensor) return [[path, state]];
  return Object.entries(state).flatMap(([name, part]) => leaves(part, path ? `${path}.${name}` : name));
}

/** @internal The same tree around other tensors. */
export function mapTree(state: StateTree, f: (t: Tensor) => Tensor): StateTree {
  if (state instanceof Tensor) return f(state);
  if (Array.isArray(state)) return state.map((part: StateTree) => mapTree(part, f));
  return Object.fromEntries(Object.entries(state).map(([name, part]) => [name, mapTree(part, f)]));
}

/**
 * One sequence, fed a step at a time. The state stays on the device. The step's kernels are recorded once and then
 * replayed on fixed buffers, so that a step allocates nothing but its result and takes no thread hop. Parameters are read
 * where they lie: a step after more training uses the new weights. Dropout is off.
 */
export class Stream {
  private readonly program: Program;
  private readonly input: Tensor;
  private readonly state: StateTree;
  private readonly states: [string, Tensor][];
  private readonly output: Tensor;
  private readonly device: Backend;
  private closed = false;

  /** @internal Made by `layer.stream()` and `model.stream()`. */
  constructor(private readonly stepper: Stepper) {
    const { device, spec, initial } = stepper;
    this.device = device;
    this.input = keep(zeroed(device, spec));
    this.state = keep(initial(1));
    this.states = leaves(this.state);
    const { result, program } = Program.capture(device, () => noGrad(() => scope(() => this.record())));
    this.output = keep(result);
    this.program = program;
    this.reset();
  }

  /** Number of values a step takes. */
  get inputSize(): number {
    return this.input.size;
  }

  /** Number of values a step returns. */
  get outputSize(): number {
    return this.output.size;
  }

  /**
   * Advances by one step: the features of one moment in, the output of that moment out. `into` receives the output if
   * given. Blocks until the result is there (microseconds for small models).
   *
   * @throws RangeError if `x` has not `inputSize` values or `into` not `outputSize`.
   */
  step(x: ArrayLike<number>, into?: Float32Array): Float32Array {
    this.open();
    if (x.length !== this.input.size) throw new RangeError(`Stream.step: x must have ${this.input.size} values but has ${x.length}`);
    if (into && into.length !== this.output.size)
      throw new RangeError(`Stream.step: into must have ${this.output.size} values but has ${into.length}`);
    return this.program.replay(this.input.buffer(), typed(this.input, x), this.output.buffer(), into) as Float32Array;
  }

  /** Sets the state to zero. */
  reset(): void {
    this.open();
    for (const [, t] of this.states) run(this.device, { kernel: "fill", inputs: [], outputs: [t.buffer()], ints: [], floats: [0] });
  }

  /** A copy of the state. */
  snapshot(): Snapshot {
    this.open();
    return Object.fromEntries(this.states.map(([name, t]) => [name, t.dataSync()]));
  }

  /** Sets the state to a copy made by `snapshot`, of this stream or of another over a model of the same shape. @throws if it does not fit. */
  restore(snapshot: Snapshot): void {
    this.open();
    for (const [name, t] of this.states) checkPart("Stream.restore", snapshot, name, t.size);
    for (const [name, t] of this.states) t.device.write(t.buffer(), typed(t, snapshot[name]));
  }

  /** A second stream that goes on from the present state on its own. */
  fork(): Stream {
    this.open();
    const other = new Stream(this.stepper);
    other.restore(this.snapshot());
    return other;
  }

  /** Frees the state and the recorded step. */
  dispose(): void {
    if (this.closed) return;
    this.closed = true;
    this.program.dispose();
    for (const t of [this.input, this.output, ...this.states.map(([, t]) => t)]) t.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  private record(): Tensor {
    const { output, state } = this.stepper.advance(this.input, this.state);
    nextStates("Stream", this.states, state).forEach((next, i) => {
      const [, t] = this.states[i];
      run(this.device, { kernel: "accumulate", inputs: [next.buffer(), 0], outputs: [t.buffer()], ints: [], floats: [] });
    });
    return output;
  }

  private open(): void {
    if (this.closed) throw new Error("Stream: the stream was disposed of");
  }
}

/** @internal The tensors of the state that a step returns. @throws unless they are those it was given. */
export function nextStates(where: string, before: readonly [string, Tensor][], state: StateTree): Tensor[] {
  const next = leaves(state);
  if (next.length !== before.length) throw new Error(`${where}: a step must return ${before.length} states but returns ${next.length}`);
  before.forEach(([name, { shape }], i) => {
    const [other, t] = next[i];
    if (other !== name || !sameShape(t.shape, shape))
      throw new Error(`${where}: state ${name} ${showShape(shape)} comes back as ${other} ${showShape(t.shape)}`);
  });
  return next.map(([, t]) => t);
}

/** @internal @throws RangeError unless the snapshot has a part of this name and size. */
export function checkPart(where: string, snapshot: Snapshot, name: string, size: number): void {
  const data = snapshot[name] as TypedArray | undefined;
  if (data?.length !== size)
    throw new RangeError(`${where}: ${name} must have ${size} values but ${data ? `has ${data.length}` : "is absent"}`);
}

/** @internal */
export function zeroed(device: Backend, { shape, dtype }: Spec): Tensor {
  const t = empty(device, shape, dtype);
  run(device, { kernel: "fill", inputs: [], outputs: [t.buffer()], ints: [], floats: [0] });
  return t;
}

/** @internal The values as an array of this dtype; the same array if it is one. */
export function typed({ dtype }: { readonly dtype: DType }, values: ArrayLike<number>): TypedArray {
  if (dtype === "float32" ? values instanceof Float32Array : dtype === "int32" && values instanceof Int32Array) return values as TypedArray;
  const data = allocate(dtype, values.length);
  data.set(values);
  return data;
}

/** What a model gives that can be streamed: `output` or `logits`, and the `state` to go on from. */
export interface Stepped {
  readonly output?: Tensor;
  readonly logits?: Tensor;
  readonly state: StateTree;
}

/** A model whose forward takes x and, in an options object, the state to go on from (absent at the start). */
export interface Streamable extends Module {
  forward(x: Tensor, options: { readonly state?: never }): Stepped;
}

/** What one step of a stream is fed: its shape, and its dtype unless it is that of the parameters. */
export type StreamInput = Partial<Spec> & Pick<Spec, "shape">;

/** How a model is called by a stream: with inputs, and the state to go on from (absent at the start). */
export type StreamForward = (x: Tensor, state: StateTree | undefined) => Stepped;

/** @internal How a whole model is stepped. Its initial state is zero, of the shapes that a first forward returns. */
export function stepperOf(where: string, model: Module, { shape, dtype }: StreamInput, forward?: StreamForward): Stepper {
  const [first] = model.parameters();
  if (!first) throw new Error(`${where}: the model has no parameters`);
  const { device } = first;
  const spec = { shape, dtype: dtype ?? first.dtype };
  const call = forward ?? ((x, state) => (model as Streamable).forward(x, { state: state as never }));
  const advance = (x: Tensor, state: StateTree | undefined) => {
    const result = inference(model, () => call(x, state)) as Stepped | undefined;
    const output = result?.output ?? result?.logits;
    if (!output || !result?.state) throw new Error(`${where}: forward must return { output, state } or { logits, state }`);
    return { output, state: result.state };
  };
  const blank = (rows: number) => zeroed(device, { ...spec, shape: [rows, ...shape.slice(1)] });
  const initial = (rows: number) => noGrad(() => scope(() => mapTree(advance(blank(rows), undefined).state, (t) => zeroed(t.device, t))));
  return { advance, spec, initial, device };
}

/**
 * A stream over one sequence through a whole model, fed inputs of the shape and dtype of `input` (one row, one step:
 * [1, 1] ids or [1, 1, C] features). The initial state is zero, of the shape that a first forward without one returns.
 * A model that is called in another way passes `forward`.
 *
 * @throws if forward returns neither `output` nor `logits`, or no `state`.
 */
export function streamModel(model: Streamable, input: StreamInput): Stream;
export function streamModel(model: Module, input: StreamInput, forward: StreamForward): Stream;
export function streamModel(model: Module, input: StreamInput, forward?: StreamForward): Stream {
  return new Stream(stepperOf("streamModel", model, input, forward));
}
