import type { Backend, DType, TypedArray } from "../backend/backend.js";
import { device as devices } from "../backend/devices.js";
import { showShape, size, type Shape } from "./op.js";
import { run } from "./program.js";
import { empty, Tensor } from "./tensor.js";

/** Options of everything that makes a tensor. */
export interface TensorOptions {
  /** Default `float32`. */
  readonly dtype?: DType;
  /** Default: the process's default device. */
  readonly device?: Backend;
  /** Whether to gather a gradient in `grad`. Default false. */
  readonly requiresGrad?: boolean;
}

/** Nested arrays of numbers, a number, or a flat typed array. */
export type TensorData = number | readonly TensorData[] | TypedArray;

function make(shape: Shape, { dtype = "float32", device = devices(), requiresGrad = false }: TensorOptions): Tensor {
  if (shape.some((d) => !Number.isInteger(d) || d < 0))
    throw new RangeError(`tensor: shape must be non-negative integers but is ${showShape(shape)}`);
  const t = empty(device, shape, dtype);
  t.requiresGrad = requiresGrad;
  return t;
}

/**
 * A tensor of the given values. Nested arrays give its shape; a typed array is one axis unless `shape` is given.
 * The dtype defaults to that of a typed array, else float32.
 *
 * @throws if rows have unequal lengths, or the shape does not fit the number of values.
 */
export function tensor(data: TensorData, options: TensorOptions & { readonly shape?: Shape } = {}): Tensor {
  const typed = ArrayBuffer.isView(data);
  const found: number[] = [];
  if (!typed) for (let d: unknown = data; Array.isArray(d); d = (d as unknown[])[0]) found.push(d.length);
  const flat = typed ? data : flatten(data, found, 0, []);
  const shape = options.shape ?? (typed ? [flat.length] : found);
  if (size(shape) !== flat.length)
    throw new RangeError(`tensor: shape ${showShape(shape)} needs ${size(shape)} values but ${flat.length} were given`);
  const dtype = options.dtype ?? (data instanceof Float64Array ? "float64" : data instanceof Int32Array ? "int32" : "float32");
  const t = make(shape, { ...options, dtype });
  t.device.write(t.buffer(), convert(flat, dtype));
  return t;
}

function convert(data: ArrayLike<number>, dtype: DType): TypedArray {
  if (dtype === "float32") return data instanceof Float32Array ? data : Float32Array.from(data);
  if (dtype === "float64") return data instanceof Float64Array ? data : Float64Array.from(data);
  if (data instanceof Int32Array) return data;
  const ints = Int32Array.from(data);
  const bad = ints.findIndex((v, i) => v !== data[i]);
  if (bad >= 0) throw new RangeError(`tensor: an int32 tensor needs integers but value ${bad} is ${data[bad]}`);
  return ints;
}

function flatten(data: TensorData, shape: Shape, depth: number, into: number[]): number[] {
  if (typeof data === "number") {
    if (depth !== shape.length)
      throw new RangeError(`tensor: nested arrays must be regular, but a number stands at depth ${depth} of ${shape.length}`);
    into.push(data);
  } else {
    const list = data as readonly TensorData[];
    if (list.length !== shape[depth])
      throw new RangeError(`tensor: nested arrays must be regular, but axis ${depth} has ${shape[depth]} and ${list.length} entries`);
    for (const item of list) flatten(item, shape, depth + 1, into);
  }
  return into;
}

/** A tensor with every element `value`. */
export function full(shape: Shape, value: number, options: TensorOptions = {}): Tensor {
  const t = make(shape, options);
  run(t.device, { kernel: "fill", inputs: [], outputs: [t.buffer()], ints: [], floats: [value] });
  return t;
}

/** A tensor of zeros. */
export const zeros = (shape: Shape, options?: TensorOptions): Tensor => full(shape, 0, options);
/** A tensor of ones. */
export const ones = (shape: Shape, options?: TensorOptions): Tensor => full(shape, 1, options);
