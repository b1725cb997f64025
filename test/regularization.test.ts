import { describe, expect, it } from "vitest";
import {
  activationRegularization,
  AdaptiveSoftmax,
  ASGD,
  device,
  Embedding,
  Generator,
  LockedDropout,
  NonMonotonicTrigger,
  softmax,
  square,
  sub,
  sum,
  temporalActivationRegularization,
  tensor,
  uniform,
  type Tensor,
} from "../src/index.js";
import { mul, scale } from "../src/ops/elementwise.js";
import { devicesUnderTest } from "./helpers.js";

const values = (t: Tensor) => Array.from(t.dataSync());

// float32 sums of a few terms of order one.
const CLOSE = 2e-6;

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  expect(actual.length).toBe(expected.length);
  for (let i = 0; i < actual.length; i++) expect(Math.abs(actual[i] - expected[i]), `element ${i}`).toBeLessThan(CLOSE);
}

describe.each(devicesUnderTest())("regularisation on %s", (name) => {
  const dev = device(name);
  const on = { device: dev };

  describe("penalties on activations", () => {
    const output = () => tensor([[[1, 2], [3, 5], [0, 1]], [[2, 2], [2, 0], [4, 0]]], { ...on, requiresGrad: true }); // prettier-ignore

    it("AR is alpha times the mean square, TAR beta times that of the changes", () => {
      expectClose([activationRegularization(output(), 2).dataSync()[0]], [(2 * (1 + 4 + 9 + 25 + 0 + 1 + 4 + 4 + 4 + 0 + 16 + 0)) / 12]);
      expectClose([temporalActivationRegularization(output(), 3).dataSync()[0]], [(3 * (4 + 9 + 9 + 16 + 0 + 4 + 4 + 0)) / 8]);
    });

    it("count valid steps only", () => {
      const lengths = [2, 1];
      expectClose(values(activationRegularization(output(), 1, { lengths })), [(1 + 4 + 9 + 25 + 4 + 4) / 6]);
      expectClose(values(temporalActivationRegularization(output(), 1, { lengths })), [(4 + 9) / 2]);
      expect(values(activationRegularization(output(), 1, { lengths: [0, 0] }))).toEqual([0]);
      expect(values(temporalActivationRegularization(output(), 1, { lengths: [1, 0] }))).toEqual([0]);
    });

    it("pull on the activations they count", () => {
      const h = output();
      temporalActivationRegularization(h, 8).backward();
      expectClose(values(h.grad!), [-4, -6, 10, 14, -6, -8, 0, 4, -4, -4, 4, 0]);
      const single = tensor([[[1, 2]]], { ...on, requiresGrad: true });
      expect(values(temporalActivationRegularization(single, 1))).toEqual([0]);
    });

    it("say what is wrong", () => {
      expect(() => activationRegularization(tensor([1], on), 1)).toThrow("activationRegularization: output must be [N, T, C] but is [1]");
      expect(() => temporalActivationRegularization(output(), -1)).toThrow("beta must be a number");
      expect(() => activationRegularization(output(), 1, { lengths: [4, 1] })).toThrow("lengths must be 2 integers from 0 to 3");
    });
  });

  describe("dropout of whole ids and of features", () => {
    it("LockedDropout has one mask for all steps, another for each row, and none in inference", () => {
      const drop = new LockedDropout(0.5, { generator: new Generator(1) });
      const x = tensor(new Float32Array(3 * 4 * 64).fill(1), { ...on, shape: [3, 4, 64] });
      const y = values(drop.forward(x));
      const row = (n: number, t: number) => y.slice((n * 4 + t) * 64, (n * 4 + t + 1) * 64);
      for (let n = 0; n < 3; n++) for (let t = 1; t < 4; t++) expect(row(n, t)).toEqual(row(n, 0));
      expect(row(0, 0)).not.toEqual(row(1, 0));
      expect(new Set(y)).toEqual(new Set([0, 2]));
      expect(drop.eval().forward(x)).toBe(x);
      expect(() => drop.forward(tensor([1], on))).toThrow("x must be [N, T, C] but is [1]");
    });

    it("keeps the mean", () => {
      const drop = new LockedDropout(0.2, { generator: new Generator(2) });
      const y = values(drop.forward(tensor(new Float32Array(20_000).fill(1), { ...on, shape: [20, 1, 1000] })));
      // 20 000 draws of standard deviation 0.5: the mean strays by 0.0035, of which this is 5.
      expect(Math.abs(y.reduce((a, b) => a + b) / y.length - 1)).toBeLessThan(0.018);
    });

    it("Embedding drops an id everywhere in the batch, and its gradient with it", () => {
      const embed = new Embedding(50, 3, { ...on, dropout: 0.5, generator: new Generator(3) });
      const all = Array.from({ length: 100 }, (_, i) => i % 50);
      const ids = tensor(all, { ...on, dtype: "int32", shape: [2, 50] });
      const table = values(embed.weight);
      const output = embed.forward(ids);
      const y = values(output);
      sum(output).backward();
      const g = values(embed.weight.grad!);
      let dropped = 0;
      for (let id = 0; id < 50; id++) {
        const factor = g[id * 3] / 2;
        if (factor === 0) dropped++;
        else expect(factor).toBe(2);
        for (let k = 0; k < 3; k++) {
          expect(g[id * 3 + k]).toBe(2 * factor);
          expectClose([y[id * 3 + k], y[(id + 50) * 3 + k]], [factor * table[id * 3 + k], factor * table[id * 3 + k]]);
        }
      }
      expect(dropped).toBeGreaterThan(10);
      expect(dropped).toBeLessThan(40);
      expect(values(embed.eval().forward(ids)).slice(0, 150)).toEqual(table);
      expect(() => new Embedding(2, 2, { dropout: 1.5 })).toThrow("Embedding: dropout must be a number in [0, 1]");
    });
  });

  describe("ASGD", () => {
    // torch 2 in float64, whose eta is float32: lr 0.1, lambd 0.01, alpha 0.75, t0 2, weight_decay 0.05.
    const parameters = [[0.994, -1.888], [0.98864002, -1.77955333], [0.98385136, -1.67454465], [0.97957274, -1.57286246], [0.97574949, -1.47439897], [0.97233285, -1.37904994]]; // prettier-ignore
    const averages = [...parameters.slice(0, 4), [0.97766111, -1.52363072], [0.97588503, -1.47543712]];

    const start = () => {
      const p = tensor([1, -2], { ...on, requiresGrad: true });
      const optimizer = new ASGD([p], { lr: 0.1, lambd: 0.01, t0: 2, weightDecay: 0.05 });
      const advance = () => {
        optimizer.zeroGrad();
        sum(scale(square(sub(mul(p, tensor([1, 0.5], on)), tensor([1, 1], on))), 0.5)).backward();
        optimizer.step();
      };
      return { p, optimizer, advance };
    };

    it("steps and averages as torch.optim.ASGD", () => {
      const { p, optimizer, advance } = start();
      parameters.forEach((expected, k) => {
        advance();
        expectClose(values(p), expected);
        expectClose(values(optimizer.stateDict().tensors["0.ax"]), averages[k]);
      });
    });

    it("goes on from its state", () => {
      const [one, two] = [start(), start()];
      for (let k = 0; k < 4; k++) one.advance();
      two.optimizer.loadStateDict(one.optimizer.stateDict());
      dev.write(two.p.buffer(), one.p.dataSync());
      for (let k = 0; k < 3; k++) [one, two].forEach((run) => run.advance());
      expect(values(two.p)).toEqual(values(one.p));
      expect(values(two.optimizer.stateDict().tensors["0.ax"])).toEqual(values(one.optimizer.stateDict().tensors["0.ax"]));
    });

    it("lends the averages to the parameters and takes them back, whatever happens", async () => {
      const { p, optimizer, advance } = start();
      expect(await optimizer.withAverages(() => values(p))).toEqual([1, -2]);
      for (let k = 0; k < 6; k++) advance();
      const before = values(p);
      const buffers = dev.memory().buffers;
      const seen = await optimizer.withAverages(async () => Array.from(await p.data()));
      expectClose(seen, averages[5]);
      expect(values(p)).toEqual(before);
      await expect(optimizer.withAverages(() => Promise.reject(new Error("no")))).rejects.toThrow("no");
      expect(values(p)).toEqual(before);
      expect(dev.memory().buffers).toBe(buffers);
    });

    it("says what is wrong", () => {
      const p = tensor([1], { ...on, requiresGrad: true });
      expect(() => new ASGD([p], { t0: -1 })).toThrow("ASGD: t0 must be a number");
      expect(() => new ASGD([p], { lambda: 1 } as never)).toThrow("ASGD: unknown option lambda; did you mean lambd?");
    });
  });

  describe("AdaptiveSoftmax", () => {
    const draw = (...shape: number[]) => uniform(shape, { low: -1, high: 1, ...on, generator: new Generator(11) });

    it("agrees with PyTorch in names, shapes, values and gradients", () => {
      const layer = new AdaptiveSoftmax(4, 7, { ...on, cutoffs: [2, 4], divValue: 2, headBias: true });
      const shapes = [...layer.namedParameters()].map(([n, p]) => [n, p.shape]);
      expect(shapes).toEqual([["head.weight", [4, 4]], ["head.bias", [4]], ["tail.0.0.weight", [2, 4]], ["tail.0.1.weight", [2, 2]], ["tail.1.0.weight", [1, 4]], ["tail.1.1.weight", [3, 1]]]); // prettier-ignore
      for (const [n, p] of layer.namedParameters())
        dev.write(
          p.buffer(),
          Float32Array.from({ length: p.size }, (_, i) => Math.sin(0.7 * i + n.length)),
        );
      const x = tensor(Float32Array.from({ length: 20 }, (_, i) => Math.cos(i)), { ...on, shape: [5, 4], requiresGrad: true }); // prettier-ignore
      const { output, loss } = layer.forward(x, [0, 6, 3, 1, 2]);
      // torch.nn.AdaptiveLogSoftmaxWithLoss(4, 7, [2, 4], div_value=2, head_bias=True) in float64, on the same numbers.
      expectClose(values(output), [-2.83758768, -1.79927322, -2.16305306, -0.25051713, -3.64635422]);
      expectClose(values(loss), [2.13935706]);
      loss.backward();
      expectClose(values(x.grad!), [0.34111554, 0.30219836, 0.12115256, -0.11687318, -0.1439028, -0.21451061, -0.18423073, -0.06730425, -0.01769036, 9.054e-5, 0.01782885, 0.02718198, -0.0329869, -0.01692117, 0.00710286, 0.0277863, -0.00785981, 0.11764664, 0.18782204, 0.1696618]); // prettier-ignore
      const clusterGradient = values(layer.stateDict()["tail.0.0.weight"].grad!);
      expectClose(clusterGradient, [0.13469862, -0.11126006, -0.25492676, -0.16421497, 0.10371422, -0.08566717, -0.1962866, -0.12644099]);
      expectClose(values(layer.logProb(x)).slice(0, 7), [-2.83758768, -0.23976281, -3.60151222, -4.00448567, -2.53992457, -3.75671447, -4.9805991]); // prettier-ignore
      expect(values(layer.predict(x))).toEqual([1, 0, 0, 1, 0]);
    });

    it("is a softmax of softmaxes, spelt out by hand", () => {
      const layer = new AdaptiveSoftmax(8, 12, { ...on, cutoffs: [3, 7], divValue: 2, generator: new Generator(4) });
      const x = draw(2, 3, 8);
      const p = values(softmax(layer.head.forward(x)));
      const clusters = layer.tail.map((c) => values(softmax(c.forward(x))));
      const expected = Array.from({ length: 6 }, (_, row) => {
        const head = p.slice(row * 5, row * 5 + 5);
        return [
          ...head.slice(0, 3),
          ...clusters.flatMap((q, k) => q.slice(row * (4 + k), (row + 1) * (4 + k)).map((v) => v * head[3 + k])),
        ];
      });
      const got = values(layer.logProb(x)).map(Math.exp);
      expectClose(got, expected.flat());
      for (let row = 0; row < 6; row++) expect(got.slice(row * 12, row * 12 + 12).reduce((a, b) => a + b)).toBeCloseTo(1, 5);
      const targets = tensor([[0, 3, 11], [7, 2, 6]], { ...on, dtype: "int32" }); // prettier-ignore
      const { output, loss } = layer.forward(x, targets);
      expect(output.shape).toEqual([2, 3]);
      const logs = values(targets).map((id, row) => Math.log(expected[row][id]));
      expectClose(values(output), logs);
      expectClose(values(loss), [-logs.reduce((a, b) => a + b) / 6]);
      expect(values(layer.predict(x))).toEqual(expected.map((row) => row.indexOf(Math.max(...row))));
    });

    it("does without the clusters that no target is in", () => {
      const layer = new AdaptiveSoftmax(8, 12, { ...on, cutoffs: [3, 7], divValue: 2 });
      const { loss } = layer.forward(draw(2, 8), [0, 4]);
      loss.backward();
      expect(layer.tail[0][0].weight.grad).not.toBeNull();
      expect(layer.tail[1][0].weight.grad).toBeNull();
      expectClose(values(layer.forward(draw(2, 8), [0, 2]).output), [
        values(layer.logProb(draw(2, 8)))[0],
        values(layer.logProb(draw(2, 8)))[14],
      ]);
    });

    it("says what is wrong", () => {
      const layer = new AdaptiveSoftmax(8, 12, { ...on, cutoffs: [3, 7], divValue: 2 });
      expect(() => layer.forward(draw(2, 8), [0, 12])).toThrow("targets must be in [0, 11] but targets[1] is 12");
      expect(() => layer.forward(draw(2, 8), [0])).toThrow("AdaptiveSoftmax.forward: targets must be [2] but are 1 numbers");
      expect(() => layer.logProb(draw(2, 7))).toThrow("AdaptiveSoftmax.logProb: x must be [..., 8] but is [2, 7]");
      expect(() => new AdaptiveSoftmax(8, 12, { cutoffs: [3, 12] })).toThrow(
        "cutoffs must be ascending integers from 1 to 11 but are [3,12]",
      );
      expect(() => new AdaptiveSoftmax(8, 12, {} as never)).toThrow("cutoffs must be ascending integers");
      expect(() => new AdaptiveSoftmax(8, 12, { cutoffs: [3, 7] })).toThrow("cluster 1 would have no width: 8 / 4^2 is below 1");
    });
  });
});

