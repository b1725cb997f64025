import { checkOptions } from "../tensor/check.js";
import { showShape, type Shape } from "../tensor/op.js";
import { bernoulli, type RandomOptions } from "../tensor/random.js";
import type { Tensor } from "../tensor/tensor.js";
import type { Regularisation } from "./regularisation.js";

/**
 * The random masks of one pass through a recurrent layer, as `drawMasks` gives and `forward` takes them. Lists count
 * layers, then directions, as states do. What multiplies values is 0 or 1 / (1 - p); what updates states is 0 or 1.
 * I, O, H and P are the numbers of inputs, outputs (both directions together), units, and values of h. Shapes are those
 * that are drawn; a given mask of values or states may have 1 in place of N or T, where it is the same for all of them.
 */
export interface Masks<S extends string = string> {
  /** Of the input, [N, 1, I]. */
  readonly input?: Tensor;
  /** Of what passes from layer k to k + 1, entry k: [N, T, O], or [N, 1, O] if locked. */
  readonly between?: readonly Tensor[];
  /** Of the output, [N, 1, O]. */
  readonly output?: Tensor;
  /** Of h where the recurrent product reads it, [N, 1, P]. */
  readonly hidden?: readonly Tensor[];
  /** Of the candidate value, [N, T, H], or [N, 1, H] if one mask serves a sequence. */
  readonly candidate?: readonly Tensor[];
  /** By state, [N, T, H] ([N, T, P] of h): 1 takes the new state, 0 keeps the old one. */
  readonly update?: Readonly<Partial<Record<S, readonly Tensor[]>>>;
  /** Of the recurrent weights, in their shape. */
  readonly weight?: readonly Tensor[];
}

/** Sizes that masks depend on. */
export interface MaskSizes<S extends string> {
  readonly inputSize: number;
  readonly outputSize: number;
  readonly hiddenSize: number;
  readonly layers: number;
  readonly directions: number;
  /** The last axis of each state. */
  readonly widths: Readonly<Record<S, number>>;
  /** The last axis of what the recurrent product reads. */
  readonly width: number;
  readonly weight: Shape;
}

/** Each kind of mask: how many there are, and how large [.., last] or [N, T, last] one is. */
function kinds<S extends string>(sizes: MaskSizes<S>) {
  const { inputSize, outputSize, hiddenSize, layers, directions, widths, width, weight } = sizes;
  const sweeps = layers * directions;
  return {
    input: { last: inputSize },
    between: { count: layers - 1, last: outputSize },
    output: { last: outputSize },
    hidden: { count: sweeps, last: width },
    candidate: { count: sweeps, last: hiddenSize },
    update: { count: sweeps, lasts: widths },
    weight: { count: sweeps, shape: weight },
  };
}

/** Draws the masks of a pass over `rows` sequences of `steps` steps: none of a kind whose probability is 0. */
export function drawMasks<S extends string>(
  sizes: MaskSizes<S>,
  { dropout, locked, candidate, zoneout, weightDrop }: Regularisation<S>,
  rows: number,
  steps: number,
  settings: RandomOptions,
): Masks<S> {
  const of = kinds(sizes);
  const scaled = (p: number, shape: Shape) => bernoulli(shape, 1 - p, { value: p === 1 ? 0 : 1 / (1 - p), ...settings });
  const one = (p: number, last: number) => (p > 0 ? scaled(p, [rows, 1, last]) : undefined);
  const list = <T>(p: number, { count }: { count: number }, make: () => T) => (p > 0 ? Array.from({ length: count }, make) : undefined);
  const between = locked.between > 0 ? { p: locked.between, steps: 1 } : { p: dropout, steps };
  const states = (Object.keys(zoneout) as S[]).filter((s) => zoneout[s] > 0);
  const zones = (s: S) =>
    Array.from({ length: of.update.count }, () => bernoulli([rows, steps, of.update.lasts[s]], 1 - zoneout[s], settings));
  const masks: Masks<S> = {
    input: one(locked.input, of.input.last),
    between: list(between.p, of.between, () => scaled(between.p, [rows, between.steps, of.between.last])),
    output: one(locked.output, of.output.last),
    hidden: list(locked.hidden, of.hidden, () => scaled(locked.hidden, [rows, 1, of.hidden.last])),
    candidate: list(candidate.p, of.candidate, () => scaled(candidate.p, [rows, candidate.per === "step" ? steps : 1, of.candidate.last])),
    update: states.length > 0 ? (Object.fromEntries(states.map((s) => [s, zones(s)])) as Record<S, Tensor[]>) : undefined,
    weight: list(weightDrop, of.weight, () => scaled(weightDrop, of.weight.shape)),
  };
  return Object.fromEntries(Object.entries(masks).filter(([, value]) => value !== undefined));
}

/** @throws on an unknown kind, a list of the wrong length, or a mask of the wrong shape. */
export function checkMasks<S extends string>(where: string, masks: Masks<S>, sizes: MaskSizes<S>, rows: number, steps: number): void {
  const of = kinds(sizes);
  checkOptions(`${where}: masks`, masks, Object.keys(of));
  const fail = (name: string, wanted: string, got: string) => {
    throw new RangeError(`${where}: masks.${name} must be ${wanted} but is ${got}`);
  };
  const sequence = (name: string, mask: Tensor, last: number) => {
    const [n, t, width] = mask.shape;
    if (mask.shape.length !== 3 || (n !== rows && n !== 1) || (t !== steps && t !== 1) || width !== last)
      fail(name, showShape([`${rows} or 1`, `${steps} or 1`, last]), showShape(mask.shape));
  };
  const list = (name: string, masks: readonly Tensor[], count: number, check: (name: string, mask: Tensor) => void) => {
    if (!Array.isArray(masks) || masks.length !== count)
      fail(name, `a list of ${count}`, `${Array.isArray(masks) ? masks.length : "none"}`);
    masks.forEach((mask, i) => check(`${name}[${i}]`, mask));
  };
  for (const name of ["input", "output"] as const) if (masks[name]) sequence(name, masks[name], of[name].last);
  for (const name of ["between", "hidden", "candidate"] as const)
    if (masks[name]) list(name, masks[name], of[name].count, (at, mask) => sequence(at, mask, of[name].last));
  if (masks.update) {
    checkOptions(`${where}: masks.update`, masks.update, Object.keys(of.update.lasts));
    for (const [s, given] of Object.entries(masks.update) as [S, readonly Tensor[]][])
      list(`update.${s}`, given, of.update.count, (at, mask) => sequence(at, mask, of.update.lasts[s]));
  }
  if (masks.weight)
    list("weight", masks.weight, of.weight.count, (at, mask) => {
      if (showShape(mask.shape) !== showShape(of.weight.shape)) fail(at, showShape(of.weight.shape), showShape(mask.shape));
    });
}
