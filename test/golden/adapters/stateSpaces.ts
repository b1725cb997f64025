import { S4D } from "../../../src/nn/layers.js";
import { bilinearLowRank, discretize, timesPacked, type Discretization } from "../../../src/nn/discretize.js";
import { hippo, normalForm, type ComplexArray, type Measure } from "../../../src/nn/hippo.js";
import { s5 as stateSpace } from "../../../src/nn/s5.js";
import {
  addComplex,
  complex,
  conjugate,
  divComplex,
  mulComplex,
  packed,
  scaleComplex,
  subComplex,
  type Complex,
} from "../../../src/ops/complex.js";
import { diagonalScan, type DiagonalScanInputs } from "../../../src/ops/diagonalScan.js";
import { add, affine, div, exp, mul, neg } from "../../../src/ops/elementwise.js";
import { matmul } from "../../../src/ops/matmul.js";
import { concat, reshape, slice, transpose } from "../../../src/ops/movement.js";
import { sum } from "../../../src/ops/reduce.js";
import { tensor } from "../../../src/tensor/create.js";
import type { Tensor } from "../../../src/tensor/tensor.js";
import { differentiate, prefixed, type Adapter, type Computed } from "../adapter.js";
import type { GoldenCase, Place } from "../case.js";
import { leavesOf } from "./weights.js";

type Leaves = Record<string, Tensor>;

/** [B, H, L] to [B, L, H], and back. */
const turned = (t: Tensor) => transpose(t, [0, 2, 1]);
const withoutFirst = (t: Tensor) => reshape(t, t.shape.slice(1));

/** What a channel gives for a single one at the start, [H, L]. */
function impulse(kernel: Omit<DiagonalScanInputs, "u">, steps: number, place: Place): Tensor {
  const [channels] = kernel.a.shape;
  const u = tensor(
    Float64Array.from({ length: steps * channels }, (_, i) => (i < channels ? 1 : 0)),
    { shape: [1, steps, channels], ...place },
  );
  return withoutFirst(turned(diagonalScan({ u, ...kernel }).output));
}

/** The kernels of state-spaces/s4: y, which its step mode gives too, the last state, and the kernel itself. */
function run(leaves: Leaves, kernel: Omit<DiagonalScanInputs, "u">, place: Place) {
  const u = leaves["input.u"];
  const { output, state } = diagonalScan({ u: turned(u), ...kernel }, { initial: "state0.x_ri" in leaves ? leaves["state0.x_ri"] : null });
  const y = turned(output);
  return { y, y_step: y, final_state_ri: state, kernel: impulse(kernel, u.shape[2], place) };
}

const eigenvalues = (leaves: Leaves): Complex => ({ re: neg(exp(leaves["param.A_real"])), im: neg(leaves["param.A_imag"]) });

/** S4D and SSMKernelDiag of state-spaces/s4. */
export const s4d: Adapter = {
  families: ["s4d"],

  run(c, place) {
    const leaves = leavesOf(c, place, ...Object.keys(c.under("input.")).map((name) => `input.${name}`));
    if (c.has("param.inv_dt")) {
      const { a, input } = discretize(eigenvalues(leaves), exp(leaves["param.inv_dt"]), c.config.disc as Discretization);
      const kernel = { a: packed(a), b: timesPacked(input, withoutFirst(leaves["param.B"])), c: withoutFirst(leaves["param.C"]) };
      return differentiate(c, place, run(leaves, kernel, place), leaves);
    }
    const u = leaves["input.u"];
    const [, features, steps] = u.shape;
    const layer = new S4D(features, { stateSize: 2 * leaves["param.kernel.C"].shape[1], ...place });
    layer.loadStateDict(c.under("param."));
    const { output } = layer.forward(turned(u));
    const kernel = layer.kernel.discrete();
    const ssm = add(diagonalScan({ u: turned(u), ...kernel }).output, mul(turned(u), layer.D));
    const outputs = { y: turned(output), ssm: turned(ssm), kernel: impulse(kernel, steps, place) };
    return differentiate(c, place, outputs, { "input.u": u, ...prefixed("param.", layer.stateDict()) });
  },
};

/** The matrix product of complex [H, n, n]. */
function product(x: Complex, y: Complex): Complex {
  return {
    re: add(matmul(x.re, y.re), neg(matmul(x.im, y.im))),
    im: add(matmul(x.re, y.im), matmul(x.im, y.re)),
  };
}