describe("NonMonotonicTrigger", () => {
  const reports = (trigger: NonMonotonicTrigger, losses: number[]) => losses.map((loss) => trigger.report(loss));

  it("fires when a loss is above the least of all but the last few, and stays so", () => {
    const falling = [9, 8, 7, 6, 5, 4, 3];
    expect(reports(new NonMonotonicTrigger(2), falling)).not.toContain(true);
    // All but the last two are 9 and 8 when 7.5 comes, and 9, 8 and 7 when 8.5 comes.
    expect(reports(new NonMonotonicTrigger(2), [9, 8, 7, 7.4, 7.5, 8.5, 1])).toEqual([false, false, false, false, false, true, true]);
    expect(reports(new NonMonotonicTrigger(1), [3, 5, 4])).toEqual([false, false, true]);
    expect(reports(new NonMonotonicTrigger(1), [3, NaN, NaN])).toEqual([false, false, true]);
  });

  it("goes on from its state", () => {
    const [one, two] = [new NonMonotonicTrigger(3), new NonMonotonicTrigger(3)];
    reports(one, [5, 4, 6, 4.5, 4.4]);
    two.setState(JSON.parse(JSON.stringify(one.state())) as ReturnType<typeof one.state>);
    const rest = [4.2, 3, 4.1, 4.3, 1];
    expect(reports(two, rest)).toEqual(reports(one, rest));
    expect(two.fired).toBe(true);
    expect(() => new NonMonotonicTrigger(0)).toThrow("patience must be an integer of at least 1");
  });
});
