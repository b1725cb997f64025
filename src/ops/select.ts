import { apply } from "../tensor/apply.js";
import { defineOp, type Op, type Shape } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { broadcastPlan, broadcastShape, walk } from "./broadcast.js";
import { equal, mul } from "./elementwise.js";
import { sumTo } from "./reduce.js";

const triples: readonly (readonly [Shape, Shape, Shape])[] = [
  [[1], [1], [1]],
  [
    [7, 13],
    [7, 13],
    [7, 13],
  ],
  [[4, 1], [4, 33], []],
  [[33], [4, 1], [4, 33]],
  [[203, 301], [301], [203, 1]],
];

/** The kernel reads the loopNest of the condition, a and b. */
const whereOp: Op = defineOp({
  name: "where",
  shape([condition, a, b]) {
    if (a.dtype === "int32" || [condition, b].some((t) => t.dtype !== a.dtype)) {
      throw new TypeError(
        `where: condition, a and b must have one floating dtype but are ${[condition, a, b].map((t) => t.dtype).join(", ")}`,
      );
    }
    const shape = broadcastShape("where", broadcastShape("where", condition.shape, a.shape), b.shape);
    return { outputs: [{ shape, dtype: a.dtype }], ints: broadcastPlan(shape, [condition.shape, a.shape, b.shape]) };
  },
  reference([condition, a, b], [y], ints) {
    walk(ints, 3, (i, [c, p, q]) => (y[i] = condition[c] !== 0 ? a[p] : b[q]));
  },
  backward([g], { inputs: [condition, a, b], needs }) {
    const zero = b.like(0);
    return [null, needs[1] ? sumTo(where(condition, g, zero), a.shape) : null, needs[2] ? sumTo(where(condition, zero, g), b.shape) : null];
  },
  cases: () =>
    triples.map(([condition, a, b]) => ({
      inputs: [
        { shape: condition, values: Array.from({ length: condition.reduce((p, q) => p * q, 1) }, (_, i) => ((i * 5) % 3) - 1) },
        { shape: a },
        { shape: b },
      ],
      attrs: undefined,
    })),
});

/** a where the condition is not zero, else b; all broadcast. No gradient flows to the condition, nor to what is not chosen. */
export function where(condition: Tensor, a: Tensor, b: Tensor): Tensor {
  return apply(whereOp, [condition, a, b], undefined)[0];
}

/** The kernel reads floats [low, high]. */
const clampOp: Op<{ low: number; high: number }> = defineOp({
  name: "clamp",
  shape([x], { low, high }) {
    if (x.dtype === "int32") throw new TypeError("clamp: x must be float32 or float64 but is int32");
    return { outputs: [x], floats: [low, high] };
  },
  reference([x], [y], _, [low, high]) {
    for (let i = 0; i < y.length; i++) y[i] = x[i] < low ? low : x[i] > high ? high : x[i];
  },
  backward: ([g], { inputs: [x], outputs: [y] }) => [mul(g, equal(x, y))],
  cases: () => [[1], [7], [13, 33], [40_007]].map((shape) => ({ inputs: [{ shape }], attrs: { low: -0.25, high: 0.5 } })),
});

/** x kept within [low, high]; NaN stays. The derivative is 1 inside, bounds included, and 0 outside. @throws unless low <= high. */
export function clamp(x: Tensor, low: number, high: number): Tensor {
  if (!(low <= high)) throw new RangeError(`clamp: low must be at most high but they are ${low} and ${high}`);
  return apply(clampOp, [x], { low, high })[0];
}
