import { add, neg } from "../ops/elementwise.js";
import { embedding } from "../ops/embedding.js";
import { concat, reshape, slice } from "../ops/movement.js";
import { argmax, mean } from "../ops/reduce.js";
import { crossEntropy, logSoftmax } from "../ops/softmax.js";
import { checkCount, checkNumber, checkOptions } from "../tensor/check.js";
import { tensor } from "../tensor/create.js";
import { sameShape, showShape, size } from "../tensor/op.js";
import type { Generator } from "../tensor/random.js";
import { scope } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import { Linear } from "./linear.js";
import { Module, type Placement } from "./module.js";

export interface AdaptiveSoftmaxOptions extends Placement {
  /** Clusters of classes get narrower by this factor, one after another: their width is in / divValue^(k + 1). Default 4. */
  readonly divValue?: number;
  /** Give the head a bias. Default false. */
  readonly headBias?: boolean;
  readonly generator?: Generator;
}

/** The rare classes of one cluster: to a narrow layer `0`, from there to the classes `1`, both without a bias. */
class Cluster extends Module {
  readonly 0: Linear;
  readonly 1: Linear;

  constructor(inFeatures: number, width: number, classes: number, settings: Placement & { readonly generator?: Generator }) {
    super();
    this[0] = new Linear(inFeatures, width, { ...settings, bias: false });
    this[1] = new Linear(width, classes, { ...settings, bias: false });
  }

  forward(x: Tensor): Tensor {
    return this[1].forward(this[0].forward(x));
  }
}

/**
 * Adaptive softmax (Grave et al. 2017) for very many classes, numbered from the most frequent on: a head over the first
 * `cutoffs[0]` classes and one entry for each cluster, and for each cluster a narrower projection, computed only for the
 * rows whose target is in it. Structure, parameter names (`head.weight`, `tail.0.0.weight`, ...) and initial values are
 * those of torch.nn.AdaptiveLogSoftmaxWithLoss.
 */
export class AdaptiveSoftmax extends Module {
  readonly head: Linear;
  readonly tail: Cluster[];
  /** Where each part of the classes ends: the head's, then each cluster's; the last is the number of classes. */
  readonly ends: readonly number[];

  /**
   * `cutoffs` are the first classes of the clusters, and may be ended by the number of classes, which is `classes`.
   *
   * @throws unless cutoffs are ascending integers from 1 to classes - 1, or a cluster would have no width.
   */
  constructor(
    readonly inFeatures: number,
    readonly classes: number,
    options: AdaptiveSoftmaxOptions & { readonly cutoffs: readonly number[] },
  ) {
    super();
    const where = "AdaptiveSoftmax";
    checkOptions(where, options, ["cutoffs", "divValue", "headBias", "generator", "device", "dtype"]);
    const { cutoffs, divValue = 4, headBias = false, generator, device, dtype } = options;
    checkCount(where, "inFeatures", inFeatures);
    checkCount(where, "classes", classes);
    checkNumber(where, "divValue", divValue, 1);
    const ascending = (cutoffs as readonly number[] | undefined)?.every(
      (c, i) => Number.isInteger(c) && c > (i === 0 ? 0 : cutoffs[i - 1]),
    );
    if (!ascending || cutoffs.length === 0 || cutoffs.at(-1)! >= classes)
      throw new RangeError(`${where}: cutoffs must be ascending integers from 1 to ${classes - 1} but are ${JSON.stringify(cutoffs)}`);
    const shared = { generator, device, dtype };
    this.ends = [...cutoffs, classes];
    this.head = new Linear(inFeatures, cutoffs[0] + cutoffs.length, { ...shared, bias: headBias });
    this.tail = cutoffs.map((start, k) => {
      const width = Math.floor(inFeatures / divValue ** (k + 1));
      if (width === 0) throw new RangeError(`${where}: cluster ${k} would have no width: ${inFeatures} / ${divValue}^${k + 1} is below 1`);
      return new Cluster(inFeatures, width, this.ends[k + 1] - start, shared);
    });
  }

