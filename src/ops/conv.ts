import { applyFused } from "../tensor/apply.js";
import { checkOptions } from "../tensor/check.js";
import { defineFused, sameShape, showShape, size, type Fused, type MaybeTensor, type Shape } from "../tensor/op.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { add } from "./elementwise.js";
import { matmul } from "./matmul.js";
import { reshape } from "./movement.js";
import { unfold, windowCases, windowInts, type Windows } from "./unfold.js";

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

/** Convolution of images; kernels read the ints of unfold, then the channels of the result. */
const convOp: Fused<Windows> = defineFused({
  name: "conv",
  shape([x, weight], windows) {
    const { shape, dtype } = x!;
    const [n, channels, out] = [shape[0], shape[3], weight!.shape[3]];
    return { outputs: [{ shape: [n, ...windows.output, out], dtype }], ints: [...windowInts(n, channels, windows), out] };
  },
  compose([x, weight, bias], windows) {
    const [out] = weight!.shape.slice(-1);
    const taken = unfold(x!, windows);
    const fanIn = size(taken.shape.slice(3));
    const y = matmul(reshape(taken, [size(taken.shape.slice(0, 3)), fanIn]), reshape(weight!, [fanIn, out]));
    return [reshape(bias ? add(y, bias) : y, [...taken.shape.slice(0, 3), out])];
  },
  cases: () =>
    windowCases.flatMap(({ n, channels, windows }, i) => {
      const out = [1, 5, 33][i % 3];
      const inputs = [{ shape: [n, ...windows.input, channels] }, { shape: [...windows.kernel, channels, out] }];
      return [null, { shape: [out] }].map((bias) => ({ inputs: [...inputs, bias], attrs: windows }));
    }),
});

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
  const dtypes = [x, weight, bias ?? weight].map((t) => t.dtype);
  if (dtypes[0] === "int32" || dtypes.some((dtype) => dtype !== dtypes[0]))
    throw new TypeError(`${where}: x, weight and bias must have one floating dtype but are ${dtypes.join(", ")}`);
  const input = x.shape.slice(1, -1);
  const extents = convExtents(where, input, kernel, options);
  const { stride, dilation } = convSettings(where, options, axes);
  const image = (values: readonly number[], missing = 1) => (axes === 1 ? [missing, ...values] : values);
  const windows: Windows = {
    input: image(input),
    output: image(extents.map((e) => e.output)),
    kernel: image(kernel),
    stride: image(stride),
    dilation: image(dilation),
    before: image(
      extents.map((e) => e.before),
      0,
    ),
  };
  if (axes === 2) return applyFused(convOp, [x, weight, bias], windows)[0];
  return scope(() => {
    const rows = reshape(x, [x.shape[0], ...windows.input, channels]);
    const y = applyFused(convOp, [rows, reshape(weight, [...windows.kernel, channels, out]), bias], windows)[0];
    return reshape(y, [x.shape[0], extents[0].output, out]);
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
