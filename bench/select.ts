import { loadCases, type BenchCase } from "./cases.js";

/** The flags that say which cases, for `parseArgs`. */
export const caseFlags = {
  cases: { type: "string" },
  shapes: { type: "string" },
  cells: { type: "string" },
  modes: { type: "string" },
  threads: { type: "string" },
} as const;

export type CaseFlags = Readonly<Partial<Record<keyof typeof caseFlags, string>>>;

const listed = (value: string, list: string | undefined) => list === undefined || list.split(",").includes(value);

/** The cases the flags choose, of the project's own table unless a file is named. @throws if there are none. */
export function selectCases({ cases, shapes, cells, modes }: CaseFlags): BenchCase[] {
  const all = loadCases(cases ?? process.env.PEERS_CASES ?? new URL("cases.json", import.meta.url));
  const chosen = all.filter((c) => listed(c.shape, shapes) && listed(c.cell, cells) && listed(c.mode, modes));
  if (chosen.length === 0) throw new Error("no case has such a shape, cell and mode");
  return chosen;
}

/** The number of threads asked for. @throws if it is not a positive integer. */
export function threadsOf({ threads }: CaseFlags): number | undefined {
  if (threads === undefined) return undefined;
  if (!/^[1-9]\d{0,3}$/.test(threads)) throw new RangeError(`--threads must be a positive integer but is ${threads}`);
  return Number(threads);
}

/** Ends the program with a message for whoever typed the command. */
export function stop(error: unknown): never {
  console.error(`bench: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(2);
}
