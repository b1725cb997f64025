import { checkChoice, checkCount } from "../tensor/check.js";

export type Measure = "legs" | "legt" | "fourier";

/** A matrix by rows, and a vector. */
export interface Hippo {
  readonly A: Float64Array;
  readonly B: Float64Array;
}

/**
 * The matrices of HiPPO (Gu, Dao, Ermon, Rudra & Ré 2020): with x' = A x + B u the state is the coefficients of all of u so
 * far in scaled Legendre polynomials (`legs`), or of its latest window in Legendre polynomials (`legt`) or sines and
 * cosines (`fourier`). A is [states, states] by rows, B [states].
 *
 * @throws RangeError on an unknown measure, or a number of states that is not an integer of at least 1 (even of `fourier`).
 */
export function hippo(measure: Measure, states: number): Hippo {
  checkChoice("hippo", "measure", measure, ["legs", "legt", "fourier"]);
  checkCount("hippo", "states", states);
  if (measure === "fourier" && states % 2 !== 0) throw new RangeError(`hippo: states must be even for fourier but is ${states}`);
  const A = new Float64Array(states * states);
  const B = Float64Array.from({ length: states }, (_, i) => scaleOf(measure, i));
  for (let i = 0; i < states; i++) for (let j = 0; j < states; j++) A[i * states + j] = entry(measure, i, j);
  return { A, B };
}

/** B, and for `fourier` and `legs` what the matrices are made of. */
function scaleOf(measure: Measure, i: number): number {
  if (measure === "fourier") return i % 2 !== 0 ? 0 : i === 0 ? 1 : Math.SQRT2;
  return Math.sqrt(2 * i + 1) * (measure === "legt" ? 0.5 : 1);
}

function entry(measure: Measure, i: number, j: number): number {
  if (measure === "fourier") {
    const turn = i === j - 1 && i % 2 === 0 ? -j : j === i - 1 && j % 2 === 0 ? i : 0;
    const frequency = Math.sign(turn) * Math.floor(Math.abs(turn) / 2);
    return Math.PI * frequency - scaleOf(measure, i) * scaleOf(measure, j);
  }
  const both = Math.sqrt((2 * i + 1) * (2 * j + 1));
  if (measure === "legt") return -0.5 * both * (i < j && (j - i) % 2 !== 0 ? -1 : 1);
  return i > j ? -both : i === j ? -(i + 1) : 0;
}

/** A complex array: real parts, imaginary parts. */
export interface ComplexArray {
  readonly re: Float64Array;
  readonly im: Float64Array;
}

/** HiPPO in coordinates where it is diagonal up to low rank; half of the states, whose conjugates are the others. */
export interface NormalForm {
  /** [states / 2], by imaginary part, all below zero: the eigenvalues of A + P P^T. */
  readonly w: ComplexArray;
  /** [states / 2] each: A = diag(w) - P P^*, and B, in these coordinates. */
  readonly P: ComplexArray;
  readonly B: ComplexArray;
  /** [states, states / 2] by rows: the eigenvectors, V^* V = 1. Each may be turned by a phase. */
  readonly V: ComplexArray;
}

/**
 * HiPPO as a normal matrix and a correction of rank 1 (Gu, Goel & Ré 2022, appendix C.1): A + P P^T is skew-symmetric but
 * for its diagonal, so that it has orthonormal eigenvectors. `legt`, whose correction is of rank 2, is not among them.
 *
 * @throws RangeError unless states is even and at least 2.
 */
export function normalForm(measure: "legs" | "fourier", states: number): NormalForm {
  const known = forms.get(`${measure} ${states}`);
  if (known) return known;
  const made = makeNormalForm(measure, states);
  forms.set(`${measure} ${states}`, made);
  return made;
}

const forms = new Map<string, NormalForm>();

