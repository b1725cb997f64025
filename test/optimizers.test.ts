import { describe, expect, it } from "vitest";
import {
  Adagrad,
  Adam,
  AdamW,
  clipGradNorm,
  clipGradValue,
  device,
  Linear,
  scale,
  ReduceOnPlateau,
  RMSprop,
  schedules,
  SGD,
  sum,
  tensor,
  type Optimizer,
  type Tensor,
} from "../src/index.js";
import { devicesUnderTest } from "./helpers.js";

/** What torch.optim does to one number: p, its gradient, the count of its updates. */
type Rule = () => (p: number, g: number, step: number) => number;
type Make = (parameters: Tensor[]) => Optimizer;

const adam =
  (lr: number, weightDecay: number, decoupled: boolean, amsgrad = false, [b1, b2] = [0.9, 0.999], eps = 1e-8): Rule =>
  () => {
    let [m, v, most] = [0, 0, 0];
    return (p, g, t) => {
      if (decoupled) p -= lr * weightDecay * p;
      else g += weightDecay * p;
      m = b1 * m + (1 - b1) * g;
      v = b2 * v + (1 - b2) * g * g;
      most = Math.max(most, v);
      return p - (lr * (m / (1 - b1 ** t))) / (Math.sqrt((amsgrad ? most : v) / (1 - b2 ** t)) + eps);
    };
  };
const sgd =
  (lr: number, momentum = 0, dampening = 0, nesterov = false, weightDecay = 0): Rule =>
  () => {
    let buffer: number | null = null;
    return (p, g) => {
      g += weightDecay * p;
      if (momentum === 0) return p - lr * g;
      buffer = buffer === null ? g : momentum * buffer + (1 - dampening) * g;
      return p - lr * (nesterov ? g + momentum * buffer : buffer);
    };
  };
const rmsprop =
  (lr: number, alpha: number, momentum = 0, centered = false, weightDecay = 0): Rule =>
  () => {
    let [square, mean, buffer] = [0, 0, 0];
    return (p, g) => {
      g += weightDecay * p;
      square = alpha * square + (1 - alpha) * g * g;
      mean = alpha * mean + (1 - alpha) * g;
      const step = g / (Math.sqrt(centered ? square - mean * mean : square) + 1e-8);
      buffer = momentum * buffer + step;
      return p - lr * (momentum === 0 ? step : buffer);
    };
  };
const adagrad =
  (lr: number, lrDecay = 0, start = 0, weightDecay = 0): Rule =>
  () => {
    let total = start;
    return (p, g, t) => {
      g += weightDecay * p;
      total += g * g;
      return p - ((lr / (1 + (t - 1) * lrDecay)) * g) / (Math.sqrt(total) + 1e-10);
    };
  };

const optimizers: Record<string, { make: Make; rule: Rule }> = {
  "SGD, defaults": { make: (p) => new SGD(p), rule: sgd(1e-3) },
  "SGD with everything": {
    make: (p) => new SGD(p, { lr: 0.1, momentum: 0.9, dampening: 0.2, weightDecay: 0.01 }),
    rule: sgd(0.1, 0.9, 0.2, false, 0.01),
  },
  "SGD, Nesterov": { make: (p) => new SGD(p, { lr: 0.1, momentum: 0.9, nesterov: true }), rule: sgd(0.1, 0.9, 0, true) },
  "Adam, defaults": { make: (p) => new Adam(p), rule: adam(1e-3, 0, false) },
  "Adam with everything": {
    make: (p) => new Adam(p, { lr: 0.02, betas: [0.8, 0.95], eps: 1e-3, weightDecay: 0.1, amsgrad: true }),
    rule: adam(0.02, 0.1, false, true, [0.8, 0.95], 1e-3),
  },
  "AdamW, defaults": { make: (p) => new AdamW(p), rule: adam(1e-3, 0.01, true) },
  "AdamW without decay": { make: (p) => new AdamW(p, { weightDecay: 0 }), rule: adam(1e-3, 0, true) },
  "RMSprop, defaults": { make: (p) => new RMSprop(p), rule: rmsprop(0.01, 0.99) },
  "RMSprop with everything": {
    make: (p) => new RMSprop(p, { lr: 0.02, alpha: 0.9, momentum: 0.5, centered: true, weightDecay: 0.1 }),
    rule: rmsprop(0.02, 0.9, 0.5, true, 0.1),
  },
  "Adagrad, defaults": { make: (p) => new Adagrad(p), rule: adagrad(0.01) },
  "Adagrad with everything": {
    make: (p) => new Adagrad(p, { lr: 0.1, lrDecay: 0.1, initialAccumulatorValue: 0.5, weightDecay: 0.1 }),
    rule: adagrad(0.1, 0.1, 0.5, 0.1),
  },
};

