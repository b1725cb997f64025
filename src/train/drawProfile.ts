import type { Profile } from "../backend/profile.js";
import { checkCount, checkOptions } from "../tensor/check.js";

/** Options of `drawProfile`. */
export interface ProfileDrawingOptions {
  /** How many equal steps the profile covers: times and calls are shown for one of them. Default 1. */
  readonly steps?: number;
  /** How many kernels have a line of their own, the rest sharing one. Default 20. */
  readonly kernels?: number;
}

/**
 * A profile as a table in plain text, without a line break at the end: for each kernel its calls, its milliseconds and its
 * share of the time; then the time during which no kernel ran, the whole, and what JavaScript took on its own thread
 * meanwhile.
 */
export function drawProfile(profile: Profile, options: ProfileDrawingOptions = {}): string {
  checkOptions("drawProfile", options, ["steps", "kernels"]);
  const { steps = 1, kernels: most = 20 } = options;
  checkCount("drawProfile", "steps", steps);
  checkCount("drawProfile", "kernels", most);
  const { kernels, seconds, idle, javascript } = profile;
  const rest = kernels.slice(most);
  const total = (pick: "calls" | "seconds") => rest.reduce((sum, kernel) => sum + kernel[pick], 0);
  const rows: (readonly [name: string, seconds: number, calls?: number])[] = [
    ...kernels.slice(0, most).map((k) => [k.kernel, k.seconds, k.calls] as const),
    ...(rest.length > 0 ? [[`${rest.length} others`, total("seconds"), total("calls")] as const] : []),
    ["no kernel", idle],
    ["all", seconds],
    ["JavaScript meanwhile", javascript],
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  const calls = (n: number | undefined) => (n === undefined ? "" : String(Number((n / steps).toFixed(1))));
  const line = (name: string, ...cells: string[]) => name.padEnd(width) + cells.map((cell) => cell.padStart(10)).join("");
  return [
    line("kernel", "calls", "ms", "share"),
    ...rows.map(([name, s, n]) => line(name, calls(n), ((s * 1e3) / steps).toFixed(3), `${((100 * s) / (seconds || 1)).toFixed(1)} %`)),
  ].join("\n");
}
