import { describe, expect, it } from "vitest";
import {
  ConvLSTM1d,
  ConvLSTM2d,
  debug,
  device,
  full,
  Generator,
  LSTM,
  mul,
  noGrad,
  sum,
  tensor,
  uniform,
  zeros,
  type Tensor,
} from "../src/index.js";
import type { ConvLSTMOptions, ConvLSTMState } from "../src/nn/convlstm.js";
import { concat, reshape, slice } from "../src/ops/movement.js";
import { devicesUnderTest, weightsLike } from "./helpers.js";

// float32 sums of at most a few hundred terms of order one.
const CLOSE = 2e-5;

const values = (t: Tensor) => Array.from(t.dataSync());

function expectClose(got: ArrayLike<number>, wanted: ArrayLike<number>): void {
  expect(got.length).toBe(wanted.length);
  for (let i = 0; i < got.length; i++) expect(Math.abs(got[i] - wanted[i]), `element ${i}`).toBeLessThan(CLOSE);
}

/** Every kind of layer: the sizes of a frame and of the output, and how the layer is made. */
const kinds: Record<string, { sizes: number[]; output: number[]; options: ConvLSTMOptions }> = {
  "1d": { sizes: [9], output: [9], options: {} },
  "1d, even kernel": { sizes: [7], output: [7], options: { kernelSize: 4 } },
  "2d": { sizes: [5, 6], output: [5, 6], options: {} },
  "2d, even kernel, no bias": { sizes: [4, 5], output: [4, 5], options: { kernelSize: [2, 4], bias: false } },
  "2d, valid, stride": { sizes: [7, 8], output: [3, 2], options: { kernelSize: [3, 4], padding: "valid", stride: [2, 4] } },
  "2d, dilation": { sizes: [6, 5], output: [6, 5], options: { dilation: [2, 1] } },
  "2d, two layers": { sizes: [3, 4], output: [3, 4], options: { layers: 2 } },
};

