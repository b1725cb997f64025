import { describe, expect, it } from "vitest";
import { add, device, Generator, Hopfield, hopfieldEnergy, hopfieldRetrieve, mul, noGrad, sum, tensor, uniform, type HopfieldOptions, type Tensor } from "../src/index.js"; // prettier-ignore
import { slice } from "../src/ops/movement.js";
import { devicesUnderTest, weightsLike } from "./helpers.js";

// float32 sums of at most a hundred terms of order one.
const CLOSE = 2e-5;

const values = (t: Tensor) => Array.from(t.dataSync());

function expectClose(got: ArrayLike<number>, wanted: ArrayLike<number>): void {
  expect(got.length).toBe(wanted.length);
  for (let i = 0; i < got.length; i++) expect(Math.abs(got[i] - wanted[i]), `element ${i}`).toBeLessThan(CLOSE);
}

const reference = device("reference");
const exact = (seed: number) => ({ low: -1, high: 1, device: reference, dtype: "float64", generator: new Generator(seed) }) as const;

/** Compares the gradients of `loss` with central differences (h = 1e-5 in float64: good to about 1e-9). */
function checkGradients(leaves: readonly (readonly [string, Tensor])[], loss: () => Tensor): void {
  loss().backward();
  for (const [name, t] of leaves) {
    const data = values(t);
    const direction = values(weightsLike(t, 9));
    const at = (by: number) => {
      t.device.write(
        t.buffer(),
        Float64Array.from(data, (v, i) => v + by * direction[i]),
      );
      return noGrad(loss).dataSync()[0];
    };
    const slope = (at(1e-5) - at(-1e-5)) / 2e-5;
    at(0);
    const got = values(t.grad!).reduce((acc, g, i) => acc + g * direction[i], 0);
    expect(Math.abs(got - slope), name).toBeLessThan(1e-6 * (1 + Math.abs(slope)));
  }
}

