import { applyFused } from "../tensor/apply.js";
import { zeros } from "../tensor/create.js";
import {
  defineFused,
  expecting,
  showShape,
  type Case,
  type CaseInput,
  type Fused,
  type MaybeSpec,
  type MaybeTensor,
} from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { addComplex, complex, conjugate, innerComplex, mulComplex, packed, scaleComplex, subComplex, type Complex } from "./complex.js";
import { affine } from "./elementwise.js";
import { reshape } from "./movement.js";
import { sum } from "./reduce.js";
import { scanLoop, type Scanned, type ScanOptions } from "./scan.js";

/** What a diagonal scan reads; complex numbers have a last axis of 2, real and imaginary part. */
export interface DiagonalScanInputs {
  /** [N, T, D] */
  readonly u: Tensor;
  /** [D, S, 2], the factor of each state. */
  readonly a: Tensor;
  /** [D, S, 2], what each state takes of the input. */
  readonly b: Tensor;
  /** [D, S, 2], what the output takes of each state. */
  readonly c: Tensor;
  /** [D, S, 2] each: a correction of low rank. */
  readonly lowRank?: { readonly p: Tensor; readonly q: Tensor; readonly r: Tensor } | null;
}

/** `initial` is [N, D, S, 2] here. */
export interface DiagonalScanOptions extends ScanOptions {
  /** Whether each state stands for itself and its conjugate, so that all sums over states count twice. Default true. */
  readonly conjugates?: boolean;
}

interface Attrs {
  readonly reverse: boolean;
  readonly conjugates: boolean;
}

const CHUNK = 32;

/**
 * Inputs u, a, b, c, p, q, r, initial, lengths. The kernels read ints [N, T, D, reverse, S, 2 or 1] and save the states
 * before every 32 steps, [N, chunks, S, 2, D].
 */
const diagonalScanOp: Fused<Attrs> = defineFused({
  name: "diagonalScan",
  shape(inputs, { reverse, conjugates }) {
    const { n, steps, width, states, dtype } = check(inputs);
    const outputs = [
      { shape: [n, steps, width], dtype },
      { shape: [n, width, states, 2], dtype },
    ];
    return { outputs, ints: [n, steps, width, +reverse, states, conjugates ? 2 : 1] };
  },
  compose([u, a, b, c, p, q, r, initial, lengths], { reverse, conjugates }) {
    const { n, width, states } = check([u, a, b, c, p, q, r, initial, lengths]);
    const before = initial ?? zeros([n, width, states, 2], { dtype: u!.dtype as "float32", device: u!.device });
    const [A, B, C] = [complex(a!), complex(b!), conjugate(complex(c!))];
    const low = p && { p: complex(p), q: complex(q!), r: complex(r!) };
    const over = (x: Complex, y: Complex) => affine(sum(innerComplex(x, y), { axis: -1 }), conjugates ? 2 : 1);
    const along = (t: Tensor) => reshape(t, [...t.shape, 1]);
    // What z loses of `direction`, as much as the correction reads of x.
    const less = (z: Complex, x: Complex, direction: "q" | "r") =>
      low ? subComplex(z, scaleComplex(low[direction], along(over(low.p, x)))) : z;
    const step = ([input]: readonly Tensor[], state: Tensor) => {
      const x = complex(state);
      const z = less(addComplex(mulComplex(A, x), scaleComplex(B, along(input))), x, "q");
      const next = less(z, z, "r");
      return { state: packed(next), output: over(C, next) };
    };
    return scanLoop([u!], before, lengths, reverse, step, [width]);
  },
  saved: (inputs) => {
    const { n, steps, width, states, dtype } = check(inputs);
    return [{ shape: [n, Math.ceil(steps / CHUNK), states, 2, width], dtype }];
  },
  cases() {
    interface Parts {
      readonly n: number;
      readonly steps: number;
      readonly width: number;
      readonly states: number;
      readonly low?: boolean;
      readonly state?: boolean;
      readonly reverse?: boolean;
      readonly conjugates?: boolean;
      readonly lengths?: readonly number[];
    }
    const example = ({ n, steps, width, states, low, state, reverse = false, conjugates = true, lengths }: Parts): Case<Attrs> => {
      const matrix = (size: number): CaseInput => ({ shape: [width, states, 2], low: -size, high: size });
      const correction = low ? matrix(0.3 / Math.sqrt(states)) : null;
      return {
        inputs: [
          { shape: [n, steps, width] },
          matrix(0.65),
          matrix(1),
          matrix(1),
          correction,
          correction,
          correction,
          state ? { shape: [n, width, states, 2] } : null,
          lengths ? { shape: [n], dtype: "int32", values: lengths } : null,
        ],
        attrs: { reverse, conjugates },
        // Gradients of a, b and c sum some hundred products.
        tolerance: 1e-5,
      };
    };
    return [
      example({ n: 1, steps: 2, width: 1, states: 1, state: true }),
      example({ n: 2, steps: 5, width: 3, states: 2, conjugates: false }),
      example({ n: 3, steps: 6, width: 5, states: 3, state: true, lengths: [6, 0, 2] }),
      example({ n: 2, steps: 4, width: 17, states: 2, low: true, reverse: true, state: true, lengths: [4, 3] }),
      example({ n: 2, steps: 5, width: 3, states: 3, low: true, conjugates: false, state: true }),
      example({ n: 1, steps: 70, width: 20, states: 4, low: true, state: true }),
      example({ n: 2, steps: 33, width: 80, states: 5, reverse: true, lengths: [33, 32] }),
    ];
  },
});