function makeNormalForm(measure: "legs" | "fourier", n: number): NormalForm {
  if (!Number.isInteger(n) || n < 2 || n % 2 !== 0) throw new RangeError(`normalForm: states must be even and at least 2 but is ${n}`);
  const { A, B } = hippo(measure, n);
  const P = measure === "legs" ? Float64Array.from({ length: n }, (_, i) => Math.sqrt(i + 0.5)) : B;
  const skew = A.map((a, at) => a + P[Math.floor(at / n)] * P[at % n]);
  let decay = 0;
  for (let i = 0; i < n; i++) decay += skew[i * n + i] / n;
  for (let i = 0; i < n; i++) skew[i * n + i] = 0;
  // The constant, and the sine of frequency 0 that fills its pair, are still: turned into each other ever so slowly they are
  // found as one complex pair.
  if (measure === "fourier") [skew[1], skew[n]] = [-1e-3, 1e-3];
  const { values, vectors } = skewEigen(skew, n);
  if (measure === "fourier") values[n / 2 - 1] = 0;
  const half = n / 2;
  const project = (x: Float64Array): ComplexArray => {
    const out = { re: new Float64Array(half), im: new Float64Array(half) };
    for (let k = 0; k < half; k++)
      for (let i = 0; i < n; i++) {
        out.re[k] += vectors.re[i * half + k] * x[i];
        out.im[k] -= vectors.im[i * half + k] * x[i];
      }
    return out;
  };
  return { w: { re: new Float64Array(half).fill(decay), im: values }, P: project(P), B: project(B), V: vectors };
}

/**
 * Eigenvalues i * values, the lower half in rising order, and unit eigenvectors [n, n / 2] of a real skew-symmetric matrix K:
 * those of the symmetric [[0, K], [-K, 0]], where each is there twice and (u, v) stands for u + i v.
 */
function skewEigen(K: Float64Array, n: number): { values: Float64Array; vectors: ComplexArray } {
  const size = 2 * n;
  const matrix = new Float64Array(size * size);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) {
      matrix[i * size + n + j] = K[i * n + j];
      matrix[(n + i) * size + j] = -K[i * n + j];
    }
  const rotations = jacobi(matrix, size);
  const order = Array.from({ length: size }, (_, i) => i).sort((a, b) => matrix[a * size + a] - matrix[b * size + b]);
  const half = n / 2;
  const vectors = { re: new Float64Array(n * half), im: new Float64Array(n * half) };
  const values = Float64Array.from({ length: half }, (_, k) => matrix[order[2 * k] * size + order[2 * k]]);
  for (let k = 0; k < half; k++)
    for (let i = 0; i < n; i++) {
      vectors.re[i * half + k] = rotations[i * size + order[2 * k]];
      vectors.im[i * half + k] = rotations[(n + i) * size + order[2 * k]];
    }
  return { values, vectors };
}

/** Jacobi's method: makes a symmetric matrix diagonal where it lies, and returns its eigenvectors as columns. */
function jacobi(matrix: Float64Array, n: number): Float64Array {
  const vectors = new Float64Array(n * n);
  for (let i = 0; i < n; i++) vectors[i * n + i] = 1;
  const turn = (m: Float64Array, a: number, b: number, c: number, s: number) => {
    const [x, y] = [m[a], m[b]];
    m[a] = c * x - s * y;
    m[b] = s * x + c * y;
  };
  for (let sweep = 0; sweep < 60; sweep++) {
    let outside = 0;
    let all = 0;
    for (let i = 0; i < n * n; i++) {
      all += matrix[i] ** 2;
      if (i % (n + 1) !== 0) outside += matrix[i] ** 2;
    }
    if (outside <= 1e-30 * all) break;
    for (let p = 0; p < n - 1; p++)
      for (let q = p + 1; q < n; q++) {
        const off = matrix[p * n + q];
        if (off === 0) continue;
        const theta = (matrix[q * n + q] - matrix[p * n + p]) / (2 * off);
        const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1));
        const c = 1 / Math.hypot(t, 1);
        const s = t * c;
        for (let k = 0; k < n; k++) turn(matrix, k * n + p, k * n + q, c, s);
        for (let k = 0; k < n; k++) turn(matrix, p * n + k, q * n + k, c, s);
        for (let k = 0; k < n; k++) turn(vectors, k * n + p, k * n + q, c, s);
      }
  }
  return vectors;
}
