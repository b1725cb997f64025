import { allocate, type TypedArray } from "../backend/backend.js";
import { putRows, takeRows } from "../ops/rows.js";
import { reshape } from "../ops/movement.js";
import { checkCount, checkOptions } from "../tensor/check.js";
import { tensor } from "../tensor/create.js";
import { noGrad } from "../tensor/graph.js";
import { showShape, size, type Shape } from "../tensor/op.js";
import { Program } from "../tensor/program.js";
import { keep, scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import type { Module } from "./module.js";
import {
  checkPart,
  leaves,
  mapTree,
  nextStates,
  stepperOf,
  typed,
  zeroed,
  type Snapshot,
  type StateTree,
  type Stepper,
  type Streamable,
  type StreamForward,
  type StreamInput,
} from "./stream.js";

/** Options of `streams`. */
export interface StreamsOptions {
  /** Sessions there is room for at first; the room doubles whenever it is full. Default 64. */
  readonly capacity?: number;
}

/** One of the states: row by row of a table, and what it looks like to the model. */
interface Table {
  readonly path: string;
  /** Of one session; `axis` is that of the rows, and 1 here. */
  readonly shape: Shape;
  readonly axis: number;
  /** [capacity, outer, inner], the axes before and after that of the rows. */
  rows: Tensor;
}

/** The step of so many sessions, recorded. */
interface Batch {
  readonly size: number;
  readonly program: Program;
  readonly ids: Tensor;
  readonly input: Tensor;
  readonly output: Tensor;
  readonly numbers: Int32Array;
  /** For the last sessions of a step, where they do not fill the batch. */
  readonly given: TypedArray;
  readonly made: TypedArray;
}

/** Sessions stepped at once at most: enough for full speed, while what is recorded stays small. */
const LARGEST = 256;

/**
 * One sequence among the many of `Streams`: made by `open`, and stepped together with others by `Streams.step`. Its state
 * can be copied, put back and forked like that of a `Stream`, also from one to the other.
 */
export class Session {
  /** @internal Its row in the tables; -1 once closed. */
  row: number;
  /** @internal The step in which it was last. */
  stepped = 0;

  /** @internal Made by `Streams.open`. */
  constructor(
    readonly streams: Streams,
    row: number,
  ) {
    this.row = row;
  }

  /** Advances this session alone: `Streams.step` of one. */
  step(x: ArrayLike<number>, into?: Float32Array): Float32Array {
    return this.streams.step([this], x, into);
  }

  /** Sets the state to zero. */
  reset(): void {
    this.streams.write("Session.reset", this, null);
  }

  /** A copy of the state. */
  snapshot(): Snapshot {
    return this.streams.read("Session.snapshot", this);
  }

  /** Sets the state to a copy made by `snapshot`, of a session or a stream over a model of the same shape. @throws if it does not fit. */
  restore(snapshot: Snapshot): void {
    this.streams.write("Session.restore", this, snapshot);
  }

  /** A second session that goes on from the present state on its own. */
  fork(): Session {
    const state = this.streams.read("Session.fork", this);
    const other = this.streams.open();
    other.restore(state);
    return other;
  }

  /** Gives its place back. The session can no longer be used. */
  close(): void {
    this.streams.close(this);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Many sequences through one model, each with a state of its own, stepped together as they have something to say. States
 * stay on the device, one row a session. A step of any number of them runs as steps of up to 256 rows, recorded when they
 * are first needed. What a session gives does not depend on which others are stepped with it, to the last bit on one
 * device, and is what a `Stream` gives. Dropout is off.
 */
export class Streams {
  /** Number of values a step takes of each session. */
  readonly inputSize: number;
  /** Number of values a step returns of each session. */
  readonly outputSize: number;
  /** The state of one session at its start: the tree that the tables are leaves of. */
  private readonly form: StateTree;
  private readonly tables: readonly Table[];
  private readonly batches = new Map<number, Batch>();
  private readonly free: number[] = [];
  private room: number;
  private steps = 0;
  private closed = false;

  /** @internal Made by `layer.streams()` and `model.streams()`. */
  constructor(
    where: string,
    private readonly stepper: Stepper,
    options: StreamsOptions = {},
  ) {
    checkOptions(where, options, ["capacity"]);
    const { capacity = 64 } = options;
    checkCount(where, "capacity", capacity);
    const { spec, device, initial } = stepper;
    if (spec.shape[0] !== 1)
      throw new RangeError(`${where}: shape must be [1, 1, ...], one step of one row, but is ${showShape(spec.shape)}`);
    this.inputSize = size(spec.shape);
    this.room = capacity;
    this.addFree(0);
    this.form = keep(initial(1));
    this.tables = scope(() => {
      const two = leaves(initial(2));
      return leaves(this.form).map(([path, { shape, dtype }], i) => {
        const axis = rowAxis(where, path, shape, two[i][1].shape);
        const sides = [size(shape.slice(0, axis)), size(shape.slice(axis + 1))];
        return { path, shape, axis, rows: keep(zeroed(device, { shape: [capacity, ...sides], dtype })) };
      });
    });
    this.outputSize = this.batch(1).output.size;
  }

  /** Sessions that are open. */
  get size(): number {
    return this.room - this.free.length;
  }

  /** Sessions there is room for without growing. */
  get capacity(): number {
    return this.room;
  }

  /** A new session, its state zero. */
  open(): Session {
    this.live();
    if (this.free.length === 0) this.grow();
    const session = new Session(this, this.free.pop()!);
    session.reset();
    return session;
  }

  /**
   * Advances each of the sessions by one step. x holds their inputs one after another, [n * inputSize]; their outputs are
   * returned in the same order, [n * outputSize], in `into` if it is given. Blocks until the result is there.
   *
   * A kernel that fails, such as an embedding given an id outside its table, throws and leaves the states of the up to 256
   * sessions it was run for as they were, and of those after them; those before have made the step.
   *
   * @throws RangeError if x or `into` has another length.
   * @throws Error if a session is closed, is not of these streams, or is there twice; nothing was stepped then.
   */
  step(sessions: readonly Session[], x: ArrayLike<number>, into?: Float32Array): Float32Array {
    this.live();
    const n = sessions.length;
    const { inputSize, outputSize } = this;
    checkLength("x", x.length, n, inputSize);
    if (into) checkLength("into", into.length, n, outputSize);
    this.check(sessions);
    const data = typed(this.stepper.spec, x);
    const result = into ?? (allocate(this.batch(1).output.dtype, n * outputSize) as Float32Array);
    for (let from = 0; from < n;) {
      const batch = this.batch(batchSize(n - from));
      const count = Math.min(batch.size, n - from);
      this.run(batch, sessions, from, count, data, result);
      from += count;
    }
    return result;
  }

  /** @internal A copy of a session's state. */
  read(where: string, session: Session): Snapshot {
    const row = this.rowOf(where, session);
    return noGrad(() =>
      scope(() => {
        const id = tensor([row], { dtype: "int32", device: this.stepper.device });
        return Object.fromEntries(this.tables.map(({ path, rows }) => [path, takeRows(rows, id).dataSync()]));
      }),
    );
  }

  /** @internal Sets a session's state, to zero if it is null. */
  write(where: string, session: Session, state: Snapshot | null): void {
    const row = this.rowOf(where, session);
    if (state) for (const { path, shape } of this.tables) checkPart(where, state, path, size(shape));
    const { device } = this.stepper;
    scope(() => {
      const id = tensor([row], { dtype: "int32", device });
      for (const { path, shape, rows } of this.tables) {
        const spec = { shape, dtype: rows.dtype };
        putRows(rows, id, state ? tensor(typed(spec, state[path]), { shape, dtype: rows.dtype, device }) : zeroed(device, spec));
      }
    });
  }

  /** @internal */
  close(session: Session): void {
    if (session.row < 0) return;
    this.free.push(session.row);
    session.row = -1;
  }

  /** Frees all states and the recorded steps. */
  dispose(): void {
    if (this.closed) return;
    this.closed = true;
    this.forget();
    for (const t of [...this.tables.map(({ rows }) => rows), ...leaves(this.form).map(([, t]) => t)]) t.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  private run(batch: Batch, sessions: readonly Session[], from: number, count: number, x: TypedArray, into: TypedArray): void {
    const { ids, numbers, input, output, program } = batch;
    const { inputSize, outputSize } = this;
    for (let i = 0; i < count; i++) numbers[i] = sessions[from + i].row;
    numbers.fill(-1, count);
    ids.device.write(ids.buffer(), numbers);
    const given = part(x, from, count, inputSize);
    if (count === batch.size && into.constructor === batch.made.constructor) {
      program.replay(input.buffer(), given, output.buffer(), part(into, from, count, outputSize));
      return;
    }
    batch.given.set(given);
    batch.given.fill(0, given.length);
    program.replay(input.buffer(), batch.given, output.buffer(), batch.made);
    into.set(batch.made.subarray(0, count * outputSize), from * outputSize);
  }

  /** The recorded step of so many rows. */
  private batch(rows: number): Batch {
    const known = this.batches.get(rows);
    if (known) return known;
    const { device, spec } = this.stepper;
    const ids = keep(zeroed(device, { shape: [rows], dtype: "int32" }));
    const input = keep(zeroed(device, { shape: [rows, ...spec.shape.slice(1)], dtype: spec.dtype }));
    device.write(ids.buffer(), new Int32Array(rows).fill(-1)); // recording runs the step once, for nobody
    const { result, program } = Program.capture(device, () => noGrad(() => scope(() => this.record(ids, input, rows))));
    const output = keep(result);
    const batch = {
      size: rows,
      program,
      ids,
      input,
      output,
      numbers: new Int32Array(rows),
      given: allocate(spec.dtype, input.size),
      made: allocate(output.dtype, output.size),
    };
    this.batches.set(rows, batch);
    return batch;
  }

  private record(ids: Tensor, input: Tensor, count: number): Tensor {
    const before = this.tables.map(({ path, rows, shape, axis }): [string, Tensor] => [
      path,
      reshape(takeRows(rows, ids), shape.with(axis, count)),
    ]);
    let at = 0;
    const tree = mapTree(this.form, () => before[at++][1]);
    const { output, state } = this.stepper.advance(input, tree);
    if (output.shape[0] !== count)
      throw new Error(`Streams: a step must return an output of ${count} rows but it is ${showShape(output.shape)}`);
    nextStates("Streams", before, state).forEach((next, i) => putRows(this.tables[i].rows, ids, next));
    return output;
  }

  private check(sessions: readonly Session[]): void {
    const step = ++this.steps;
    for (let i = 0; i < sessions.length; i++) {
      const session = sessions[i];
      this.rowOf("Streams.step", session, i);
      if (session.stepped === step) throw new Error(`Streams.step: sessions[${i}] is there twice, but a session makes one step at a time`);
      session.stepped = step;
    }
  }

  /** Where the session's states are. `index` is its place in a list. */
  private rowOf(where: string, session: Session, index = -1): number {
    this.live();
    if (session instanceof Session && session.streams === this && session.row >= 0) return session.row;
    const name = index < 0 ? "the session" : `sessions[${index}]`;
    if (!(session instanceof Session))
      throw new TypeError(`${where}: ${name} must be a session of these streams but is ${String(session)}`);
    throw new Error(`${where}: ${name} ${session.streams === this ? "was closed" : "does not belong to these streams"}`);
  }

  private grow(): void {
    const { device } = this.stepper;
    const before = this.room;
    this.forget();
    this.room *= 2;
    for (const table of this.tables) {
      const [, outer, inner] = table.rows.shape;
      const grown = noGrad(() =>
        scope(() => {
          const ids = tensor(
            Int32Array.from({ length: this.room }, (_, i) => (i < before ? i : -1)),
            { device },
          );
          return reshape(takeRows(reshape(table.rows, [before, 1, outer * inner]), ids), [this.room, outer, inner]);
        }),
      );
      table.rows.dispose();
      table.rows = keep(grown);
    }
    this.addFree(before);
  }

  /** The rows from `first` on, to be given out in rising order. */
  private addFree(first: number): void {
    for (let row = this.room - 1; row >= first; row--) this.free.push(row);
  }

  private forget(): void {
    for (const { program, ids, input, output } of this.batches.values()) {
      program.dispose();
      for (const t of [ids, input, output]) t.dispose();
    }
    this.batches.clear();
  }

  private live(): void {
    if (this.closed) throw new Error("Streams: the streams were disposed of");
  }
}

/** What belongs to some of the sessions; the same array if it is all. */
function part(of: TypedArray, from: number, count: number, each: number): TypedArray {
  return count * each === of.length ? of : of.subarray(from * each, (from + count) * each);
}

function checkLength(what: string, length: number, sessions: number, each: number): void {
  if (length !== sessions * each)
    throw new RangeError(`Streams.step: ${what} must have ${sessions} * ${each} values, for ${sessions} sessions, but has ${length}`);
}

/** The axis along which the state of two rows is longer than that of one. */
function rowAxis(where: string, path: string, one: Shape, two: Shape): number {
  const axes = one.flatMap((d, i) => (d === two[i] ? [] : [i]));
  if (one.length !== two.length || axes.length !== 1 || one[axes[0]] !== 1 || two[axes[0]] !== 2)
    throw new Error(
      `${where}: state ${path} must have an axis of rows, but is ${showShape(one)} for one row and ${showShape(two)} for two`,
    );
  return axes[0];
}

/**
 * How many rows the next batch is recorded for when `left` sessions are to be stepped: the power of two above if a few
 * rows of it stay empty, which costs less than one batch more would, otherwise the one below.
 */
function batchSize(left: number): number {
  if (left >= LARGEST) return LARGEST;
  const above = left === 1 ? 1 : 1 << (32 - Math.clz32(left - 1));
  return above - left <= Math.max(2, left / 8) ? above : above >> 1;
}

/**
 * Many sequences through a whole model, stepped together: `model.streams()` for a model that is called in another way
 * passes `forward`, as `streamModel` does, which must take any number of rows and return them in order.
 *
 * @throws as `streamModel` does, on an unknown option, or if a state has no axis of rows.
 */
export function streamsModel(model: Streamable, input: StreamInput & StreamsOptions): Streams;
export function streamsModel(model: Module, input: StreamInput & StreamsOptions, forward: StreamForward): Streams;
export function streamsModel(model: Module, { shape, dtype, ...options }: StreamInput & StreamsOptions, forward?: StreamForward): Streams {
  return new Streams("streamsModel", stepperOf("streamsModel", model, { shape, dtype }, forward), options);
}
