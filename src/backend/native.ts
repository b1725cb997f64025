import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { allocate, type Backend, type BackendInfo, type DType, type KernelCall, type KernelTimes, type TypedArray } from "./backend.js";

/** The addon's device. Functions without arguments read the mailbox `ints` and `floats`; see native/addon.cc. */
interface NativeDevice {
  readonly ints: Int32Array;
  readonly floats: Float64Array;
  readonly isa: string;
  readonly threads: number;
  readonly kernels: Readonly<Record<string, { readonly index: number; readonly info: number }>>;
  alloc(): void;
  free(): void;
  run(): void;
  write(buffer: number, data: TypedArray): void;
  read(buffer: number, into: TypedArray): Promise<TypedArray> | undefined;
  readSync(buffer: number, into: TypedArray): void;
  compile(ints: Int32Array, floats: Float64Array): number;
  replay(program: number, input: number, data: TypedArray, output: number, into: TypedArray): void;
  release(program: number): void;
  memory(): void;
  setThreads(threads: number): void;
  profile(on: boolean): Float64Array;
}

const slotMask = (1 << 22) - 1;
const dtypes = ["float32", "int32"] as const;

/**
 * A native device: one queue of kernel calls with a thread of its own. Under the kernels there is the processor, with a pool of
 * threads, or a GPU.
 */
export class NativeBackend implements Backend {
  readonly dtypes = dtypes;
  private readonly lengths: number[] = [];
  private readonly types: DType[] = [];
  private threads: number;

  /** `most`: never to run more threads than that at a time, whatever number is asked for. */
  constructor(
    private readonly device: NativeDevice,
    private readonly most = Infinity,
    readonly name: "cpu" | "cuda" = "cpu",
  ) {
    this.threads = device.threads;
  }

  info(): BackendInfo {
    if (this.name === "cuda") return cudaInfo();
    return { name: this.name, available: true, isa: this.device.isa, threads: this.threads };
  }

  /** Number of threads kernels may use from now on; waits for what is queued. */
  setThreads(threads: number): void {
    if (!Number.isInteger(threads) || threads < 1 || threads > 1024)
      throw new RangeError(`setThreads: threads must be an integer in [1, 1024] but is ${threads}`);
    this.device.setThreads(Math.min(threads, this.most));
    this.threads = threads;
  }

  alloc(length: number, dtype: DType): number {
    const { ints, floats } = this.device;
    const type = (dtypes as readonly DType[]).indexOf(dtype);
    if (type < 0) throw new TypeError(`${this.name}: there are no ${dtype} buffers`);
    floats[0] = length;
    ints[0] = type;
    this.device.alloc();
    const buffer = ints[0];
    const slot = buffer & slotMask;
    this.lengths[slot] = length;
    this.types[slot] = dtype;
    return buffer;
  }

  free(buffer: number): void {
    this.device.ints[0] = buffer;
    this.device.free();
  }

  write(buffer: number, data: TypedArray): void {
    this.device.write(buffer, data);
  }

  async read(buffer: number): Promise<TypedArray> {
    const into = this.arrayFor(buffer);
    await this.device.read(buffer, into);
    return into;
  }

  readSync(buffer: number): TypedArray {
    const into = this.arrayFor(buffer);
    this.device.readSync(buffer, into);
    return into;
  }

  has(kernel: string): boolean {
    return Object.hasOwn(this.device.kernels, kernel);
  }

  kernelInfo(kernel: string): number {
    return this.has(kernel) ? this.device.kernels[kernel].info : 0;
  }

  run(call: KernelCall): void {
    const { ints, floats } = this.device;
    const { kernel, inputs, outputs } = call;
    if (inputs.length + outputs.length + call.ints.length + 5 > ints.length || call.floats.length > floats.length)
      throw new RangeError(`${kernel}: the call has too many arguments`);
    encode(ints, 0, this.index(kernel), call);
    for (let i = 0; i < call.floats.length; i++) floats[i] = call.floats[i];
    this.device.run();
  }

  memory() {
    this.device.memory();
    const [buffers, bytes] = this.device.floats;
    return { buffers, bytes };
  }

  compile(calls: readonly KernelCall[]): number {
    const ints = new Int32Array(calls.reduce((n, c) => n + 5 + c.inputs.length + c.outputs.length + c.ints.length, 0));
    const floats = Float64Array.from(calls.flatMap((c) => c.floats));
    let at = 0;
    for (const call of calls) at = encode(ints, at, this.index(call.kernel), call);
    return this.device.compile(ints, floats);
  }

  replay(program: number, input: number, data: TypedArray, output: number, into: TypedArray = this.arrayFor(output)): TypedArray {
    this.device.replay(program, input, data, output, into);
    return into;
  }

  release(program: number): void {
    this.device.release(program);
  }

  profile(on: boolean): KernelTimes {
    const [inline, waited, ...taken] = this.device.profile(on);
    const kernels = Object.entries(this.device.kernels).flatMap(([kernel, { index }]) =>
      taken[2 * index] > 0 ? [{ kernel, calls: taken[2 * index], seconds: taken[2 * index + 1] / 1e9 }] : [],
    );
    return { kernels, inline: inline / 1e9, waited: waited / 1e9 };
  }

  private index(kernel: string): number {
    const entry = this.device.kernels[kernel];
    if (!entry) throw new Error(`${this.name}: there is no kernel ${kernel}`);
    return entry.index;
  }

  private arrayFor(buffer: number): TypedArray {
    const slot = buffer & slotMask;
    return allocate(this.types[slot] ?? "float32", this.lengths[slot] ?? 0);
  }
}

