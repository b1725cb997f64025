import { apply } from "../tensor/apply.js";
import { defineOp, type CaseInput, type Op, type Shape, type Spec } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { broadcastPlan, broadcastShape, walk } from "./broadcast.js";
import { sumTo } from "./reduce.js";

// Unary: the kernel reads no ints. Cases cover one element, odd sizes, sizes past a vector and past one thread's share.
const unaryShapes: readonly Shape[] = [[1], [7], [13, 33], [3, 5, 129], [40_007]];

function floats(name: string, { dtype }: Spec): void {
  if (dtype === "int32") throw new TypeError(`${name}: x must be float32 or float64 but is int32`);
}

function unary(
  name: string,
  f: (x: number) => number,
  derivative: (g: Tensor, x: Tensor, y: Tensor) => Tensor,
  range: { low?: number; high?: number; tolerance?: number } = {},
) {
  const { tolerance, ...limits } = range;
  const op: Op = defineOp({
    name,
    shape([x]) {
      floats(name, x);
      return { outputs: [x] };
    },
    reference([x], [y]) {
      for (let i = 0; i < y.length; i++) y[i] = f(x[i]);
    },
    backward: ([g], { inputs: [x], outputs: [y] }) => [derivative(g, x, y)],
    cases: () => unaryShapes.map((shape) => ({ inputs: [{ shape, ...limits }], attrs: undefined, tolerance })),
  });
  return (x: Tensor): Tensor => apply(op, [x], undefined)[0];
}

