import { reshape } from "../ops/movement.js";
import { checkCount, checkOptions } from "../tensor/check.js";
import type { Generator } from "../tensor/random.js";
import type { Tensor } from "../tensor/tensor.js";
import { Linear } from "./linear.js";
import type { Placement } from "./module.js";
import { ScanLayer } from "./scanLayer.js";

/** Options of every layer that keeps a matrix of keys and values in each head. */
export interface HeadedOptions extends Placement {
  /** Default 4. */
  readonly heads?: number;
  /** Numbers K of a key in each head. Default: inputSize / heads. */
  readonly keySize?: number;
  /** Numbers V of a value in each head. Default: inputSize / heads. */
  readonly valueSize?: number;
  readonly generator?: Generator;
}

export const headedOptions = ["heads", "keySize", "valueSize", "generator", "device", "dtype"] as const;

/**
 * What layers with a matrix of keys and values in each head share: queries, keys and values are products of x, and what the
 * heads read is mixed by a last product. Parameters, as flash-linear-attention names them: `q_proj.weight`,
 * `k_proj.weight` [heads * K, C], `v_proj.weight` [heads * V, C], `o_proj.weight` [C, heads * V].
 */
export abstract class HeadedLayer<S extends string> extends ScanLayer<S> {
  readonly heads: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly q_proj: Linear;
  readonly k_proj: Linear;
  readonly v_proj: Linear;
  readonly o_proj: Linear;

  /** @throws on an option that is not known, and on a size that is not a positive integer. */
  constructor(
    where: string,
    readonly inputSize: number,
    options: HeadedOptions,
    others: readonly string[] = [],
  ) {
    super();
    checkOptions(where, options, [...headedOptions, ...others]);
    checkCount(where, "inputSize", inputSize);
    const { heads = 4 } = options;
    checkCount(where, "heads", heads);
    const { keySize = inputSize / heads, valueSize = inputSize / heads } = options;
    checkCount(where, "keySize", keySize);
    checkCount(where, "valueSize", valueSize);
    this.heads = heads;
    this.keySize = keySize;
    this.valueSize = valueSize;
    this.q_proj = this.product(inputSize, heads * keySize, options);
    this.k_proj = this.product(inputSize, heads * keySize, options);
    this.v_proj = this.product(inputSize, heads * valueSize, options);
    this.o_proj = this.product(heads * valueSize, inputSize, options);
  }

  get outputSize(): number {
    return this.inputSize;
  }

  protected product(inputs: number, outputs: number, { generator, device, dtype }: HeadedOptions, bias = false): Linear {
    return new Linear(inputs, outputs, { bias, generator, device, dtype });
  }

  /** [N, T, heads * size] -> [N, T, heads, size] */
  protected byHead(t: Tensor): Tensor {
    const [n, steps, width] = t.shape;
    return reshape(t, [n, steps, this.heads, width / this.heads]);
  }

  /** What the heads read [N, T, heads, V] -> [N, T, C] */
  protected mixed(t: Tensor): Tensor {
    const [n, steps, heads, size] = t.shape;
    return this.o_proj.forward(reshape(t, [n, steps, heads * size]));
  }
}