/** Lays a call out as the addon reads it: [kernel, inputs, outputs, ints, floats, then the entries of the first three]. */
function encode(into: Int32Array, at: number, kernel: number, { inputs, outputs, ints, floats }: KernelCall): number {
  into[at++] = kernel;
  into[at++] = inputs.length;
  into[at++] = outputs.length;
  into[at++] = ints.length;
  into[at++] = floats.length;
  for (let i = 0; i < inputs.length; i++) into[at++] = inputs[i];
  for (let i = 0; i < outputs.length; i++) into[at++] = outputs[i];
  for (let i = 0; i < ints.length; i++) into[at++] = ints[i];
  return at;
}

interface Addon {
  open(isa: string, threads: number): NativeDevice;
  openCuda(library: string, gpu: number): NativeDevice;
  cudaInfo(library: string, gpu: number): Omit<BackendInfo, "name" | "available">;
  readonly revision?: number;
  /** How many threads this process can run at a time. */
  readonly cores: number;
}

/** That of native/kernels.h whose kernels the ops speak to. */
const revision = 8;

let addon: Addon | null = null;
let addonPath = "";

function requireAddon(): Addon {
  const require = createRequire(import.meta.url);
  const root = fileURLToPath(new URL("../../", import.meta.url));
  const find = require("node-gyp-build") as { resolve(root: string): string };
  let path: string;
  try {
    path = find.resolve(root);
  } catch {
    throw new Error(
      `there is no native addon for ${process.platform} ${process.arch}; to compile it: node ${root}scripts/install.mjs --build`,
    );
  }
  const found = require(path) as Addon;
  if (found.revision !== revision)
    throw new Error(`the native addon ${path} belongs to another version; to compile this one's: node ${root}scripts/install.mjs --build`);
  addonPath = path;
  return found;
}

/**
 * A native device of its own, with its own queue and exactly so many threads; `isa` and `threads` default to the best and
 * all cores.
 * @throws if the addon does not load or this processor lacks the instruction set.
 */
export function openNative(isa = "", threads = 0): NativeBackend {
  addon ??= requireAddon();
  return new NativeBackend(addon.open(isa, threads));
}

/** THROUGHTIME_THREADS, or 0 for as many as there are cores. */
function threadsAsked(): number {
  const asked = process.env.THROUGHTIME_THREADS;
  if (!asked) return 0;
  const threads = Number(asked);
  if (!Number.isInteger(threads) || threads < 1 || threads > 1024)
    throw new RangeError(`THROUGHTIME_THREADS: must be an integer in [1, 1024] but is ${asked}`);
  return threads;
}

let loaded: NativeBackend | Error | null = null;

function load(): NativeBackend | Error {
  try {
    addon ??= requireAddon();
    // Threads beyond the cores would only wait for each other, at every step of a sweep.
    const backend = new NativeBackend(addon.open(process.env.THROUGHTIME_ISA ?? "", 1), addon.cores);
    backend.setThreads(threadsAsked() || addon.cores);
    return backend;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

/** The process's native backend. @throws if it cannot be used here, saying why. */
export function loadNative(): NativeBackend {
  loaded ??= load();
  if (loaded instanceof Error) throw new Error(`the cpu device cannot be used: ${loaded.message}`, { cause: loaded });
  return loaded;
}

/** What the native backend says of itself; never throws. */
export function nativeInfo(): BackendInfo {
  loaded ??= load();
  return loaded instanceof Error ? { name: "cpu", available: false, reason: loaded.message.trim() } : loaded.info();
}

/** The library of CUDA kernels: THROUGHTIME_CUDA, or the file beside the addon. */
function cudaLibrary(): string {
  addon ??= requireAddon();
  const path = process.env.THROUGHTIME_CUDA || join(dirname(addonPath), "throughtime_cuda.so");
  if (!existsSync(path))
    throw new Error(
      process.env.THROUGHTIME_CUDA
        ? `THROUGHTIME_CUDA: there is no file ${path}`
        : "the CUDA kernels were not built: this needs nvcc, and then node scripts/install.mjs --build",
    );
  return path;
}

/** THROUGHTIME_GPU, or the first one. */
function gpuAsked(): number {
  const asked = process.env.THROUGHTIME_GPU || "0";
  if (!/^\d{1,3}$/.test(asked)) throw new RangeError(`THROUGHTIME_GPU: must be the number of a GPU, from 0, but is ${asked}`);
  return Number(asked);
}

let cuda: NativeBackend | Error | null = null;

/** The process's GPU. @throws if it cannot be used here, saying why. */
export function loadCuda(): NativeBackend {
  try {
    cuda ??= openCuda();
  } catch (error) {
    cuda = error instanceof Error ? error : new Error(String(error));
  }
  if (cuda instanceof Error) throw new Error(`the cuda device cannot be used: ${cuda.message}`, { cause: cuda });
  return cuda;
}

/** A GPU with a queue of its own. @throws if there is none. */
export function openCuda(): NativeBackend {
  const library = cudaLibrary();
  return new NativeBackend(addon!.openCuda(library, gpuAsked()), 1, "cuda");
}

/** What there is of a GPU, and if nothing, why; never throws. Takes none of its memory but what the driver needs to tell. */
export function cudaInfo(): BackendInfo {
  try {
    const library = cudaLibrary();
    if (cuda instanceof Error) throw cuda;
    return { name: "cuda", available: true, ...addon!.cudaInfo(library, gpuAsked()) };
  } catch (error) {
    return { name: "cuda", available: false, reason: (error instanceof Error ? error.message : String(error)).trim() };
  }
}