/** The series of e^(x^2) erf(x), whose terms have one sign: nothing cancels. */
function errorFunction(x: number): number {
  if (!(Math.abs(x) < 6)) return x > 0 ? 1 : x < 0 ? -1 : x;
  let sum = 0;
  for (let n = 0, term = x; sum + term !== sum; n++, term *= (2 * x * x) / (2 * n + 1)) sum += term;
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

const pairs: readonly (readonly [Shape, Shape])[] = [
  [[1], [1]],
  [
    [7, 13],
    [7, 13],
  ],
  [[4, 33], [33]],
  [
    [4, 1],
    [1, 5],
  ],
  [
    [3, 1, 7],
    [2, 1],
  ],
  [[], [3, 2]],
  [
    [129, 65],
    [129, 1],
  ],
  [[40_007], [40_007]],
  [[203, 301], [301]],
  [
    [203, 1],
    [203, 301],
  ],
];

type Derivative = (g: Tensor, a: Tensor, b: Tensor) => Tensor;

function binary(
  name: string,
  f: (a: number, b: number) => number,
  derivatives: readonly [Derivative, Derivative] | null,
  range: { low?: number; high?: number } = {},
) {
  const op: Op = defineOp({
    name,
    shape([a, b]) {
      floats(name, a);
      floats(name, b);
      if (a.dtype !== b.dtype) throw new TypeError(`${name}: both operands must have one dtype but are ${a.dtype} and ${b.dtype}`);
      const shape = broadcastShape(name, a.shape, b.shape);
      return { outputs: [{ shape, dtype: a.dtype }], ints: broadcastPlan(shape, [a.shape, b.shape]) };
    },
    reference([a, b], [y], ints) {
      if (ints[0] <= 1 && (ints[2] ?? 1) === 1 && (ints[3] ?? 1) === 1) for (let i = 0; i < y.length; i++) y[i] = f(a[i], b[i]);
      else walk(ints, 2, (i, [p, q]) => (y[i] = f(a[p], b[q])));
    },
    backward: derivatives
      ? ([g], { inputs: [a, b], needs }) => [
          needs[0] ? sumTo(derivatives[0](g, a, b), a.shape) : null,
          needs[1] ? sumTo(derivatives[1](g, a, b), b.shape) : null,
        ]
      : undefined,
    cases: () =>
      pairs.map(([a, b]) => ({
        inputs: [
          { shape: a, ...range },
          { shape: b, ...range },
        ] satisfies CaseInput[],
        attrs: undefined,
      })),
  });
  return (a: Tensor, b: Tensor): Tensor => apply(op, [a, b], undefined)[0];
}

/** -x */
export const neg = unary(
  "neg",
  (x) => -x,
  (g) => neg(g),
);
/** e^x */
export const exp = unary("exp", Math.exp, (g, _, y) => mul(g, y));
/** Natural logarithm. */
export const log = unary("log", Math.log, (g, x) => div(g, x), { low: 0.1, high: 3 });
/** Square root. */
export const sqrt = unary("sqrt", Math.sqrt, (g, _, y) => div(g, add(y, y)), { low: 0.1, high: 3 });
/** |x|, with derivative 0 at 0. */
export const abs = unary("abs", Math.abs, (g, x) => mul(g, sign(x)));
/** -1, 0 or 1. */
export const sign = unary("sign", Math.sign, (g) => sub(g, g));
/** x^2 */
export const square = unary(
  "square",
  (x) => x * x,
  (g, x) => mul(g, add(x, x)),
);
/** Logistic function 1 / (1 + e^-x). */
export const sigmoid = unary(
  "sigmoid",
  (x) => 1 / (1 + Math.exp(-x)),
  (g, _, y) => mul(g, sub(y, square(y))),
  { low: -8, high: 8 },
);
/** Hyperbolic tangent. */
export const tanh = unary("tanh", Math.tanh, (g, _, y) => sub(g, mul(g, square(y))), { low: -4, high: 4 });
/** max(x, 0), with derivative 0 at 0. */
export const relu = unary(
  "relu",
  (x) => (x > 0 ? x : x === x ? 0 : x),
  (g, _, y) => mul(g, sign(y)),
);
/** log(1 + e^x), without overflow, and to full precision where it is tiny. */
export const softplus = unary(
  "softplus",
  (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
  (g, x) => mul(g, sigmoid(x)),
  { low: -8, high: 8 },
);
/** Error function 2 / sqrt(pi) * integral of e^(-t^2) from 0 to x. */
export const erf = unary("erf", errorFunction, (g, x) => mul(g, affine(exp(neg(square(x))), 2 / Math.sqrt(Math.PI))), {
  low: -4,
  high: 4,
});
/** Sine of x in radians. Native kernels are exact to 2e-7 up to |x| = 8000, and lose digits beyond. */
export const sin: (x: Tensor) => Tensor = unary("sin", Math.sin, (g, x) => mul(g, cos(x)), { low: -30, high: 30 });
/** Cosine of x in radians; see `sin`. */
export const cos: (x: Tensor) => Tensor = unary("cos", Math.cos, (g, x) => neg(mul(g, sin(x))), { low: -30, high: 30 });
/** x * sigmoid(x), also called swish (Elfwing, Uchibe & Doya 2018). */
export const silu = (x: Tensor): Tensor => mul(x, sigmoid(x));
/** x times the normal distribution function of x, exactly (Hendrycks & Gimpel 2016). */
export const gelu = (x: Tensor): Tensor => mul(x, affine(erf(affine(x, Math.SQRT1_2)), 0.5, 0.5));

/** a + b, broadcast. */
export const add = binary("add", (a, b) => a + b, [(g) => g, (g) => g]);
/** a - b, broadcast. */
export const sub = binary("sub", (a, b) => a - b, [(g) => g, (g) => neg(g)]);
/** a * b, element by element, broadcast. */
export const mul = binary("mul", (a, b) => a * b, [(g, _, b) => mul(g, b), (g, a) => mul(g, a)]);
/** a / b, broadcast. */
export const div = binary("div", (a, b) => a / b, [(g, _, b) => div(g, b), (g, a, b) => neg(div(mul(g, a), square(b)))], {
  low: 0.3,
  high: 2,
});
/** The larger of a and b, broadcast; a tie sends the gradient to b. */
export const maximum = binary("maximum", (a, b) => (a > b || a !== a ? a : b), [
  (g, a, b) => mul(g, greater(a, b)),
  (g, a, b) => mul(g, lessEqual(a, b)),
]);
/** The smaller of a and b, broadcast; a tie sends the gradient to b. */
export const minimum = binary("minimum", (a, b) => (a < b || a !== a ? a : b), [
  (g, a, b) => mul(g, greater(b, a)),
  (g, a, b) => mul(g, lessEqual(b, a)),
]);
/** 1 where a > b, else 0. Not differentiable. */
export const greater = binary("greater", (a, b) => (a > b ? 1 : 0), null);
/** 1 where a <= b, else 0. Not differentiable. */
export const lessEqual = binary("lessEqual", (a, b) => (a <= b ? 1 : 0), null);
/** 1 where a equals b, else 0. Not differentiable. */
export const equal = binary("equal", (a, b) => (a === b ? 1 : 0), null);

/** scale * x + shift for two numbers: kernel floats [scale, shift]. */
const affineOp: Op<{ scale: number; shift: number }> = defineOp({
  name: "affine",
  shape([x], { scale, shift }) {
    floats("affine", x);
    return { outputs: [x], floats: [scale, shift] };
  },
  reference([x], [y], _, [scale, shift]) {
    for (let i = 0; i < y.length; i++) y[i] = scale * x[i] + shift;
  },
  backward: ([g], { attrs }) => [affine(g, attrs.scale, 0)],
  cases: () => unaryShapes.map((shape) => ({ inputs: [{ shape }], attrs: { scale: -1.5, shift: 0.25 } })),
});

/** scale * x + shift for two numbers. */
export function affine(x: Tensor, scale: number, shift = 0): Tensor {
  return apply(affineOp, [x], { scale, shift })[0];
}
/** x times a number. */
export const scale = (x: Tensor, factor: number): Tensor => affine(x, factor);
