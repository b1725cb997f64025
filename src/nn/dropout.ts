import { mul } from "../ops/elementwise.js";
import { dropout } from "../ops/random.js";
import { checkNumber, checkOptions } from "../tensor/check.js";
import { showShape } from "../tensor/op.js";
import { bernoulli, type Generator } from "../tensor/random.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { Module } from "./module.js";

/** While training, zeroes each element with probability p and scales the rest by 1 / (1 - p) (Srivastava et al. 2014). */
export class Dropout extends Module {
  private readonly generator: Generator | undefined;

  constructor(
    readonly p = 0.5,
    options: { readonly generator?: Generator } = {},
  ) {
    super();
    checkOptions("Dropout", options, ["generator"]);
    checkNumber("Dropout", "p", p, 0, 1);
    this.generator = options.generator;
  }

  forward(x: Tensor): Tensor {
    return this.training && this.p > 0 ? dropout(x, this.p, { generator: this.generator }) : x;
  }
}

/**
 * Dropout with one mask for all steps of a sequence: of x [N, T, C], while training, a feature of a row is zero at every
 * step with probability p, the others are scaled by 1 / (1 - p) (variational dropout, Gal & Ghahramani 2016; "locked" in
 * Merity et al. 2017).
 */
export class LockedDropout extends Module {
  private readonly generator: Generator | undefined;

  constructor(
    readonly p = 0.5,
    options: { readonly generator?: Generator } = {},
  ) {
    super();
    checkOptions("LockedDropout", options, ["generator"]);
    checkNumber("LockedDropout", "p", p, 0, 1);
    this.generator = options.generator;
  }

  /** [N, T, C] -> [N, T, C] */
  forward(x: Tensor): Tensor {
    if (x.shape.length !== 3) throw new RangeError(`LockedDropout.forward: x must be [N, T, C] but is ${showShape(x.shape)}`);
    const { p, generator } = this;
    if (!this.training || p === 0) return x;
    const [rows, , features] = x.shape;
    const value = p === 1 ? 0 : 1 / (1 - p);
    return scope(() => mul(x, bernoulli([rows, 1, features], 1 - p, { value, generator, dtype: x.dtype, device: x.device })));
  }
}
