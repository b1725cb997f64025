import { describe, expect, it } from "vitest";
import { device, noGrad, scope, sum, tensor, type Tensor } from "../src/index.js";
import { concat, slice } from "../src/ops/movement.js";
import type { Masks } from "../src/nn/masks.js";
import { Generator, uniform } from "../src/tensor/random.js";
import { devicesUnderTest } from "./helpers.js";
import { mapTensors, randomised, structures } from "./recurrentVariants.js";

// The quickest device: what runs where is held to the reference elsewhere.
const dev = device(devicesUnderTest().at(-1));
const [ROWS, STEPS, CUT, INPUTS, HIDDEN] = [3, 5, 2, 3, 5];

// float32 sums of at most a few dozen terms of order one, in another order where kernels differ by the number of steps.
const CLOSE = 1e-5;

const values = (t: Tensor) => Array.from(t.dataSync());

function expectClose(actual: readonly number[], expected: readonly number[], what: string): void {
  expect(actual.length, what).toBe(expected.length);
  const worst = Math.max(0, ...actual.map((v, i) => Math.abs(v - expected[i])));
  expect(worst, what).toBeLessThan(CLOSE);
}

const draw = (...shape: number[]) => uniform(shape, { low: -1, high: 1, device: dev, generator: new Generator(11) });

/** Steps `from` to `to` of masks: of those that have a mask for each step. */
const during = (masks: Masks, from: number, to: number) =>
  mapTensors(masks, (mask) => (mask.shape.length === 3 && mask.shape[1] === STEPS ? slice(mask, 1, from, to) : mask));

describe.each([...structures(), ...randomised()])("$name", ({ make }) => {
  const layerOf = (options = {}) => make(INPUTS, HIDDEN, { layers: 2, device: dev, generator: new Generator(7), ...options });

  it("gives for two halves, the state handed over, what it gives for the whole, while training under the same masks", () => {
    noGrad(() =>
      scope(() => {
        const layer = layerOf();
        const x = draw(ROWS, STEPS, INPUTS);
        const masks = layer.drawMasks(ROWS, STEPS);
        const update = tensor(Float32Array.from({ length: ROWS * STEPS }, (_, i) => (i % 4 === 2 ? 0 : 1)), { shape: [ROWS, STEPS], device: dev }); // prettier-ignore
        const lengths = [5, 1, 3];
        const whole = layer.forward(x, { masks, update, lengths });
        const half = (from: number, to: number, state?: Record<string, Tensor>) =>
          layer.forward(slice(x, 1, from, to), {
            state,
            masks: during(masks, from, to),
            update: slice(update, 1, from, to),
            lengths: lengths.map((length) => Math.min(Math.max(length - from, 0), to - from)),
          });
        const first = half(0, CUT);
        const second = half(CUT, STEPS, first.state);
        expectClose(values(concat([first.output, second.output], 1)), values(whole.output), "output");
        for (const [s, t] of Object.entries(whole.state)) expectClose(values(second.state[s]), values(t), `state ${s}`);
      }),
    );
  });

  it("gives each row of a ragged batch what it gives for the row alone, then zero", () => {
    noGrad(() =>
      scope(() => {
        const layer = layerOf({ layers: 1, bidirectional: true }).eval();
        const x = draw(ROWS, STEPS, INPUTS);
        const lengths = [2, 5, 0];
        const { output, state } = layer.forward(x, { lengths });
        const start = layer.initialState(1);
        lengths.forEach((length, n) => {
          const own = (t: Tensor, axis: number) => slice(t, axis, n, n + 1);
          const alone = length > 0 ? layer.forward(slice(own(x, 0), 1, 0, length)) : null;
          const rest = new Array<number>((STEPS - length) * layer.outputSize).fill(0);
          expectClose(values(own(output, 0)), [...(alone ? values(alone.output) : []), ...rest], `output ${n}`);
          for (const [s, t] of Object.entries(alone?.state ?? start)) expectClose(values(own(state[s], 1)), values(t), `state ${s} ${n}`);
        });
      }),
    );
  });

  it("takes no rows, and no steps, over which the state stays as it is", () => {
    noGrad(() =>
      scope(() => {
        const layer = layerOf({ bidirectional: true });
        expect(layer.forward(draw(0, STEPS, INPUTS)).output.shape).toEqual([0, STEPS, layer.outputSize]);
        const start = mapTensors(layer.initialState(ROWS), ({ shape }) => draw(...shape));
        const { output, state } = layer.forward(draw(ROWS, 0, INPUTS), { state: start });
        expect(output.shape).toEqual([ROWS, 0, layer.outputSize]);
        for (const [s, t] of Object.entries(start)) expect(values(state[s]), `state ${s}`).toEqual(values(t));
      }),
    );
  });

  it("leaves nothing behind but what it returns, in training with gradients", () => {
    const layer = layerOf();
    const x = draw(ROWS, STEPS, INPUTS);
    const before = dev.memory().buffers;
    scope(() => {
      sum(layer.forward(x, { lengths: [2, 5, 0] }).output).backward();
      layer.zeroGrad();
    });
    expect(dev.memory().buffers).toBe(before);
  });

  it("streams what it gives for the whole", () => {
    const layer = layerOf().eval();
    const x = draw(1, STEPS, INPUTS);
    const whole = noGrad(() => values(layer.forward(x).output));
    using stream = layer.stream();
    const steps = Array.from({ length: STEPS }, (_, t) => [...stream.step(values(slice(x, 1, t, t + 1)))]);
    expectClose(steps.flat(), whole, "output");
  });
});

describe.each(randomised())("$name", ({ make }) => {
  it("draws in training the masks that drawMasks gives, and none in inference", () => {
    noGrad(() => {
      const generator = new Generator(7);
      const layer = make(INPUTS, HIDDEN, { layers: 2, bidirectional: true, device: dev, generator });
      const x = draw(ROWS, STEPS, INPUTS);
      const before = generator.state();
      const masks = layer.drawMasks(ROWS, STEPS);
      const given = values(layer.forward(x, { masks }).output);
      generator.setState(before);
      expect(values(layer.forward(x).output)).toEqual(given);
      expect(values(layer.forward(x).output)).not.toEqual(given);
      layer.eval();
      const state = generator.state();
      expect(values(layer.forward(x).output)).toEqual(values(layer.forward(x).output));
      expect(generator.state()).toEqual(state);
    });
  });
});
