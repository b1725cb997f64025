import { causalConv } from "../ops/causalConv.js";
import { reshape } from "../ops/movement.js";
import type { Scanned } from "../ops/scan.js";
import type { MaybeTensor } from "../tensor/op.js";
import { uniform, type Generator } from "../tensor/random.js";
import type { Tensor } from "../tensor/tensor.js";
import { Module, place, type Placement } from "./module.js";

/** What a short convolution is made with beside its sizes. */
export interface ShortConvOptions extends Placement {
  /** Default true. */
  readonly bias?: boolean;
  readonly generator?: Generator;
}

/**
 * @internal The convolution in front of a linear recurrence: each channel by itself, over the last K steps, then silu.
 * Parameters `weight` [C, 1, K] and `bias` [C], drawn as torch.nn.Conv1d draws them.
 */
export class ShortConv extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor | null;

  constructor(channels: number, kernel: number, { bias = true, generator, ...placement }: ShortConvOptions) {
    super();
    const bound = 1 / Math.sqrt(kernel);
    const draw = { low: -bound, high: bound, generator, requiresGrad: true, ...place(placement) };
    this.weight = uniform([channels, 1, kernel], draw);
    this.bias = bias ? uniform([channels], draw) : null;
  }

  /** x [N, T, C] and the steps before it [N, K - 1, C], zero if absent -> the same shapes. */
  forward(x: Tensor, before: MaybeTensor, lengths: MaybeTensor): Scanned {
    const [channels, , kernel] = this.weight.shape;
    return causalConv(x, reshape(this.weight, [channels, kernel]), { bias: this.bias, initial: before, lengths, silu: true });
  }
}
