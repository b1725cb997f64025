import { mul } from "../ops/elementwise.js";
import { embedding } from "../ops/embedding.js";
import { checkCount, checkNumber, checkOptions } from "../tensor/check.js";
import { showShape } from "../tensor/op.js";
import { bernoulli, normal, type Generator } from "../tensor/random.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import type { Lookup } from "./lookup.js";
import { Module, place, type Placement } from "./module.js";

export interface EmbeddingOptions extends Placement {
  /**
   * Probability of dropping an id while training: its vector is zero wherever the batch has it, the vectors of the others
   * are scaled by 1 / (1 - p) (Gal & Ghahramani 2016; Merity et al. 2017). Default 0.
   */
  readonly dropout?: number;
  /** Source of the initial weights and of dropout. Default: the process's generator. */
  readonly generator?: Generator;
}

/** A table of vectors looked up by integer id. Parameter `weight` [count, features], standard normal as in PyTorch. */
export class Embedding extends Module {
  readonly weight: Tensor;
  readonly dropout: number;
  private readonly generator: Generator | undefined;

  constructor(
    readonly count: number,
    readonly features: number,
    options: EmbeddingOptions = {},
  ) {
    super();
    checkOptions("Embedding", options, ["dropout", "generator", "device", "dtype"]);
    checkCount("Embedding", "count", count);
    checkCount("Embedding", "features", features);
    const { dropout = 0, generator } = options;
    checkNumber("Embedding", "dropout", dropout, 0, 1);
    this.dropout = dropout;
    this.generator = generator;
    this.weight = normal([count, features], { generator, requiresGrad: true, ...place(options) });
  }

  /** int32 ids [...] -> [..., features]. An id outside 0..count-1 is an error at the next read. */
  forward(ids: Tensor): Tensor {
    const { weight, dropout: p, generator } = this;
    if (!this.training || p === 0) return embedding(ids, weight);
    const { dtype, device } = weight;
    return scope(() => {
      const kept = bernoulli([this.count, 1], 1 - p, { value: p === 1 ? 0 : 1 / (1 - p), generator, dtype, device });
      return mul(embedding(ids, weight), embedding(ids, kept));
    });
  }

  /**
   * The same vectors for a recurrent layer's `forward`, which may then multiply its weights with the table once instead of
   * with every vector: less work where a batch has more steps than the table has rows, at the same result but for rounding.
   * ids int32 [N, T].
   */
  lookup(ids: Tensor): Tensor | Lookup {
    if (ids.shape.length !== 2) throw new RangeError(`Embedding.lookup: ids must be [N, T] but is ${showShape(ids.shape)}`);
    return this.training && this.dropout > 0 ? this.forward(ids) : { ids, table: this.weight };
  }
}
