import { linear } from "../ops/matmul.js";
import type { Precision } from "../ops/precision.js";
import { checkChoice, checkCount, checkOptions } from "../tensor/check.js";
import { noGrad } from "../tensor/graph.js";
import { uniform, type Generator } from "../tensor/random.js";
import type { Tensor } from "../tensor/tensor.js";
import { Module, place, type Placement } from "./module.js";
import { checkTrains } from "./quantized.js";

export interface LinearOptions extends Placement {
  /** Default true. */
  readonly bias?: boolean;
  /**
   * `"bf16"`: the operands of x W^T, and of the products dy W and dy^T x in its gradients, are rounded to bfloat16; sums
   * are float32. For bytes see `quantize`. Default `"float32"`.
   */
  readonly precision?: "float32" | "bf16";
  readonly generator?: Generator;
}

/** y = x W^T + b. Parameters `weight` [out, in] and `bias` [out], uniform in [-1/sqrt(in), 1/sqrt(in)] as in PyTorch. */
export class Linear extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor | null;
  /** Of the product, from the next forward on. `"int8"` is for inference only. */
  precision: Precision;

  constructor(
    readonly inFeatures: number,
    readonly outFeatures: number,
    options: LinearOptions = {},
  ) {
    super();
    checkOptions("Linear", options, ["bias", "precision", "generator", "device", "dtype"]);
    checkCount("Linear", "inFeatures", inFeatures);
    checkCount("Linear", "outFeatures", outFeatures);
    const { precision = "float32" } = options;
    checkChoice("Linear", "precision", precision, ["float32", "bf16"]);
    this.precision = precision;
    const bound = 1 / Math.sqrt(inFeatures);
    const settings = { low: -bound, high: bound, generator: options.generator, requiresGrad: true, ...place(options) };
    this.weight = uniform([outFeatures, inFeatures], settings);
    this.bias = (options.bias ?? true) ? uniform([outFeatures], settings) : null;
  }

  /** [..., in] -> [..., out]. @throws on another shape; in training if it is quantised. */
  forward(x: Tensor): Tensor {
    checkTrains("Linear.forward", this, x);
    const product = () => linear(x, this.weight, this.bias, this.precision);
    return this.precision === "int8" ? noGrad(product) : product();
  }
}
