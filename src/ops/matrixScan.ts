import { applyFused } from "../tensor/apply.js";
import { defineFused, type Fused, type MaybeTensor } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { add, mul } from "./elementwise.js";
import { matrixScanCases } from "./matrixScanCases.js";
import { listedInputs, matrixSizes, namedInputs, type MatrixScanAttrs, type MatrixScanInputs } from "./matrixScanInputs.js";
import { matrixLoop } from "./matrixScanLoop.js";
import { reshape } from "./movement.js";
import { sum } from "./reduce.js";
import { zeroPadding } from "./sequence.js";

/**
 * The kernel reads ints [N, T, G, H, K, V, read of the old state, normaliser, axes of logDecay], and leaves nothing for
 * its backward: states are computed again, from boundaries between chunks of steps that are themselves computed again.
 */
export const matrixScanOp: Fused<MatrixScanAttrs> = defineFused({
  name: "matrixScan",
  shape(specs, { read, normaliser }) {
    const inputs = namedInputs(specs);
    const { n, steps, groups, heads, keys, values } = matrixSizes(inputs);
    if (inputs.initialNormaliser && !normaliser)
      throw new RangeError("matrixScan: initialNormaliser is given but no normaliser is asked for");
    const { dtype } = inputs.q;
    const carried = [
      { shape: [n, steps, heads], dtype },
      { shape: [n, heads, keys], dtype },
    ];
    return {
      outputs: [{ shape: [n, steps, heads, values], dtype }, { shape: [n, heads, keys, values], dtype }, ...(normaliser ? carried : [])],
      ints: [n, steps, groups, heads, keys, values, +(read === "old"), +normaliser, inputs.logDecay?.shape.length ?? 0],
    };
  },
  compose: (tensors, attrs) => matrixLoop(namedInputs(tensors), attrs),
  cases: matrixScanCases,
});

export type { MatrixScanInputs } from "./matrixScanInputs.js";

export interface MatrixScanOptions extends Partial<MatrixScanAttrs> {
  /** u, [H, K], of a scan that reads the old state: adds (sum over j of q_j u_j k_j) v_t to o_t. q and k must have H groups, or one. */
  readonly bonus?: MaybeTensor;
}

/** What a matrix scan gives: the outputs o [N, T, H, V], S after each row's last valid step [N, H, K, V], and with a normaliser q . n [N, T, H] and the last n [N, H, K]. */
export interface MatrixScanned {
  readonly output: Tensor;
  readonly state: Tensor;
  readonly denominator?: Tensor;
  readonly normaliser?: Tensor;
}

/**
 * The linear recurrence of a matrix in each head, whose rows belong to keys and whose columns to values:
 *
 *     S_t = diag(w_t) S_{t-1} + b_t (a_t^T S_{t-1}) + k_t v_t^T        o_t = S_t^T q_t   (or S_{t-1}^T q_t)
 *     n_t = diag(w_t) n_{t-1} + b_t (a_t^T n_{t-1}) + k_t             q_t . n_t        (with `normaliser`)
 *
 * Linear attention is w = 1, RetNet a constant w, Mamba-2 and mLSTM a scalar w, GLA and RWKV-6 a vector w; delta rules
 * and RWKV-7 have the term of low rank. Behind a row's last valid step o is zero and S stays.
 *
 * @throws on shapes that do not fit.
 */
export function matrixScan(
  inputs: MatrixScanInputs,
  { read = "new", normaliser = false, bonus = null }: MatrixScanOptions = {},
): MatrixScanned {
  if (bonus && read !== "old") throw new RangeError("matrixScan: a bonus is for a scan that reads the old state");
  const [output, state, denominator, last] = applyFused(matrixScanOp, listedInputs(inputs), { read, normaliser });
  if (!bonus) return { output, state, denominator, normaliser: last };
  const [n, steps, heads] = output.shape;
  const weight = reshape(sum(mul(mul(inputs.q, bonus), inputs.k), { axis: -1 }), [n, steps, heads, 1]);
  const added = zeroPadding(mul(weight, inputs.v), inputs.lengths ?? null);
  return { output: add(output, added), state, denominator, normaliser: last };
}
