import { embedding } from "../ops/embedding.js";
import { checkCount, checkOptions } from "../tensor/check.js";
import { normal, type Generator } from "../tensor/random.js";
import type { Tensor } from "../tensor/tensor.js";
import { Module, place, type Placement } from "./module.js";

export interface EmbeddingOptions extends Placement {
  readonly generator?: Generator;
}

/** A table of vectors looked up by integer id. Parameter `weight` [count, features], standard normal as in PyTorch. */
export class Embedding extends Module {
  readonly weight: Tensor;

  constructor(
    readonly count: number,
    readonly features: number,
    options: EmbeddingOptions = {},
  ) {
    super();
    checkOptions("Embedding", options, ["generator", "device", "dtype"]);
    checkCount("Embedding", "count", count);
    checkCount("Embedding", "features", features);
    this.weight = normal([count, features], { generator: options.generator, requiresGrad: true, ...place(options) });
  }

  /** int32 ids [...] -> [..., features]. An id outside 0..count-1 is an error at the next read. */
  forward(ids: Tensor): Tensor {
    return embedding(ids, this.weight);
  }
}
