import { describe, expect, it } from "vitest";
import {
  conv1d,
  conv2d,
  Conv1d,
  Conv2d,
  device,
  Generator,
  mul,
  noGrad,
  sum,
  tensor,
  transpose,
  uniform,
  zeros,
  type Tensor,
} from "../src/index.js";
import { openNative } from "../src/backend/native.js";
import type { ConvOptions } from "../src/ops/conv.js";
import { devicesUnderTest, nativeAvailable, sameBits } from "./helpers.js";

// float32 sums of at most a hundred terms of order one.
const CLOSE = 2e-5;

const values = (t: Tensor) => Array.from(t.dataSync());
const reference = device("reference");
const draw = (...shape: number[]) =>
  uniform(shape, { low: -1, high: 1, device: reference, dtype: "float64", generator: new Generator(shape[0]) });

function expectClose(got: ArrayLike<number>, wanted: ArrayLike<number>): void {
  expect(got.length).toBe(wanted.length);
  for (let i = 0; i < got.length; i++) expect(Math.abs(got[i] - wanted[i]), `element ${i}`).toBeLessThan(CLOSE);
}

/** The definition, element by element, on an image that is padded by hand: [top, bottom, left, right]. */
function direct(x: Tensor, weight: Tensor, bias: Tensor, strides: number[], dilations: number[], around: number[]) {
  const [n, h, w, channels] = x.shape;
  const [kh, kw, , out] = weight.shape;
  const [image, kernel, offset] = [values(x), values(weight), values(bias)];
  const windows = [0, 1].map((a) => {
    const padded = [h, w][a] + around[2 * a] + around[2 * a + 1];
    return Math.floor((padded - ([kh, kw][a] - 1) * dilations[a] - 1) / strides[a]) + 1;
  });
  const y: number[] = [];
  for (let s = 0; s < n; s++)
    for (let i = 0; i < windows[0]; i++)
      for (let j = 0; j < windows[1]; j++)
        for (let o = 0; o < out; o++) {
          let total = offset[o];
          for (let p = 0; p < kh; p++)
            for (let q = 0; q < kw; q++)
              for (let c = 0; c < channels; c++) {
                const row = i * strides[0] + p * dilations[0] - around[0];
                const column = j * strides[1] + q * dilations[1] - around[2];
                if (row < 0 || row >= h || column < 0 || column >= w) continue;
                total += image[((s * h + row) * w + column) * channels + c] * kernel[((p * kw + q) * channels + c) * out + o];
              }
          y.push(total);
        }
  return { shape: [n, ...windows, out], data: y };
}

interface Example {
  readonly image: readonly number[];
  readonly kernel: readonly number[];
  readonly options: ConvOptions;
  readonly around: number[];
}

// "same" by TensorFlow's rule: ceil(size / stride) windows, and of an odd number of zeros one more at the end.
const examples: Record<string, Example> = {
  valid: { image: [6, 7], kernel: [3, 2], options: {}, around: [0, 0, 0, 0] },
  same: { image: [5, 7], kernel: [3, 5], options: { padding: "same" }, around: [1, 1, 2, 2] },
  "same, even kernel": { image: [5, 7], kernel: [2, 4], options: { padding: "same" }, around: [0, 1, 1, 2] },
  "same, stride": { image: [5, 8], kernel: [3, 3], options: { padding: "same", stride: [2, 3] }, around: [1, 1, 0, 1] },
  "same, stride past the kernel": { image: [4, 7], kernel: [1, 2], options: { padding: "same", stride: 3 }, around: [0, 0, 0, 1] },
  "same, dilation": { image: [6, 5], kernel: [2, 3], options: { padding: "same", dilation: [3, 2] }, around: [1, 2, 2, 2] },
  "numbers, stride and dilation": { image: [9, 8], kernel: [3, 2], options: { padding: [2, 1], stride: 2, dilation: [1, 3] }, around: [2, 2, 1, 1] }, // prettier-ignore
  pointwise: { image: [3, 4], kernel: [1, 1], options: {}, around: [0, 0, 0, 0] },
  "pointwise, stride": { image: [5, 4], kernel: [1, 1], options: { stride: 2 }, around: [0, 0, 0, 0] },
  "pointwise, padding": { image: [2, 3], kernel: [1, 1], options: { padding: 1 }, around: [1, 1, 1, 1] },
};

const pairOf = (value: ConvOptions["stride"] = 1) => (typeof value === "number" ? [value, value] : [...value]);

