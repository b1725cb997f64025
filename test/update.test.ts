import { describe, expect, test } from "vitest";
import { clipNorm, clipValue, device, normal, tensor, zeros, full, Generator, type Tensor } from "../src/index.js";
import { adagradUpdate, adamUpdate, rmspropUpdate, sgdUpdate } from "../src/ops/update.js";
import type { Backend, TypedArray } from "../src/backend/backend.js";
import { devicesUnderTest, nativeBackends, sameBits } from "./helpers.js";

type DTypeOfFloats = "float32" | "float64";
const shapes = [[1], [7], [13, 33], [40_007]];

const draws = new Map<number, Float32Array[]>();

/** Normal numbers, drawn once for each seed. */
function drawn(seed: number): Float32Array[] {
  const generator = new Generator(seed);
  const made =
    draws.get(seed) ?? shapes.map((shape) => Float32Array.from(normal(shape, { generator, device: device("reference") }).dataSync()));
  draws.set(seed, made);
  return made;
}

/** Parameters, gradients of four steps, and states, the same numbers wherever they are made. */
class Bench {
  readonly params: Tensor[];
  readonly states: Tensor[][] = [];

  constructor(
    readonly on: Backend,
    readonly dtype: DTypeOfFloats,
  ) {
    this.params = this.draw(1);
  }

  draw(seed: number): Tensor[] {
    return drawn(seed).map((values, k) => tensor(values, { shape: shapes[k], dtype: this.dtype, device: this.on }));
  }

  state(value = 0): Tensor[] {
    const made = shapes.map((shape) => full(shape, value, { dtype: this.dtype, device: this.on }));
    this.states.push(made);
    return made;
  }

  result(): TypedArray[] {
    return [this.params, ...this.states].flat().map((t) => t.dataSync());
  }
}

/** One scalar parameter taken through the algorithm box of the torch.optim documentation. */
type Scalar = () => (p: number, g: number, step: number) => number;
type Trainer = (bench: Bench) => (grads: Tensor[], step: number) => void;

const lr = 0.05;
const runs: Record<string, { scalar: Scalar; trainer: Trainer }> = {};

