import type { TypedArray } from "../backend/backend.js";
import { apply } from "../tensor/apply.js";
import { defineOp, sameShape, showShape, type Case, type Op, type Spec } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { circular } from "./fft.js";

/** The sizes of x [N, T, D]. @throws unless it is that. */
function sizes(name: string, what: string, { shape, dtype }: Spec) {
  if (shape.length !== 3) throw new RangeError(`${name}: ${what} must be [N, T, D] but is ${showShape(shape)}`);
  if (dtype === "int32") throw new TypeError(`${name}: ${what} must be float32 or float64 but is int32`);
  return shape;
}

/** Every k-th of `count` values from `start` on, with zeros up to a power of two that holds two sequences of T. */
function spread(values: TypedArray, start: number, count: number, apart: number, steps: number): Float64Array {
  const out = new Float64Array(2 ** Math.ceil(Math.log2(Math.max(2, 2 * steps))));
  for (let t = 0; t < Math.min(count, steps); t++) out[t] = values[start + t * apart];
  return out;
}

/** The kernels read ints [N, T, D, taps, transposed]. */
const longConvOp: Op<{ transposed: boolean }> = defineOp({
  name: "longConv",
  shape([u, k], { transposed }) {
    const [n, steps, width] = sizes("longConv", "u", u);
    if (k.shape.length !== 2 || k.shape[1] !== width || k.dtype !== u.dtype)
      throw new RangeError(`longConv: k must be ${u.dtype} [taps, ${width}] but is ${k.dtype} ${showShape(k.shape)}`);
    return { outputs: [u], ints: [n, steps, width, k.shape[0], +transposed] };
  },
  reference([u, k], [y], [n, steps, width, taps, transposed]) {
    for (let row = 0; row < n; row++)
      for (let d = 0; d < width; d++) {
        const start = row * steps * width + d;
        const result = circular(spread(u, start, steps, width, steps), spread(k, d, taps, width, steps), transposed !== 0);
        for (let t = 0; t < steps; t++) y[start + t * width] = result[t];
      }
  },
  backward([g], { inputs: [u, k], attrs: { transposed }, needs }) {
    const taps = k.shape[0];
    return [
      needs[0] ? apply(longConvOp, [g, k], { transposed: !transposed })[0] : null,
      needs[1] ? correlation(transposed ? u : g, transposed ? g : u, taps) : null,
    ];
  },
  cases: () => examples(([, , width, taps], i) => ({ second: [taps, width], attrs: { transposed: i % 2 === 1 } })),
});

/** The kernel reads ints [N, T, D, taps]. */
const longCorrelationOp: Op<{ taps: number }> = defineOp({
  name: "longCorrelation",
  shape([g, u], { taps }) {
    const [n, steps, width] = sizes("longCorrelation", "g", g);
    if (!sameShape(u.shape, g.shape) || u.dtype !== g.dtype)
      throw new RangeError(`longCorrelation: u must be ${g.dtype} ${showShape(g.shape)} but is ${u.dtype} ${showShape(u.shape)}`);
    return { outputs: [{ shape: [taps, width], dtype: g.dtype }], ints: [n, steps, width, taps] };
  },
  reference([g, u], [k], [n, steps, width, taps]) {
    k.fill(0);
    for (let row = 0; row < n; row++)
      for (let d = 0; d < width; d++) {
        const start = row * steps * width + d;
        const result = circular(spread(g, start, steps, width, steps), spread(u, start, steps, width, steps), true);
        for (let j = 0; j < Math.min(taps, steps); j++) k[j * width + d] += result[j];
      }
  },
  backward([h], { inputs: [g, u], needs }) {
    return [
      needs[0] ? apply(longConvOp, [u, h], { transposed: false })[0] : null,
      needs[1] ? apply(longConvOp, [g, h], { transposed: true })[0] : null,
    ];
  },
  cases: () => examples(([n, steps, width, taps]) => ({ second: [n, steps, width], attrs: { taps } })),
});

const correlation = (g: Tensor, u: Tensor, taps: number): Tensor => apply(longCorrelationOp, [g, u], { taps })[0];

type Sizes = readonly [n: number, steps: number, width: number, taps: number];

function examples<A>(of: (sizes: Sizes, i: number) => { readonly second: readonly number[]; readonly attrs: A }): Case<A>[] {
  const all: readonly Sizes[] = [
    [1, 1, 1, 1],
    [2, 5, 3, 5],
    [3, 7, 13, 4],
    [1, 9, 5, 12],
    [3, 64, 17, 64],
    [2, 33, 40, 7],
    [1, 300, 6, 300],
  ];
  return all.map((sizes, i) => {
    const [n, steps, width] = sizes;
    const { second, attrs } = of(sizes, i);
    // Every output is a sum of as many terms of order one as there are taps or steps, rounded some ten times on the way.
    return { inputs: [{ shape: [n, steps, width] }, { shape: second }], attrs, tolerance: 4e-6 };
  });
}

/**
 * A convolution of each channel by itself over the past, as long as the sequence:
 *
 *     y_t = sum over j of k_j * u_{t-j}
 *
 * u is [N, T, D], k [taps, D]. By fast Fourier transforms: O(T log T), where a short convolution (`causalConv`) is O(K T).
 * Two rows share a transform: what is not a number reaches all steps of its row and of that other one.
 *
 * @throws on a shape or dtype that does not fit.
 */
export const longConv = (u: Tensor, k: Tensor): Tensor => apply(longConvOp, [u, k], { transposed: false })[0];
