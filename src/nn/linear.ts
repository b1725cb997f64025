import { linear } from "../ops/matmul.js";
import { checkCount, checkOptions } from "../tensor/check.js";
import { uniform, type Generator } from "../tensor/random.js";
import type { Tensor } from "../tensor/tensor.js";
import { Module, place, type Placement } from "./module.js";

export interface LinearOptions extends Placement {
  /** Default true. */
  readonly bias?: boolean;
  readonly generator?: Generator;
}

/** y = x W^T + b. Parameters `weight` [out, in] and `bias` [out], uniform in [-1/sqrt(in), 1/sqrt(in)] as in PyTorch. */
export class Linear extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor | null;

  constructor(
    readonly inFeatures: number,
    readonly outFeatures: number,
    options: LinearOptions = {},
  ) {
    super();
    checkOptions("Linear", options, ["bias", "generator", "device", "dtype"]);
    checkCount("Linear", "inFeatures", inFeatures);
    checkCount("Linear", "outFeatures", outFeatures);
    const bound = 1 / Math.sqrt(inFeatures);
    const settings = { low: -bound, high: bound, generator: options.generator, requiresGrad: true, ...place(options) };
    this.weight = uniform([outFeatures, inFeatures], settings);
    this.bias = (options.bias ?? true) ? uniform([outFeatures], settings) : null;
  }

  /** [..., in] -> [..., out] */
  forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias);
  }
}