const start = [0.5, -1.25, 2];
const gradientAt = (step: number) => start.map((v, i) => Math.sin(v * (step + 1) + i));

// float32 against double: ten updates of numbers of order one, each rounded once or twice. RMSprop, centered, divides by
// the root of a difference of nearly equal numbers, which is where its rounding comes from.
const tolerance = (name: string, dtype: string) => (dtype === "float64" ? 1e-12 : name.includes("RMSprop with") ? 2e-3 : 4e-6);

const variants = devicesUnderTest().flatMap((name) =>
  device(name).dtypes.flatMap((dtype) => (dtype === "int32" ? [] : [[name, dtype] as const])),
);

function setGrad(p: Tensor, values: number[] | null): void {
  p.grad?.dispose();
  p.grad = values && tensor(values, { device: p.device, dtype: p.dtype });
}

describe.each(variants)("optimizers on %s, %s", (name, dtype) => {
  const dev = device(name);
  const parameter = (values: number[] = start) => tensor(values, { device: dev, dtype, requiresGrad: true });
  const values = (t: Tensor) => Array.from(t.dataSync());

  it.each(Object.keys(optimizers))("%s does as torch.optim, and passes over what has no gradient", (kind) => {
    const { make, rule } = optimizers[kind];
    const [p, now_and_then, never] = [parameter(), parameter(), parameter()];
    const optimizer = make([p, now_and_then, never]);
    const expected = [p, now_and_then].map(() => ({ values: [...start], rules: start.map(() => rule()), count: 0 }));
    for (let step = 0; step < 10; step++) {
      const g = gradientAt(step);
      const given = step % 3 === 1 ? [g, null] : [g, g];
      [p, now_and_then].forEach((t, k) => {
        setGrad(t, given[k]);
        if (!given[k]) return;
        const e = expected[k];
        e.count++;
        e.values = e.values.map((v, i) => e.rules[i](v, g[i], e.count));
      });
      optimizer.step();
    }
    expect(optimizer.steps).toBe(10);
    expected.forEach((e, k) =>
      values([p, now_and_then][k]).forEach((v, i) => expect(Math.abs(v - e.values[i])).toBeLessThan(tolerance(kind, dtype))),
    );
    expect(values(never)).toEqual(values(parameter()));
  });

  it.each(Object.keys(optimizers))("%s goes on exactly from a saved state", (kind) => {
    const { make } = optimizers[kind];
    const run = (optimizer: Optimizer, p: Tensor, from: number, to: number) => {
      for (let step = from; step < to; step++) {
        setGrad(p, gradientAt(step));
        optimizer.step();
      }
    };
    const [p, other] = [parameter(), parameter()];
    const first = make([p, other]);
    run(first, p, 0, 4);
    const q = parameter(values(p));
    const second = make([q, parameter()]);
    second.loadStateDict(first.stateDict());
    run(first, p, 4, 8);
    run(second, q, 4, 8);
    expect(values(q)).toEqual(values(p));
    expect(second.steps).toBe(8);
  });

  it("frees what it remembers", () => {
    const p = parameter();
    setGrad(p, start);
    const before = dev.memory().buffers;
    const optimizer = new Adam([p]);
    optimizer.step();
    expect(dev.memory().buffers).toBe(before + 2);
    optimizer.dispose();
    expect(dev.memory().buffers).toBe(before);
  });

  it("clips by the common norm and by value, and gives the norm before", () => {
    const [p, q, without] = [parameter(), parameter([1]), parameter()];
    setGrad(p, [3, 0, 0]);
    setGrad(q, [-4]);
    expect(clipGradNorm([p, q, without], Infinity).dataSync()[0]).toBeCloseTo(5, 5);
    expect(values(p.grad!)).toEqual([3, 0, 0]);
    expect(clipGradNorm([p, q, without], 1).dataSync()[0]).toBeCloseTo(5, 5);
    expect(values(p.grad!)[0]).toBeCloseTo(0.6, 5);
    expect(values(q.grad!)[0]).toBeCloseTo(-0.8, 5);
    clipGradValue([p, q, without], 0.7);
    expect(values(q.grad!)[0]).toBeCloseTo(-0.7, 6);
    expect(values(p.grad!)[0]).toBeCloseTo(0.6, 5);
    expect(without.grad).toBeNull();
  });
});

