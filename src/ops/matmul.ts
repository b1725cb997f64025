import { apply, view } from "../tensor/apply.js";
import { defineOp, sameShape, showShape, size, type Op, type Shape } from "../tensor/op.js";
import { noGrad } from "../tensor/graph.js";
import { record, type Tensor } from "../tensor/tensor.js";
import { precisions, rounded, type Precision } from "./precision.js";
import { sumTo } from "./reduce.js";

export interface MatmulOptions {
  /** Use the transpose (of the last two axes) of a. */
  readonly transposeA?: boolean;
  /** Use the transpose (of the last two axes) of b. */
  readonly transposeB?: boolean;
}

type Product = typeof matmul;

/** The gradients of a product of matrices, which are products of the same kind. */
function gradients(product: Product): NonNullable<Op<Required<MatmulOptions>>["backward"]> {
  return ([g], { inputs: [a, b], attrs: { transposeA, transposeB }, needs }) => {
    const da = () =>
      transposeA ? product(b, g, { transposeA: transposeB, transposeB: true }) : product(g, b, { transposeB: !transposeB });
    const db = () =>
      transposeB ? product(g, a, { transposeA: true, transposeB: transposeA }) : product(a, g, { transposeA: !transposeA });
    return [needs[0] ? da() : null, needs[1] ? db() : null];
  };
}

/** One product per batch entry. The kernel reads ints [batch, m, n, k, transposeA, transposeB]. */
const matmulOp: Op<Required<MatmulOptions>> = defineOp({
  name: "matmul",
  shape([a, b], { transposeA, transposeB }) {
    const fail = (why: string) =>
      new RangeError(
        `matmul: ${why}: a is ${showShape(a.shape)}${transposeA ? " transposed" : ""}, b is ${showShape(b.shape)}${transposeB ? " transposed" : ""}`,
      );
    if (a.dtype === "int32" || a.dtype !== b.dtype)
      throw new TypeError(`matmul: both operands must be float32 or both float64 but are ${a.dtype} and ${b.dtype}`);
    if (a.shape.length < 2 || b.shape.length < 2) throw fail("both operands need at least two axes");
    const [m, k] = lastTwo(a.shape, transposeA);
    const [k2, n] = lastTwo(b.shape, transposeB);
    if (k !== k2) throw fail(`inner sizes must agree but are ${k} and ${k2}`);
    const batch = a.shape.slice(0, -2);
    if (!sameShape(batch, b.shape.slice(0, -2))) throw fail("leading axes must agree");
    return { outputs: [{ shape: [...batch, m, n], dtype: a.dtype }], ints: [size(batch), m, n, k, +transposeA, +transposeB] };
  },
  reference([a, b], [y], [batch, m, n, k, transposeA, transposeB]) {
    const [ai, ap] = transposeA ? [1, m] : [k, 1];
    const [bp, bj] = transposeB ? [1, k] : [n, 1];
    const row = new Float64Array(n);
    for (let s = 0; s < batch; s++) {
      for (let i = 0; i < m; i++) {
        row.fill(0);
        for (let p = 0; p < k; p++) {
          const x = a[s * m * k + i * ai + p * ap];
          for (let j = 0, q = s * k * n + p * bp; j < n; j++, q += bj) row[j] += x * b[q];
        }
        y.set(row, (s * m + i) * n);
      }
    }
  },
  backward: gradients(matmul),
  cases() {
    const sizes = [
      [1, 1, 1],
      [7, 13, 33],
      [33, 7, 1],
      [64, 96, 128],
      [1, 130, 65],
    ];
    const flags = [
      [false, false],
      [true, false],
      [false, true],
      [true, true],
    ];
    return [[], [3]].flatMap((batch) =>
      sizes.flatMap(([m, n, k]) =>
        flags.map(([transposeA, transposeB]) => ({
          inputs: [{ shape: [...batch, ...(transposeA ? [k, m] : [m, k])] }, { shape: [...batch, ...(transposeB ? [n, k] : [k, n])] }],
          attrs: { transposeA, transposeB },
        })),
      ),
    );
  },
});