describe.each(devicesUnderTest())("ConvLSTM on %s", (name) => {
  const dev = device(name);
  const make = (sizes: number[], options: ConvLSTMOptions) =>
    new (sizes.length === 1 ? ConvLSTM1d : ConvLSTM2d)(2, 3, { device: dev, generator: new Generator(7), ...options });
  const draw = (...shape: number[]) => uniform(shape, { low: -1, high: 1, device: dev, generator: new Generator(shape[0]) });

  describe.each(Object.entries(kinds))("%s", (_, { sizes, output: outputSizes, options }) => {
    const layers = options.layers ?? 1;

    it("gives output [N, T, ...sizes, F] and states [layers, N, ...sizes, F]", () => {
      const layer = make(sizes, options);
      const { output, state } = noGrad(() => layer.forward(draw(3, 4, ...sizes, 2)));
      expect(layer.outputSizes(sizes)).toEqual(outputSizes);
      expect(output.shape).toEqual([3, 4, ...outputSizes, 3]);
      expect(state.h.shape).toEqual([layers, 3, ...outputSizes, 3]);
      expect(layer.initialState(3, sizes).c.shape).toEqual(state.c.shape);
      expectClose(values(slice(output, 1, 3)), values(slice(state.h, 0, layers - 1)));
    });

    it("carries its state: two halves equal the whole", () => {
      const layer = make(sizes, options);
      const x = draw(2, 5, ...sizes, 2);
      noGrad(() => {
        const whole = layer.forward(x);
        const first = layer.forward(slice(x, 1, 0, 2));
        const second = layer.forward(slice(x, 1, 2), { state: first.state });
        expectClose(values(concat([first.output, second.output], 1)), values(whole.output));
        for (const s of ["h", "c"] as const) expectClose(values(second.state[s]), values(whole.state[s]));
      });
    });

    it("ragged rows equal the same rows alone, whatever lies in the padding", () => {
      const layer = make(sizes, { ...options, bidirectional: true });
      const lengths = [3, 0, 5, 1];
      const x = draw(4, 5, ...sizes, 2);
      const padded = tensor(Float32Array.from(values(x)), { shape: x.shape, device: dev });
      const frame = x.size / 20;
      const data = padded.dataSync();
      lengths.forEach((length, n) => data.fill(NaN, (n * 5 + length) * frame, (n + 1) * 5 * frame));
      dev.write(padded.buffer(), data);
      const state: ConvLSTMState = { h: draw(2 * layers, 4, ...outputSizes, 3), c: draw(2 * layers, 4, ...outputSizes, 3) };
      noGrad(() => {
        const ragged = layer.forward(padded, { state, lengths });
        lengths.forEach((length, n) => {
          const row = (t: Tensor) => slice(t, 1, n, n + 1);
          const alone = layer.forward(slice(slice(x, 0, n, n + 1), 1, 0, length), { state: { h: row(state.h), c: row(state.c) } });
          const output = slice(ragged.output, 0, n, n + 1);
          expectClose(values(slice(output, 1, 0, length)), values(alone.output));
          expect(values(slice(output, 1, length)).every((v) => v === 0)).toBe(true);
          for (const s of ["h", "c"] as const) expectClose(values(row(ragged.state[s])), values(alone.state[s]));
        });
      });
    });

    it("streams: T frames equal the whole", () => {
      const layer = make(sizes, options);
      const x = draw(1, 4, ...sizes, 2);
      const whole = values(noGrad(() => layer.forward(x)).output);
      using stream = layer.stream({ shape: [1, 1, ...sizes, 2] });
      const steps = [0, 1, 2, 3].flatMap((t) => Array.from(stream.step(values(slice(x, 1, t, t + 1)))));
      expectClose(steps, whole);
      stream.reset();
      expectClose(stream.step(values(slice(x, 1, 0, 1))), whole.slice(0, whole.length / 4));
    });
  });

  it("with a kernel of one element is an LSTM at every place", () => {
    const layer = make([4], { kernelSize: 1 });
    const lstm = new LSTM(2, 3, { device: dev });
    const turned = (key: string, rows: number) => {
      const data = values(layer.stateDict()[key]);
      return { shape: [12, rows], data: Array.from({ length: data.length }, (_, i) => data[(i % rows) * 12 + Math.floor(i / rows)]) };
    };
    lstm.loadStateDict({
      weight_ih_l0: turned("weight_ih_l0", 2),
      weight_hh_l0: turned("weight_hh_l0", 3),
      bias_ih_l0: layer.stateDict()["bias_l0"],
      bias_hh_l0: zeros([12], { device: dev }),
    });
    const x = draw(1, 6, 4, 2);
    const { output } = noGrad(() => layer.forward(x));
    const places = [0, 1, 2, 3].map((w) => noGrad(() => lstm.forward(reshape(slice(x, 2, w, w + 1), [1, 6, 2]))).output);
    places.forEach((place, w) => expectClose(values(slice(output, 2, w, w + 1)), values(place)));
  });

  it("one step and no step are legal", () => {
    const layer = make([3, 3], {});
    const { output, state } = layer.forward(draw(2, 1, 3, 3, 2));
    expectClose(values(output), values(state.h));
    const given = { h: draw(1, 2, 3, 3, 3), c: draw(1, 2, 3, 3, 3) };
    const none = layer.forward(zeros([2, 0, 3, 3, 2], { device: dev }), { state: given });
    expect(none.output.shape).toEqual([2, 0, 3, 3, 3]);
    expect(values(none.state.c)).toEqual(values(given.c));
  });

  it("the second direction is the first over the reversed sequence", () => {
    const both = make([5], { bidirectional: true });
    const one = make([5], {});
    const own = both.stateDict();
    one.loadStateDict(Object.fromEntries(Object.keys(one.stateDict()).map((key) => [key, own[`${key}_reverse`]])));
    const x = draw(2, 4, 5, 2);
    const { output } = noGrad(() => both.forward(x));
    const steps = [3, 2, 1, 0].map((t) => slice(x, 1, t, t + 1));
    const { output: reversed } = noGrad(() => one.forward(concat(steps, 1)));
    [0, 1, 2, 3].forEach((t) => expectClose(values(slice(slice(output, 1, t, t + 1), 3, 3)), values(slice(reversed, 1, 3 - t, 4 - t))));
  });
});

