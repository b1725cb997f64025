import { apply, applyFused } from "../tensor/apply.js";
import { checkAxis } from "../tensor/check.js";
import { noGrad } from "../tensor/graph.js";
import {
  defineFused,
  defineOp,
  sameShape,
  showShape,
  size,
  type Fused,
  type MaybeSpec,
  type Op,
  type Plan,
  type Shape,
  type Spec,
} from "../tensor/op.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { add, div, exp, log, neg, square, sub } from "./elementwise.js";
import { reshape, transpose } from "./movement.js";
import { max, mean, sum, type ReduceOptions } from "./reduce.js";
import { clamp } from "./select.js";

/** Largest float32. */
const LARGEST = 3.4028234663852886e38;

// Softmax kernels run over the last axis and read ints [rows, entries of a row].
const rowShapes: readonly Shape[] = [[1], [7, 13], [3, 5, 33], [203, 130], [2, 1000]];

function lastAxis(name: string, { shape, dtype }: Spec): Plan {
  if (dtype === "int32" || shape.length === 0)
    throw new RangeError(`${name}: x must be floating with at least one axis but is ${dtype} ${showShape(shape)}`);
  return { outputs: [{ shape, dtype }], ints: [size(shape.slice(0, -1)), shape.at(-1)!] };
}

const rowMax = (x: Tensor) => noGrad(() => max(x, { axis: -1, keepDims: true }));

const softmaxOp: Fused = defineFused({
  name: "softmax",
  shape: ([x]) => lastAxis("softmax", x!),
  compose([input]) {
    const x = input!;
    const e = exp(sub(x, rowMax(x)));
    return [div(e, sum(e, { axis: -1, keepDims: true }))];
  },
  cases: () => rowShapes.map((shape) => ({ inputs: [{ shape, low: -8, high: 8 }], attrs: undefined })),
});

const logSoftmaxOp: Fused = defineFused({
  name: "logSoftmax",
  shape: ([x]) => lastAxis("logSoftmax", x!),
  compose([input]) {
    const shifted = sub(input!, rowMax(input!));
    return [sub(shifted, log(sum(exp(shifted), { axis: -1, keepDims: true })))];
  },
  cases: () => rowShapes.map((shape) => ({ inputs: [{ shape, low: -8, high: 8 }], attrs: undefined })),
});

/** Applies an op of the last axis along any axis. */
function along(op: Fused, x: Tensor, axis: number): Tensor {
  const at = checkAxis(op.name, x, axis);
  const last = x.shape.length - 1;
  if (at === last) return applyFused(op, [x], undefined)[0];
  const swapped = x.shape.map((_, i) => (i === at ? last : i === last ? at : i));
  return scope(() => transpose(applyFused(op, [transpose(x, swapped)], undefined)[0], swapped));
}

/** e^x / sum of e^x along an axis. */
export const softmax = (x: Tensor, axis = -1): Tensor => along(softmaxOp, x, axis);
/** Logarithm of the softmax along an axis. */
export const logSoftmax = (x: Tensor, axis = -1): Tensor => along(logSoftmaxOp, x, axis);

interface Classes {
  readonly classes: number;
  readonly ignoreIndex: number;
}

const targetCases = [
  { rows: [1], classes: 1, ignoreIndex: -100, targets: [0] },
  { rows: [7], classes: 13, ignoreIndex: -100, targets: [0, 12, -100, 5, 5, -100, 1] },
  { rows: [3, 2], classes: 33, ignoreIndex: 0, targets: [0, 32, 7, 0, 31, 16] },
  { rows: [2], classes: 5, ignoreIndex: -1, targets: [-1, 4] },
  { rows: [403], classes: 65, ignoreIndex: 3, targets: Array.from({ length: 403 }, (_, i) => (i * i) % 65) },
];
const targetInput = ({ rows, targets }: (typeof targetCases)[number]) => ({ shape: rows, dtype: "int32" as const, values: targets });

