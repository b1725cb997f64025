import { embedding } from "./embedding.js";
import { sameShape, showShape, type MaybeSpec, type MaybeTensor, type Shape, type Spec } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import type { Precision } from "./precision.js";
import type { CellSpec } from "./sweep.js";

type AnyCell = Pick<CellSpec<string, string, string>, "gates" | "states" | "vectors" | "recurrent" | "normed" | "inner">;

export interface SweepAttrs {
  /** From the last valid step to the first. */
  readonly reverse: boolean;
  /** Bound of a cell state; 0 for none. */
  readonly cellClip?: number;
  /** Whether the next step is given the normalised cell state instead of the state itself. */
  readonly carryNormalised?: boolean;
  /** Applied to the projection. */
  readonly outputActivation?: "linear" | "tanh" | "sigmoid";
  /** Keep nothing for the gradients but inputs, outputs and states: what else they need is computed again. */
  readonly checkpoint?: boolean;
  /** Of the products W x, U h and of the projection; gradients are those of float32. Default float32. */
  readonly precision?: Precision;
}

/**
 * Inputs of one sweep of one layer in one direction. H units; P numbers of h, H unless there is a projection.
 * A mask may have 1 in place of N or T, and gets no gradient.
 */
export interface SweepInputs {
  /**
   * [N, T, I]; or W x itself, [N, T, gates * H], where there is no weightIh; or, where there are ids, a table of it,
   * [rows, gates * H].
   */
  readonly x: Tensor;
  /** [gates * H, I] */
  readonly weightIh?: MaybeTensor;
  /** [gates * H, P], or [gates * H] of a diagonal recurrence */
  readonly weightHh: Tensor;
  /** [gates * H]; added after the normalisation of what it belongs to, as is biasHh. */
  readonly biasIh?: MaybeTensor;
  /** [gates * H] */
  readonly biasHh?: MaybeTensor;
  /** int32 [N]: valid steps of each row; all by default. */
  readonly lengths?: MaybeTensor;
  /** [gates * H]; the recurrent product is layer-normalised, all gates of it together, and multiplied by this. */
  readonly gainHh?: MaybeTensor;
  /** [vectors, H]; the weights of each unit alone. */
  readonly vectors?: MaybeTensor;
  /** [P, H]; h is this projection of what the cell gives. */
  readonly weightHr?: MaybeTensor;
  /** [P] */
  readonly biasHr?: MaybeTensor;
  /** [H]; the cell state is layer-normalised and multiplied by this. */
  readonly gainC?: MaybeTensor;
  /** [H] */
  readonly biasC?: MaybeTensor;
  /** [N, T, P]; what h is multiplied by where the recurrent product reads it. */
  readonly dropHidden?: MaybeTensor;
  /** [N, T, H]; what the candidate value is multiplied by. */
  readonly dropCandidate?: MaybeTensor;
  /** int32 [N, T]: W x of a step is this row of x. */
  readonly ids?: MaybeTensor;
  /** By state, [N, T, H] ([N, T, P] of h): m in m * new + (1 - m) * old. */
  readonly update?: Readonly<Record<string, MaybeTensor>>;
}

const names = [
  "x",
  "weightIh",
  "weightHh",
  "biasIh",
  "biasHh",
  "lengths",
  "gainHh",
  "vectors",
  "weightHr",
  "biasHr",
  "gainC",
  "biasC",
  "dropHidden",
  "dropCandidate",
  "ids",
] as const;

/** The inputs of a sweep op by name; `update` and `initial` are lists in the order of the states. */
export type Named<T> = Record<(typeof names)[number], T | null> & { readonly update: (T | null)[]; readonly initial: (T | null)[] };

/** Names a list of inputs: those of `names`, the update masks, the initial states. */
export function inputsOf<T>({ states }: AnyCell, list: readonly (T | null)[]): Named<T> {
  const named: Record<string, unknown> = {}; // filled in a loop: this runs several times a sweep
  for (let i = 0; i < names.length; i++) named[names[i]] = list[i] ?? null;
  const part = (from: number) => states.map((_, i) => list[from + i] ?? null);
  named.update = part(names.length);
  named.initial = part(names.length + states.length);
  return named as Named<T>;
}

/** The list that `inputsOf` names. */
export function listed<T>(
  { states }: AnyCell,
  inputs: Partial<Record<(typeof names)[number], T | null>>,
  update: Readonly<Partial<Record<string, T | null>>> = {},
  initial: Readonly<Partial<Record<string, T | null>>> = {},
): (T | null)[] {
  return [...names.map((name) => inputs[name] ?? null), ...states.map((s) => update[s] ?? null), ...states.map((s) => initial[s] ?? null)];
}

/** The same list with x by row and step instead of a table and ids. */
export function withoutTable(inputs: readonly MaybeTensor[]): readonly MaybeTensor[] {
  const at = names.indexOf("ids");
  const ids = inputs[at];
  return ids ? inputs.with(0, embedding(ids, inputs[0]!)).with(at, null) : inputs;
}

