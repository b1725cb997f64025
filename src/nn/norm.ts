import { layerNorm, rmsNorm } from "../ops/norm.js";
import { checkCount, checkNumber, checkOptions } from "../tensor/check.js";
import { ones, zeros } from "../tensor/create.js";
import type { Tensor } from "../tensor/tensor.js";
import { Module, place, type Placement } from "./module.js";

export interface LayerNormOptions extends Placement {
  /** Added to the variance. Default 1e-5. */
  readonly eps?: number;
  /** Learn a gain and a shift. Default true. */
  readonly affine?: boolean;
}

/** Layer normalisation over the last axis (Ba, Kiros & Hinton 2016). Parameters `weight` (ones) and `bias` (zeros). */
export class LayerNorm extends Module {
  readonly weight: Tensor | null;
  readonly bias: Tensor | null;
  readonly eps: number;

  constructor(
    readonly features: number,
    options: LayerNormOptions = {},
  ) {
    super();
    checkOptions("LayerNorm", options, ["eps", "affine", "device", "dtype"]);
    checkCount("LayerNorm", "features", features);
    const { eps = 1e-5, affine = true } = options;
    checkNumber("LayerNorm", "eps", eps, 0);
    this.eps = eps;
    const settings = { requiresGrad: true, ...place(options) };
    this.weight = affine ? ones([features], settings) : null;
    this.bias = affine ? zeros([features], settings) : null;
  }

  /** [..., features] -> [..., features] */
  forward(x: Tensor): Tensor {
    return layerNorm(x, this.weight, this.bias, { eps: this.eps });
  }
}

/** Normalisation by the root mean square of the last axis alone (Zhang & Sennrich 2019). Parameter `weight` (ones). */
export class RMSNorm extends Module {
  readonly weight: Tensor | null;
  readonly eps: number;

  constructor(
    readonly features: number,
    options: LayerNormOptions = {},
  ) {
    super();
    checkOptions("RMSNorm", options, ["eps", "affine", "device", "dtype"]);
    checkCount("RMSNorm", "features", features);
    const { eps = 1e-5, affine = true } = options;
    checkNumber("RMSNorm", "eps", eps, 0);
    this.eps = eps;
    this.weight = affine ? ones([features], { requiresGrad: true, ...place(options) }) : null;
  }

  /** [..., features] -> [..., features] */
  forward(x: Tensor): Tensor {
    return rmsNorm(x, this.weight, { eps: this.eps });
  }
}