/** Sizes of the last two axes, in the order the product reads them. */
function lastTwo(shape: Shape, transposed: boolean): [number, number] {
  const [p, q] = shape.slice(-2);
  return transposed ? [q, p] : [p, q];
}

/**
 * Matrix product of the last two axes: [..., M, K] by [..., K, N] gives [..., M, N]. Leading axes must agree, except
 * that a matrix b may multiply every matrix of a batch a.
 */
export function matmul(a: Tensor, b: Tensor, { transposeA = false, transposeB = false }: MatmulOptions = {}): Tensor {
  if (b.shape.length === 2 && a.shape.length > 2 && !transposeA) {
    const flat = apply(matmulOp, [view(a, [size(a.shape.slice(0, -1)), a.shape.at(-1)!]), b], { transposeA, transposeB })[0];
    return view(flat, [...a.shape.slice(0, -1), flat.shape[1]]);
  }
  return apply(matmulOp, [a, b], { transposeA, transposeB })[0];
}

/** Of operands rounded to bfloat16; not differentiable, since it rounds. The kernel reads ints [m, n, k, transposeA, transposeB]. */
const bf16Op: Op<Required<MatmulOptions>> = defineOp({
  name: "matmul.bf16",
  shape(inputs, attrs) {
    const { outputs, ints = [] } = matmulOp.shape(inputs, attrs);
    if (outputs[0].shape.length !== 2)
      throw new RangeError(`matmul.bf16: operands must be matrices but a is ${showShape(inputs[0].shape)}`);
    return { outputs, ints: ints.slice(1) };
  },
  reference(inputs, outputs, ints, floats) {
    const operands = inputs.map((t) => rounded(t, t.length, "bf16") as typeof t);
    matmulOp.reference(operands, outputs, [1, ...ints], floats);
  },
  cases: () => [
    ...matmulOp.cases().filter(({ inputs }) => inputs[0]!.shape.length === 2),
    { inputs: [{ shape: [3, 1030] }, { shape: [1030, 34] }], attrs: { transposeA: false, transposeB: false } },
    { inputs: [{ shape: [1031, 101] }, { shape: [1031, 50] }], attrs: { transposeA: true, transposeB: false } },
  ],
});

/** The product of two matrices rounded to bfloat16; what it asks of each is a product of the same kind ("straight-through"). */
function matmulBf16(a: Tensor, b: Tensor, { transposeA = false, transposeB = false }: MatmulOptions = {}): Tensor {
  const attrs = { transposeA, transposeB };
  const inputs = [a, b];
  const [y] = noGrad(() => apply(bf16Op, inputs, attrs));
  record(
    "matmul.bf16",
    inputs,
    [y],
    (needs) =>
      ([g]) =>
        g ? gradients(matmulBf16)([g], { inputs, outputs: [y], attrs, needs }) : [],
  );
  return y;
}

/** The kernel reads ints [rows, inFeatures, outFeatures]; an absent bias is not passed. */
const linearOp: Op = defineOp({
  name: "linear",
  shape([x, weight, bias]) {
    const [out, features] = weight.shape;
    if (weight.shape.length !== 2) throw new RangeError(`linear: weight must be [out, in] but is ${showShape(weight.shape)}`);
    if (x.shape.length === 0 || x.shape.at(-1) !== features)
      throw new RangeError(`linear: x must be [..., ${features}] but is ${showShape(x.shape)}`);
    if (bias && !sameShape(bias.shape, [out])) throw new RangeError(`linear: bias must be [${out}] but is ${showShape(bias.shape)}`);
    if (x.dtype === "int32" || [weight, bias ?? weight].some((t) => t.dtype !== x.dtype))
      throw new TypeError(
        `linear: x, weight and bias must have one floating dtype but are ${[x, weight, bias ?? weight].map((t) => t.dtype).join(", ")}`,
      );
    return { outputs: [{ shape: [...x.shape.slice(0, -1), out], dtype: x.dtype }], ints: [size(x.shape.slice(0, -1)), features, out] };
  },
  reference([x, weight, bias], [y], [rows, features, out]) {
    for (let r = 0; r < rows; r++)
      for (let o = 0; o < out; o++) {
        let total = bias ? bias[o] : 0;
        for (let i = 0; i < features; i++) total += x[r * features + i] * weight[o * features + i];
        y[r * out + o] = total;
      }
  },
  backward: linearGradients(matmul),
  cases() {
    const sizes = [
      [1, 1, 1],
      [7, 13, 33],
      [2, 65, 130],
    ];
    return sizes.flatMap(([rows, features, out]) =>
      [[], [{ shape: [out] }]].map((bias) => ({
        inputs: [{ shape: [rows, features] }, { shape: [out, features] }, ...bias],
        attrs: undefined,
      })),
    );
  },
});