describe.each(devicesUnderTest())("retrieval on %s", (name) => {
  const dev = device(name);
  const draw = (seed: number, ...shape: number[]) => uniform(shape, { low: -1, high: 1, device: dev, generator: new Generator(seed) });

  it("finds a pattern that is well apart in one step", () => {
    const patterns = draw(1, 2, 9, 40);
    const noise = draw(2, 2, 3, 40);
    const start = tensor(
      values(slice(patterns, 1, 2, 5)).map((v, i) => v + 0.4 * values(noise)[i]),
      { shape: [2, 3, 40], device: dev },
    );
    expectClose(values(hopfieldRetrieve(start, patterns, { beta: 8 })), values(slice(patterns, 1, 2, 5)));
  });

  it("takes as many steps as it is told, and shares a matrix of patterns", () => {
    const [state, patterns] = [draw(1, 2, 3, 5), draw(2, 6, 5)];
    const once = (xi: Tensor) => hopfieldRetrieve(xi, patterns, { beta: 1.5 });
    expect(values(hopfieldRetrieve(state, patterns, { beta: 1.5, steps: 3 }))).toEqual(values(once(once(once(state)))));
    expect(values(hopfieldRetrieve(state, patterns, { steps: 0 }))).toEqual(values(state));
    expect(values(hopfieldRetrieve(state, patterns))).toEqual(
      values(hopfieldRetrieve(state, patterns, { beta: 1 / Math.sqrt(5), steps: 1 })),
    );
  });

  it("never raises the energy, which is that of its definition", () => {
    const [state, patterns] = [draw(3, 4, 5), draw(4, 6, 5)];
    const [xi, k] = [values(state), values(patterns)];
    const dot = (a: number[], i: number, b: number[], j: number) =>
      [0, 1, 2, 3, 4].reduce((acc, d) => acc + a[5 * i + d] * b[5 * j + d], 0);
    const rows = [0, 1, 2, 3, 4, 5];
    const wanted = [0, 1, 2, 3].map((i) => {
      const total = rows.reduce((acc, j) => acc + Math.exp(2 * dot(xi, i, k, j)), 0);
      return -Math.log(total / 6) / 2 + dot(xi, i, xi, i) / 2 + Math.max(...rows.map((j) => dot(k, j, k, j))) / 2;
    });
    expectClose(values(hopfieldEnergy(state, patterns, { beta: 2 })), wanted);
    let before = wanted;
    for (const steps of [1, 2, 3, 4]) {
      const energy = values(hopfieldEnergy(hopfieldRetrieve(state, patterns, { beta: 2, steps }), patterns, { beta: 2 }));
      energy.forEach((e, i) => expect(e).toBeLessThan(before[i] + 1e-6));
      before = energy;
    }
  });

  describe("the layer", () => {
    const make = (options: HopfieldOptions = {}) => {
      const layer = new Hopfield(5, { hiddenSize: 4, heads: 2, device: dev, generator: new Generator(1), ...options });
      const weights = layer.stateDict()["association_core.in_proj_weight"];
      dev.write(
        weights.buffer(),
        Float32Array.from(draw(7, ...weights.shape).dataSync(), (v) => 3 * v),
      );
      return layer;
    };
    const [state, stored] = [draw(5, 3, 4, 5), draw(6, 3, 7, 5)];
    const run = (layer: Hopfield, options: Parameters<Hopfield["forward"]>[1] = { stored }) => noGrad(() => layer.forward(state, options));

    it("gives output [N, L, outputSize] and association [N, heads, L, S] that sums to one", () => {
      const { output, association } = run(make({ outputSize: 6, updateSteps: 2 }));
      expect(output.shape).toEqual([3, 4, 6]);
      expect(association.shape).toEqual([3, 2, 4, 7]);
      expectClose(values(sum(association, { axis: 3 })), new Array<number>(24).fill(1));
    });

    it("associates its states with themselves by default", () => {
      const layer = make();
      expect(values(run(layer, {}).output)).toEqual(values(run(layer, { stored: state, projection: state }).output));
    });

    it("stops a head that moves less than eps, and only that one", () => {
      const steps = [0, 1, 2, 3, 4].map((updateSteps) => run(make({ updateSteps, updateEps: 0 })).association);
      const moves = steps.slice(1).map((after, i) => largestMoves(values(after), values(steps[i])));
      // Between the second moves of the two heads, and below both first moves: one head stops after two steps.
      const eps = (moves[1][0] + moves[1][1]) / 2;
      expect(Math.min(...moves[0])).toBeGreaterThan(eps);
      const stopping = moves[1][0] < moves[1][1] ? 0 : 1;
      const moving = run(make({ updateSteps: 3, updateEps: eps })).association;
      const head = (t: Tensor, h: number) => values(slice(t, 1, h, h + 1));
      expect(head(moving, stopping)).toEqual(head(steps[2], stopping));
      expect(head(moving, 1 - stopping)).toEqual(head(steps[3], 1 - stopping));
      expect(head(steps[3], stopping)).not.toEqual(head(steps[2], stopping));
    });

    it("stored patterns past a row's length do not count, whatever they hold", () => {
      const layer = make({ updateSteps: 2 });
      const lengths = [7, 3, 0];
      const data = stored.dataSync();
      lengths.forEach((length, n) => data.fill(NaN, (n * 7 + length) * 5, (n + 1) * 7 * 5));
      const ragged = run(layer, { stored: tensor(data, { shape: [3, 7, 5], device: dev }), lengths });
      lengths.slice(0, 2).forEach((length, n) => {
        const row = (t: Tensor) => slice(t, 0, n, n + 1);
        const alone = noGrad(() => layer.forward(row(state), { stored: slice(row(stored), 1, 0, length) }));
        expectClose(values(row(ragged.output)), values(alone.output));
        expectClose(values(slice(row(ragged.association), 3, 0, length)), values(alone.association));
      });
      expect(values(slice(ragged.association, 0, 2)).every((v) => v === 0)).toBe(true);
      const bias = values(layer.stateDict()["association_core.out_proj.bias"]);
      expectClose(values(slice(ragged.output, 0, 2)), [...bias, ...bias, ...bias, ...bias]);
    });

    it("drops associations while training, and not after", () => {
      const layer = make({ dropout: 0.5 });
      expect(values(run(layer).output)).not.toEqual(values(run(make()).output));
      expect(values(run(layer.eval()).output)).toEqual(values(run(make()).output));
    });
  });
});

/** For each of two heads, the largest distance over three rows of [3, 2, 4 * 7]. */
function largestMoves(a: number[], b: number[]): number[] {
  return [0, 1].map((h) => Math.max(...[0, 1, 2].map((n) => Math.hypot(...a.slice((2 * n + h) * 28, (2 * n + h + 1) * 28).map((v, i) => v - b[(2 * n + h) * 28 + i]))))); // prettier-ignore
}