/** The transition of S4 as a matrix over all states, conjugates behind, and what the input gives to each. */
function dense(leaves: Leaves, place: Place): { dA: Complex; dB: Complex } {
  const all = (z: Complex): Complex => ({ re: concat([z.re, z.re], 1), im: concat([z.im, neg(z.im)], 1) });
  const [w, P, B] = [eigenvalues(leaves), ...["P", "B"].map((name) => complex(withoutFirst(leaves[`param.${name}`])))].map(all);
  const [channels, n] = w.re.shape;
  const rate = affine(div(leaves["param.inv_dt"].like(1), exp(leaves["param.inv_dt"])), 2);
  const ones = { re: w.re.like(1), im: w.re.like(0) };
  const row = (z: Complex): Complex => ({ re: reshape(z.re, [channels, 1, n]), im: reshape(z.im, [channels, 1, n]) });
  const column = (z: Complex): Complex => ({ re: reshape(z.re, [channels, n, 1]), im: reshape(z.im, [channels, n, 1]) });
  const unit = tensor(
    Float64Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0)),
    { shape: [n, n], ...place },
  );
  const diagonal = (z: Complex) => scaleComplex(column(z), unit);
  const above = addComplex(scaleComplex(ones, rate), w);
  const inverse = divComplex(ones, subComplex(scaleComplex(ones, rate), w));
  const outer = (x: Complex, y: Complex) => mulComplex(column(x), row(y));
  const q = mulComplex(inverse, P);
  const through = mulComplex(conjugate(P), q);
  const total = { re: sum(through.re, { axis: -1, keepDims: true }), im: sum(through.im, { axis: -1, keepDims: true }) };
  const correction = outer(
    divComplex(q, addComplex({ re: total.re.like(1), im: total.re.like(0) }, total)),
    mulComplex(conjugate(P), inverse),
  );
  const A1 = subComplex(diagonal(inverse), correction);
  const A0 = subComplex(diagonal(above), outer(P, conjugate(P)));
  const dB = product(A1, column({ re: affine(B.re, 2), im: affine(B.im, 2) }));
  return { dA: product(A1, A0), dB: { re: reshape(dB.re, [channels, n]), im: reshape(dB.im, [channels, n]) } };
}

/** The inverses of complex [H, n, n], by Gauss and Jordan. */
function inverses({ re, im }: Complex, place: Place): Complex {
  const [channels, n] = re.shape;
  const [real, imaginary] = [Float64Array.from(re.dataSync()), Float64Array.from(im.dataSync())];
  const out = [new Float64Array(real.length), new Float64Array(real.length)];
  for (let h = 0; h < channels; h++) {
    const at = (i: number, j: number) => (h * n + i) * n + j;
    const rows = Array.from({ length: n }, (_, i) =>
      Array.from({ length: 2 * n }, (_, j): [number, number] => (j < n ? [real[at(i, j)], imaginary[at(i, j)]] : [+(j - n === i), 0])),
    );
    for (let k = 0; k < n; k++) {
      const pivot = rows.reduce((best, row, i) => (i >= k && Math.hypot(...row[k]) > Math.hypot(...rows[best][k]) ? i : best), k);
      [rows[k], rows[pivot]] = [rows[pivot], rows[k]];
      const [x, y] = rows[k][k];
      const size = x * x + y * y;
      rows[k] = rows[k].map(([a, b]) => [(a * x + b * y) / size, (b * x - a * y) / size]);
      rows.forEach((row, i) => {
        if (i === k) return;
        const [c, d] = row[k];
        rows[i] = row.map(([a, b], j) => [a - (c * rows[k][j][0] - d * rows[k][j][1]), b - (c * rows[k][j][1] + d * rows[k][j][0])]);
      });
    }
    rows.forEach((row, i) => row.slice(n).forEach(([a, b], j) => ((out[0][at(i, j)] = a), (out[1][at(i, j)] = b))));
  }
  const [first, second] = out.map((data) => tensor(data, { shape: re.shape, ...place }));
  return { re: first, im: second };
}

/** The matrices of HiPPO, and its normal form with each eigenvector turned as that of the file, where B's imaginary parts are cut off at 2. */
function matrices(c: GoldenCase): Computed {
  const { N } = c.config as { N: number };
  const computed: Computed = {};
  for (const measure of ["legs", "legt", "fourier"] satisfies Measure[]) {
    const { A, B } = hippo(measure, N);
    computed[`output.${measure}.A`] = { shape: [N, N], data: A };
    computed[`output.${measure}.B`] = { shape: [N, 1], data: B };
  }
  const { w, P, B, V } = normalForm("legs", N);
  const half = N / 2;
  const wanted = c.values("output.legs.nplr_V").data;
  const phases = Array.from({ length: half }, (_, k) => {
    const [x, y] = [wanted[2 * k], wanted[2 * k + 1]];
    const [a, b] = [V.re[k], V.im[k]];
    const size = a * a + b * b;
    return [(x * a + y * b) / size, (y * a - x * b) / size];
  });
  const given = ({ re, im }: ComplexArray, sign: -1 | 0 | 1) =>
    Float64Array.from({ length: 2 * re.length }, (_, i) => {
      const [at, k] = [Math.floor(i / 2), Math.floor(i / 2) % half];
      const [x, y] = sign === 0 ? [1, 0] : [phases[k][0], sign * phases[k][1]];
      return i % 2 === 0 ? re[at] * x - im[at] * y : re[at] * y + im[at] * x;
    });
  computed["output.legs.nplr_w"] = { shape: [half, 2], data: given(w, 0) };
  computed["output.legs.nplr_P"] = { shape: [1, half, 2], data: given(P, -1) };
  computed["output.legs.nplr_B"] = { shape: [half, 2], data: given(B, -1).map((v, i) => (i % 2 === 0 ? v : Math.min(2, Math.max(-2, v)))) };
  computed["output.legs.nplr_V"] = { shape: [N, half, 2], data: given(V, 1) };
  return computed;
}

