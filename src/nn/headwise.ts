import { headwise } from "../ops/headwise.js";
import { uniform, type Generator } from "../tensor/random.js";
import type { Tensor } from "../tensor/tensor.js";
import { Module, place, type Placement } from "./module.js";

/**
 * @internal A product in each head: [..., heads * in] -> [..., heads * out], a block-diagonal matrix. Parameter `weight`
 * [heads, out, in], uniform in [-1/sqrt(in), 1/sqrt(in)].
 */
export class Headwise extends Module {
  readonly weight: Tensor;

  constructor(heads: number, inputs: number, outputs: number, { generator, ...placement }: Placement & { readonly generator?: Generator }) {
    super();
    const bound = 1 / Math.sqrt(inputs);
    this.weight = uniform([heads, outputs, inputs], { low: -bound, high: bound, generator, requiresGrad: true, ...place(placement) });
  }

  forward(x: Tensor): Tensor {
    return headwise(x, this.weight);
  }
}