describe("an optimizer", () => {
  const dev = device("reference");
  const parameter = () => tensor(start, { device: dev, requiresGrad: true });

  it("names parameters as the module does", () => {
    const model = new Linear(2, 1, { device: dev });
    const optimizer = new Adam(model);
    sum(model.forward(tensor([[1, 2]], { device: dev }))).backward();
    optimizer.step();
    expect(Object.keys(optimizer.stateDict().tensors)).toEqual(["weight.exp_avg", "weight.exp_avg_sq", "bias.exp_avg", "bias.exp_avg_sq"]);
    expect(optimizer.stateDict()).toMatchObject({ kind: "Adam", steps: 1, lr: 1e-3, counts: { weight: 1, bias: 1 } });
  });

  it.each([
    [() => new Adam([parameter()], { lr: NaN }), "Adam: lr must be a number in [0, Infinity] but is NaN"],
    [() => new Adam([parameter()], { lr: -1 }), "Adam: lr must be"],
    [() => new AdamW([parameter()], { betas: [0.9, 1] }), "AdamW: betas[1] must be a number in [0, 1) but is 1"],
    [() => new Adam([parameter()], { eps: Infinity }), "Adam: eps must be"],
    [() => new Adam([parameter()], { beta: 0.9 } as never), "Adam: unknown option beta; did you mean betas?"],
    [() => new SGD([parameter()], { nesterov: true }), "SGD: nesterov needs momentum above 0 and dampening 0 but they are 0 and 0"],
    [() => new SGD([parameter()], { momentum: "0.9" as never }), "SGD: momentum must be a number"],
    [() => new RMSprop([parameter()], { centered: 1 as never }), "RMSprop: centered must be true or false but is 1"],
    [() => new Adagrad([parameter()], { lrDecay: -1 }), "Adagrad: lrDecay must be"],
    [() => new SGD([]), "SGD: there must be at least one parameter"],
    [() => new SGD([tensor([1], { device: dev })]), "SGD: parameter 0 must be a leaf tensor that requires a gradient"],
    [() => new SGD([scale(parameter(), 2)]), "SGD: parameter 0 must be a leaf"],
    [
      () => {
        const p = parameter();
        return new SGD([p, p]);
      },
      "SGD: a parameter is in the list twice",
    ],
  ])("refuses bad arguments (%#)", (make, message) => {
    expect(make).toThrow(message);
  });

  it("refuses a state that does not fit, and keeps its own", () => {
    const p = parameter();
    const optimizer = new Adam([p]);
    setGrad(p, start);
    optimizer.step();
    const good = optimizer.stateDict();
    const before = Object.values(good.tensors).map((t) => Array.from(t.dataSync()));
    const { "0.exp_avg": m, ...rest } = good.tensors;
    const cut = { shape: [2], data: [1, 2] };
    for (const [bad, message] of [
      [{ ...good, kind: "SGD" }, "the state must be of Adam but is of SGD"],
      [{ ...good, tensors: rest }, "missing 0.exp_avg"],
      [{ ...good, tensors: { ...good.tensors, "0.exp_avg": cut } }, "0.exp_avg must be [3] but is [2]"],
      [{ ...good, tensors: { ...good.tensors, "0.sum": m } }, "unknown 0.sum"],
      [{ ...good, counts: { 0: 1, 7: 1 } }, "there is no parameter 7"],
      [{ ...good, counts: { 0: -1 } }, "counts.0 must be an integer of at least 1 but is -1"],
      [{ ...good, lr: NaN }, "lr must be a number"],
    ] as const) {
      expect(() => optimizer.loadStateDict(bad)).toThrow(`Adam.loadStateDict: ${message}`);
    }
    expect(Object.values(optimizer.stateDict().tensors).map((t) => Array.from(t.dataSync()))).toEqual(before);
  });

  it("multiplies its learning rate by the schedule", () => {
    const p = parameter();
    const optimizer = new SGD([p], { lr: 1 });
    optimizer.schedule = schedules.stepDecay(2, 0.5);
    const rates = Array.from({ length: 5 }, () => {
      const { rate } = optimizer;
      setGrad(p, [1, 0, 0]);
      optimizer.step();
      return rate;
    });
    expect(rates).toEqual([1, 1, 0.5, 0.5, 0.25]);
    expect(p.dataSync()[0]).toBeCloseTo(0.5 - 3.25, 6);
    optimizer.schedule = () => NaN;
    expect(() => optimizer.step()).toThrow("SGD: schedule must give a finite factor but gives NaN at step 5");
  });
});

