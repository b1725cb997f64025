import { apply, view } from "../tensor/apply.js";
import { checkAxis } from "../tensor/check.js";
import { defineOp, sameShape, showShape, size, type Case, type Op, type Shape, type Spec } from "../tensor/op.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { broadcastShape, loopNest, stridesOf, walk } from "./broadcast.js";
import { sumTo } from "./reduce.js";

interface Reading {
  readonly shape: Shape;
  readonly offset?: number;
  readonly strides: readonly number[];
}

/**
 * An op whose result element (i, j, ...) is x[offset + i*strideI + j*strideJ + ...]. All of them have one kernel body,
 * which reads ints [offset, rank, dims..., strides...] with neighbouring axes merged; strides may be 0 or negative.
 */
function stridedOp<A>(
  name: string,
  read: (x: Spec, attrs: A) => Reading,
  backward: NonNullable<Op<A>["backward"]>,
  cases: Op<A>["cases"],
): Op<A> {
  return defineOp<A>({
    name,
    shape([x], attrs) {
      const { shape, offset = 0, strides } = read(x, attrs);
      return { outputs: [{ shape, dtype: x.dtype }], ints: [offset, ...loopNest(shape, [strides])] };
    },
    reference([x], [y], [offset, ...nest]) {
      walk(nest, 1, (i, [at]) => (y[i] = x[offset + at]));
    },
    backward,
    cases,
  });
}

const expandOp = stridedOp<{ shape: Shape }>(
  "expand",
  (x, { shape }) => {
    if (!sameShape(broadcastShape("expand", x.shape, shape), shape))
      throw new RangeError(`expand: ${showShape(x.shape)} does not stretch to ${showShape(shape)}`);
    const missing = new Array<number>(shape.length - x.shape.length).fill(0);
    return { shape, strides: [...missing, ...stridesOf(x.shape).map((s, i) => (x.shape[i] === 1 ? 0 : s))] };
  },
  ([g], { inputs: [x] }) => [sumTo(g, x.shape)],
  () => [
    { inputs: [{ shape: [1] }], attrs: { shape: [7] } },
    { inputs: [{ shape: [13, 1] }], attrs: { shape: [13, 33] } },
    { inputs: [{ shape: [33] }], attrs: { shape: [13, 33] } },
    { inputs: [{ shape: [5, 1, 3] }], attrs: { shape: [2, 5, 7, 3] } },
    { inputs: [{ shape: [203, 1] }], attrs: { shape: [2, 203, 301] } },
  ],
);

/** Stretches axes of size 1, and adds axes in front, to give `shape`. */
export function expand(x: Tensor, shape: Shape): Tensor {
  return apply(expandOp, [x], { shape })[0];
}

const transposeOp = stridedOp<{ axes: readonly number[] }>(
  "transpose",
  (x, { axes }) => {
    const strides = stridesOf(x.shape);
    return { shape: axes.map((a) => x.shape[a]), strides: axes.map((a) => strides[a]) };
  },
  ([g], { attrs: { axes } }) => [
    transpose(
      g,
      axes.map((_, i) => axes.indexOf(i)),
    ),
  ],
  () => [
    { inputs: [{ shape: [1, 1] }], attrs: { axes: [1, 0] } },
    { inputs: [{ shape: [13, 33] }], attrs: { axes: [1, 0] } },
    { inputs: [{ shape: [3, 7, 5] }], attrs: { axes: [1, 0, 2] } },
    { inputs: [{ shape: [3, 7, 5] }], attrs: { axes: [2, 0, 1] } },
    { inputs: [{ shape: [2, 3, 1, 5] }], attrs: { axes: [0, 3, 2, 1] } },
    { inputs: [{ shape: [203, 301] }], attrs: { axes: [1, 0] } },
    { inputs: [{ shape: [33, 65, 30] }], attrs: { axes: [1, 0, 2] } },
  ],
);