/** SSMKernelDPLR of state-spaces/s4, whose gradients are with respect to C (1 - A^L), as if that did not depend on A. */
export const s4: Adapter = {
  families: ["s4"],

  run(c, place) {
    if (!c.has("param.C")) return matrices(c);
    const leaves = leavesOf(c, place, ...Object.keys(c.under("input.")).map((name) => `input.${name}`));
    const { l_max: L } = c.config as { l_max: number };
    const { dA, dB } = dense(leaves, place);
    const [channels, n] = dB.re.shape;
    let power = dA;
    for (let l = 1; l < L; l++) power = product(power, dA);
    // The row vectors of all states, [H, 1, n], from those of half of them, and back.
    const whole = (t: Tensor): Complex => {
      const { re, im } = complex(withoutFirst(t));
      const row = (first: Tensor, second: Tensor) => reshape(concat([first, second], 1), [channels, 1, n]);
      return { re: row(re, re), im: row(im, neg(im)) };
    };
    const half = (z: Complex) =>
      packed({ re: slice(reshape(z.re, [channels, n]), 1, 0, n / 2), im: slice(reshape(z.im, [channels, n]), 1, 0, n / 2) });
    const C = c.leaf("param.C", place, true);
    const less = (x: Complex) => subComplex(whole(C), product(whole(C), x));
    const fixed = { re: power.re.detach(), im: power.im.detach() };
    const tilde = half(less(fixed)).detach();
    const leaf = tensor(tilde.dataSync(), { shape: [1, ...tilde.shape], ...place, requiresGrad: true });
    const unit = { re: affine(fixed.re, -1), im: affine(fixed.im, -1) };
    const eye = tensor(
      Float64Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0)),
      { shape: [n, n], ...place },
    );
    const inverse = inverses({ re: add(unit.re, eye), im: unit.im }, place);
    // C = tilde (1 - A^L)^-1: its value, and its derivative with that of A^L in its place.
    const change = product(whole(C), subComplex(power, fixed));
    const C2 = half(product(addComplex(whole(leaf), change), inverse));
    const apart = (name: string) => complex(withoutFirst(leaves[`param.${name}`]));
    const kernel = { ...bilinearLowRank(eigenvalues(leaves), apart("P"), apart("B"), exp(leaves["param.inv_dt"])), c: C2 };
    const outputs = { ...run(leaves, kernel, place), dA_ri: packed(dA), dB_ri: packed(dB), C_tilde: reshape(tilde, [1, ...tilde.shape]) };
    return differentiate(c, place, outputs, { ...leaves, "param.C": leaf });
  },
};

/** The state space of S5, one sequence at a time. */
export const s5: Adapter = {
  families: ["s5"],

  run(c, place) {
    const {
      discretization,
      conj_sym: conjugates,
      bidirectional,
    } = c.config as { discretization: Discretization; conj_sym: boolean; bidirectional: boolean };
    const leaves = leavesOf(c, place, "input.u");
    const of = (name: string) => leaves[`param.${name}`];
    const u = reshape(leaves["input.u"], [1, ...leaves["input.u"].shape]);
    const P = of("Lambda_re").size;
    const directions = bidirectional ? [false, true] : [false];
    const parts = directions.map((reverse, d) => {
      const inputs = {
        u,
        lambda: { re: of("Lambda_re"), im: of("Lambda_im") },
        B: of("B"),
        C: slice(of("C"), 1, d * P, (d + 1) * P),
        steps: reshape(exp(of("log_step")), [P]),
      };
      return stateSpace(inputs, { discretization, conjugates, reverse }).output;
    });
    const y = add(parts.reduce(add), mul(u, of("D")));
    return differentiate(c, place, { y: withoutFirst(y) }, leaves);
  },
};
