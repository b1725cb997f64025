import { affine, mul } from "../ops/elementwise.js";
import { reshape } from "../ops/movement.js";
import { layerNorm } from "../ops/norm.js";
import { zeros } from "../tensor/create.js";
import type { MaybeTensor } from "../tensor/op.js";
import type { Generator } from "../tensor/random.js";
import type { Tensor } from "../tensor/tensor.js";
import { Module, place, type Placement } from "./module.js";
import { ShortConv } from "./shortConv.js";

/** What every part of an xLSTM is made with. */
export interface PartOptions extends Placement {
  readonly generator?: Generator;
}

/** @internal Layer normalisation, of each head by itself, whose gain is 1 + `weight`. */
export class GainNorm extends Module {
  readonly weight: Tensor;

  constructor(
    features: number,
    readonly heads: number,
    options: PartOptions,
  ) {
    super();
    this.weight = zeros([features], { requiresGrad: true, ...place(options) });
  }

  /** [N, T, features] -> [N, T, features] */
  forward(x: Tensor): Tensor {
    const gain = affine(this.weight, 1, 1);
    if (this.heads === 1) return layerNorm(x, gain);
    const [n, steps, features] = x.shape;
    return gained(layerNorm(reshape(x, [n, steps, this.heads, features / this.heads])), gain, x.shape);
  }
}

const gained = (normal: Tensor, gain: Tensor, shape: readonly number[]) => mul(reshape(normal, shape), gain);

/** @internal The convolution of a block under the names that checkpoints have: `conv.weight`, `conv.bias`. */
export class BlockConv extends Module {
  readonly conv: ShortConv;

  constructor(channels: number, kernel: number, options: PartOptions) {
    super();
    this.conv = new ShortConv(channels, kernel, options);
  }

  forward(x: Tensor, before: MaybeTensor, lengths: MaybeTensor) {
    return this.conv.forward(x, before, lengths);
  }
}

/** @internal As many as asked for, but whole multiples of 64. */
export const roundedUp = (size: number): number => Math.ceil(size / 64) * 64;