/** 1 where there is a target and 0 where it is ignored; fails on anything else. Ints [rows, classes, ignoreIndex]. */
const validOp: Op<Classes & { readonly dtype: Spec["dtype"] }> = defineOp({
  name: "validTargets",
  shape: ([targets], { classes, ignoreIndex, dtype }) => ({
    outputs: [{ shape: targets.shape, dtype }],
    ints: [size(targets.shape), classes, ignoreIndex],
  }),
  reference([targets], [y], [rows, classes, ignoreIndex]) {
    for (let r = 0; r < rows; r++) {
      const target = targets[r];
      if (target !== ignoreIndex && (target < 0 || target >= classes)) {
        throw new RangeError(
          `crossEntropy: targets must be in [0, ${classes - 1}] for ${classes} classes, or ${ignoreIndex} to be ignored, but targets[${r}] is ${target}`,
        );
      }
      y[r] = target === ignoreIndex ? 0 : 1;
    }
  },
  cases: () =>
    targetCases.map((c) => ({ inputs: [targetInput(c)], attrs: { classes: c.classes, ignoreIndex: c.ignoreIndex, dtype: "float32" } })),
});

/** The entry of each row that its target names, 0 where it is ignored. Ints [rows, classes, ignoreIndex]. */
const pickOp: Op<Classes> = defineOp({
  name: "pickTarget",
  shape: ([x, targets], { classes, ignoreIndex }) => ({
    outputs: [{ shape: targets.shape, dtype: x.dtype }],
    ints: [size(targets.shape), classes, ignoreIndex],
  }),
  reference([x, targets], [y], [rows, classes, ignoreIndex]) {
    for (let r = 0; r < rows; r++) y[r] = targets[r] === ignoreIndex ? 0 : x[r * classes + targets[r]];
  },
  backward: ([g], { inputs: [, targets], attrs }) => [apply(placeOp, [g, targets], attrs)[0], null],
  cases: () =>
    targetCases.map((c) => ({
      inputs: [{ shape: [...c.rows, c.classes] }, targetInput(c)],
      attrs: { classes: c.classes, ignoreIndex: c.ignoreIndex },
    })),
});

/** The adjoint of pickTarget: zeros, with g where the target of the row points. The same ints. */
const placeOp: Op<Classes> = defineOp({
  name: "placeTarget",
  shape: ([g, targets], { classes, ignoreIndex }) => ({
    outputs: [{ shape: [...targets.shape, classes], dtype: g.dtype }],
    ints: [size(targets.shape), classes, ignoreIndex],
  }),
  reference([g, targets], [y], [rows, classes, ignoreIndex]) {
    y.fill(0);
    for (let r = 0; r < rows; r++) if (targets[r] !== ignoreIndex) y[r * classes + targets[r]] = g[r];
  },
  backward: ([g], { inputs: [, targets], attrs }) => [apply(pickOp, [g, targets], attrs)[0], null],
  cases: () =>
    targetCases.map((c) => ({ inputs: [{ shape: c.rows }, targetInput(c)], attrs: { classes: c.classes, ignoreIndex: c.ignoreIndex } })),
});

/** How the losses of single targets become one: their mean, their sum, or not at all. */
export type Reduction = "mean" | "sum" | "none";
const reductions: readonly Reduction[] = ["none", "sum", "mean"];

function checkReduction(name: string, reduction: Reduction): void {
  if (!reductions.includes(reduction))
    throw new RangeError(`${name}: reduction must be "mean", "sum" or "none" but is ${JSON.stringify(reduction)}`);
}

function checkTargets(logits: MaybeSpec, targets: MaybeSpec): { classes: number; dtype: Spec["dtype"] } {
  const { shape, dtype } = logits!;
  if (dtype === "int32" || shape.length === 0)
    throw new RangeError(`crossEntropy: logits must be floating [..., classes] but are ${dtype} ${showShape(shape)}`);
  if (targets!.dtype !== "int32" || !sameShape(targets!.shape, shape.slice(0, -1))) {
    throw new RangeError(
      `crossEntropy: targets must be int32 ${showShape(shape.slice(0, -1))} for logits ${showShape(shape)} but are ${targets!.dtype} ${showShape(targets!.shape)}`,
    );
  }
  return { classes: shape.at(-1)!, dtype };
}