it("gradients of every input, state and parameter agree with finite differences", () => {
  const place = { device: device("reference"), dtype: "float64", generator: new Generator(3) } as const;
  const layer = new ConvLSTM2d(2, 2, { kernelSize: [2, 3], layers: 2, bidirectional: true, ...place });
  const leaf = (...shape: number[]) => uniform(shape, { low: -1, high: 1, requiresGrad: true, ...place });
  const [x, h, c] = [leaf(2, 3, 3, 4, 2), leaf(4, 2, 3, 4, 2), leaf(4, 2, 3, 4, 2)];
  const loss = () => {
    const { output, state } = layer.forward(x, { state: { h, c }, lengths: [2, 3] });
    return [output, state.h, state.c].map((t, k) => sum(mul(t, weightsLike(t, k))));
  };
  const total = () => noGrad(() => loss().reduce((acc, t) => acc + t.dataSync()[0], 0));
  for (const t of loss()) t.backward({ retainGraph: true });
  // Central differences with h = 1e-5 in float64 are good to about 1e-9; a wrong gradient is off by O(1).
  for (const [key, t] of [["x", x], ["h", h], ["c", c], ...layer.namedParameters()] as [string, Tensor][]) {
    const direction = values(weightsLike(t, 9));
    const data = values(t);
    const at = (by: number) => {
      t.device.write(
        t.buffer(),
        Float64Array.from(data, (v, i) => v + by * direction[i]),
      );
      return total();
    };
    const slope = (at(1e-5) - at(-1e-5)) / 2e-5;
    at(0);
    const got = values(t.grad!).reduce((acc, g, i) => acc + g * direction[i], 0);
    expect(Math.abs(got - slope), key).toBeLessThan(1e-6 * (1 + Math.abs(slope)));
  }
});

function withDebug<T>(body: () => T): T {
  debug();
  try {
    return body();
  } finally {
    debug(false);
  }
}

describe("what cannot be is refused with the reason", () => {
  const layer = new ConvLSTM2d(2, 3, { device: device("reference") });
  const frames = (...shape: number[]) => zeros(shape, { device: device("reference") });
  const x = frames(2, 4, 5, 5, 2);
  it.each<[string, () => unknown, RegExp]>([
    [
      "x of one axis too few",
      () => layer.forward(frames(2, 4, 5, 2)),
      /ConvLSTM2d.forward: x must be \[N, T, H, W, 2\] but is \[2, 4, 5, 2\]/,
    ],
    ["channels", () => new ConvLSTM1d(3, 2).forward(frames(2, 4, 5, 2)), /ConvLSTM1d.forward: x must be \[N, T, W, 3\]/],
    [
      "a state of another size",
      () => layer.forward(x, { state: layer.initialState(2, [5, 4]) }),
      /state.h must be \[1, 2, 5, 5, 3\] but is \[1, 2, 5, 4, 3\]/,
    ],
    ["a state that is not finite, under debug", () => withDebug(() => layer.forward(x, { state: { h: frames(1, 2, 5, 5, 3), c: full([1, 2, 5, 5, 3], NaN, { device: device("reference") }) } })), /ConvLSTM2d.forward: state.c must be finite but is not/], // prettier-ignore
    ["half a state", () => layer.forward(x, { state: { h: frames(1, 2, 5, 5, 3) } as never }), /state.c must be .* but is absent/],
    ["a length past the end", () => layer.forward(x, { lengths: [4, 5] }), /lengths must be integers from 0 to 4 but entry 1 is 5/],
    ["half a length", () => layer.forward(x, { lengths: [0.5, 4] }), /entry 0 is 0.5/],
    ["too few lengths", () => layer.forward(x, { lengths: [4] }), /lengths must have 2 entries but has 1/],
    [
      "frames smaller than the kernel",
      () => new ConvLSTM2d(2, 3, { padding: "valid", kernelSize: 6 }).outputSizes([5, 7]),
      /ConvLSTM2d: a kernel that spans \[6, 6\] does not fit into \[5, 7\]/,
    ],
    ["layers of many sizes", () => new ConvLSTM2d(2, 3, { layers: 2, stride: 2 }), /2 layers need padding "same" and stride 1/],
    ["layers without padding", () => new ConvLSTM1d(2, 3, { layers: 3, padding: "valid" }), /3 layers need padding "same" and stride 1/],
    ["an unknown option", () => new ConvLSTM1d(2, 3, { kernel: 3 } as never), /ConvLSTM1d: unknown option kernel; did you mean/],
    ["no channels", () => new ConvLSTM1d(2, 0), /ConvLSTM1d: hiddenChannels must be an integer of at least 1 but is 0/],
    [
      "a stream in two directions",
      () => new ConvLSTM1d(2, 3, { bidirectional: true }).stream({ shape: [1, 1, 5, 2] }),
      /cannot be streamed/,
    ],
  ])("%s", (_, call, message) => {
    expect(call).toThrow(message);
  });
});