describe("schedules", () => {
  const at = (schedule: schedules.Schedule, ...steps: number[]) => steps.map((s) => +schedule(s).toFixed(6));

  it("give the factors they say", () => {
    expect(at(schedules.constant(0.5), 0, 9)).toEqual([0.5, 0.5]);
    expect(at(schedules.exponential(0.9), 0, 1, 2)).toEqual([1, 0.9, 0.81]);
    expect(at(schedules.linear(4, 0.2), 0, 2, 4, 9)).toEqual([1, 0.6, 0.2, 0.2]);
    expect(at(schedules.cosine(4, 0.2), 0, 2, 4, 9)).toEqual([1, 0.6, 0.2, 0.2]);
    expect(at(schedules.linearWarmup(4, schedules.exponential(0.5)), 0, 1, 3, 4, 5)).toEqual([0.25, 0.5, 1, 1, 0.5]);
  });

  it("refuse what makes no sense", () => {
    expect(() => schedules.cosine(0)).toThrow("cosine: steps must be an integer of at least 1 but is 0");
    expect(() => schedules.exponential(NaN)).toThrow("exponential: gamma must be a number");
  });

  it("ReduceOnPlateau lowers the rate when the loss stops falling", () => {
    const optimizer = new SGD([tensor([1], { device: device("reference"), requiresGrad: true })], { lr: 1 });
    const plateau = new ReduceOnPlateau(optimizer, { factor: 0.5, patience: 1, cooldown: 1, minLr: 0.3 });
    const rates = [3, 2, 2, 2, 2, 2, 2, NaN, NaN].map((loss) => {
      plateau.report(loss);
      return optimizer.lr;
    });
    expect(rates).toEqual([1, 1, 1, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3]);
    const other = new ReduceOnPlateau(optimizer);
    other.setState(plateau.state());
    expect(other.state()).toEqual(plateau.state());
  });
});
