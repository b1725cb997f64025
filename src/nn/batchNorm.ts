import { add, affine, div, mul, scale, sqrt, square, sub } from "../ops/elementwise.js";
import { sum } from "../ops/reduce.js";
import { zeroPadding } from "../ops/sequence.js";
import { update } from "../tensor/apply.js";
import { checkCount, checkNumber, checkOptions } from "../tensor/check.js";
import { ones, zeros } from "../tensor/create.js";
import { noGrad } from "../tensor/graph.js";
import { showShape, size, type MaybeTensor } from "../tensor/op.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { Module, place, type Placement } from "./module.js";
import { checkLengths } from "./lengths.js";

export interface BatchNormOptions extends Placement {
  /** Added to the variance. Default 1e-5. */
  readonly eps?: number;
  /** How much of a batch enters the running statistics; `null` for the mean of all batches so far. Default 0.1. */
  readonly momentum?: number | null;
  /** Learn a gain and a shift. Default true. */
  readonly affine?: boolean;
  /** Keep running statistics, for inference; without them inference takes those of its batch. Default true. */
  readonly trackRunningStats?: boolean;
}

/**
 * Batch normalisation of each feature over all rows and steps (Ioffe & Szegedy 2015), torch.nn.BatchNorm1d, features
 * last; over a ragged batch its valid steps alone count ("sequence-wise" in Amodei et al. 2016, Deep Speech 2):
 *
 *     y = (x - mean) / sqrt(variance + eps) * weight + bias
 *
 * Training takes mean and biased variance of the batch, and moves the running ones towards it, with the unbiased variance:
 * running = (1 - momentum) * running + momentum * batch. Inference takes the running ones.
 *
 * Parameters `weight` (ones) and `bias` (zeros) [features]; buffers `running_mean` (zeros), `running_var` (ones)
 * [features] and `num_batches_tracked` [].
 */
export class BatchNorm1d extends Module {
  readonly weight: Tensor | null;
  readonly bias: Tensor | null;
  readonly eps: number;
  readonly momentum: number | null;

  constructor(
    readonly features: number,
    options: BatchNormOptions = {},
  ) {
    super();
    checkOptions("BatchNorm1d", options, ["eps", "momentum", "affine", "trackRunningStats", "device", "dtype"]);
    checkCount("BatchNorm1d", "features", features);
    const { eps = 1e-5, momentum = 0.1, affine = true, trackRunningStats = true } = options;
    checkNumber("BatchNorm1d", "eps", eps, 0);
    if (momentum !== null) checkNumber("BatchNorm1d", "momentum", momentum, 0, 1);
    this.eps = eps;
    this.momentum = momentum;
    const placed = place(options);
    this.weight = affine ? ones([features], { requiresGrad: true, ...placed }) : null;
    this.bias = affine ? zeros([features], { requiresGrad: true, ...placed }) : null;
    if (!trackRunningStats) return;
    this.registerBuffer("running_mean", zeros([features], placed));
    this.registerBuffer("running_var", ones([features], placed));
    this.registerBuffer("num_batches_tracked", zeros([], placed));
  }

  /**
   * [N, T, features] or [N, features] to the same. Of x [N, T, features] `lengths` says how many steps of each row are
   * valid; behind them the result is zero.
   *
   * @throws on a wrong shape or length; in training on fewer than two valid steps, which have no variance.
   */
  forward(x: Tensor, options: { readonly lengths?: readonly number[] | Int32Array } = {}): Tensor {
    const where = "BatchNorm1d.forward";
    checkOptions(where, options, ["lengths"]);
    const { shape } = x;
    if ((shape.length !== 2 && shape.length !== 3) || shape.at(-1) !== this.features)
      throw new RangeError(`${where}: x must be [N, T, ${this.features}] or [N, ${this.features}] but is ${showShape(shape)}`);
    if (options.lengths && shape.length !== 3)
      throw new RangeError(`${where}: lengths are of x [N, T, ${this.features}] but x is ${showShape(shape)}`);
    const valid = options.lengths ? Array.from(options.lengths).reduce((a, b) => a + b, 0) : size(shape.slice(0, -1));
    return scope(() => this.over(x, options.lengths ? checkLengths(where, x, options.lengths) : null, valid));
  }

  /** @internal The same with lengths as int32 [N], of which `count` is the sum. */
  over(x: Tensor, lengths: MaybeTensor, count: number): Tensor {
    return scope(() => {
      const given = zeroPadding(x, lengths);
      const { mean, variance } = this.statistics(given, lengths, count);
      const normal = div(sub(given, mean), sqrt(affine(variance, 1, this.eps)));
      const scaled = this.weight ? mul(normal, this.weight) : normal;
      return zeroPadding(this.bias ? add(scaled, this.bias) : scaled, lengths);
    });
  }

  private statistics(x: Tensor, lengths: MaybeTensor, count: number): { mean: Tensor; variance: Tensor } {
    const running = { mean: this.parameter("running_mean"), variance: this.parameter("running_var") };
    if (!this.training && running.mean) return { mean: running.mean, variance: running.variance! };
    if (count < 2)
      throw new RangeError(`BatchNorm1d.forward: there must be at least two valid steps for a variance but there are ${count}`);
    const over = x.shape.slice(0, -1).map((_, i) => i);
    const mean = scale(sum(x, { axis: over }), 1 / count);
    const variance = scale(sum(square(zeroPadding(sub(x, mean), lengths)), { axis: over }), 1 / count);
    if (running.mean) noGrad(() => this.track(mean, scale(variance, count / (count - 1))));
    return { mean, variance };
  }

  private track(mean: Tensor, variance: Tensor): void {
    const tracked = this.parameter("num_batches_tracked")!;
    const batches = affine(tracked, 1, 1);
    update("accumulate", [batches, null], [tracked]);
    for (const [name, batch] of [["running_mean", mean] as const, ["running_var", variance] as const]) {
      const running = this.parameter(name)!;
      const change = sub(batch, running);
      const next = add(running, this.momentum === null ? div(change, batches) : scale(change, this.momentum));
      update("accumulate", [next, null], [running]);
    }
  }
}