/** Reorders the axes: axis i of the result is axis `axes[i]` of x. Without `axes` their order is reversed. */
export function transpose(x: Tensor, axes?: readonly number[]): Tensor {
  const order = axes ? axes.map((a) => checkAxis("transpose", x, a)) : x.shape.map((_, i) => x.shape.length - 1 - i);
  if (order.length !== x.shape.length || new Set(order).size !== order.length)
    throw new RangeError(`transpose: axes must name each axis of ${showShape(x.shape)} once but is ${showShape(axes!)}`);
  return apply(transposeOp, [x], { axes: order })[0];
}

const flipOp = stridedOp<{ axis: number }>(
  "flip",
  ({ shape }, { axis }) => {
    const strides = stridesOf(shape);
    return { shape, offset: shape[axis] > 0 ? (shape[axis] - 1) * strides[axis] : 0, strides: strides.with(axis, -strides[axis]) };
  },
  ([g], { attrs: { axis } }) => [flip(g, axis)],
  () => [[1], [7, 13], [3, 5, 33], [203, 301]].flatMap((shape) => shape.map((_, axis) => ({ inputs: [{ shape }], attrs: { axis } }))),
);

/** Reverses the order of the elements along one axis. */
export function flip(x: Tensor, axis: number): Tensor {
  return apply(flipOp, [x], { axis: checkAxis("flip", x, axis) })[0];
}

interface Range {
  readonly axis: number;
  readonly start: number;
  readonly end: number;
}

const sliceOp = stridedOp<Range>(
  "slice",
  ({ shape }, { axis, start, end }) => {
    const strides = stridesOf(shape);
    return { shape: shape.with(axis, end - start), offset: start * strides[axis], strides };
  },
  ([g], { inputs: [x], attrs: { axis, start, end } }) => [pad(g, axis, start, x.shape[axis] - end)],
  () => [
    { inputs: [{ shape: [1] }], attrs: { axis: 0, start: 0, end: 1 } },
    { inputs: [{ shape: [7, 13] }], attrs: { axis: 0, start: 2, end: 5 } },
    { inputs: [{ shape: [7, 13] }], attrs: { axis: 1, start: 12, end: 13 } },
    { inputs: [{ shape: [3, 33, 5] }], attrs: { axis: 1, start: 1, end: 33 } },
    { inputs: [{ shape: [3, 4] }], attrs: { axis: 1, start: 2, end: 2 } },
    { inputs: [{ shape: [203, 405] }], attrs: { axis: 1, start: 101, end: 403 } },
  ],
);

/** Entries `start` to `end` (exclusive; default: the rest) along one axis; negative positions count from the end. */
export function slice(x: Tensor, axis: number, start: number, end?: number): Tensor {
  const at = checkAxis("slice", x, axis);
  const n = x.shape[at];
  const position = (v: number) => (v < 0 ? v + n : v);
  const [from, to] = [position(start), position(end ?? n)];
  if (!Number.isInteger(from) || !Number.isInteger(to) || from < 0 || to > n || from > to) {
    throw new RangeError(
      `slice: start and end must be a range within axis ${at} of ${showShape(x.shape)} but are ${start} and ${end ?? n}`,
    );
  }
  return apply(sliceOp, [x], { axis: at, start: from, end: to })[0];
}

/** One entry along an axis, which disappears. */
export function select(x: Tensor, axis: number, index: number): Tensor {
  const at = checkAxis("select", x, axis);
  const n = x.shape[at];
  if (!Number.isInteger(index) || index < -n || index >= n)
    throw new RangeError(`select: index must be an integer in [${-n}, ${n - 1}] for axis ${at} of ${showShape(x.shape)} but is ${index}`);
  const start = index < 0 ? index + n : index;
  return scope(() => view(apply(sliceOp, [x], { axis: at, start, end: start + 1 })[0], x.shape.toSpliced(at, 1)));
}

interface Padding {
  readonly axis: number;
  readonly before: number;
  readonly after: number;
}

