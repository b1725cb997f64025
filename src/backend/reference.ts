import { allocate, type Backend, type BackendInfo, type DType, type KernelCall, type KernelTimes, type TypedArray } from "./backend.js";

/** A plain loop over typed arrays: the meaning of a kernel. Absent optional arguments are `undefined`. */
export type ReferenceKernel = (
  inputs: readonly TypedArray[],
  outputs: readonly TypedArray[],
  ints: readonly number[],
  floats: readonly number[],
) => void;

const kernels = new Map<string, ReferenceKernel>();

/** Adds a kernel to the reference backend. Ops do this when they are defined. */
export function defineReference(name: string, kernel: ReferenceKernel): void {
  if (kernels.has(name)) throw new Error(`defineReference: kernel ${name} is defined twice`);
  kernels.set(name, kernel);
}

/** Names of all kernels there are. */
export const definedKernels = (): readonly string[] => [...kernels.keys()];

/** The readable backend: every kernel a JavaScript loop that computes in double precision, run at once. */
export class ReferenceBackend implements Backend {
  readonly name = "reference";
  readonly dtypes = ["float32", "float64", "int32"] as const;
  private readonly buffers = new Map<number, TypedArray>();
  private readonly programs = new Map<number, readonly KernelCall[]>();
  private next = 1;
  private bytes = 0;
  private times: Map<string, { calls: number; seconds: number }> | null = null;

  info(): BackendInfo {
    return { name: this.name, available: true, threads: 1 };
  }

  alloc(length: number, dtype: DType): number {
    const data = allocate(dtype, length);
    this.bytes += data.byteLength;
    this.buffers.set(this.next, data);
    return this.next++;
  }

  free(buffer: number): void {
    this.bytes -= this.at(buffer).byteLength;
    this.buffers.delete(buffer);
  }

  write(buffer: number, data: TypedArray): void {
    this.at(buffer).set(data);
  }

  read(buffer: number): Promise<TypedArray> {
    return Promise.resolve(this.readSync(buffer));
  }

  readSync(buffer: number): TypedArray {
    return this.at(buffer).slice();
  }

  has(kernel: string): boolean {
    return kernels.has(kernel);
  }

  kernelInfo(): number {
    return 0;
  }

  run({ kernel, inputs, outputs, ints, floats }: KernelCall): void {
    const body = kernels.get(kernel);
    if (!body) throw new Error(`reference: there is no kernel ${kernel}`);
    const view = (id: number) => (id === 0 ? undefined : this.at(id)) as TypedArray;
    const start = this.times ? performance.now() : 0;
    body(inputs.map(view), outputs.map(view), ints, floats);
    if (!this.times) return;
    const { calls, seconds } = this.times.get(kernel) ?? { calls: 0, seconds: 0 };
    this.times.set(kernel, { calls: calls + 1, seconds: seconds + (performance.now() - start) / 1e3 });
  }

  memory() {
    return { buffers: this.buffers.size, bytes: this.bytes };
  }

  compile(calls: readonly KernelCall[]): number {
    this.programs.set(this.next, calls);
    return this.next++;
  }

  replay(program: number, input: number, data: TypedArray, output: number, into?: TypedArray): TypedArray {
    const calls = this.programs.get(program);
    if (!calls) throw new Error(`reference: there is no program ${program}`);
    this.write(input, data);
    for (const call of calls) this.run(call);
    const result = into ?? allocate(this.dtypeOf(output), this.at(output).length);
    result.set(this.at(output));
    return result;
  }

  release(program: number): void {
    this.programs.delete(program);
  }

  profile(on: boolean): KernelTimes {
    const kernels = [...(this.times ?? [])].map(([kernel, time]) => ({ kernel, ...time }));
    this.times = on ? new Map() : null;
    return { kernels, inline: kernels.reduce((sum, { seconds }) => sum + seconds, 0), waited: 0 };
  }

  private dtypeOf(buffer: number): DType {
    const data = this.at(buffer);
    return data instanceof Float32Array ? "float32" : data instanceof Float64Array ? "float64" : "int32";
  }

  private at(buffer: number): TypedArray {
    const data = this.buffers.get(buffer);
    if (!data) throw new Error(`reference: buffer ${buffer} does not exist or was freed`);
    return data;
  }
}