for (const weightDecay of [0, 0.1]) {
  for (const [momentum, dampening, nesterov] of [
    [0, 0, false],
    [0.9, 0, false],
    [0.9, 0.3, false],
    [0.9, 0, true],
  ] as const) {
    runs[`sgd momentum ${momentum} dampening ${dampening} nesterov ${nesterov} decay ${weightDecay}`] = {
      scalar() {
        let b: number | null = null;
        return (p, g) => {
          g += weightDecay * p;
          if (momentum) {
            b = b === null ? g : momentum * b + (1 - dampening) * g;
            g = nesterov ? g + momentum * b : b;
          }
          return p - lr * g;
        };
      },
      trainer(bench) {
        const velocity = bench.state();
        return (grads, step) =>
          sgdUpdate({
            params: bench.params,
            grads,
            velocity,
            first: shapes.map(() => step === 1),
            lr,
            momentum,
            dampening,
            nesterov,
            weightDecay,
          });
      },
    };
  }
  for (const [decoupled, amsgrad] of [
    [false, false],
    [true, false],
    [false, true],
    [true, true],
  ]) {
    const [beta1, beta2, eps] = [0.9, 0.97, 1e-8];
    runs[`${decoupled ? "adamw" : "adam"} amsgrad ${amsgrad} decay ${weightDecay}`] = {
      scalar() {
        let [m, v, most] = [0, 0, 0];
        return (p, g, step) => {
          if (decoupled) p -= lr * weightDecay * p;
          else g += weightDecay * p;
          m = beta1 * m + (1 - beta1) * g;
          v = beta2 * v + (1 - beta2) * g ** 2;
          most = Math.max(most, v);
          const mHat = m / (1 - beta1 ** step);
          const vHat = (amsgrad ? most : v) / (1 - beta2 ** step);
          return p - (lr * mHat) / (Math.sqrt(vHat) + eps);
        };
      },
      trainer(bench) {
        const [m, v] = [bench.state(), bench.state()];
        const vMax = amsgrad ? bench.state() : undefined;
        return (grads, step) =>
          adamUpdate({
            params: bench.params,
            grads,
            m,
            v,
            vMax,
            steps: shapes.map(() => step),
            lr,
            beta1,
            beta2,
            eps,
            weightDecay,
            decoupled,
          });
      },
    };
  }
  for (const [momentum, centered] of [
    [0, false],
    [0.9, false],
    [0, true],
    [0.9, true],
  ] as const) {
    const [alpha, eps] = [0.95, 1e-2];
    runs[`rmsprop momentum ${momentum} centered ${centered} decay ${weightDecay}`] = {
      scalar() {
        let [v, mean, b] = [0, 0, 0];
        return (p, g) => {
          g += weightDecay * p;
          v = alpha * v + (1 - alpha) * g ** 2;
          mean = mean * alpha + (1 - alpha) * g;
          const d = g / (Math.sqrt(centered ? v - mean ** 2 : v) + eps);
          b = momentum * b + d;
          return p - lr * (momentum > 0 ? b : d);
        };
      },
      trainer(bench) {
        const [square, velocity, mean] = [bench.state(), bench.state(), bench.state()];
        return (grads) =>
          rmspropUpdate({ params: bench.params, grads, square, velocity, mean, lr, alpha, eps, momentum, centered, weightDecay });
      },
    };
  }
  const [lrDecay, eps, initial] = [0.02, 1e-10, 0.1];
  runs[`adagrad decay ${weightDecay}`] = {
    scalar() {
      let total = initial;
      return (p, g, step) => {
        g += weightDecay * p;
        total += g ** 2;
        return p - ((lr / (1 + (step - 1) * lrDecay)) * g) / (Math.sqrt(total) + eps);
      };
    },
    trainer(bench) {
      const sum = bench.state(initial);
      return (grads, step) =>
        adagradUpdate({ params: bench.params, grads, sum, steps: shapes.map(() => step), lr, lrDecay, eps, weightDecay });
    },
  };
}

const STEPS = 4;
const natives = nativeBackends(2);

function train(trainer: Trainer, bench: Bench): TypedArray[] {
  const update = trainer(bench);
  for (let step = 1; step <= STEPS; step++) update(bench.draw(10 + step), step);
  return bench.result();
}

function expectClose(got: TypedArray, expected: ArrayLike<number>, tolerance: number, what: string): void {
  expect(got.length, what).toBe(expected.length);
  let worst = 0;
  for (let i = 0; i < got.length; i++) {
    const error = Math.abs(got[i] - expected[i]) / (1 + Math.abs(expected[i]));
    if (!(error <= worst)) worst = error;
  }
  expect(worst, what).toBeLessThanOrEqual(tolerance);
}

describe.each(Object.entries(runs))("%s", (_, { scalar, trainer }) => {
  test("float64 follows the published algorithm", () => {
    const bench = new Bench(device("reference"), "float64");
    const start = bench.params.map((t) => Array.from(t.dataSync()));
    const grads = Array.from({ length: STEPS }, (_, i) => bench.draw(11 + i).map((t) => t.dataSync()));
    const got = train(trainer, bench);
    start.forEach((values, k) => {
      const expected = values.map((p, i) => {
        const update = scalar();
        return grads.reduce((at, g, step) => update(at, g[k][i], step + 1), p);
      });
      expectClose(got[k], expected, 1e-12, `parameter ${k}`);
    });
  });

  // A few float32 roundings a step, at values of order one. RMSprop's eps is large enough here that a gradient which
  // weight decay all but cancels does not come out enlarged with its rounding error.
  test.each(natives)("the native kernel agrees on $isa", ({ backend }) => {
    const expected = train(trainer, new Bench(device("reference"), "float32"));
    backend.setThreads(2);
    const got = train(trainer, new Bench(backend, "float32"));
    got.forEach((values, k) => expectClose(values, expected[k], 4e-6, `tensor ${k}`));
    backend.setThreads(1);
    train(trainer, new Bench(backend, "float32")).forEach((values, k) =>
      expect(sameBits(values, got[k]), `tensor ${k} with one thread`).toBe(true),
    );
  });
});

