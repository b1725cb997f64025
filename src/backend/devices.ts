import type { Backend, BackendInfo } from "./backend.js";
import { cudaInfo, loadCuda, loadNative, nativeInfo, NativeBackend } from "./native.js";
import { profile, type Profile } from "./profile.js";
import { ReferenceBackend } from "./reference.js";

export type DeviceName = "cpu" | "cuda" | "reference";

const opened = new Map<DeviceName, Backend>();
let chosen: Backend | null = null;

function open(name: DeviceName): Backend {
  let backend = opened.get(name);
  if (!backend) {
    if (name === "cpu") backend = loadNative();
    else if (name === "cuda") backend = loadCuda();
    else if (name === "reference") backend = new ReferenceBackend();
    else throw new RangeError(`device: name must be "cpu", "cuda" or "reference" but is ${JSON.stringify(name)}`);
    opened.set(name, backend);
  }
  return backend;
}

/**
 * The processor, or the reference where the addon does not load; unless THROUGHTIME_DEVICE names another. A GPU is never chosen by
 * itself: small models are slower there.
 */
function best(): Backend {
  const asked = process.env.THROUGHTIME_DEVICE;
  if (asked) return open(asked as DeviceName);
  return open(nativeInfo().available ? "cpu" : "reference");
}

/**
 * A device by name, or the process's default one.
 * @throws if the device cannot be used, saying why.
 */
function get(name?: DeviceName): Backend {
  return name === undefined ? (chosen ??= best()) : open(name);
}

/**
 * `device(name?)` gives a device; `device.use(name)` makes one the default; `device.info()` says what there is and why not;
 * `device.profile(body, name?)` runs `body`, waits for it and for the device, and says where the time went.
 */
export const device = Object.assign(get, {
  use(name: DeviceName): Backend {
    return (chosen = open(name));
  },
  /** @throws what `body` throws, and if a profile of the device is being taken already. */
  profile(body: () => unknown, name?: DeviceName): Promise<Profile> {
    return profile(get(name), body);
  },
  info(): { readonly default: string; readonly devices: readonly BackendInfo[] } {
    return { default: get().name, devices: [nativeInfo(), cudaInfo(), open("reference").info()] };
  },
});

/**
 * How many threads the cpu device computes with; by default all cores it may use, or THROUGHTIME_THREADS. Results do not
 * depend on it. More threads than cores would wait for each other: as many as there are cores run at a time, whatever
 * number above that is asked for. Waits for what is queued. A worker has a device, and threads, of its own. Does nothing
 * without the native addon. @throws unless an integer of at least 1.
 */
export function setThreads(threads: number): void {
  if (!Number.isInteger(threads) || threads < 1)
    throw new RangeError(`setThreads: threads must be an integer of at least 1 but is ${threads}`);
  const cpu = nativeInfo().available ? open("cpu") : null;
  if (cpu instanceof NativeBackend) cpu.setThreads(threads);
}
