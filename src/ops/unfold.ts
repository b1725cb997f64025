import { apply } from "../tensor/apply.js";
import { defineOp, sameShape, showShape, type Op, type Shape } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";

/** The windows that a kernel slides over, each entry for [height, width]. */
export interface Windows {
  /** Height and width of what is read. */
  readonly input: Shape;
  /** How many windows there are. */
  readonly output: Shape;
  readonly kernel: Shape;
  readonly stride: Shape;
  readonly dilation: Shape;
  /** Zeros in front of the first element. */
  readonly before: Shape;
}

// All kernels read ints [N, C, input, output, kernel, stride, dilation, before], the last six as height, width.
export const windowInts = (n: number, channels: number, w: Windows) => [
  n,
  channels,
  ...w.input,
  ...w.output,
  ...w.kernel,
  ...w.stride,
  ...w.dilation,
  ...w.before,
];

/** Calls body(where in the windows, where in the input) for each pixel of each window that is not padding. */
function eachPixel(ints: ArrayLike<number>, body: (window: number, pixel: number) => void): void {
  const [n, , h, w, oh, ow, kh, kw, sh, sw, dh, dw, ph, pw] = Array.from(ints);
  let window = 0;
  for (let s = 0; s < n; s++)
    for (let i = 0; i < oh; i++)
      for (let j = 0; j < ow; j++)
        for (let p = 0; p < kh; p++)
          for (let q = 0; q < kw; q++, window++) {
            const [y, x] = [i * sh - ph + p * dh, j * sw - pw + q * dw];
            if (y >= 0 && y < h && x >= 0 && x < w) body(window, (s * h + y) * w + x);
          }
}

const geometry = (
  input: Shape,
  kernel: Shape,
  {
    stride = [1, 1],
    dilation = [1, 1],
    before = [0, 0],
    after = before,
  }: Partial<Record<"stride" | "dilation" | "before" | "after", Shape>>,
): Windows => ({
  input,
  kernel,
  stride,
  dilation,
  before,
  output: input.map((d, a) => Math.floor((d + before[a] + after[a] - (kernel[a] - 1) * dilation[a] - 1) / stride[a]) + 1),
});

// One pixel, one row, odd sizes, strides that leave a remainder, dilation, even kernels padded unevenly, windows that
// lie wholly in the padding, and enough for several threads.
export const windowCases: readonly { readonly n: number; readonly channels: number; readonly windows: Windows }[] = [
  { n: 1, channels: 1, windows: geometry([1, 1], [1, 1], {}) },
  { n: 2, channels: 3, windows: geometry([1, 9], [1, 5], { before: [0, 2] }) },
  { n: 2, channels: 2, windows: geometry([5, 7], [3, 3], { before: [1, 1] }) },
  { n: 1, channels: 5, windows: geometry([7, 6], [3, 2], { stride: [2, 3] }) },
  { n: 3, channels: 1, windows: geometry([6, 5], [2, 4], { before: [0, 1], after: [1, 2] }) },
  { n: 1, channels: 17, windows: geometry([8, 7], [3, 2], { dilation: [2, 3], before: [2, 1], after: [2, 2] }) },
  { n: 2, channels: 2, windows: geometry([7, 8], [3, 3], { stride: [2, 3], dilation: [3, 2], before: [3, 1], after: [2, 3] }) },
  { n: 1, channels: 3, windows: geometry([2, 3], [2, 2], { stride: [2, 1], before: [3, 2] }) },
  { n: 0, channels: 2, windows: geometry([3, 3], [3, 3], {}) },
  { n: 4, channels: 19, windows: geometry([21, 23], [3, 5], { before: [1, 2] }) },
];

/** Windows side by side: x [N, H, W, C] gives [N, output height, output width, kernel height, kernel width, C]. */
const unfoldOp: Op<Windows> = defineOp({
  name: "unfold",
  shape([x], windows) {
    const [n, height, width, channels] = x.shape;
    if (x.dtype === "int32" || x.shape.length !== 4 || !sameShape([height, width], windows.input))
      throw new RangeError(`unfold: x must be floating ${showShape(["N", ...windows.input, "C"])} but is ${x.dtype} ${showShape(x.shape)}`);
    return {
      outputs: [{ shape: [n, ...windows.output, ...windows.kernel, channels], dtype: x.dtype }],
      ints: windowInts(n, channels, windows),
    };
  },
  reference([x], [y], ints) {
    const channels = ints[1];
    y.fill(0);
    eachPixel(ints, (window, pixel) => {
      for (let c = 0; c < channels; c++) y[window * channels + c] = x[pixel * channels + c];
    });
  },
  backward: ([g], { attrs }) => [fold(g, attrs)],
  cases: () => windowCases.map(({ n, channels, windows }) => ({ inputs: [{ shape: [n, ...windows.input, channels] }], attrs: windows })),
});

/** The adjoint of unfold: every element is added to the place it was read from. */
const foldOp: Op<Windows> = defineOp({
  name: "fold",
  shape([y], windows) {
    const [n, channels] = [y.shape[0], y.shape.at(-1)!];
    const expected = [n, ...windows.output, ...windows.kernel, channels];
    if (y.dtype === "int32" || !sameShape(y.shape, expected))
      throw new RangeError(
        `fold: y must be floating ${showShape(["N", ...expected.slice(1, -1), "C"])} but is ${y.dtype} ${showShape(y.shape)}`,
      );
    return { outputs: [{ shape: [n, ...windows.input, channels], dtype: y.dtype }], ints: windowInts(n, channels, windows) };
  },
  reference([y], [x], ints) {
    const channels = ints[1];
    x.fill(0);
    eachPixel(ints, (window, pixel) => {
      for (let c = 0; c < channels; c++) x[pixel * channels + c] += y[window * channels + c];
    });
  },
  backward: ([g], { attrs }) => [unfold(g, attrs)],
  cases: () =>
    windowCases.map(({ n, channels, windows }) => ({
      inputs: [{ shape: [n, ...windows.output, ...windows.kernel, channels] }],
      attrs: windows,
    })),
});

/**
 * Every window of x [N, H, W, C] ("im2col"): [N, output height, output width, kernel height, kernel width, C], zero where
 * a window reaches over the edge.
 */
export function unfold(x: Tensor, windows: Windows): Tensor {
  return apply(unfoldOp, [x], windows)[0];
}

/** The adjoint of `unfold` ("col2im"): windows are added up where they overlap, giving [N, H, W, C]. */
export function fold(y: Tensor, windows: Windows): Tensor {
  return apply(foldOp, [y], windows)[0];
}