/** The sizes. @throws naming the input that does not fit. */
function check([u, a, b, c, p, q, r, initial, lengths]: readonly MaybeSpec[]) {
  const where = "diagonalScan";
  if (u?.shape.length !== 3) throw new RangeError(`${where}: u must be [N, T, D] but is ${showShape(u?.shape ?? [])}`);
  if (u.dtype === "int32") throw new TypeError(`${where}: u must be float32 or float64 but is int32`);
  const [n, steps, width] = u.shape;
  if (a?.shape.length !== 3 || a.shape[0] !== width || a.shape[2] !== 2)
    throw new RangeError(`${where}: a must be [${width}, S, 2] but is ${showShape(a?.shape ?? [])}`);
  const expect = expecting(where, u.dtype);
  for (const [what, spec] of Object.entries({ a, b, c, p, q, r })) expect(what, spec, a.shape);
  expect("initial", initial, [n, ...a.shape]);
  expect("lengths", lengths, [n], "int32");
  return { n, steps, width, states: a.shape[1], dtype: u.dtype };
}

/**
 * State spaces with a constant transition, S complex states for each channel, a real input and a real output (Gu, Goel &
 * Ré 2022; Gu, Gupta, Goel & Ré 2022):
 *
 *     x_t = a * x_{t-1} + b u_t                     y_t = k Re(sum over s of c[s] x_t[s]),   k = 2 with `conjugates`, or 1
 *
 * With `lowRank` the transition is not diagonal, but can still be applied in time linear in S, as the bilinear
 * discretisation of S4 needs it, <p, x> = k Re(sum of conj(p[s]) x[s]):
 *
 *     z_t = a * x_{t-1} + b u_t - q <p, x_{t-1}>    x_t = z_t - r <p, z_t>
 *
 * `output` is y [N, T, D], zero behind each row's end, `state` the last x, [N, D, S, 2].
 *
 * @throws on a shape or dtype that does not fit.
 */
export function diagonalScan(inputs: DiagonalScanInputs, options: DiagonalScanOptions = {}): Scanned {
  const { u, a, b, c, lowRank } = inputs;
  const { p, q, r }: { p: MaybeTensor; q: MaybeTensor; r: MaybeTensor } = lowRank ?? { p: null, q: null, r: null };
  const { initial = null, lengths = null, reverse = false, conjugates = true } = options;
  const [output, state] = applyFused(diagonalScanOp, [u, a, b, c, p, q, r, initial, lengths], { reverse, conjugates });
  return { output, state };
}
