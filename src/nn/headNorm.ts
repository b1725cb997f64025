import { add, mul } from "../ops/elementwise.js";
import { reshape } from "../ops/movement.js";
import { layerNorm } from "../ops/norm.js";
import { ones, zeros } from "../tensor/create.js";
import type { Tensor } from "../tensor/tensor.js";
import { Module, place, type Placement } from "./module.js";

/** RWKV's, whatever the size of a head. */
const EPS = 64e-5;

/** @internal Normalisation of each head by itself, then a gain and a shift of each feature: `weight` and `bias` [H * V]. */
export class HeadNorm extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor;

  constructor(
    readonly heads: number,
    features: number,
    options: Placement,
  ) {
    super();
    const settings = { requiresGrad: true, ...place(options) };
    this.weight = ones([features], settings);
    this.bias = zeros([features], settings);
  }

  /** [N, T, H, V] -> [N, T, H * V] */
  forward(x: Tensor): Tensor {
    const [n, steps, heads, size] = x.shape;
    return add(mul(reshape(layerNorm(x, null, null, { eps: EPS }), [n, steps, heads * size]), this.weight), this.bias);
  }
}