describe.each(devicesUnderTest())("convolutions on %s", (name) => {
  const dev = device(name);
  const here = (t: Tensor) => tensor(Float32Array.from(t.dataSync()), { shape: t.shape, device: dev });

  it.each(Object.entries(examples))("conv2d equals its definition: %s", (_, { image, kernel, options, around }) => {
    const [x, weight, bias] = [draw(3, ...image, 4), draw(...kernel, 4, 5), draw(5)];
    const wanted = direct(x, weight, bias, pairOf(options.stride), pairOf(options.dilation), around);
    const y = conv2d(here(x), here(weight), here(bias), options);
    expect(y.shape).toEqual(wanted.shape);
    expectClose(values(y), wanted.data);
  });

  it("conv1d is conv2d of an image of one row", () => {
    const [x, weight] = [here(draw(2, 9, 3)), here(draw(4, 3, 5))];
    const options = { padding: "same", stride: 2, dilation: 2 } as const;
    const flat = (t: Tensor, shape: number[]) => tensor(t.dataSync(), { shape, device: dev });
    const two = conv2d(flat(x, [2, 1, 9, 3]), flat(weight, [1, 4, 3, 5]), null, { ...options, stride: [1, 2] });
    const one = conv1d(x, weight, null, options);
    expect(one.shape).toEqual([2, 5, 5]);
    expect(values(one)).toEqual(values(two));
  });

  it("takes a batch without rows", () => {
    const x = zeros([0, 5, 5, 2], { device: dev });
    expect(conv2d(x, here(draw(3, 3, 2, 4)), null, { padding: "same" }).shape).toEqual([0, 5, 5, 4]);
  });

  it("layers hold PyTorch's weight [out, in, kernel...]", () => {
    const layer = new Conv2d(3, 4, { kernelSize: [2, 3], padding: 1, stride: [1, 2], device: dev, generator: new Generator(1) });
    expect(Object.entries(layer.stateDict()).map(([key, t]) => [key, t.shape])).toEqual([
      ["weight", [4, 3, 2, 3]],
      ["bias", [4]],
    ]);
    const x = here(draw(2, 5, 6, 3));
    const y = layer.forward(x);
    expect(y.shape).toEqual([2, 6, 3, 4]);
    expect(values(y)).toEqual(values(conv2d(x, transpose(layer.weight, [2, 3, 1, 0]), layer.bias, { padding: 1, stride: [1, 2] })));
    const plain = new Conv1d(2, 5, { bias: false, device: dev });
    expect(plain.bias).toBeNull();
    expect(noGrad(() => plain.forward(zeros([1, 7, 2], { device: dev }))).shape).toEqual([1, 5, 5]);
  });
});

it.skipIf(!nativeAvailable)("the number of threads changes no bit of a convolution or its gradients", () => {
  const results = [1, 2, 3].map((threads) => {
    const dev = openNative("", threads);
    const leaf = (seed: number, ...shape: number[]) =>
      uniform(shape, { low: -1, high: 1, device: dev, generator: new Generator(seed), requiresGrad: true });
    const leaves = [leaf(1, 5, 37, 41, 7), leaf(2, 3, 5, 7, 37), leaf(3, 37)] as const;
    const y = conv2d(...leaves, { padding: "same", stride: [1, 2] });
    const output = y.dataSync();
    sum(mul(y, leaf(4, ...y.shape).detach())).backward();
    return [output, ...leaves.map((t) => t.grad!.dataSync())];
  });
  for (const result of results) result.forEach((values, k) => expect(sameBits(values, results[0][k]), `result ${k}`).toBe(true));
});

describe("what cannot be convolved is refused", () => {
  const x = draw(1, 5, 6, 2);
  const weight = draw(3, 3, 2, 4);
  it.each<[string, () => unknown, RegExp]>([
    ["channels", () => conv2d(x, draw(3, 3, 1, 4)), /conv2d: x must be \[N, H, W, 1\] but is \[1, 5, 6, 2\]/],
    ["axes", () => conv1d(x, draw(3, 2, 4)), /conv1d: x must be \[N, W, 2\] but is \[1, 5, 6, 2\]/],
    ["weight", () => conv1d(x, weight), /conv1d: weight must be \[kW, in, out\] but is \[3, 3, 2, 4\]/],
    ["bias", () => conv2d(x, weight, draw(3)), /conv2d: bias must be \[4\] but is \[3\]/],
    ["size", () => conv2d(x, weight, null, { dilation: 3 }), /conv2d: a kernel that spans \[7, 7\] does not fit into \[5, 6\]/],
    [
      "stride",
      () => conv2d(x, weight, null, { stride: [1, 0] }),
      /conv2d: stride must be an integer of at least 1, or 2 of them, but is \[1, 0\]/,
    ],
    ["number of strides", () => new Conv1d(2, 3, { stride: [1, 2] }), /Conv1d: stride must be an integer of at least 1 but is \[1, 2\]/],
    [
      "padding",
      () => conv2d(x, weight, null, { padding: "full" as never }),
      /conv2d: padding must be "same", "valid" or numbers but is "full"/,
    ],
    ["zeros", () => new Conv2d(2, 3, { padding: -1 }), /Conv2d: padding must be an integer of at least 0, or 2 of them, but is -1/],
    ["kernel", () => new Conv2d(2, 3, { kernelSize: 0 }), /Conv2d: kernelSize must be an integer of at least 1, or 2 of them, but is 0/],
    ["option", () => new Conv2d(2, 3, { strides: 2 } as never), /Conv2d: unknown option strides; did you mean stride\?/],
    ["option of the op", () => conv1d(x, weight, null, { pad: 2 } as never), /conv1d: unknown option pad; did you mean padding\?/],
  ])("%s", (_, call, message) => {
    expect(call).toThrow(message);
  });
});
