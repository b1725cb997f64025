import type { Case, CaseInput } from "../tensor/op.js";
import type { CellSpec } from "./sweep.js";
import { listed, type SweepAttrs, type SweepInputs } from "./sweepInputs.js";

/** What may be combined in one example. */
interface Parts {
  readonly n: number;
  readonly steps: number;
  readonly features: number;
  readonly hidden: number;
  readonly reverse?: boolean;
  readonly bias?: boolean;
  readonly state?: boolean;
  readonly lengths?: readonly number[];
  readonly options?: readonly Option[];
  readonly checkpoint?: boolean;
}

type Option =
  | "gain"
  | "projection"
  | "norm"
  | "carried norm"
  | "clip"
  | "projected x"
  | "recurrent dropout"
  | "candidate dropout"
  | "zoneout"
  | "table";

/** Examples of a cell: sizes and lengths, then each option alone and with others, over all corners of a batch. */
export function sweepCases(cell: CellSpec<string, string, string>): Case<SweepAttrs>[] {
  const sizes: Parts[] = [
    { n: 1, steps: 1, features: 1, hidden: 1, bias: true, state: true },
    { n: 2, steps: 5, features: 3, hidden: 4 },
    { n: 3, steps: 4, features: 7, hidden: 13, reverse: true, bias: true, state: true },
    { n: 4, steps: 6, features: 5, hidden: 7, bias: true, state: true, lengths: [6, 0, 3, 1] },
    { n: 5, steps: 7, features: 2, hidden: 16, reverse: true, bias: true, state: true, lengths: [2, 7, 0, 5, 1] },
    { n: 7, steps: 3, features: 13, hidden: 33, bias: true, lengths: [3, 3, 1, 2, 3, 3, 0] },
    { n: 33, steps: 2, features: 9, hidden: 40, reverse: true, state: true },
  ];
  const corners: Partial<Parts>[] = [
    { bias: true, state: true, lengths: [5, 0, 3] },
    { reverse: true, bias: true, state: true, lengths: [1, 5, 4] },
    {},
  ];
  const offered = optionsOf(cell);
  const sets: Option[][] = [...offered.map((option) => [option]), ...offered.slice(1).map((option, i) => [offered[i], option])];
  if (offered.length > 2) sets.push(offered.filter((option) => option !== "carried norm"));
  const small = { n: 3, steps: 5, features: 4, hidden: 13 };
  return [
    ...sizes.map((parts) => example(cell, parts)),
    ...sets.flatMap((options, i) => [
      example(cell, { ...small, ...corners[i % corners.length], options }),
      ...(options.length === 1 ? [example(cell, { ...small, hidden: 37, n: 1, steps: 1, bias: i % 2 === 0, state: true, options })] : []),
    ]),
    example(cell, { ...small, ...corners[0], n: 4, lengths: [5, 0, 3, 1], checkpoint: true }),
    example(cell, { ...small, ...corners[1], hidden: 37, options: ["table"], checkpoint: true }),
    example(cell, { ...small, ...corners[2], hidden: 37, reverse: true, options: offered.slice(0, 2), checkpoint: true }),
    ...sets.slice(-1).map((options) => example(cell, { n: 19, steps: 4, features: 6, hidden: 40, bias: true, state: true, options })),
  ];
}

function optionsOf({ gates, states, recurrent, normed, inner }: CellSpec<string, string, string>): Option[] {
  const dense = recurrent !== "diagonal";
  const offered: [Option, boolean][] = [
    ["recurrent dropout", true],
    ["zoneout", true],
    ["candidate dropout", gates.some((gate) => gate === "g" || gate === "n")],
    ["projected x", true],
    ["table", true],
    ["clip", states.includes("c")],
    ["gain", dense && !inner],
    ["norm", normed !== undefined],
    ["carried norm", normed !== undefined],
    ["projection", dense && !inner && (normed !== undefined || gates.length === 1)],
  ];
  return offered.flatMap(([option, on]) => (on ? [option] : []));
}

function example(cell: CellSpec<string, string, string>, parts: Parts): Case<SweepAttrs> {
  const { n, steps, features, hidden, reverse = false, bias, state, lengths, options = [], checkpoint } = parts;
  const has = (option: Option) => options.includes(option);
  const rows = cell.gates.length * hidden;
  // A Jordan network may give more numbers than it has units.
  const projected = cell.gates.length === 1 ? hidden + 3 : Math.ceil(hidden / 2);
  const width = has("projection") ? projected : hidden;
  const when = (on: boolean | undefined, shape: readonly number[], range = {}): CaseInput => (on ? { shape, ...range } : null);
  const mask = (shape: readonly number[]): CaseInput => ({ shape, low: 0, high: 1, constant: true });
  const normed = has("norm") || has("carried norm");
  const inputs: Partial<Record<keyof SweepInputs, CaseInput>> = {
    x: { shape: has("table") ? [5, rows] : [n, steps, has("projected x") ? rows : features] },
    weightIh: when(!has("projected x") && !has("table"), [rows, features]),
    weightHh: { shape: cell.recurrent === "diagonal" ? [rows] : [rows, width] },
    biasIh: when(bias, [rows]),
    biasHh: when(bias, [rows]),
    lengths: lengths ? { shape: [n], dtype: "int32", values: lengths } : null,
    gainHh: when(has("gain"), [rows], { low: 0.5, high: 1.5 }),
    vectors: when(cell.vectors !== undefined, [cell.vectors?.length ?? 0, hidden]),
    weightHr: when(has("projection"), [width, hidden]),
    biasHr: when(has("projection") && bias, [width]),
    gainC: when(normed, [hidden], { low: 0.5, high: 1.5 }),
    biasC: when(normed && bias, [hidden]),
    dropHidden: has("recurrent dropout") ? mask([n, 1, width]) : null,
    dropCandidate: has("candidate dropout") ? mask([n, steps, hidden]) : null,
    ids: has("table") ? { shape: [n, steps], dtype: "int32", values: Array.from({ length: n * steps }, (_, i) => (i * i) % 4) } : null,
  };
  const each = (make: (last: number, i: number) => CaseInput) =>
    Object.fromEntries(cell.states.map((s, i) => [s, make(s === "h" ? width : hidden, i)]));
  const update = has("zoneout") ? each((last, i) => mask([i === 0 ? n : 1, steps, last])) : {};
  const initial = state
    ? each((last, i) => ({ shape: [n, last], ...(cell.positive?.includes(cell.states[i]) && { low: 0.5, high: 1.5 }) }))
    : {};
  const attrs: SweepAttrs = {
    reverse,
    ...(checkpoint && { checkpoint }),
    ...(has("clip") ? { cellClip: 0.4 } : {}),
    ...(has("carried norm") && !has("norm") ? { carryNormalised: true } : {}),
  };
  // Without an initial state the first product is zero, and its normalisation multiplies gradients by 1 / sqrt(eps), 316.
  const tolerance = has("gain") && !state ? 3e-5 : 1e-5;
  return { inputs: listed<NonNullable<CaseInput>>(cell, inputs, update, initial), attrs, tolerance };
}