  /**
   * x [..., inFeatures] and targets [...] give `output` [...], the log-probability of each target, and `loss`, minus their
   * mean. The targets decide what is computed, so they are wanted as numbers on the host; an int32 tensor is read, which
   * waits for the device.
   *
   * @throws on a target outside 0..classes-1.
   */
  forward(x: Tensor, targets: Tensor | readonly number[] | Int32Array): { output: Tensor; loss: Tensor } {
    const where = "AdaptiveSoftmax.forward";
    const shape = this.rowsOf(where, x);
    if (targets instanceof Tensor ? !sameShape(targets.shape, shape) : targets.length !== size(shape))
      throw new RangeError(
        `${where}: targets must be ${showShape(shape)} but are ${targets instanceof Tensor ? showShape(targets.shape) : `${targets.length} numbers`}`,
      );
    const ids = targets instanceof Tensor ? targets.dataSync() : targets;
    const wrong = ids.findIndex((id: number) => !Number.isInteger(id) || id < 0 || id >= this.classes);
    if (wrong >= 0) throw new RangeError(`${where}: targets must be in [0, ${this.classes - 1}] but targets[${wrong}] is ${ids[wrong]}`);
    return scope(() => {
      const output = reshape(neg(this.losses(reshape(x, [-1, this.inFeatures]), Array.from(ids))), shape);
      return { output, loss: neg(mean(output)) };
    });
  }

  /** Log-probabilities of all classes: x [..., inFeatures] gives [..., classes]. */
  logProb(x: Tensor): Tensor {
    this.rowsOf("AdaptiveSoftmax.logProb", x);
    return scope(() => {
      const first = this.ends[0];
      const head = logSoftmax(this.head.forward(x));
      const parts = this.tail.map((cluster, k) => add(logSoftmax(cluster.forward(x)), slice(head, -1, first + k, first + k + 1)));
      return concat([slice(head, -1, 0, first), ...parts], x.shape.length - 1);
    });
  }

  /** The most probable class: x [..., inFeatures] gives int32 [...]. */
  predict(x: Tensor): Tensor {
    return scope(() => argmax(this.logProb(x)));
  }

  private rowsOf(where: string, { shape }: Tensor): number[] {
    if (shape.length === 0 || shape.at(-1) !== this.inFeatures)
      throw new RangeError(`${where}: x must be [..., ${this.inFeatures}] but is ${showShape(shape)}`);
    return shape.slice(0, -1);
  }

  /** -log p(target) of each row of x [N, inFeatures]. */
  private losses(x: Tensor, targets: readonly number[]): Tensor {
    const { device } = x;
    const ints = (values: readonly number[]) => tensor(Int32Array.from(values), { device });
    const partOf = targets.map((id) => this.ends.findIndex((end) => id < end));
    const inHead = targets.map((id, i) => (partOf[i] === 0 ? id : this.ends[0] + partOf[i] - 1));
    const total = crossEntropy(this.head.forward(x), ints(inHead), { reduction: "none" });
    const rows: number[] = [];
    const parts = this.tail.flatMap((cluster, k) => {
      const mine = targets.flatMap((_, i) => (partOf[i] === k + 1 ? [i] : []));
      if (mine.length === 0) return [];
      rows.push(...mine);
      const relative = ints(mine.map((i) => targets[i] - this.ends[k]));
      return [crossEntropy(cluster.forward(embedding(ints(mine), x)), relative, { reduction: "none" })];
    });
    if (parts.length === 0) return total;
    // Row 0 of the column is the 0 of rows that are in no cluster.
    const column = concat([tensor([0], { device, dtype: x.dtype }), ...parts], 0);
    const place = new Int32Array(targets.length);
    rows.forEach((row, i) => (place[row] = i + 1));
    return add(total, reshape(embedding(tensor(place, { device }), reshape(column, [-1, 1])), [-1]));
  }
}
