import { sameShape, showShape, type MaybeSpec, type Spec } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";

/** What a matrix scan reads. N sequences of T steps, H heads with keys of K and values of V numbers. */
export interface MatrixScanInputs<T = Tensor> {
  /** [N, T, G, K], a query, and a key, serve H / G heads each. */
  readonly q: T;
  readonly k: T;
  /** [N, T, H, V]. */
  readonly v: T;
  /** log w: of each step and key [N, T, H, K], of each step [N, T, H], of each key [H, K], or [H]. None: w = 1. */
  readonly logDecay?: T | null;
  /** The term of low rank, [N, T, H, K] both: what is read of the state, and where that is written. */
  readonly a?: T | null;
  readonly b?: T | null;
  /** S_0, [N, H, K, V]; zero by default. */
  readonly initial?: T | null;
  /** n_0, [N, H, K]; zero by default. */
  readonly initialNormaliser?: T | null;
  /** Valid steps of each row, int32 [N]. */
  readonly lengths?: T | null;
}

export interface MatrixScanAttrs {
  /** Whether o_t is read of S_t, or of S_{t-1}. */
  readonly read: "new" | "old";
  /** Carry the normaliser n too. */
  readonly normaliser: boolean;
}

/** The inputs as they lie in the call of the op. */
export const listedInputs = <T>({ q, k, v, ...rest }: MatrixScanInputs<T>): readonly (T | null)[] => {
  const { logDecay = null, a = null, b = null, initial = null, initialNormaliser = null, lengths = null } = rest;
  return [q, k, v, logDecay, a, b, initial, initialNormaliser, lengths];
};
export const namedInputs = <T>([q, k, v, ...rest]: readonly (T | null)[]): MatrixScanInputs<T> => {
  const [logDecay, a, b, initial, initialNormaliser, lengths] = rest;
  return { q: q!, k: k!, v: v!, logDecay, a, b, initial, initialNormaliser, lengths };
};

/** Sizes of a scan. @throws RangeError naming the input whose shape does not fit. */
export function matrixSizes(inputs: MatrixScanInputs<Spec>) {
  const { q, k, v, logDecay, a, b, initial, initialNormaliser, lengths } = inputs;
  if (q.shape.length !== 4) throw new RangeError(`matrixScan: q must be [N, T, G, K] but is ${showShape(q.shape)}`);
  if (v.shape.length !== 4) throw new RangeError(`matrixScan: v must be [N, T, H, V] but is ${showShape(v.shape)}`);
  const [n, steps, groups, keys] = q.shape;
  const [, , heads, values] = v.shape;
  const check = (name: string, spec: MaybeSpec | undefined, ...shapes: number[][]) => {
    if (!spec) return;
    if (!shapes.some((shape) => sameShape(spec.shape, shape)))
      throw new RangeError(`matrixScan: ${name} must be ${shapes.map(showShape).join(" or ")} but is ${showShape(spec.shape)}`);
    const dtype = name === "lengths" ? "int32" : q.dtype;
    if (spec.dtype !== dtype || q.dtype === "int32")
      throw new TypeError(
        `matrixScan: ${name} must be ${dtype === "int32" && name !== "lengths" ? "floating" : dtype} but is ${spec.dtype}`,
      );
  };
  check("q", q, [n, steps, groups, keys]);
  check("k", k, [n, steps, groups, keys]);
  check("v", v, [n, steps, heads, values]);
  if (groups < 1 || heads % groups !== 0)
    throw new RangeError(`matrixScan: heads must be a multiple of the groups of q but they are ${heads} and ${groups}`);
  check("logDecay", logDecay, [n, steps, heads, keys], [n, steps, heads], [heads, keys], [heads]);
  check("a", a, [n, steps, heads, keys]);
  check("b", b, [n, steps, heads, keys]);
  if (!a !== !b) throw new RangeError("matrixScan: a and b must be given together");
  check("initial", initial, [n, heads, keys, values]);
  check("initialNormaliser", initialNormaliser, [n, heads, keys]);
  check("lengths", lengths, [n]);
  return { n, steps, groups, heads, keys, values };
}
