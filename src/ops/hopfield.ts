import { checkCount, checkNumber, checkOptions } from "../tensor/check.js";
import { sameShape, showShape } from "../tensor/op.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { add, affine, scale, square, sub } from "./elementwise.js";
import { matmul } from "./matmul.js";
import { max, sum } from "./reduce.js";
import { logSumExp, softmax } from "./softmax.js";

/** Options of `hopfieldRetrieve`. */
export interface RetrieveOptions {
  /** Inverse temperature: large keeps patterns apart, small gives their averages. Default 1 / sqrt(D). */
  readonly beta?: number;
  /** How many updates. Default 1, which is enough for patterns that are well apart. */
  readonly steps?: number;
}

function check(where: string, state: Tensor, patterns: Tensor, beta: number | undefined): number {
  const [rank, features] = [state.shape.length, state.shape.at(-1)];
  const fits =
    rank >= 2 &&
    patterns.shape.length >= 2 &&
    patterns.shape.at(-1) === features &&
    patterns.shape.at(-2)! > 0 &&
    (patterns.shape.length === 2 || sameShape(patterns.shape.slice(0, -2), state.shape.slice(0, -2)));
  if (!fits)
    throw new RangeError(
      `${where}: state must be [..., L, D] and patterns [..., S, D] or [S, D] with S at least 1 but are ${showShape(state.shape)} and ${showShape(patterns.shape)}`,
    );
  if (beta !== undefined) checkNumber(where, "beta", beta, Number.MIN_VALUE);
  return beta ?? 1 / Math.sqrt(features!);
}

/**
 * Retrieval from the continuous modern Hopfield network (Ramsauer et al. 2020, equation 3): `steps` times, for every
 * state xi and the stored patterns K as rows,
 *
 *     xi <- softmax(beta xi K^T) K
 *
 * state is [..., L, D], patterns [..., S, D], or [S, D] for all; gives [..., L, D]. With beta = 1 / sqrt(D) one step is
 * attention with K as keys and values.
 *
 * @throws RangeError on shapes that do not fit, a beta that is not positive, or steps below 0.
 */
export function hopfieldRetrieve(state: Tensor, patterns: Tensor, options: RetrieveOptions = {}): Tensor {
  checkOptions("hopfieldRetrieve", options, ["beta", "steps"]);
  const { steps = 1 } = options;
  checkCount("hopfieldRetrieve", "steps", steps, 0);
  const beta = check("hopfieldRetrieve", state, patterns, options.beta);
  return scope(() => {
    let xi = state;
    for (let step = 0; step < steps; step++) xi = matmul(softmax(scale(matmul(xi, patterns, { transposeB: true }), beta)), patterns);
    return xi;
  });
}

/**
 * Energy of the continuous modern Hopfield network (Ramsauer et al. 2020, equation 2): at least 0 in the convex hull of
 * the patterns, and never raised by an update. With M the largest norm of the S patterns:
 *
 *     E = -1/beta log sum_s exp(beta xi . k_s) + 1/2 xi . xi + 1/beta log S + 1/2 M^2
 *
 * state is [..., L, D], patterns [..., S, D] or [S, D]; gives [..., L].
 *
 * @throws RangeError on shapes that do not fit or a beta that is not positive.
 */
export function hopfieldEnergy(state: Tensor, patterns: Tensor, options: Pick<RetrieveOptions, "beta"> = {}): Tensor {
  checkOptions("hopfieldEnergy", options, ["beta"]);
  const beta = check("hopfieldEnergy", state, patterns, options.beta);
  return scope(() => {
    const similarity = scale(matmul(state, patterns, { transposeB: true }), beta);
    const own = scale(sum(square(state), { axis: -1 }), 0.5);
    const longest = max(sum(square(patterns), { axis: -1 }), { axis: -1, keepDims: true });
    const free = sub(own, scale(logSumExp(similarity, { axis: -1 }), 1 / beta));
    return add(free, affine(longest, 0.5, Math.log(patterns.shape.at(-2)!) / beta));
  });
}
