import { complex, divComplex, expComplex, mulComplex, norm, packed, scaleComplex, type Complex } from "../ops/complex.js";
import { add, affine, cos, div, exp, mul, sin, square, tanh } from "../ops/elementwise.js";
import { sum } from "../ops/reduce.js";
import type { Tensor } from "../tensor/tensor.js";

/** How a continuous state space x' = A x + B u is made discrete. */
export type Discretization = "zoh" | "bilinear";

/** e^z - 1 without cancellation near 0: e^x - 1 = tanh(x / 2) (e^x + 1), and 1 - cos y = 2 sin(y / 2)^2. */
function expMinusOne({ re, im }: Complex): Complex {
  const size = exp(re);
  const less = mul(tanh(affine(re, 0.5)), affine(size, 1, 1));
  return { re: add(mul(less, cos(im)), affine(square(sin(affine(im, 0.5))), -2)), im: mul(size, sin(im)) };
}

/** 1 + sign * z */
const oneAnd = ({ re, im }: Complex, sign: 1 | -1): Complex => ({ re: affine(re, sign, 1), im: affine(im, sign) });

/**
 * A diagonal state space with steps of dt, which is broadcast against A: its factor a, and the factor of B.
 *
 * `zoh` holds the input over a step: a = e^(dt A), input (e^(dt A) - 1) / A. `bilinear` is the trapezoidal rule:
 * a = (1 + dt A / 2) / (1 - dt A / 2), input dt / (1 - dt A / 2).
 */
export function discretize(A: Complex, dt: Tensor, method: Discretization): { readonly a: Complex; readonly input: Complex } {
  if (method === "zoh") {
    const step = scaleComplex(A, dt);
    return { a: expComplex(step), input: divComplex(expMinusOne(step), A) };
  }
  const half = scaleComplex(A, affine(dt, 0.5));
  const below = oneAnd(half, -1);
  const turned = { re: below.re, im: affine(below.im, -1) };
  return { a: divComplex(oneAnd(half, 1), below), input: scaleComplex(turned, div(dt, norm(below))) };
}

/**
 * The bilinear step of A = diag(w) - P P^* (Gu, Goel & Ré 2022, appendix C.2), whose inverse is diagonal up to low rank
 * again (Woodbury): what `diagonalScan` reads. w, P and B are [D, S], dt [D, 1]; states stand for their conjugates too.
 */
export function bilinearLowRank(w: Complex, P: Complex, B: Complex, dt: Tensor) {
  const { a, input } = discretize(w, dt, "bilinear");
  const inverse = { re: affine(input.re, 0.5), im: affine(input.im, 0.5) };
  const q = mulComplex(inverse, P);
  const spread = affine(sum(mul(norm(P), inverse.re), { axis: -1, keepDims: true }), 2, 1);
  const r = { re: div(q.re, spread), im: div(q.im, spread) };
  return { a: packed(a), b: packed(mulComplex(input, B)), lowRank: { p: packed(P), q: packed(q), r: packed(r) } };
}

/** x y, of which y has real and imaginary part on a last axis. */
export const timesPacked = (x: Complex, y: Tensor): Tensor => packed(mulComplex(x, complex(y)));
