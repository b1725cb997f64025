import { checkOptions } from "../tensor/check.js";
import { sameShape, showShape, size, type MaybeTensor, type Shape } from "../tensor/op.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { add } from "./elementwise.js";
import { matmul } from "./matmul.js";
import { reshape } from "./movement.js";
import { unfold } from "./unfold.js";

/** A number for every spatial axis, or one for each. */
export type PerAxis = number | readonly number[];

/** Options of a convolution. */
export interface ConvOptions {
  /** Distance from one window to the next. Default 1. */
  readonly stride?: PerAxis;
  /** Distance between neighbouring elements of a window. Default 1. */
  readonly dilation?: PerAxis;
  /**
   * Zeros around x: `"valid"` none (default); `"same"` as many as give ceil(size / stride) windows, the odd one at the
   * end, as TensorFlow and Keras; or a number on both sides.
   */
  readonly padding?: "same" | "valid" | PerAxis;
}

export const convOptions = ["stride", "dilation", "padding"] as const;

/** A setting for each of `axes` axes. @throws RangeError unless it is one integer, or one an axis, of at least `least`. */
export function perAxis(where: string, name: string, value: PerAxis, axes: number, least = 1): readonly number[] {
  const list = typeof value === "object" && value !== null ? value : new Array<number>(axes).fill(value);
  if (list.length !== axes || list.some((v) => !Number.isSafeInteger(v) || v < least)) {
    const many = axes === 1 ? "" : `, or ${axes} of them,`;
    const actual = typeof value === "object" && value !== null ? showShape(value) : String(value);
    throw new RangeError(`${where}: ${name} must be an integer of at least ${least}${many} but is ${actual}`);
  }
  return list;
}

/** What a convolution does along one axis. */
interface Extent {
  readonly output: number;
  readonly before: number;
}

/** Number of windows and zeros in front of them along one axis; no windows if the kernel does not fit. */
function extent(input: number, kernel: number, stride: number, dilation: number, padding: "same" | number): Extent {
  const reach = (kernel - 1) * dilation + 1;
  if (padding === "same") {
    const output = Math.ceil(input / stride);
    return { output, before: Math.floor(Math.max((output - 1) * stride + reach - input, 0) / 2) };
  }
  return { output: Math.max(Math.floor((input + 2 * padding - reach) / stride) + 1, 0), before: padding };
}

/** @internal Stride, dilation and padding of a convolution over `axes` axes, checked. */
export function convSettings(where: string, { stride = 1, dilation = 1, padding = "valid" }: ConvOptions, axes: number) {
  if (typeof padding === "string" && padding !== "same" && padding !== "valid")
    throw new RangeError(`${where}: padding must be "same", "valid" or numbers but is ${JSON.stringify(padding)}`);
  return {
    stride: perAxis(where, "stride", stride, axes),
    dilation: perAxis(where, "dilation", dilation, axes),
    padding: padding === "same" ? padding : perAxis(where, "padding", padding === "valid" ? 0 : padding, axes, 0),
  };
}

/** @internal What a convolution makes of the spatial axes `input`. @throws RangeError if the kernel does not fit. */
export function convExtents(where: string, input: Shape, kernel: Shape, options: ConvOptions): readonly Extent[] {
  const { stride, dilation, padding } = convSettings(where, options, kernel.length);
  const found = input.map((d, a) => extent(d, kernel[a], stride[a], dilation[a], padding === "same" ? padding : padding[a]));
  if (found.some(({ output }) => output < 1)) {
    const dilated = kernel.map((k, a) => (k - 1) * dilation[a] + 1);
    throw new RangeError(`${where}: a kernel that spans ${showShape(dilated)} does not fit into ${showShape(input)}`);
  }
  return found;
}

/** A convolution over one or two axes; one axis is the width of an image of height 1. */
function convolve(where: string, axes: 1 | 2, x: Tensor, weight: Tensor, bias: MaybeTensor, options: ConvOptions): Tensor {
  checkOptions(where, options, convOptions);
  const sizes = axes === 1 ? ["W"] : ["H", "W"];
  if (weight.shape.length !== axes + 2)
    throw new RangeError(
      `${where}: weight must be ${showShape([...sizes.map((s) => `k${s}`), "in", "out"])} but is ${showShape(weight.shape)}`,
    );
  const kernel = weight.shape.slice(0, axes);
  const [channels, out] = weight.shape.slice(axes);
  if (x.shape.length !== axes + 2 || x.shape.at(-1) !== channels)
    throw new RangeError(`${where}: x must be ${showShape(["N", ...sizes, channels])} but is ${showShape(x.shape)}`);
  if (bias && !sameShape(bias.shape, [out])) throw new RangeError(`${where}: bias must be [${out}] but is ${showShape(bias.shape)}`);
  const input = x.shape.slice(1, -1);
  const extents = convExtents(where, input, kernel, options);
  const { stride, dilation } = convSettings(where, options, axes);
  const output = extents.map((e) => e.output);
  const image = (values: readonly number[], missing: number) => (axes === 1 ? [missing, ...values] : values);
  return scope(() => {
    const pointwise = size(kernel) === 1 && sameShape(input, output);
    const read = pointwise
      ? x
      : unfold(reshape(x, [x.shape[0], ...image(input, 1), channels]), {
          input: image(input, 1),
          output: image(output, 1),
          kernel: image(kernel, 1),
          stride: image(stride, 1),
          dilation: image(dilation, 1),
          before: image(
            extents.map((e) => e.before),
            0,
          ),
        });
    const fanIn = size(kernel) * channels;
    const y = matmul(reshape(read, [x.shape[0] * size(output), fanIn]), reshape(weight, [fanIn, out]));
    return reshape(bias ? add(y, bias) : y, [x.shape[0], ...output, out]);
  });
}

/**
 * Convolution over one axis (cross-correlation, as everywhere in this field), channels last: x [N, W, in], weight
 * [kW, in, out], bias [out] or null; gives [N, windows, out].
 *
 *     y[n, i, o] = bias[o] + sum over p, c of x[n, i * stride + p * dilation - zeros in front, c] * weight[p, c, o]
 *
 * @throws RangeError on a wrong shape or option, and if no window fits.
 */
export const conv1d = (x: Tensor, weight: Tensor, bias: MaybeTensor = null, options: ConvOptions = {}): Tensor =>
  convolve("conv1d", 1, x, weight, bias, options);

/**
 * Convolution over two axes, channels last: x [N, H, W, in], weight [kH, kW, in, out], bias [out] or null; gives
 * [N, windows down, windows across, out]. See `conv1d`.
 */
export const conv2d = (x: Tensor, weight: Tensor, bias: MaybeTensor = null, options: ConvOptions = {}): Tensor =>
  convolve("conv2d", 2, x, weight, bias, options);
