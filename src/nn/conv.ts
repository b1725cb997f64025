import { conv1d, conv2d, convOptions, convSettings, perAxis, type ConvOptions, type PerAxis } from "../ops/conv.js";
import { transpose } from "../ops/movement.js";
import { checkCount, checkOptions } from "../tensor/check.js";
import { size, type Shape } from "../tensor/op.js";
import { uniform, type Generator } from "../tensor/random.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { Module, place, type Placement } from "./module.js";

/** Options of the convolutional layers. */
export interface ConvLayerOptions extends ConvOptions, Placement {
  /** Size of the kernel along every axis, or one an axis. Default 3. */
  readonly kernelSize?: PerAxis;
  /** Default true. */
  readonly bias?: boolean;
  readonly generator?: Generator;
}

/**
 * What the convolutional layers share. Parameters `weight` [out, in, kernel...] and `bias` [out], uniform in
 * [-1/sqrt(f), 1/sqrt(f)] with f = in * kernel elements: PyTorch's names, layout and initialisation. Sequences and
 * images are channels last.
 */
abstract class Conv extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor | null;
  readonly kernelSize: Shape;
  private readonly settings: ConvOptions;

  protected constructor(
    private readonly convolution: typeof conv1d,
    axes: 1 | 2,
    readonly inChannels: number,
    readonly outChannels: number,
    options: ConvLayerOptions,
  ) {
    super();
    const where = new.target.name;
    checkOptions(where, options, [...convOptions, "kernelSize", "bias", "generator", "device", "dtype"]);
    checkCount(where, "inChannels", inChannels);
    checkCount(where, "outChannels", outChannels);
    const { kernelSize = 3, bias = true, generator, device, dtype, ...settings } = options;
    this.settings = convSettings(where, settings, axes);
    this.kernelSize = perAxis(where, "kernelSize", kernelSize, axes);
    const bound = 1 / Math.sqrt(inChannels * size(this.kernelSize));
    const draw = { low: -bound, high: bound, generator, requiresGrad: true, ...place({ device, dtype }) };
    this.weight = uniform([outChannels, inChannels, ...this.kernelSize], draw);
    this.bias = bias ? uniform([outChannels], draw) : null;
  }

  /** [N, ...sizes, in] -> [N, ...windows, out] */
  forward(x: Tensor): Tensor {
    const axes = this.kernelSize.map((_, a) => a + 2);
    return scope(() => this.convolution(x, transpose(this.weight, [...axes, 1, 0]), this.bias, this.settings));
  }
}

/** Convolution along a sequence: [N, T, in] -> [N, windows, out]. Parameters `weight` [out, in, k] and `bias` [out]. */
export class Conv1d extends Conv {
  constructor(inChannels: number, outChannels: number, options: ConvLayerOptions = {}) {
    super(conv1d, 1, inChannels, outChannels, options);
  }
}

/**
 * Convolution over images: [N, H, W, in] -> [N, windows down, windows across, out]. Parameters `weight`
 * [out, in, kH, kW] and `bias` [out].
 */
export class Conv2d extends Conv {
  constructor(inChannels: number, outChannels: number, options: ConvLayerOptions = {}) {
    super(conv2d, 2, inChannels, outChannels, options);
  }
}
