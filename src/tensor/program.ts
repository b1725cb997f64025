import type { Backend, KernelCall } from "../backend/backend.js";

interface Recording {
  readonly backend: Backend;
  readonly calls: KernelCall[];
}

let recording: Recording | null = null;

/** The one place from which kernels are queued. */
export function run(backend: Backend, call: KernelCall): void {
  backend.run(call);
  if (!recording) return;
  if (recording.backend !== backend) throw new Error(`capture: a program runs on one device, but ${call.kernel} was called on ${backend.name} inside one on ${recording.backend.name}`);
  recording.calls.push(call);
}

/** Runs `body` once and returns the kernel calls it made, to be replayed on the same buffers. */
export function capture<T>(backend: Backend, body: () => T): { result: T; calls: readonly KernelCall[] } {
  if (recording) throw new Error("capture: cannot be nested");
  const mine: Recording = { backend, calls: [] };
  recording = mine;
  try {
    return { result: body(), calls: mine.calls };
  } finally {
    recording = null;
  }
}