/** Whether weights (or ids in place of those of the input), biases, lengths and initial states are all there is. */
export function isPlain(inputs: Named<unknown>, { cellClip = 0 }: SweepAttrs): boolean {
  const options = names.slice(names.indexOf("gainHh"), names.indexOf("ids")).map((name) => inputs[name]);
  return (
    (inputs.weightIh !== null || inputs.ids !== null) && cellClip === 0 && [...options, ...inputs.update].every((option) => option === null)
  );
}

/** How far each mask moves with the row and with the step, in elements: for the kernels. */
export function maskStrides({ dropHidden, dropCandidate, update }: Named<Spec>): number[] {
  const strides: number[] = [];
  for (const mask of [dropHidden, dropCandidate, ...update]) {
    const [n, steps, width] = mask?.shape ?? [1, 1, 0];
    strides.push(n > 1 ? steps * width : 0, steps > 1 ? width : 0);
  }
  return strides;
}

/** The sizes of a sweep. @throws naming the input that does not fit. */
export function checkSweep(name: string, cell: AnyCell, inputs: Named<Spec>, attrs: SweepAttrs) {
  const { x, weightIh, weightHh, lengths, weightHr, ids } = inputs;
  const fail = (message: string) => {
    throw new RangeError(`${name}: ${message}`);
  };
  const expect = (what: string, spec: MaybeSpec, shape: Shape) => {
    if (spec && !sameShape(spec.shape, shape)) fail(`${what} must be ${showShape(shape)} but is ${showShape(spec.shape)}`);
  };
  const axes = ids ? ["rows", "gates * H"] : ["N", "T", "I"];
  if (!x || x.shape.length !== axes.length) return fail(`x must be ${showShape(axes)} but is ${showShape(x?.shape ?? [])}`);
  if (ids && (ids.shape.length !== 2 || ids.dtype !== "int32"))
    fail(`ids must be int32 [N, T] but are ${ids.dtype} ${showShape(ids.shape)}`);
  if (ids && weightIh) fail("x is a table of W x where there are ids, so that weightIh must be absent");
  if (!weightHh) return fail("weightHh is absent");
  const [n, steps] = (ids ?? x).shape;
  const features = x.shape.at(-1)!;
  const rows = weightHh.shape[0];
  const hidden = rows / cell.gates.length;
  const width = weightHr ? weightHr.shape[0] : hidden;
  if (x.dtype === "int32") throw new TypeError(`${name}: x must be float32 or float64 but is int32`);
  const floating = (spec: MaybeSpec) => {
    if (spec && spec.dtype !== x.dtype)
      throw new TypeError(`${name}: weights, masks and states must be ${x.dtype} as x but one is ${spec.dtype}`);
  };
  for (const what of names) if (what !== "lengths" && what !== "ids") floating(inputs[what]);
  inputs.update.forEach(floating);
  inputs.initial.forEach(floating);
  if (weightIh) expect("weightIh", weightIh, [rows, features]);
  else expect("x without weightIh", x, [...x.shape.slice(0, -1), rows]);
  expect("weightHh", weightHh, cell.recurrent === "diagonal" ? [rows] : [rows, width]);
  for (const what of ["biasIh", "biasHh", "gainHh"] as const) expect(what, inputs[what], [rows]);
  expect("lengths", lengths, [n]);
  expect("vectors", inputs.vectors, [cell.vectors?.length ?? 0, hidden]);
  expect("weightHr", weightHr, [width, hidden]);
  expect("biasHr", inputs.biasHr, [width]);
  for (const what of ["gainC", "biasC"] as const) expect(what, inputs[what], [hidden]);
  const mask = (what: string, spec: MaybeSpec, last: number) => {
    if (!spec) return;
    const [rowsOf, stepsOf, lastOf] = spec.shape;
    if (spec.shape.length !== 3 || (rowsOf !== n && rowsOf !== 1) || (stepsOf !== steps && stepsOf !== 1) || lastOf !== last)
      fail(`${what} must be ${showShape([`${n} or 1`, `${steps} or 1`, last])} but is ${showShape(spec.shape)}`);
  };
  mask("dropHidden", inputs.dropHidden, width);
  mask("dropCandidate", inputs.dropCandidate, hidden);
  cell.states.forEach((state, i) => {
    const last = state === "h" ? width : hidden;
    expect(`state ${state}`, inputs.initial[i], [n, last]);
    mask(`update of ${state}`, inputs.update[i], last);
  });
  if ((inputs.vectors === null) !== (cell.vectors === undefined))
    fail(`vectors ${cell.vectors ? "are absent" : "are not what this cell has"}`);
  if ((inputs.biasHr && !weightHr) || (inputs.biasC && !inputs.gainC)) fail("biasHr needs weightHr, and biasC needs gainC");
  if (inputs.gainC && cell.normed === undefined) fail("the cell has no state to normalise");
  if (cell.recurrent === "diagonal" && (inputs.gainHh ?? weightHr)) fail("a diagonal recurrence takes neither gainHh nor weightHr");
  if (cell.inner && (inputs.gainHh ?? weightHr)) fail("a cell with a second product in its step takes neither gainHh nor weightHr");
  if (attrs.cellClip !== undefined && !(attrs.cellClip >= 0)) fail(`cellClip must be at least 0 but is ${attrs.cellClip}`);
  return { n, steps, features, hidden, width };
}