/** The gradients of x W^T + b, of which those of x and W are products. */
function linearGradients(product: Product): NonNullable<Op["backward"]> {
  return ([g], { inputs: [x, weight, bias], needs }) => {
    const rows = size(x.shape.slice(0, -1));
    const [out, features] = weight.shape;
    const flat = view(g, [rows, out]);
    return [
      needs[0] ? view(product(flat, weight), x.shape) : null,
      needs[1] ? product(flat, view(x, [rows, features]), { transposeA: true }) : null,
      ...(bias ? [needs[2] ? sumTo(flat, bias.shape) : null] : []),
    ];
  };
}

/** Not differentiable, since it rounds. The kernel reads ints [rows, inFeatures, outFeatures, precision]. */
const reducedOp: Op<{ precision: Precision }> = defineOp({
  name: "linear.reduced",
  shape(inputs, { precision }) {
    const { outputs, ints = [] } = linearOp.shape(inputs, undefined);
    const [, features] = ints;
    if (features < 1 || features > LARGEST_REDUCED)
      throw new RangeError(`linear: of ${precision} x must have 1 to ${LARGEST_REDUCED} features but has ${features}`);
    return { outputs, ints: [...ints, precisions.indexOf(precision)] };
  },
  reference([x, weight, bias], [y], ints, floats) {
    const [rows, features, out, precision] = ints;
    const operands = [x, weight].map((t) => rounded(t, features, precisions[precision]) as typeof x);
    linearOp.reference(bias ? [...operands, bias] : operands, [y], [rows, features, out], floats);
  },
  cases() {
    const sizes = [
      [1, 1, 1],
      [1, 1030, 37],
      [3, 5, 70],
      [7, 13, 33],
      [26, 65, 130],
      [101, 2, 31],
    ];
    return (["bf16", "int8"] as const).flatMap((precision) =>
      sizes.flatMap(([rows, features, out], i) => [
        {
          inputs: [{ shape: [rows, features] }, { shape: [out, features] }, ...(i % 2 === 0 ? [{ shape: [out] }] : [])],
          attrs: { precision },
        },
      ]),
    );
  },
});

/** So many products of bytes fit a sum of 32 bits. */
const LARGEST_REDUCED = 65_000;

/**
 * x W^T + b: x [..., in], weight [out, in], bias [out] or null; gives [..., out]. In a reduced `precision` the operands
 * are rounded before they are multiplied, as if that had derivative one ("straight-through"): gradients are taken at the
 * x and W that were given. Of bf16 their products, dy W and dy^T x, round their operands too; of int8 they are float32.
 *
 * @throws on shapes that do not fit; of a reduced precision on more than 65,000 features.
 */
export function linear(x: Tensor, weight: Tensor, bias: Tensor | null = null, precision: Precision = "float32"): Tensor {
  const inputs = bias ? [x, weight, bias] : [x, weight];
  if (precision === "float32") return apply(linearOp, inputs, undefined)[0];
  const y = noGrad(() => apply(reducedOp, inputs, { precision })[0]);
  record(
    "linear",
    inputs,
    [y],
    (needs) =>
      ([g]) =>
        g ? linearGradients(precision === "bf16" ? matmulBf16 : matmul)([g], { inputs, outputs: [y], attrs: undefined, needs }) : [],
  );
  return y;
}
