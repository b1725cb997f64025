import { describe, expect, test } from "vitest";
import { concat, device, Generator, noGrad, scope, slice, tensor, XLSTM, type Tensor } from "../src/index.js";
import { caseValues, devicesUnderTest } from "./helpers.js";

const [N, T, C] = [3, 9, 8];

describe.each(devicesUnderTest())("xLSTM on %s", (name) => {
  const place = { device: device(name), dtype: name === "reference" ? "float64" : "float32" } as const;
  // Two orders of the same sums, through two blocks and three norms, of numbers of order one.
  const close = name === "reference" ? 1e-12 : 3e-5;
  const make = () => new XLSTM(C, { blocks: ["m", "s"], heads: 2, convKernel: 3, generator: new Generator(5), ...place });
  const draw = () => tensor(caseValues({ shape: [N, T, C], low: -2, high: 2 }, 3), { shape: [N, T, C], ...place });

  function expectNear(got: ArrayLike<number>, wanted: ArrayLike<number>): void {
    expect(got.length).toBe(wanted.length);
    const worst = Array.from(got).reduce((most, v, i) => Math.max(most, Math.abs(v - wanted[i])), 0);
    expect(worst).toBeLessThanOrEqual(close);
  }

  test("in parts, in a stream and in a ragged batch it gives what it gives as a whole", () =>
    noGrad(() =>
      scope(() => {
        const layer = make();
        const x = draw();
        const whole = layer.forward(x);
        const first = layer.forward(slice(x, 1, 0, 4));
        const second = layer.forward(slice(x, 1, 4), { state: first.state });
        expectNear(concat([first.output, second.output], 1).dataSync(), whole.output.dataSync());

        const stream = layer.stream();
        const row = slice(x, 0, 0, 1).dataSync();
        const steps = Array.from({ length: T }, (_, t) => Array.from(stream.step(row.slice(t * C, (t + 1) * C))));
        expectNear(steps.flat(), slice(whole.output, 0, 0, 1).dataSync());
        stream.dispose();

        const lengths = [5, 0, 9];
        const ragged = layer.forward(x, { lengths });
        lengths.forEach((length, n) => {
          const own = (t: Tensor, from: number, to: number) => slice(slice(t, 0, n, n + 1), 1, from, to).dataSync();
          if (length > 0) expectNear(own(ragged.output, 0, length), own(whole.output, 0, length));
          expect(Array.from(own(ragged.output, length, T)).every((v) => v === 0)).toBe(true);
        });
      }),
    ));

  test("gates of any size leave it finite", () => {
    const layer = make();
    const x = tensor(caseValues({ shape: [1, 40, C], low: -1e4, high: 1e4 }, 8), { shape: [1, 40, C], ...place });
    for (const p of layer.parameters()) if (p.shape.length > 1) p.device.write(p.buffer(), scaled(p.dataSync(), 30));
    expect(Array.from(layer.forward(x).output.dataSync()).every(Number.isFinite)).toBe(true);
  });

  test("says what does not fit", () => {
    expect(() => new XLSTM(C, { blocks: [] })).toThrow("XLSTM: blocks must be a list of at least one block");
    expect(() => new XLSTM(C, { blocks: ["x" as "m"] })).toThrow('XLSTM: blocks[0] must be "m" or "s" but is "x"');
    expect(() => new XLSTM(C, { blocks: ["s"], heads: 3 })).toThrow("SLSTMBlock: heads must divide inputSize, 8, but are 3");
    expect(() => make().forward(draw(), { state: [] })).toThrow("XLSTM.forward: state must be a list of 2 but has 0");
  });
});

const scaled = <D extends Float32Array | Float64Array | Int32Array>(data: D, factor: number): D => data.map((v: number) => v * factor) as D;