describe("gradients agree with finite differences", () => {
  it("of retrieval and energy", () => {
    const [state, patterns] = [uniform([2, 3, 4], { ...exact(1), requiresGrad: true }), uniform([2, 5, 4], { ...exact(2), requiresGrad: true })]; // prettier-ignore
    checkGradients(
      [
        ["state", state],
        ["patterns", patterns],
      ],
      () => {
        const xi = hopfieldRetrieve(state, patterns, { beta: 1.5, steps: 2 });
        const energy = hopfieldEnergy(xi, patterns, { beta: 1.5 });
        return add(sum(mul(xi, weightsLike(xi, 1))), sum(mul(energy, weightsLike(energy, 2))));
      },
    );
  });

  it("of the layer: inputs and every parameter, with updates and lengths", () => {
    const layer = new Hopfield(3, {
      hiddenSize: 2,
      heads: 2,
      beta: 1.3,
      updateSteps: 2,
      updateEps: 0,
      device: reference,
      dtype: "float64",
    });
    for (const p of layer.parameters()) reference.write(p.buffer(), uniform(p.shape, exact(p.size)).dataSync());
    const leaf = (seed: number, ...shape: number[]) => uniform(shape, { ...exact(seed), requiresGrad: true });
    const [state, stored, projection] = [leaf(1, 2, 3, 3), leaf(2, 2, 4, 3), leaf(3, 2, 4, 3)];
    checkGradients([["state", state], ["stored", stored], ["projection", projection], ...layer.namedParameters()], () => {
      const { output } = layer.forward(state, { stored, projection, lengths: [4, 2] });
      return sum(mul(output, weightsLike(output, 1)));
    });
  });
});

describe("what does not fit is refused", () => {
  const t = (...shape: number[]) => uniform(shape, exact(1));
  const layer = new Hopfield(4, { device: reference, dtype: "float64" });
  it.each<[string, () => unknown, RegExp]>([
    [
      "features",
      () => hopfieldRetrieve(t(2, 3), t(5, 4)),
      /hopfieldRetrieve: state must be \[..., L, D\] and patterns \[..., S, D\].* but are \[2, 3\] and \[5, 4\]/,
    ],
    ["batches", () => hopfieldEnergy(t(2, 3, 4), t(3, 5, 4)), /hopfieldEnergy: .* but are \[2, 3, 4\] and \[3, 5, 4\]/],
    ["no patterns", () => hopfieldRetrieve(t(3, 4), t(0, 4)), /with S at least 1/],
    ["beta", () => hopfieldRetrieve(t(3, 4), t(2, 4), { beta: 0 }), /hopfieldRetrieve: beta must be a number/],
    ["steps", () => hopfieldRetrieve(t(3, 4), t(2, 4), { steps: 0.5 }), /steps must be an integer of at least 0 but is 0.5/],
    ["an option", () => hopfieldEnergy(t(3, 4), t(2, 4), { betta: 1 } as never), /unknown option betta; did you mean beta\?/],
    ["state", () => layer.forward(t(2, 3, 5)), /Hopfield.forward: state must be \[2, L, 4\] but is \[2, 3, 5\]/],
    ["rows", () => layer.forward(t(2, 3, 4), { stored: t(3, 3, 4) }), /Hopfield.forward: stored must be \[2, S, 4\] but is \[3, 3, 4\]/],
    [
      "projection",
      () => layer.forward(t(2, 3, 4), { projection: t(2, 5, 4) }),
      /Hopfield.forward: projection must be \[2, 3, 4\] but is \[2, 5, 4\]/,
    ],
    [
      "lengths",
      () => layer.forward(t(2, 3, 4), { lengths: [1, 4] }),
      /Hopfield.forward: lengths must be integers from 0 to 3 but entry 1 is 4/,
    ],
    ["heads", () => new Hopfield(4, { heads: 0 }), /Hopfield: heads must be an integer of at least 1 but is 0/],
    ["eps", () => new Hopfield(4, { updateEps: -1 }), /Hopfield: updateEps must be a number/],
    ["an option of the layer", () => new Hopfield(4, { steps: 3 } as never), /Hopfield: unknown option steps/],
  ])("%s", (_, call, message) => {
    expect(call).toThrow(message);
  });
});
