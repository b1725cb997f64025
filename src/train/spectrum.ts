import { showShape } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";

/** A complex number as [real, imaginary]. */
type Complex = readonly [number, number];

/**
 * The spectral radius, the largest |eigenvalue|, of each square block of a recurrent weight [gates * H, H]: one number for
 * a plain network, one for each gate of a gated cell. Below 1 what goes round a linear recurrence dies out, above 1 it
 * grows (Pascanu, Mikolov & Bengio 2013). Complex eigenvalues count: all are found, in double precision. The weight of a layer
 * with a projection has no such blocks.
 *
 * @throws unless the weight is [gates * H, H], or if its values are not finite.
 */
export async function spectralRadius(weight: Tensor): Promise<number[]> {
  const [rows, n] = weight.shape;
  if (weight.shape.length !== 2 || n === 0 || rows === 0 || rows % n !== 0)
    throw new RangeError(`spectralRadius: weight must be [gates * H, H] but is ${showShape(weight.shape)}`);
  const values = Float64Array.from(await weight.data());
  if (!values.every(Number.isFinite)) throw new RangeError("spectralRadius: weight must hold finite numbers");
  return Array.from({ length: rows / n }, (_, gate) => {
    const found = eigenvalues(values.slice(gate * n * n, (gate + 1) * n * n), n);
    return Math.max(...found.map(([re, im]) => Math.hypot(re, im)));
  });
}

/**
 * @internal All eigenvalues of the real n x n matrix `a` (row-major, overwritten): Householder's reduction to Hessenberg
 * form, then QR iterations with Francis' implicit double shift (Golub & Van Loan, Matrix Computations, 7.4 and 7.5).
 */
export function eigenvalues(a: Float64Array, n: number): Complex[] {
  for (let k = 0; k < n - 2; k++) {
    const v = Array.from({ length: n - k - 1 }, (_, i) => a[(k + 1 + i) * n + k]);
    reflect(a, n, v, k + 1, k, n - 1, 0, n - 1);
    for (let i = k + 2; i < n; i++) a[i * n + k] = 0;
  }
  const found: Complex[] = [];
  let high = n - 1;
  for (let round = 1; high >= 0; round++) {
    const low = activeBlock(a, n, high);
    if (low < high - 1) {
      if (round > 60) throw new Error(`eigenvalues: no convergence for a ${n} x ${n} matrix`);
      francisStep(a, n, low, high, round % 10 === 0);
      continue;
    }
    found.push(...(low === high ? [[a[high * n + high], 0] as const] : pair(a, n, low)));
    high = low - 1;
    round = 0;
  }
  return found;
}

/** The first row of the unreduced block that ends at `high`; what is negligible below the diagonal becomes 0. */
function activeBlock(a: Float64Array, n: number, high: number): number {
  let low = high;
  for (; low > 0; low--) {
    const size = Math.abs(a[(low - 1) * n + low - 1]) + Math.abs(a[low * n + low]);
    if (Math.abs(a[low * n + low - 1]) > Number.EPSILON * (size || 1)) continue;
    a[low * n + low - 1] = 0;
    break;
  }
  return low;
}

/** The two eigenvalues of the block at (k, k). */
function pair(a: Float64Array, n: number, k: number): Complex[] {
  const [p, q, r, s] = [a[k * n + k], a[k * n + k + 1], a[(k + 1) * n + k], a[(k + 1) * n + k + 1]];
  const middle = (p + s) / 2;
  const radicand = ((p - s) / 2) ** 2 + q * r;
  const root = Math.sqrt(Math.abs(radicand));
  if (radicand < 0) return [[middle, root], [middle, -root]]; // prettier-ignore
  const larger = middle + (middle < 0 ? -root : root);
  return [[larger, 0], [larger === 0 ? 0 : (p * s - q * r) / larger, 0]]; // prettier-ignore
}

/** One implicit step with both eigenvalues of the last 2 x 2 block as shifts, or with others to break a cycle. */
function francisStep(a: Float64Array, n: number, low: number, high: number, other: boolean): void {
  const at = (i: number, j: number) => a[i * n + j];
  const nudge = Math.abs(at(high, high - 1)) + Math.abs(at(high - 1, high - 2));
  const trace = other ? 1.5 * nudge : at(high - 1, high - 1) + at(high, high);
  const determinant = other ? nudge * nudge : at(high - 1, high - 1) * at(high, high) - at(high - 1, high) * at(high, high - 1);
  let v = [
    at(low, low) ** 2 + at(low, low + 1) * at(low + 1, low) - trace * at(low, low) + determinant,
    at(low + 1, low) * (at(low, low) + at(low + 1, low + 1) - trace),
    at(low + 1, low) * at(low + 2, low + 1),
  ];
  for (let k = low; k < high; k++) {
    reflect(a, n, v, k, Math.max(low, k - 1), high, low, Math.min(k + 3, high));
    for (let i = k + 1; k > low && i < k + v.length; i++) a[i * n + k - 1] = 0;
    v = [k + 1, k + 2, k + 3].flatMap((i) => (i <= high ? [at(i, k)] : []));
  }
}

/**
 * Turns v to the first axis by a Householder reflection of rows and columns first, first + 1, ...: of the rows in
 * columns left..right, then of the columns in rows top..bottom.
 */
function reflect(a: Float64Array, n: number, v: number[], first: number, left: number, right: number, top: number, bottom: number): void {
  const norm = Math.hypot(...v);
  if (norm === 0) return;
  v[0] += v[0] < 0 ? -norm : norm;
  const scale = 2 / v.reduce((sum, x) => sum + x * x, 0);
  for (let j = left; j <= right; j++) {
    let dot = 0;
    for (let i = 0; i < v.length; i++) dot += v[i] * a[(first + i) * n + j];
    for (let i = 0; i < v.length; i++) a[(first + i) * n + j] -= scale * dot * v[i];
  }
  for (let i = top; i <= bottom; i++) {
    let dot = 0;
    for (let j = 0; j < v.length; j++) dot += v[j] * a[i * n + first + j];
    for (let j = 0; j < v.length; j++) a[i * n + first + j] -= scale * dot * v[j];
  }
}
