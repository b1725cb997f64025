import type { Backend, TypedArray } from "../src/backend/backend.js";
import { openCuda, openNative, type NativeBackend } from "../src/backend/native.js";
import { device, tensor, type DeviceName, type Tensor } from "../src/index.js";
import { apply, applyFused, applyOn } from "../src/tensor/apply.js";
import { definedFused, definedOps, size, type Case, type CaseInput, type MaybeTensor } from "../src/tensor/op.js";
import { words } from "../src/tensor/philox.js";

/** Whether the native kernels are there; without them everything that compares with them is skipped, aloud. */
export const nativeAvailable = device.info().devices.some(({ name, available }) => name === "cpu" && available);

const available = (name: DeviceName) => device.info().devices.some((info) => info.name === name && info.available);

/** Whether the tests are for CUDA alone: a GPU, or its emulation. */
export const cudaUnderTest = process.env.THROUGHTIME_TEST === "cuda";
if (cudaUnderTest && !available("cuda")) throw new Error(device.info().devices.find(({ name }) => name === "cuda")!.reason);

/** The native device that is held to the reference. */
export const nativeUnderTest: DeviceName = cudaUnderTest ? "cuda" : "cpu";

/** The devices of this machine: `reference`, and `cpu` where the addon loads; or `cuda` if the tests are for that. */
export function devicesUnderTest(): DeviceName[] {
  if (cudaUnderTest) return ["cuda"];
  return nativeAvailable ? ["reference", "cpu"] : ["reference"];
}

/** A native device of its own for each instruction set of this processor; or the GPU. */
export function nativeBackends(threads: number): { readonly isa: string; readonly backend: NativeBackend }[] {
  if (cudaUnderTest) return [{ isa: "cuda", backend: openCuda() }];
  if (!nativeAvailable) return [];
  return ["base", "avx2", "avx512", "neon"].flatMap((isa) => {
    try {
      return [{ isa, backend: openNative(isa, threads) }];
    } catch {
      return [];
    }
  });
}

/** Anything the library can apply: the loops over ops see no difference between primitives and fused ops. */
export interface Applicable {
  readonly name: string;
  readonly fused: boolean;
  readonly differentiable: boolean;
  readonly cases: readonly Case<unknown>[];
  run(on: Backend, inputs: readonly MaybeTensor[], attrs: unknown): Tensor[];
}

/** Every op of the library, from its own definition. */
export function everyOp(): Applicable[] {
  const primitives = definedOps().map((op) => ({
    name: op.name,
    fused: false,
    differentiable: op.backward !== undefined,
    cases: op.cases(),
    run: (on: Backend, inputs: readonly MaybeTensor[], attrs: unknown) =>
      inputs.length > 0 ? apply(op, inputs as Tensor[], attrs as never) : applyOn(on, op, [], attrs as never),
  }));
  const fused = definedFused().map((op) => ({
    name: op.name,
    fused: true,
    differentiable: true,
    cases: op.cases(),
    run: (_: Backend, inputs: readonly MaybeTensor[], attrs: unknown) => applyFused(op, inputs, attrs as never),
  }));
  return [...primitives, ...fused];
}

/** The values of one case input: those given, or numbers that float32 holds exactly, the same on every call. */
export function caseValues(input: NonNullable<CaseInput>, position: number): number[] {
  if ("values" in input) return [...input.values];
  const { low = -1, high = 1, dtype, shape } = input;
  const drawn = new Array<number>(size(shape));
  words(drawn.length, [1000 + position, 0, 0, 0], (i, word) => {
    const value = low + (high - low) * (word / 2 ** 32);
    drawn[i] = dtype === "int32" ? Math.floor(value) : Math.fround(value);
  });
  return drawn;
}

/** The inputs of a case on a device, floating ones as `dtype`. */
export function caseTensors(inputs: readonly CaseInput[], on: Backend, dtype: "float32" | "float64"): MaybeTensor[] {
  return inputs.map(
    (input, i) =>
      input && tensor(caseValues(input, i), { shape: input.shape, dtype: input.dtype === "int32" ? "int32" : dtype, device: on }),
  );
}

/** Whether an input has a gradient. */
export const isVariable = (input: CaseInput): boolean =>
  input !== null && input.dtype !== "int32" && !("constant" in input && input.constant === true);

/** A case in words, for the name of its test. */
export function describeCase({ inputs, attrs }: Case<unknown>): string {
  const shown = inputs.map((input) => (input ? `[${input.shape.join(",")}]${input.dtype === "int32" ? "i" : ""}` : "-")).join(" ");
  return attrs === undefined ? shown : `${shown} ${JSON.stringify(attrs)}`;
}

/** Independent weights for each output: what the loops differentiate is the sum of all outputs times these. */
export function weightsLike(t: Tensor, k: number): Tensor {
  return tensor(caseValues({ shape: t.shape }, 500 + k), { shape: t.shape, dtype: t.dtype, device: t.device });
}

/** Whether two arrays hold the same bits. */
export function sameBits(a: TypedArray, b: TypedArray): boolean {
  return Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(Buffer.from(b.buffer, b.byteOffset, b.byteLength));
}
