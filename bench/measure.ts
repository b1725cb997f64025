import { readFileSync } from "node:fs";

/** Timed calls of one case. */
export interface Measurement {
  readonly first_ms: number;
  /** Milliseconds of each call. */
  readonly times: number[];
  readonly wall_s: number;
  /** Cores this process, and all others together, kept busy meanwhile. */
  readonly own_cores: number;
  readonly other_cores: number;
  readonly steal_cores: number;
}

/** Busy and stolen time of the whole machine in seconds; null where the system does not say. */
export function machineTime(): { busy: number; stolen: number } | null {
  try {
    const [user, nice, system, , , irq, softirq, steal] = readFileSync("/proc/stat", "utf8")
      .split("\n", 1)[0]
      .trim()
      .split(/\s+/)
      .slice(1)
      .map(Number);
    return { busy: (user + nice + system + irq + softirq + steal) / 100, stolen: steal / 100 };
  } catch {
    return null;
  }
}

const seconds = ({ user, system }: NodeJS.CpuUsage) => (user + system) / 1e6;

/** Times single calls for about `budget` seconds, after a warm-up: at least 3 calls, or 1 if a call takes over 2 s. */
export function measure(step: () => void, budget: number): Measurement {
  const now = () => performance.now();
  const timed = () => {
    const start = now();
    step();
    return now() - start;
  };
  const first_ms = timed();
  if (first_ms < 2000) for (let k = 0, start = now(); k < 2 || (now() - start < 100 && k < 200); k++) step();
  const times: number[] = [];
  const before = machineTime();
  const cpu = process.cpuUsage();
  const start = now();
  for (;;) {
    const last = timed();
    times.push(last);
    if (times.length >= 2000 || (now() - start >= budget * 1000 && (times.length >= 3 || last > 2000))) break;
  }
  const wall_s = (now() - start) / 1000;
  const own = seconds(process.cpuUsage(cpu));
  const after = machineTime();
  const busy = before && after ? after.busy - before.busy : own;
  const stolen = before && after ? after.stolen - before.stolen : 0;
  return { first_ms, times, wall_s, own_cores: own / wall_s, other_cores: Math.max(0, busy - own) / wall_s, steal_cores: stolen / wall_s };
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}
