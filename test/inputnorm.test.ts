import { describe, expect, it } from "vitest";
import { add, BatchNorm1d, device, GRU, linear, LSTM, noGrad, RNN, scope, sum, tanh, tensor, type Tensor } from "../src/index.js";
import { mul } from "../src/ops/elementwise.js";
import { reshape, slice } from "../src/ops/movement.js";
import { Generator, uniform } from "../src/tensor/random.js";
import { devicesUnderTest } from "./helpers.js";

// float32 sums of a few dozen terms of order one.
const CLOSE = 2e-5;
const values = (t: Tensor) => Array.from(t.dataSync());
const far = (a: Tensor, b: Tensor) => Math.max(...values(a).map((v, i) => Math.abs(v - values(b)[i])));

describe.each(devicesUnderTest())("batch normalisation of W x on %s", (name) => {
  const on = device(name);
  const draw = (...shape: number[]) => uniform(shape, { low: -1, high: 1, device: on, generator: new Generator(shape.length) });

  it("is f(BN(W x_t) + b + U h_{t-1}), BN over rows and valid steps", () => {
    const rnn = new RNN(3, 4, { inputNorm: "batch", device: on, generator: new Generator(1) });
    const x = draw(3, 5, 3);
    const lengths = [5, 2, 0];
    const { output } = noGrad(() => rnn.forward(x, { lengths }));
    const parameters = rnn.stateDict();
    const norm = new BatchNorm1d(4, { device: on });
    const wx = noGrad(() => add(norm.forward(linear(x, parameters.weight_ih_l0), { lengths }), parameters.bias_ih_l0));
    lengths.forEach((length, n) => {
      let h = tensor([[0, 0, 0, 0]], { device: on });
      for (let t = 0; t < length; t++) {
        const at = reshape(slice(slice(wx, 0, n, n + 1), 1, t, t + 1), [1, 4]);
        h = noGrad(() => tanh(add(at, linear(h, parameters.weight_hh_l0, parameters.bias_hh_l0))));
        expect(far(reshape(slice(slice(output, 0, n, n + 1), 1, t, t + 1), [1, 4]), h)).toBeLessThan(CLOSE);
      }
    });
  });

  it("has its norms among the parameters and buffers, and trains them", () => {
    const lstm = new LSTM(3, 4, { inputNorm: "batch", layers: 2, bidirectional: true, device: on });
    const names = [...lstm.namedParameters().keys()].filter((n) => n.startsWith("norm_ih"));
    expect(names).toContain("norm_ih_l1_reverse.weight");
    expect(names).toHaveLength(8);
    expect(Object.keys(lstm.stateDict())).toContain("norm_ih_l0.running_mean");
    const { output } = lstm.forward(draw(2, 6, 3));
    sum(mul(output, output)).backward();
    for (const [n, p] of lstm.namedParameters())
      expect(
        p.grad?.dataSync().some((v) => v !== 0),
        n,
      ).toBe(true);
  });

  it("streams with the running statistics, as inference has them", () => {
    const gru = new GRU(3, 4, { inputNorm: "batch", device: on });
    for (let k = 0; k < 3; k++) scope(() => gru.forward(draw(4, 6, 3)));
    gru.eval();
    const x = draw(1, 5, 3);
    const whole = values(noGrad(() => gru.forward(x).output));
    using stream = gru.stream();
    const steps = Array.from({ length: 5 }, (_, t) => [...stream.step(values(slice(x, 1, t, t + 1)))]).flat();
    steps.forEach((v, i) => expect(Math.abs(v - whole[i])).toBeLessThan(CLOSE));
  });

  it("leaves NaN behind the valid steps out of outputs and gradients", () => {
    const data = values(draw(2, 4, 3));
    data.fill(NaN, 3, 12);
    for (const options of [{ inputNorm: "batch" }, { layerNorm: true }, {}] as const) {
      const lstm = new LSTM(3, 4, { ...options, device: on });
      const { output } = lstm.forward(tensor(data, { shape: [2, 4, 3], device: on }), { lengths: [1, 4] });
      expect(values(output).every(Number.isFinite)).toBe(true);
      sum(mul(output, output)).backward();
      for (const [n, p] of lstm.namedParameters()) expect(p.grad!.dataSync().every(Number.isFinite), n).toBe(true);
    }
  });

  it("refuses two normalisations of W x", () => {
    expect(() => new LSTM(3, 4, { inputNorm: "batch", layerNorm: true, device: on })).toThrow(
      'LSTM: layerNorm normalises W x already, so inputNorm cannot be "batch"',
    );
    expect(() => new RNN(3, 4, { inputNorm: "layer" as never, device: on })).toThrow("RNN: inputNorm must be");
  });
});
