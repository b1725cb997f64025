import type { DType, TypedArray } from "../backend/backend.js";
import { defineReference, type ReferenceKernel } from "../backend/reference.js";
import type { Tensor } from "./tensor.js";

export type Shape = readonly number[];

/** Shape and element type: all that an op may look at before it runs. */
export interface Spec {
  readonly shape: Shape;
  readonly dtype: DType;
}
export type MaybeSpec = Spec | null;
export type MaybeTensor = Tensor | null;

/** What one application of an op amounts to: its results, and the numbers that its kernels read. */
export interface Plan {
  readonly outputs: readonly Spec[];
  readonly ints?: readonly number[];
  readonly floats?: readonly number[];
}

/** What `backward` may use. `needs[i]` says whether anything asks for the gradient of input i. */
export interface Applied<A> {
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  readonly attrs: A;
  readonly needs: readonly boolean[];
}

/**
 * An argument of a test case: values given, or drawn uniformly from `[low, high)` (default -1, 1).
 * A constant one, such as a dropout mask, gets no gradient.
 */
export type CaseInput =
  | { readonly shape: Shape; readonly dtype?: DType; readonly low?: number; readonly high?: number; readonly constant?: boolean }
  | { readonly shape: Shape; readonly dtype?: DType; readonly values: readonly number[] }
  | null;

/** Example arguments. The parity, gradient and benchmark loops run over the cases of every op. */
export interface Case<A> {
  readonly inputs: readonly CaseInput[];
  readonly attrs: A;
  /** Absolute tolerance of float32 kernels against the reference, per unit of (1 + max |reference|); default 2e-6. */
  readonly tolerance?: number;
}

/**
 * A primitive. `reference` and the native kernel of the same name read the same `ints` and `floats`.
 * Without `backward` the op is not differentiable.
 */
export interface Op<A = undefined> {
  readonly name: string;
  /** Checks the arguments (throws, naming function, argument, expected and actual) and infers the result. */
  shape(inputs: readonly Spec[], attrs: A): Plan;
  readonly reference: ReferenceKernel;
  /** Gradients of the inputs, written in ops; null where there is none. `grads[k]` is null if output k was not used. */
  backward?(grads: readonly Tensor[], applied: Applied<A>): readonly MaybeTensor[];
  cases(): readonly Case<A>[];
}

/**
 * A composition of ops that a backend may offer as one kernel. `compose` is its meaning, its fallback and the
 * oracle its kernels are tested against. The kernel `name` fills the outputs and then the `saved` buffers;
 * the kernel `name.backward` reads (output gradients, inputs, outputs, saved) and fills the gradients of the inputs.
 */
export interface Fused<A = undefined> {
  readonly name: string;
  shape(inputs: readonly MaybeSpec[], attrs: A): Plan;
  compose(inputs: readonly MaybeTensor[], attrs: A): readonly Tensor[];
  /** Whether the kernels cover such a call; the composition runs where they do not. They do by default. */
  kernel?(inputs: readonly MaybeSpec[], attrs: A): boolean;
  /** Buffers that the forward kernel leaves for the backward kernel; `info` is what the kernel states about itself. */
  saved?(inputs: readonly MaybeSpec[], attrs: A, info: number): readonly Spec[];
  /**
   * Whether forward keeps nothing but its inputs and outputs, and runs once more when its gradients are asked for: the
   * composition, or the kernel, which then fills the `saved` buffers. `info` is null where there is no kernel.
   */
  again?(inputs: readonly MaybeSpec[], attrs: A, info: number | null): boolean;
  cases(): readonly Case<A>[];
}

const ops: Op<never>[] = [];
const fusedOps: Fused<never>[] = [];

/** Registers a primitive: its reference kernel joins the reference backend, its cases join the test loops. */
export function defineOp<A = undefined>(op: Op<A>): Op<A> {
  defineReference(op.name, op.reference);
  ops.push(op as Op<never>);
  return op;
}

export function defineFused<A = undefined>(op: Fused<A>): Fused<A> {
  fusedOps.push(op as Fused<never>);
  return op;
}

export const definedOps = (): readonly Op<never>[] => ops;
export const definedFused = (): readonly Fused<never>[] => fusedOps;

/** Number of elements of a shape. */
export function size(shape: Shape): number {
  let n = 1;
  for (const d of shape) n *= d;
  return n;
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((d, i) => d === b[i]);
}

export function showShape(shape: readonly (number | string)[]): string {
  return `[${shape.join(", ")}]`;
}

/**
 * What checks the inputs of an op, each absent or of its shape and dtype, `dtype` if it is not told another.
 * @throws RangeError naming the input that does not fit.
 */
export const expecting =
  (op: string, dtype: DType) =>
  (what: string, spec: MaybeSpec, shape: Shape, its: DType = dtype): void => {
    if (spec && (!sameShape(spec.shape, shape) || spec.dtype !== its))
      throw new RangeError(`${op}: ${what} must be ${its} ${showShape(shape)} but is ${spec.dtype} ${showShape(spec.shape)}`);
  };

export type { TypedArray, DType };
