import type { ReferenceKernel } from "../backend/reference.js";
import { apply, view } from "../tensor/apply.js";
import { checkAxis } from "../tensor/check.js";
import { defineOp, sameShape, showShape, size, type Op, type Shape } from "../tensor/op.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { div, equal, mul, scale } from "./elementwise.js";
import { expand } from "./movement.js";

interface Axis {
  readonly axis: number;
}

/** Every reduction runs over one run of neighbouring axes, seen as the middle of [outer, n, inner]. */
function threeAxes(shape: Shape, axis: number): readonly [number, number, number] {
  return [size(shape.slice(0, axis)), shape[axis], size(shape.slice(axis + 1))];
}

const reduceCases = () =>
  [
    [1, 1],
    [7, 13],
    [33, 5, 7],
    [2, 300, 3],
    [3, 1000],
    [203, 301],
  ].flatMap((shape) => shape.map((_, axis) => ({ inputs: [{ shape }], attrs: { axis } })));

/** Sum over one axis, which stays as size 1. The kernel reads ints [outer, n, inner]. */
const sumOp: Op<Axis> = defineOp({
  name: "sum",
  shape([x], { axis }) {
    return { outputs: [{ shape: x.shape.with(axis, 1), dtype: x.dtype }], ints: threeAxes(x.shape, axis) };
  },
  reference([x], [y], [outer, n, inner]) {
    for (let o = 0; o < outer; o++)
      for (let i = 0; i < inner; i++) {
        let total = 0;
        for (let j = 0; j < n; j++) total += x[(o * n + j) * inner + i];
        y[o * inner + i] = total;
      }
  },
  backward: ([g], { inputs: [x] }) => [expand(g, x.shape)],
  cases: reduceCases,
});

/** Maximum over one axis, which stays as size 1; a NaN is larger than any number. Equal maxima share the gradient. */
const maxOp: Op<Axis> = defineOp({
  name: "max",
  shape([x], { axis }) {
    if (x.shape[axis] === 0) throw new RangeError(`max: axis ${axis} of ${showShape(x.shape)} is empty`);
    return { outputs: [{ shape: x.shape.with(axis, 1), dtype: x.dtype }], ints: threeAxes(x.shape, axis) };
  },
  reference([x], [y], [outer, n, inner]) {
    for (let o = 0; o < outer; o++)
      for (let i = 0; i < inner; i++) {
        let best = x[o * n * inner + i];
        for (let j = 1; j < n; j++) best = Math.max(best, x[(o * n + j) * inner + i]);
        y[o * inner + i] = best;
      }
  },
  backward([g], { inputs: [x], outputs: [y], attrs }) {
    const chosen = equal(x, y);
    return [mul(chosen, div(g, sum(chosen, { ...attrs, keepDims: true })))];
  },
  cases: reduceCases,
});

/** Index of the first largest element along a row [outer, n, inner]; NaN counts as largest. */
const largest: ReferenceKernel = ([x], [y], [outer, n, inner]) => {
  for (let o = 0; o < outer; o++)
    for (let i = 0; i < inner; i++) {
      let best = 0;
      const at = (j: number) => x[(o * n + j) * inner + i];
      for (let j = 1; j < n; j++) if (at(j) > at(best) || (at(j) !== at(j) && at(best) === at(best))) best = j;
      y[o * inner + i] = best;
    }
};

/** Position of the maximum along one axis, which stays as size 1; the first of equals. int32, not differentiable. */
const argmaxOp: Op<Axis> = defineOp({
  name: "argmax",
  shape([x], { axis }) {
    if (x.shape[axis] === 0) throw new RangeError(`argmax: axis ${axis} of ${showShape(x.shape)} is empty`);
    return { outputs: [{ shape: x.shape.with(axis, 1), dtype: "int32" }], ints: threeAxes(x.shape, axis) };
  },
  reference: largest,
  cases: reduceCases,
});

/** Options of a reduction. */
export interface ReduceOptions {
  /** The axis or axes to reduce, negative ones counted from the end; all by default. */
  readonly axis?: number | readonly number[];
  /** Keep the reduced axes as size 1. Default false. */
  readonly keepDims?: boolean;
}

function axesOf(name: string, x: Tensor, axis: ReduceOptions["axis"]): number[] {
  const list = axis === undefined ? x.shape.map((_, i) => i) : typeof axis === "number" ? [axis] : axis;
  return [...new Set(list.map((a) => checkAxis(name, x, a)))].sort((a, b) => a - b);
}

/** Reduces runs of neighbouring axes, one kernel for each run. */
function reduce(op: Op<Axis>, x: Tensor, { axis, keepDims = false }: ReduceOptions): Tensor {
  const axes = axesOf(op.name, x, axis);
  return scope(() => {
    let y = x;
    for (let end = axes.length; end > 0;) {
      let start = end - 1;
      while (start > 0 && axes[start - 1] === axes[start] - 1) start--;
      const [first, last] = [axes[start], axes[end - 1]];
      const [before, after] = [y.shape.slice(0, first), y.shape.slice(last + 1)];
      const one = apply(op, [view(y, [...before, size(y.shape.slice(first, last + 1)), ...after])], { axis: first })[0];
      y = view(one, [...before, ...new Array<number>(last - first + 1).fill(1), ...after]);
      end = start;
    }
    return keepDims
      ? y
      : view(
          y,
          x.shape.filter((_, i) => !axes.includes(i)),
        );
  });
}

/** Sum over the given axes, or over all. */
export const sum = (x: Tensor, options: ReduceOptions = {}): Tensor => reduce(sumOp, x, options);
/** Maximum over the given axes, or over all; NaN if there is one. Equal maxima share the gradient. */
export const max = (x: Tensor, options: ReduceOptions = {}): Tensor => reduce(maxOp, x, options);

/** Arithmetic mean over the given axes, or over all. */
export function mean(x: Tensor, options: ReduceOptions = {}): Tensor {
  const n = size(axesOf("mean", x, options.axis).map((i) => x.shape[i]));
  return scope(() => scale(sum(x, options), 1 / n));
}

/** Position of the maximum along an axis; the first of equals, a NaN before all. int32, without the axis. */
export function argmax(x: Tensor, axis = -1): Tensor {
  const at = checkAxis("argmax", x, axis);
  return scope(() => view(apply(argmaxOp, [x], { axis: at })[0], x.shape.toSpliced(at, 1)));
}

/** Sums a broadcast result back to the shape of one operand. */
export function sumTo(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x;
  const extra = x.shape.length - shape.length;
  const axes = x.shape.flatMap((d, i) => (i < extra || (shape[i - extra] === 1 && d !== 1) ? [i] : []));
  return scope(() => view(sum(x, { axis: axes, keepDims: true }), shape));
}
