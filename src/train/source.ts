import type { DType } from "../backend/backend.js";
import type { Batch, Values } from "../data/batch.js";
import { slice } from "../ops/movement.js";
import { tensor } from "../tensor/create.js";
import { showShape } from "../tensor/op.js";
import { Tensor } from "../tensor/tensor.js";

/** A batch as a loss sees it. */
export interface TensorBatch {
  readonly inputs: Tensor;
  readonly targets: Tensor;
  readonly lengths?: Int32Array;
}

/** Where the tensors of typed arrays are put. */
export type Like = Pick<Tensor, "device" | "dtype">;

function upload(values: Values, { device, dtype }: Like): Tensor {
  if (values instanceof Tensor) return values.detach();
  const type: DType = values.data instanceof Int32Array ? "int32" : dtype;
  return tensor(values.data, { shape: values.shape, dtype: type, device });
}

/** The batch as tensors of the caller's own, to be disposed of. @throws if it is not a batch or its parts do not fit. */
export function open(where: string, batch: Batch, like: Like): TensorBatch {
  const { inputs, targets, lengths } = batch as Partial<Batch>;
  for (const [name, values] of Object.entries({ inputs, targets })) {
    if (!values || !Array.isArray(values.shape)) throw new TypeError(`${where}: a batch must have ${name}, a tensor or { data, shape }`);
  }
  const [rows, steps] = inputs!.shape;
  if (targets!.shape[0] !== rows)
    throw new RangeError(`${where}: targets must have ${rows} rows as the inputs but are ${showShape(targets!.shape)}`);
  if (lengths) {
    const bad = lengths.length === rows ? lengths.findIndex((v: number) => !Number.isInteger(v) || v < 0 || v > steps) : rows;
    if (bad >= 0)
      throw new RangeError(
        `${where}: lengths must be ${rows} integers from 0 to ${steps} but ${lengths.length === rows ? `entry ${bad} is ${lengths[bad]}` : `has ${lengths.length} entries`}`,
      );
  }
  const x = upload(inputs!, like);
  try {
    return { inputs: x, targets: upload(targets!, like), ...(lengths && { lengths: Int32Array.from(lengths) }) };
  } catch (error) {
    x.dispose();
    throw error;
  }
}

export function close({ inputs, targets }: TensorBatch): void {
  inputs.dispose();
  targets.dispose();
}

/** Number of valid steps, over all rows. */
export function countTokens({ inputs: { shape }, lengths }: TensorBatch): number {
  return lengths ? lengths.reduce((a, b) => a + b, 0) : shape[0] * (shape[1] ?? 1);
}

/** Steps `start` to `end` of a batch. */
export function cut({ inputs, targets, lengths }: TensorBatch, start: number, end: number): TensorBatch {
  if (start === 0 && end === inputs.shape[1]) return { inputs, targets, lengths };
  return {
    inputs: slice(inputs, 1, start, end),
    targets: slice(targets, 1, start, end),
    lengths: lengths?.map((v) => Math.min(Math.max(v - start, 0), end - start)),
  };
}

/** Where to cut a batch into segments of at most `truncate` steps. @throws if targets do not run along with the inputs. */
export function segments(where: string, { inputs, targets }: TensorBatch, truncate: number): [number, number][] {
  const steps = inputs.shape[1] ?? 1;
  if (truncate >= steps) return [[0, steps]];
  if (targets.shape[1] !== steps)
    throw new RangeError(
      `${where}: truncate needs targets ${showShape([inputs.shape[0], steps, "..."])} but they are ${showShape(targets.shape)}`,
    );
  return Array.from({ length: Math.ceil(steps / truncate) }, (_, i) => [i * truncate, Math.min(steps, (i + 1) * truncate)]);
}

/** The items of a source until it ends or the signal is given; a source that never answers does not hold it up. */
export async function* until<T>(
  source: Iterable<T> | AsyncIterable<T>,
  signal: AbortSignal | undefined,
): AsyncGenerator<T, void, undefined> {
  const iterator = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  let pending = false;
  try {
    while (!signal?.aborted) {
      pending = true;
      const next = await nextOrAbort(iterator, signal);
      if (next === null) return;
      pending = false;
      if (next.done) return;
      yield next.value;
    }
  } finally {
    // A source that still owes an answer cannot be waited for.
    if (pending) void Promise.resolve(iterator.return?.()).catch(() => undefined);
    else await iterator.return?.();
  }
}

async function nextOrAbort<T>(
  iterator: Iterator<T> | AsyncIterator<T>,
  signal: AbortSignal | undefined,
): Promise<IteratorResult<T> | null> {
  const next = iterator.next();
  if (!signal || !(next instanceof Promise)) return next;
  let stop: (() => void) | undefined;
  const aborted = new Promise<null>((resolve) => signal.addEventListener("abort", (stop = () => resolve(null)), { once: true }));
  try {
    return await Promise.race([next, aborted]);
  } finally {
    signal.removeEventListener("abort", stop!);
  }
}
