import type { Tensor } from "../tensor/tensor.js";
import { add, cos, div, exp, mul, neg, sin, square, sub } from "./elementwise.js";
import { select, stack } from "./movement.js";

/** Complex numbers as two tensors. Where they are one, real and imaginary parts lie on a last axis of 2. */
export interface Complex {
  readonly re: Tensor;
  readonly im: Tensor;
}

export const complex = (t: Tensor): Complex => ({ re: select(t, -1, 0), im: select(t, -1, 1) });
export const packed = ({ re, im }: Complex): Tensor => stack([re, im], re.shape.length);

export const addComplex = (x: Complex, y: Complex): Complex => ({ re: add(x.re, y.re), im: add(x.im, y.im) });
export const subComplex = (x: Complex, y: Complex): Complex => ({ re: sub(x.re, y.re), im: sub(x.im, y.im) });
export const mulComplex = (x: Complex, y: Complex): Complex => ({
  re: sub(mul(x.re, y.re), mul(x.im, y.im)),
  im: add(mul(x.re, y.im), mul(x.im, y.re)),
});
export const scaleComplex = (x: Complex, factor: Tensor): Complex => ({ re: mul(x.re, factor), im: mul(x.im, factor) });
export const conjugate = ({ re, im }: Complex): Complex => ({ re, im: neg(im) });

/** |x|^2 */
export const norm = ({ re, im }: Complex): Tensor => add(square(re), square(im));

export function divComplex(x: Complex, y: Complex): Complex {
  const below = norm(y);
  const above = mulComplex(x, conjugate(y));
  return { re: div(above.re, below), im: div(above.im, below) };
}

export function expComplex({ re, im }: Complex): Complex {
  const size = exp(re);
  return { re: mul(size, cos(im)), im: mul(size, sin(im)) };
}

/** Re(conj(x) y), element by element. */
export const innerComplex = (x: Complex, y: Complex): Tensor => add(mul(x.re, y.re), mul(x.im, y.im));