/** Zeros around x along one axis. The kernel reads ints [outer, zeros before, copied, zeros after] a row. */
const padOp: Op<Padding> = defineOp({
  name: "pad",
  shape([x], { axis, before, after }) {
    const inner = size(x.shape.slice(axis + 1));
    return {
      outputs: [{ shape: x.shape.with(axis, before + x.shape[axis] + after), dtype: x.dtype }],
      ints: [size(x.shape.slice(0, axis)), before * inner, x.shape[axis] * inner, after * inner],
    };
  },
  reference([x], [y], [outer, before, width, after]) {
    y.fill(0);
    for (let o = 0; o < outer; o++) for (let i = 0; i < width; i++) y[o * (before + width + after) + before + i] = x[o * width + i];
  },
  backward: ([g], { inputs: [x], attrs: { axis, before } }) => [slice(g, axis, before, before + x.shape[axis])],
  cases: () => [
    { inputs: [{ shape: [1] }], attrs: { axis: 0, before: 0, after: 0 } },
    { inputs: [{ shape: [7, 13] }], attrs: { axis: 0, before: 2, after: 1 } },
    { inputs: [{ shape: [7, 13] }], attrs: { axis: 1, before: 0, after: 20 } },
    { inputs: [{ shape: [3, 5, 33] }], attrs: { axis: 1, before: 4, after: 0 } },
    { inputs: [{ shape: [3, 0] }], attrs: { axis: 1, before: 1, after: 2 } },
    { inputs: [{ shape: [203, 301] }], attrs: { axis: 1, before: 33, after: 7 } },
  ],
});

/** Adds `before` zeros in front and `after` zeros behind along one axis. */
export function pad(x: Tensor, axis: number, before: number, after: number): Tensor {
  if (![before, after].every((n) => Number.isInteger(n) && n >= 0))
    throw new RangeError(`pad: before and after must be non-negative integers but are ${before} and ${after}`);
  return apply(padOp, [x], { axis: checkAxis("pad", x, axis), before, after })[0];
}

interface Parts {
  readonly axis: number;
  readonly sizes: readonly number[];
}

const partCases: readonly { readonly shape: Shape; readonly axis: number; readonly sizes: readonly number[] }[] = [
  { shape: [1], axis: 0, sizes: [1] },
  { shape: [7, 13], axis: 0, sizes: [1, 4, 2] },
  { shape: [7, 13], axis: 1, sizes: [6, 7] },
  { shape: [3, 33, 5], axis: 1, sizes: [1, 0, 32] },
  { shape: [5, 4, 3], axis: 2, sizes: [1, 1, 1] },
  { shape: [203, 301], axis: 1, sizes: [100, 1, 200] },
];

/** Elements of a row of each part: the kernels of `split` and `concat` read ints [outer, width of part 0, width of part 1, ...]. */
function rows(shape: Shape, { axis, sizes }: Parts): number[] {
  const inner = size(shape.slice(axis + 1));
  return [size(shape.slice(0, axis)), ...sizes.map((n) => n * inner)];
}

const splitOp: Op<Parts> = defineOp({
  name: "split",
  shape: ([{ shape, dtype }], parts) => ({
    outputs: parts.sizes.map((n) => ({ shape: shape.with(parts.axis, n), dtype })),
    ints: rows(shape, parts),
  }),
  reference([x], parts, [outer, ...widths]) {
    let at = 0;
    for (let o = 0; o < outer; o++)
      for (let p = 0; p < widths.length; at += widths[p++]) parts[p].set(x.subarray(at, at + widths[p]), o * widths[p]);
  },
  backward: (grads, { attrs: { axis } }) => [concat(grads, axis)],
  cases: () => partCases.map(({ shape, ...parts }) => ({ inputs: [{ shape }], attrs: parts })),
});

const concatOp: Op<Parts> = defineOp({
  name: "concat",
  shape(parts, attrs) {
    const shape = parts[0].shape.with(
      attrs.axis,
      attrs.sizes.reduce((a, b) => a + b, 0),
    );
    return { outputs: [{ shape, dtype: parts[0].dtype }], ints: rows(shape, attrs) };
  },
  reference(parts, [y], [outer, ...widths]) {
    let at = 0;
    for (let o = 0; o < outer; o++)
      for (let p = 0; p < widths.length; at += widths[p++]) y.set(parts[p].subarray(o * widths[p], (o + 1) * widths[p]), at);
  },
  backward: ([g], { attrs: { axis, sizes } }) => split(g, sizes, axis),
  cases: () =>
    partCases.map(({ shape, axis, sizes }): Case<Parts> => ({
      inputs: sizes.map((n) => ({ shape: shape.with(axis, n) })),
      attrs: { axis, sizes },
    })),
});

