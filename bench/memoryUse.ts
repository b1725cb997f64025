import { readFileSync, writeFileSync } from "node:fs";

/** What memory a case takes, in MiB beyond that of the idle process, and how often it had to ask the system for a page. */
export interface MemoryUse {
  readonly peak_mib: number;
  /** After the last step. */
  readonly end_mib: number;
  /** Page faults of one step, over the second half of the steps. */
  readonly faults: number;
}

function status(field: string): number {
  const found = new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(readFileSync("/proc/self/status", "utf8"));
  if (!found) throw new Error(`memory is measured where /proc/self/status has ${field}`);
  return Number(found[1]) / 1024;
}

/** Runs `build` and then `steps` calls of what it gives. To be called once in a process that has done nothing yet. */
export function memoryUse(build: () => () => void, steps: number): MemoryUse {
  writeFileSync("/proc/self/clear_refs", "5"); // the peak begins here
  const idle = status("VmRSS");
  const faults = () => process.resourceUsage().minorPageFault;
  const step = build();
  const half = steps >> 1;
  for (let k = 0; k < half; k++) step();
  const before = faults();
  for (let k = half; k < steps; k++) step();
  const later = faults() - before;
  return { peak_mib: status("VmHWM") - idle, end_mib: status("VmRSS") - idle, faults: later / (steps - half) };
}
