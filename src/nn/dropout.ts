import { dropout } from "../ops/random.js";
import { checkNumber, checkOptions } from "../tensor/check.js";
import type { Generator } from "../tensor/random.js";
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