/** The most parts that one call of a kernel has room for; more are taken in groups. */
const most = 4096;

function grouped<T>(list: readonly T[]): T[][] {
  return Array.from({ length: Math.ceil(list.length / most) }, (_, i) => list.slice(i * most, (i + 1) * most));
}

/** Takes x apart along an axis into parts of the given sizes, which must add up to that axis. */
export function split(x: Tensor, sizes: readonly number[], axis: number): Tensor[] {
  const at = checkAxis("split", x, axis);
  if (sizes.some((n) => !Number.isInteger(n) || n < 0) || sizes.reduce((a, b) => a + b, 0) !== x.shape[at]) {
    throw new RangeError(`split: sizes must add up to ${x.shape[at]}, axis ${at} of ${showShape(x.shape)}, but are ${showShape(sizes)}`);
  }
  if (sizes.length <= most) return [...apply(splitOp, [x], { axis: at, sizes })];
  const groups = grouped(sizes);
  const parts = split(
    x,
    groups.map((group) => group.reduce((a, b) => a + b, 0)),
    at,
  );
  return parts.flatMap((part, i) => split(part, groups[i], at));
}

/** Puts tensors one after another along an axis; their other axes must agree. */
export function concat(tensors: readonly Tensor[], axis: number): Tensor {
  if (tensors.length === 0) throw new RangeError("concat: there must be at least one tensor");
  const [first] = tensors;
  const at = checkAxis("concat", first, axis);
  tensors.forEach(({ shape, dtype }, i) => {
    if (dtype !== first.dtype) throw new TypeError(`concat: tensors[${i}] must be ${first.dtype} as tensors[0] but is ${dtype}`);
    if (shape.length !== first.shape.length || shape.some((d, a) => a !== at && d !== first.shape[a])) {
      throw new RangeError(
        `concat: tensors[${i}] must be ${showShape((first.shape as (number | string)[]).with(at, "any"))} but is ${showShape(shape)}`,
      );
    }
  });
  if (tensors.length > most)
    return concat(
      grouped(tensors).map((group) => concat(group, at)),
      at,
    );
  return apply(concatOp, tensors, { axis: at, sizes: tensors.map(({ shape }) => shape[at]) })[0];
}

/** Puts tensors of one shape side by side along a new axis. */
export function stack(tensors: readonly Tensor[], axis = 0): Tensor {
  if (tensors.length === 0) throw new RangeError("stack: there must be at least one tensor");
  const [{ shape }] = tensors;
  const at = checkAxis("stack", { shape: [...shape, 1] }, axis);
  tensors.forEach((t, i) => {
    if (!sameShape(t.shape, shape))
      throw new RangeError(`stack: tensors[${i}] must be ${showShape(shape)} as tensors[0] but is ${showShape(t.shape)}`);
  });
  return scope(() =>
    concat(
      tensors.map((t) => view(t, shape.toSpliced(at, 0, 1))),
      at,
    ),
  );
}

/** Every entry along an axis, which disappears: the inverse of `stack`, and cheaper to differentiate than a `select` each. */
export function unstack(x: Tensor, axis = 0): Tensor[] {
  const at = checkAxis("unstack", x, axis);
  const shape = x.shape.toSpliced(at, 1);
  return scope(() => split(x, new Array<number>(x.shape[at]).fill(1), at).map((t) => view(t, shape)));
}

/** The same elements in row-major order under another shape; one entry may be -1 and is inferred. Shares the buffer. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const known = size(shape.filter((d) => d !== -1));
  const full = shape.map((d) => (d === -1 ? x.size / known : d));
  if (shape.filter((d) => d === -1).length > 1 || size(full) !== x.size || full.some((d) => !Number.isInteger(d) || d < 0)) {
    throw new RangeError(`reshape: ${showShape(x.shape)} has ${x.size} elements and cannot be ${showShape(shape)}`);
  }
  return view(x, full);
}