describe.each(devicesUnderTest())("clipping on %s", (name) => {
  const on = device(name);
  const make = (...data: number[]) => tensor(data, { device: on });
  const values = (t: Tensor) => Array.from(t.dataSync());

  test("scales everything by maxNorm / (norm + 1e-6) and gives the norm before", () => {
    const [a, b] = [make(3), make(0, 4)];
    expect(values(clipNorm([a, b], 1))).toEqual([5]);
    expect(a.dataSync()[0]).toBeCloseTo(3 / 5.000001, 6);
    expect(b.dataSync()[1]).toBeCloseTo(4 / 5.000001, 6);
  });

  test("leaves what is below", () => {
    const a = make(3, 4);
    expect(values(clipNorm([a], 10))).toEqual([5]);
    expect(values(a)).toEqual([3, 4]);
  });

  test("an infinite gradient gives an infinite norm, a NaN a NaN", () => {
    expect(values(clipNorm([make(1, Infinity)], 1))).toEqual([Infinity]);
    const a = make(1, NaN);
    expect(values(clipNorm([a], 1))).toEqual([NaN]);
    expect(values(a)).toEqual([NaN, NaN]);
  });

  test("the norm of many elements, in several chunks", () => {
    const grads = shapes.map((shape, i) => full(shape, i + 1, { device: on }));
    const expected = Math.sqrt(1 + 7 * 4 + 13 * 33 * 9 + 40_007 * 16);
    expect(clipNorm(grads, 1e9).dataSync()[0]).toBeCloseTo(expected, 3);
    const large = full([100_003], 1e25, { device: on });
    expect(clipNorm([large], 1).dataSync()[0] / (1e25 * Math.sqrt(100_003))).toBeCloseTo(1, 6);
  });

  test("by value", () => {
    const a = make(-3, -0.5, 0.25, 7, NaN, Infinity, -Infinity, 0.5, 0.75);
    clipValue([a], 0.5);
    expect(values(a)).toEqual([-0.5, -0.5, 0.25, 0.5, NaN, 0.5, -0.5, 0.5, 0.5]);
  });

  test("of nothing", () => {
    expect(values(clipNorm([], 1))).toEqual([0]);
    expect(() => clipValue([], 1)).not.toThrow();
  });

  test("bad input", () => {
    expect(() => clipNorm([make(1)], -1)).toThrow("clipNorm: maxNorm must be a number of at least 0 but is -1");
    expect(() => clipValue([make(1)], NaN)).toThrow("clipValue: limit must be a number of at least 0 but is NaN");
    expect(() => clipNorm([tensor([1], { dtype: "int32", device: on })], 1)).toThrow(
      "clipNorm: grads must be all float32 or all float64 but grads[0] is int32",
    );
    const adam = {
      m: [zeros([1], { device: on })],
      v: [zeros([2], { device: on })],
      steps: [1],
      lr,
      beta1: 0,
      beta2: 0,
      eps: 0,
      weightDecay: 0,
      decoupled: false,
    };
    expect(() => adamUpdate({ params: [make(1)], grads: [make(1)], ...adam })).toThrow(
      "adam: v[0] must be float32 [1] as its parameter but is float32 [2]",
    );
    expect(() => adamUpdate({ params: [make(1)], grads: [], ...adam })).toThrow(
      "adam: grads must have 1 tensors, one for each parameter, but has 0",
    );
  });
});
