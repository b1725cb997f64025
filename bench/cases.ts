import { readFileSync } from "node:fs";

export type CellName = "lstm" | "gru" | "rnn_tanh";
export type Mode = "train" | "infer" | "stream";

/** What is timed: T steps of B sequences with I features, through `layers` layers of H units. */
export interface BenchCase {
  /** shape/cell/mode */
  readonly id: string;
  readonly shape: string;
  readonly cell: CellName;
  readonly mode: Mode;
  readonly T: number;
  readonly B: number;
  readonly I: number;
  readonly H: number;
  readonly layers: number;
  readonly bidirectional: boolean;
  /** Train with `checkpoint: true`. */
  readonly checkpoint?: boolean;
}

type Shape = Pick<BenchCase, "T" | "B" | "I" | "H" | "layers" | "bidirectional"> & { readonly id: string; readonly modes: readonly Mode[] };

export const gates: Readonly<Record<CellName, number>> = { lstm: 4, gru: 3, rnn_tanh: 1 };
const modes: readonly Mode[] = ["train", "infer", "stream"];

/** Every case of a table such as cases.json, cell by cell. @throws naming what is wrong with the table. */
export function loadCases(path: string | URL): BenchCase[] {
  const table = JSON.parse(readFileSync(path, "utf8")) as { cells?: CellName[]; shapes?: Shape[] };
  const fail = (what: string): never => {
    throw new Error(`${String(path)}: ${what}`);
  };
  const { cells, shapes } = table;
  if (!Array.isArray(cells) || !Array.isArray(shapes)) return fail("a table of cases has cells and shapes");
  for (const cell of cells) if (!(cell in gates)) fail(`cell must be one of ${Object.keys(gates).join(", ")} but is ${String(cell)}`);
  return cells.flatMap((cell) =>
    shapes.flatMap(({ id, modes: wanted, ...sizes }) => {
      for (const [name, n] of Object.entries(sizes)) {
        if (name !== "bidirectional" && !(Number.isInteger(n) && (n as number) > 0))
          fail(`shape ${id}: ${name} must be a positive integer but is ${String(n)}`);
      }
      return wanted.map((mode) => {
        if (!modes.includes(mode)) fail(`shape ${id}: mode must be one of ${modes.join(", ")} but is ${String(mode)}`);
        return { id: `${id}/${cell}/${mode}`, shape: id, cell, mode, ...sizes };
      });
    }),
  );
}

/** Floating-point operations of the matrix products; a training step counts as three forward passes. */
export function flops({ mode, cell, T, B, I, H, layers, bidirectional }: BenchCase): number {
  const directions = bidirectional ? 2 : 1;
  let forward = 0;
  for (let layer = 0; layer < layers; layer++) {
    const inputs = layer === 0 ? I : H * directions;
    forward += 2 * T * B * gates[cell] * H * (inputs + H) * directions;
  }
  return mode === "train" ? 3 * forward : forward;
}
