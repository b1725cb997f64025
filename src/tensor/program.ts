import type { Backend, KernelCall, TypedArray } from "../backend/backend.js";

interface Recording {
  readonly backend: Backend;
  readonly calls: KernelCall[];
  readonly freed: number[];
}

let recording: Recording | null = null;

/** The one place from which kernels are queued. */
export function run(backend: Backend, call: KernelCall): void {
  backend.run(call);
  if (!recording) return;
  if (recording.backend !== backend)
    throw new Error(
      `capture: a program runs on one device, but ${call.kernel} was called on ${backend.name} inside one on ${recording.backend.name}`,
    );
  recording.calls.push(call);
}

/** The one place from which buffers are given back. What a program being captured writes stays with the program. */
export function release(backend: Backend, buffer: number): void {
  if (recording?.backend === backend) recording.freed.push(buffer);
  else backend.free(buffer);
}

/** Kernel calls captured once, to be run again on the same buffers with new input. */
export class Program {
  private id: number;

  private constructor(
    private readonly backend: Backend,
    calls: readonly KernelCall[],
    private readonly buffers: readonly number[],
  ) {
    this.id = backend.compile(calls);
  }

  /** Runs `body` once and keeps the kernel calls it makes. */
  static capture<T>(backend: Backend, body: () => T): { result: T; program: Program } {
    if (recording) throw new Error("capture: cannot be nested");
    const mine: Recording = { backend, calls: [], freed: [] };
    recording = mine;
    try {
      const result = body();
      return { result, program: new Program(backend, mine.calls, mine.freed) };
    } catch (error) {
      for (const buffer of mine.freed) backend.free(buffer);
      throw error;
    } finally {
      recording = null;
    }
  }

  /** Copies `data` into `input`, runs the calls, and copies `output` out, into `into` if given. Blocks. */
  replay(input: number, data: TypedArray, output: number, into?: TypedArray): TypedArray {
    return this.backend.replay(this.id, input, data, output, into);
  }

  dispose(): void {
    if (this.id === 0) return;
    this.backend.release(this.id);
    for (const buffer of this.buffers) this.backend.free(buffer);
    this.id = 0;
  }
}
