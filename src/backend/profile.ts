import { performance } from "node:perf_hooks";
import type { Backend, KernelTime } from "./backend.js";

/** Where the time of a piece of work went. */
export interface Profile {
  /** Seconds from beginning to end. */
  readonly seconds: number;
  /** The kernels that ran, those that took longest in all first. */
  readonly kernels: readonly KernelTime[];
  /** Seconds during which a kernel ran. */
  readonly busy: number;
  /** Seconds during which none did: the device waited for JavaScript to ask for more, or JavaScript for a result. */
  readonly idle: number;
  /** Seconds during which the calling thread computed something other than kernels, here or elsewhere in the program. */
  readonly javascript: number;
}

const profiled = new WeakSet<Backend>();

/** @internal `device.profile`. */
export async function profile(backend: Backend, body: () => unknown): Promise<Profile> {
  if (profiled.has(backend)) throw new Error(`device.profile: a profile of the ${backend.name} device is being taken already`);
  profiled.add(backend);
  try {
    backend.profile(true);
    const before = performance.eventLoopUtilization();
    const start = performance.now();
    await body();
    const { kernels, inline, waited } = backend.profile(false);
    const seconds = (performance.now() - start) / 1e3;
    const active = performance.eventLoopUtilization(before).active / 1e3;
    const busy = kernels.reduce((sum, kernel) => sum + kernel.seconds, 0);
    return {
      seconds,
      kernels: kernels.toSorted((a, b) => b.seconds - a.seconds),
      busy,
      idle: Math.max(0, seconds - busy),
      javascript: Math.max(0, Math.min(active, seconds) - inline - waited),
    };
  } finally {
    backend.profile(false);
    profiled.delete(backend);
  }
}