/**
 * The kernel reads ints [rows, classes, ignoreIndex, reduction: 0 none, 1 sum, 2 mean] and saves [2 * rows + 1]: each
 * row's maximum, each row's 1 / sum of e^(logit - maximum), and the number of targets that are not ignored.
 */
const crossEntropyOp: Fused<{ ignoreIndex: number; reduction: Reduction }> = defineFused({
  name: "crossEntropy",
  shape([logits, targets], { ignoreIndex, reduction }) {
    const { classes, dtype } = checkTargets(logits, targets);
    const { shape } = targets!;
    return {
      outputs: [{ shape: reduction === "none" ? shape : [], dtype }],
      ints: [size(shape), classes, ignoreIndex, reductions.indexOf(reduction)],
    };
  },
  compose([logits, targets], { ignoreIndex, reduction }) {
    const attrs = { ...checkTargets(logits, targets), ignoreIndex };
    const [valid] = apply(validOp, [targets!], attrs);
    const losses = neg(apply(pickOp, [logSoftmax(logits!), targets!], attrs)[0]);
    if (reduction === "none") return [losses];
    return [reduction === "sum" ? sum(losses) : div(sum(losses), sum(valid))];
  },
  saved: ([logits, targets]) => [{ shape: [2 * size(targets!.shape) + 1], dtype: logits!.dtype }],
  cases: () =>
    targetCases.flatMap((c) =>
      reductions.map((reduction) => ({
        inputs: [{ shape: [...c.rows, c.classes], low: -8, high: 8 }, targetInput(c)],
        attrs: { ignoreIndex: c.ignoreIndex, reduction },
      })),
    ),
});

/** Options of `crossEntropy`. */
export interface CrossEntropyOptions {
  /** Targets with this value count for nothing. Default -100. */
  readonly ignoreIndex?: number;
  /** Default `mean`: over the targets that are not ignored, NaN if there are none. */
  readonly reduction?: Reduction;
}

/**
 * -log softmax(logits)[target]: logits [..., C], targets int32 [...] in [0, C); gives [] or, without reduction, [...].
 * A target outside the classes is an error: at once on the reference device, at the next read on a native one.
 */
export function crossEntropy(
  logits: Tensor,
  targets: Tensor,
  { ignoreIndex = -100, reduction = "mean" }: CrossEntropyOptions = {},
): Tensor {
  checkReduction("crossEntropy", reduction);
  if (!Number.isInteger(ignoreIndex) || ignoreIndex !== (ignoreIndex | 0))
    throw new RangeError(`crossEntropy: ignoreIndex must be a 32-bit integer but is ${ignoreIndex}`);
  return applyFused(crossEntropyOp, [logits, targets], { ignoreIndex, reduction })[0];
}

/** (prediction - target)^2 of two tensors of one shape: their mean (default), their sum, or each. */
export function meanSquaredError(
  prediction: Tensor,
  target: Tensor,
  { reduction = "mean" }: { readonly reduction?: Reduction } = {},
): Tensor {
  checkReduction("meanSquaredError", reduction);
  if (!sameShape(prediction.shape, target.shape))
    throw new RangeError(
      `meanSquaredError: target must be ${showShape(prediction.shape)} as the prediction but is ${showShape(target.shape)}`,
    );
  return scope(() => {
    const errors = square(sub(prediction, target));
    return reduction === "none" ? errors : reduction === "sum" ? sum(errors) : mean(errors);
  });
}

/** log of the sum of e^x over the given axes, or over all. */
export function logSumExp(x: Tensor, { axis, keepDims = false }: ReduceOptions = {}): Tensor {
  return scope(() => {
    // The shift cancels; kept finite, a row of -Infinity gives -Infinity.
    const shift = noGrad(() => clamp(max(x, { axis, keepDims: true }), -LARGEST, LARGEST));
    const total = sum(exp(sub(x, shift)), { axis, keepDims });
    return add(log(total), reshape(shift, total.shape));
  });
}
