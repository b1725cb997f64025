/** Element types a tensor can have. `float64` is offered by the reference backend only. */
export type DType = "float32" | "float64" | "int32";
export type TypedArray = Float32Array | Float64Array | Int32Array;

export function allocate(dtype: DType, length: number): TypedArray {
  return dtype === "float32" ? new Float32Array(length) : dtype === "float64" ? new Float64Array(length) : new Int32Array(length);
}

/** What a backend says of itself; `device.info()` hands it to the user. */
export interface BackendInfo {
  readonly name: string;
  readonly available: boolean;
  /** Why the backend is not available, or what limits it. */
  readonly reason?: string;
  /** The instruction set the kernels were chosen for, e.g. `avx2`. */
  readonly isa?: string;
  /** As many as were asked for; of those no more run at a time than there are cores. */
  readonly threads?: number;
  /** Of a GPU: its name, and how many there are. */
  readonly gpu?: string;
  readonly gpus?: number;
  /** Bytes the GPU has, and how many of them no process uses. */
  readonly memory?: number;
  readonly free?: number;
  /** Compute capability, such as `9.0`. */
  readonly capability?: string;
  /** Streaming multiprocessors. */
  readonly processors?: number;
  /** The CUDA version that the driver knows, and the one the kernels were built with. */
  readonly driver?: string;
  readonly runtime?: string;
  /** Whether products of float32 are taken in TF32, 10 bits of mantissa: asked for by THROUGHTIME_TF32=1. */
  readonly tf32?: boolean;
  /** The cuBLASLt that takes large products, or why none does. */
  readonly blas?: string;
}

/** One kernel call: buffers are handles, 0 stands for an absent optional argument. */
export interface KernelCall {
  readonly kernel: string;
  readonly inputs: readonly number[];
  readonly outputs: readonly number[];
  readonly ints: readonly number[];
  readonly floats: readonly number[];
}

/** What the calls of one kernel took. */
export interface KernelTime {
  readonly kernel: string;
  readonly calls: number;
  readonly seconds: number;
}

/** What a backend timed, kernel by kernel. */
export interface KernelTimes {
  readonly kernels: readonly KernelTime[];
  /** Seconds of kernels that ran on the calling thread. */
  readonly inline: number;
  /** Seconds that the calling thread was blocked by reads. */
  readonly waited: number;
}

/**
 * A device that owns buffers and runs kernels on them in the order they were queued.
 *
 * Buffers are integer handles into a table of the backend's own, so that memory is freed by structure
 * and not by garbage collection. Arguments are checked before they get here: a backend only asserts.
 */
export interface Backend {
  readonly name: string;
  readonly dtypes: readonly DType[];
  info(): BackendInfo;
  /** A new buffer of `length` elements with undefined content. */
  alloc(length: number, dtype: DType): number;
  free(buffer: number): void;
  /** Queues a copy of `data` into `buffer`; `data` may be changed as soon as this returns. */
  write(buffer: number, data: TypedArray): void;
  /** Waits for everything queued so far, then copies the buffer out. Rejects with a kernel's error. */
  read(buffer: number): Promise<TypedArray>;
  /** The same, blocking the calling thread. */
  readSync(buffer: number): TypedArray;
  /** Whether a kernel of this name exists. */
  has(kernel: string): boolean;
  /** A number a kernel states about itself (a sweep: how many values a step keeps for backward); 0 if none. */
  kernelInfo(kernel: string): number;
  /** Queues one kernel. A failure inside it surfaces at the next read and names the kernel. */
  run(call: KernelCall): void;
  /** Number of live buffers and the bytes they hold. */
  memory(): { readonly buffers: number; readonly bytes: number };
  /** Fixes a list of calls over live buffers for `replay`; the buffers must outlive the program. */
  compile(calls: readonly KernelCall[]): number;
  /** Writes `data` into `input`, runs the program, and returns `output`, blocking. `into` is filled if given. */
  replay(program: number, input: number, data: TypedArray, output: number, into?: TypedArray): TypedArray;
  release(program: number): void;
  /** Waits for everything queued, gives what was timed since the last call, and times kernels from now on if `on`. */
  profile(on: boolean): KernelTimes;
}
