import type { Case, CaseInput } from "../tensor/op.js";
import type { MatrixScanAttrs } from "./matrixScanInputs.js";

interface Parts {
  readonly n: number;
  readonly steps: number;
  readonly groups?: number;
  readonly heads: number;
  readonly keys: number;
  readonly values: number;
  readonly decay?: "constant" | "constants" | "scalar" | "vector";
  readonly lowRank?: boolean;
  readonly read?: "new" | "old";
  readonly normaliser?: boolean;
  readonly state?: boolean;
  readonly lengths?: readonly number[];
}

/** Sizes around the widths of vectors and chunks, each kind of decay, and what goes with it in the layers made of it. */
export function matrixScanCases(): Case<MatrixScanAttrs>[] {
  const odd = { n: 2, steps: 5, heads: 3, keys: 7, values: 13 };
  const parts: Parts[] = [
    { n: 1, steps: 1, heads: 1, keys: 1, values: 1, state: true },
    { ...odd },
    { ...odd, decay: "constant", state: true },
    { ...odd, decay: "constants", read: "old", lengths: [3, 5] },
    { ...odd, decay: "scalar", groups: 1, state: true, lengths: [0, 5] },
    { ...odd, decay: "vector", state: true, lengths: [4, 1] },
    { ...odd, decay: "vector", read: "old", state: true },
    { ...odd, lowRank: true, state: true },
    { ...odd, decay: "scalar", lowRank: true, lengths: [2, 5] },
    { ...odd, decay: "vector", lowRank: true, state: true, lengths: [5, 3] },
    { ...odd, decay: "vector", lowRank: true, read: "old" },
    { ...odd, normaliser: true, state: true, lengths: [0, 4] },
    { ...odd, decay: "scalar", normaliser: true },
    { n: 2, steps: 3, groups: 2, heads: 4, keys: 16, values: 33, decay: "scalar", state: true },
    { n: 1, steps: 37, heads: 2, keys: 17, values: 5, decay: "vector", state: true },
    { n: 2, steps: 67, heads: 1, keys: 5, values: 34, decay: "scalar", lowRank: true, normaliser: true, lengths: [66, 33] },
    { n: 1, steps: 3, heads: 1, keys: 65, values: 70, decay: "vector", lowRank: true, state: true },
  ];
  return parts.map(example);
}

function example({
  n,
  steps,
  heads,
  groups = heads,
  keys,
  values,
  decay,
  lowRank,
  read = "new",
  normaliser = false,
  ...rest
}: Parts): Case<MatrixScanAttrs> {
  const { state, lengths } = rest;
  const some = (wanted: unknown, shape: readonly number[]): CaseInput => (wanted ? { shape, low: -0.6, high: 0.6 } : null);
  const shapes = { constant: [heads], constants: [heads, keys], scalar: [n, steps, heads], vector: [n, steps, heads, keys] };
  return {
    inputs: [
      { shape: [n, steps, groups, keys] },
      { shape: [n, steps, groups, keys] },
      { shape: [n, steps, heads, values] },
      decay ? { shape: shapes[decay], low: -1, high: 0 } : null,
      some(lowRank, [n, steps, heads, keys]),
      some(lowRank, [n, steps, heads, keys]),
      some(state, [n, heads, keys, values]),
      some(state && normaliser, [n, heads, keys]),
      lengths ? { shape: [n], dtype: "int32", values: lengths } : null,
    ],
    attrs: { read, normaliser },
  };
}
