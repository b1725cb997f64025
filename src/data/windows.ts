import { checkCount, checkOptions } from "../tensor/check.js";
import type { Batch } from "./batch.js";

export interface WindowOptions {
  /** Steps a model sees. */
  readonly input: number;
  /** Steps after them that it is to foretell. Default 1. */
  readonly horizon?: number;
  /** Steps from the start of one window to that of the next. Default 1. */
  readonly stride?: number;
  /** Values of one step. Default 1. */
  readonly features?: number;
  /** Windows of a batch; the last batch may have fewer. Default 32. */
  readonly batch?: number;
}

/**
 * Windows of a numeric series [steps, features], row-major: batches of inputs [N, input, features] and the steps that
 * follow each as targets [N, horizon, features]. Each may be iterated again.
 *
 * @throws RangeError if the series is shorter than one window and its horizon (saying how long it must be).
 */
export function windows(series: ArrayLike<number>, options: WindowOptions): Iterable<Batch> & { readonly count: number } {
  checkOptions("windows", options, ["input", "horizon", "stride", "features", "batch"]);
  const { input, horizon = 1, stride = 1, features = 1, batch = 32 } = options;
  for (const [name, value] of Object.entries({ input, horizon, stride, features, batch })) checkCount("windows", name, value);
  if (series.length % features !== 0)
    throw new RangeError(`windows: series must have a multiple of ${features} values but has ${series.length}`);
  const steps = series.length / features;
  const whole = input + horizon;
  if (steps < whole)
    throw new RangeError(`windows: series must have at least ${whole} steps (input ${input} and horizon ${horizon}) but has ${steps}`);
  const count = Math.floor((steps - whole) / stride) + 1;
  const cut = (first: number, rows: number, shift: number, length: number) => {
    const data = new Float32Array(rows * length * features);
    for (let r = 0, at = 0; r < rows; r++) {
      const from = ((first + r) * stride + shift) * features;
      for (let i = 0; i < length * features; i++) data[at++] = series[from + i];
    }
    return { data, shape: [rows, length, features] };
  };
  return {
    count,
    *[Symbol.iterator]() {
      for (let first = 0; first < count; first += batch) {
        const rows = Math.min(batch, count - first);
        yield { inputs: cut(first, rows, 0, input), targets: cut(first, rows, input, horizon) };
      }
    },
  };
}

/** Sequences of unequal length side by side. */
export interface PaddedBatch<D extends Float32Array | Int32Array> {
  /** [N, T] or [N, T, features], T the longest length; filled up behind the end of each row. */
  readonly data: D;
  readonly shape: readonly number[];
  readonly lengths: Int32Array;
}

export interface PadOptions {
  /** `int32` for ids, `float32` for features. Default: int32 if every sequence is an Int32Array, else float32. */
  readonly dtype?: "int32" | "float32";
  /** What stands behind the end. Default 0. */
  readonly value?: number;
  /** Values of one step; adds an axis to the shape. Default: a step is one value and there is no such axis. */
  readonly features?: number;
}

/** Lays ragged sequences side by side. @throws RangeError if there are none, or one is not a whole number of steps. */
export function padBatch(sequences: readonly Int32Array[], options?: PadOptions & { readonly dtype?: "int32" }): PaddedBatch<Int32Array>;
export function padBatch(
  sequences: readonly ArrayLike<number>[],
  options: PadOptions & { readonly dtype: "int32" },
): PaddedBatch<Int32Array>;
export function padBatch(sequences: readonly ArrayLike<number>[], options?: PadOptions): PaddedBatch<Float32Array>;
export function padBatch(sequences: readonly ArrayLike<number>[], options: PadOptions = {}): PaddedBatch<Float32Array | Int32Array> {
  checkOptions("padBatch", options, ["dtype", "value", "features"]);
  if (sequences.length === 0) throw new RangeError("padBatch: there must be at least one sequence");
  const { value = 0, features } = options;
  if (features !== undefined) checkCount("padBatch", "features", features);
  const width = features ?? 1;
  const dtype = options.dtype ?? (sequences.every((s) => s instanceof Int32Array) ? "int32" : "float32");
  const lengths = Int32Array.from(sequences, (s, i) => {
    if (s.length % width !== 0) throw new RangeError(`padBatch: sequence ${i} must have a multiple of ${width} values but has ${s.length}`);
    return s.length / width;
  });
  const steps = lengths.reduce((a, b) => Math.max(a, b), 0);
  const data = dtype === "int32" ? new Int32Array(sequences.length * steps * width) : new Float32Array(sequences.length * steps * width);
  if (value !== 0) data.fill(value);
  sequences.forEach((s, i) => data.set(s, i * steps * width));
  return { data, shape: features === undefined ? [sequences.length, steps] : [sequences.length, steps, features], lengths };
}
