import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  BatchNorm1d,
  device,
  Generator,
  grad,
  loadWeights,
  mul,
  noGrad,
  readCheckpoint,
  saveCheckpoint,
  saveWeights,
  scope,
  SGD,
  slice,
  square,
  sum,
  tensor,
  uniform,
  writeSafetensors,
  type BatchNormOptions,
  type Tensor,
} from "../src/index.js";
import { devicesUnderTest, weightsLike } from "./helpers.js";

const [ROWS, STEPS, FEATURES] = [4, 5, 3];
const ragged = [2, 0, 5, 1];

const values = (t: Tensor) => Array.from(t.dataSync());

function expectClose(got: readonly number[], wanted: readonly number[], tolerance: number): void {
  expect(got.length).toBe(wanted.length);
  got.forEach((v, i) => expect(Math.abs(v - wanted[i]), `element ${i}: ${v} for ${wanted[i]}`).toBeLessThan(tolerance));
}

/** Mean, biased and unbiased variance of each feature over the valid steps, by their definitions. */
function statistics(data: readonly number[], lengths: readonly number[]) {
  const valid = Array.from({ length: ROWS * STEPS }, (_, i) => i).filter((i) => i % STEPS < lengths[Math.floor(i / STEPS)]);
  const features = Array.from({ length: FEATURES }, (_, f) => valid.map((i) => data[i * FEATURES + f]));
  const mean = features.map((v) => v.reduce((a, b) => a + b, 0) / v.length);
  const squares = features.map((v, f) => v.reduce((a, b) => a + (b - mean[f]) ** 2, 0));
  return { mean, biased: squares.map((s) => s / valid.length), unbiased: squares.map((s) => s / (valid.length - 1)) };
}

describe.each(devicesUnderTest())("BatchNorm1d on %s", (name) => {
  const dev = device(name);
  const dtype = name === "reference" ? "float64" : "float32";
  // float64 sums of twenty terms; in float32 each of them is off by 6e-8 relative.
  const CLOSE = dtype === "float64" ? 1e-12 : 2e-6;
  const make = (options: BatchNormOptions = {}) => new BatchNorm1d(FEATURES, { device: dev, dtype, ...options });
  const draw = (seed: number, ...shape: number[]) =>
    uniform(shape, { low: -1, high: 2, device: dev, dtype, generator: new Generator(seed) });
  const buffer = (norm: BatchNorm1d, key: string) => values(norm.stateDict()[key]);

  it.each([{ lengths: undefined }, { lengths: ragged }, { lengths: [5, 5, 5, 5] }])(
    "normalises the valid steps by their own statistics while training, $lengths",
    ({ lengths }) => {
      const norm = make({ eps: 0.01 });
      norm.loadStateDict({
        ...norm.stateDict(),
        weight: tensor([2, -1, 0.5], { device: dev, dtype }),
        bias: tensor([0.25, 0, -1], { device: dev, dtype }),
      });
      const x = draw(1, ROWS, STEPS, FEATURES);
      const data = values(x);
      const { mean, biased, unbiased } = statistics(data, lengths ?? [5, 5, 5, 5]);
      const wanted = data.map((v, i) => {
        const [f, step] = [i % FEATURES, Math.floor(i / FEATURES)];
        if (step % STEPS >= (lengths ?? [5, 5, 5, 5])[Math.floor(step / STEPS)]) return 0;
        return ((v - mean[f]) / Math.sqrt(biased[f] + 0.01)) * [2, -1, 0.5][f] + [0.25, 0, -1][f];
      });
      expectClose(values(norm.forward(x, { lengths })), wanted, CLOSE);
      expectClose(
        buffer(norm, "running_mean"),
        mean.map((v) => 0.1 * v),
        CLOSE,
      );
      expectClose(
        buffer(norm, "running_var"),
        unbiased.map((v) => 0.9 + 0.1 * v),
        CLOSE,
      );
      expect(buffer(norm, "num_batches_tracked")).toEqual([1]);
    },
  );

  it("takes the running statistics in inference, and leaves them", () => {
    const norm = make();
    for (const seed of [1, 2, 3]) norm.forward(draw(seed, ROWS, STEPS, FEATURES), { lengths: ragged });
    norm.eval();
    const [mean, variance] = [buffer(norm, "running_mean"), buffer(norm, "running_var")];
    const x = draw(4, ROWS, STEPS, FEATURES);
    const wanted = values(x).map((v, i) => (v - mean[i % FEATURES]) / Math.sqrt(variance[i % FEATURES] + 1e-5));
    expectClose(values(norm.forward(x)), wanted, CLOSE);
    const one = values(norm.forward(slice(slice(x, 0, 1, 2), 1, 0, 1), { lengths: [1] }));
    expectClose(one, wanted.slice(STEPS * FEATURES, (STEPS + 1) * FEATURES), CLOSE);
    expect(buffer(norm, "running_mean")).toEqual(mean);
    expect(buffer(norm, "num_batches_tracked")).toEqual([3]);
  });

  it("with momentum null takes the mean over all batches so far", () => {
    const norm = make({ momentum: null });
    const batches = [1, 2, 3].map((seed) => draw(seed, ROWS, STEPS, FEATURES));
    const found = batches.map((x) => statistics(values(x), [5, 5, 5, 5]));
    for (const x of batches) norm.forward(x);
    const average = (key: "mean" | "unbiased") => [0, 1, 2].map((f) => found.reduce((a, s) => a + s[key][f], 0) / 3);
    expectClose(buffer(norm, "running_mean"), average("mean"), CLOSE);
    expectClose(buffer(norm, "running_var"), average("unbiased"), CLOSE);
  });

  it("without running statistics takes those of the batch in inference too", () => {
    const norm = make({ trackRunningStats: false, affine: false });
    expect(norm.stateDict()).toEqual({});
    const x = draw(1, 7, FEATURES);
    const trained = values(norm.forward(x));
    expect(values(norm.eval().forward(x))).toEqual(trained);
    expectClose(
      [0, 1, 2].map((f) => trained.reduce((a, v, i) => (i % FEATURES === f ? a + v : a), 0)),
      [0, 0, 0],
      10 * CLOSE,
    );
  });

  it("does not look at the padding", () => {
    const [norm, other] = [make(), make()];
    const x = draw(1, ROWS, STEPS, FEATURES);
    const dirty = values(x).map((v, i) => {
      const step = Math.floor(i / FEATURES);
      return step % STEPS < ragged[Math.floor(step / STEPS)] ? v : NaN;
    });
    const spoiled = tensor(dtype === "float64" ? Float64Array.from(dirty) : Float32Array.from(dirty), {
      shape: x.shape,
      device: dev,
      dtype,
    });
    const [leaf, clean] = [spoiled, x];
    leaf.requiresGrad = clean.requiresGrad = true;
    const loss = (n: BatchNorm1d, t: Tensor) => sum(square(mul(n.forward(t, { lengths: ragged }), weightsLike(t, 0))));
    const [got, wanted] = [loss(norm, leaf), loss(other, clean)];
    expect(values(got)).toEqual(values(wanted));
    const inputs = (n: BatchNorm1d, t: Tensor) => [t, n.weight!, n.bias!];
    const [a, b] = [grad(got, inputs(norm, leaf)), grad(wanted, inputs(other, clean))];
    a.forEach((g, i) => expect(values(g!)).toEqual(values(b[i]!)));
    expect(values(norm.stateDict().running_var)).toEqual(values(other.stateDict().running_var));
  });

  it("leaves nothing behind but what it returns", () => {
    const norm = make();
    const x = draw(1, ROWS, STEPS, FEATURES);
    const before = dev.memory().buffers;
    for (let i = 0; i < 3; i++)
      scope(() => {
        sum(square(norm.forward(x, { lengths: ragged }))).backward();
        norm.zeroGrad();
      });
    expect(dev.memory().buffers).toBe(before);
  });
});

describe("BatchNorm1d", () => {
  const place = { device: "reference", dtype: "float64" } as const;
  const options = { device: device("reference"), dtype: "float64" } as const;

  it.each([true, false])("has the gradients that finite differences give, training %s", (training) => {
    const norm = new BatchNorm1d(FEATURES, place).train(training);
    const x = uniform([ROWS, STEPS, FEATURES], { ...options, generator: new Generator(1), requiresGrad: true });
    const loss = () => sum(mul(norm.forward(x, { lengths: ragged }), weightsLike(x, 0)));
    const inputs = [x, norm.weight!, norm.bias!];
    const running = Object.fromEntries(Object.entries(norm.stateDict()).map(([key, t]) => [key, { shape: t.shape, data: values(t) }]));
    const found = grad(loss(), inputs).map((g) => values(g!));
    norm.loadStateDict(running);
    inputs.forEach((input, k) => {
      const at = values(input);
      const numeric = at.map((v, i) => {
        const difference = [1e-5, -1e-5].map((step) => {
          input.device.write(input.buffer(), Float64Array.from(at.with(i, v + step)));
          return noGrad(() => values(loss())[0]);
        });
        return (difference[0] - difference[1]) / 2e-5;
      });
      input.device.write(input.buffer(), Float64Array.from(at));
      // Central differences of a smooth function: an error of order step^2.
      expectClose(found[k], numeric, 1e-7);
    });
  });

  it("names its tensors as PyTorch does; only weight and bias are learned", () => {
    const norm = new BatchNorm1d(FEATURES);
    expect(Object.keys(norm.stateDict())).toEqual(["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]);
    expect([...norm.namedParameters().keys()]).toEqual(["weight", "bias"]);
    expect([...norm.namedBuffers().keys()]).toEqual(["running_mean", "running_var", "num_batches_tracked"]);
    expect(norm.stateDict().num_batches_tracked.shape).toEqual([]);
  });

  it("moves its buffers with its parameters", () => {
    const norm = new BatchNorm1d(FEATURES, { device: "reference" });
    norm.forward(uniform([4, FEATURES], { device: device("reference"), generator: new Generator(1) }));
    const before = values(norm.stateDict().running_mean);
    norm.to({ dtype: "float64" });
    expect(norm.stateDict().running_mean.dtype).toBe("float64");
    expect(values(norm.stateDict().running_mean)).toEqual(before);
  });

  it("refuses what has no variance and what does not fit", () => {
    const norm = new BatchNorm1d(FEATURES, place);
    const x = (...shape: number[]) => uniform(shape, options);
    expect(() => norm.forward(x(2, 4, FEATURES), { lengths: [0, 1] })).toThrow(/at least two valid steps for a variance but there are 1/);
    expect(() => norm.forward(x(2, 4, FEATURES), { lengths: [0, 5] })).toThrow(/integers from 0 to 4 but entry 1 is 5/);
    expect(() => norm.forward(x(2, FEATURES), { lengths: [0, 1] })).toThrow(/lengths are of x \[N, T, 3\]/);
    expect(() => norm.forward(x(2, 4))).toThrow(/x must be \[N, T, 3\] or \[N, 3\] but is \[2, 4\]/);
    expect(() => new BatchNorm1d(3, { momentum: 2 })).toThrow(/momentum/);
    expect(() => new BatchNorm1d(3, { eps: -1 })).toThrow(/eps/);
    expect(() => new BatchNorm1d(0)).toThrow(/features/);
    expect(() => new BatchNorm1d(3, { track: true } as never)).toThrow(/did you mean/);
    expect(values(norm.stateDict().num_batches_tracked)).toEqual([0]);
  });

  describe("in files", () => {
    let folder: string;
    beforeAll(async () => (folder = await mkdtemp(join(tmpdir(), "throughtime-batchnorm-"))));
    afterAll(() => rm(folder, { recursive: true }));
    const trained = () => {
      const norm = new BatchNorm1d(FEATURES, { device: "reference" });
      for (const seed of [1, 2]) norm.forward(uniform([4, FEATURES], { device: device("reference"), generator: new Generator(seed) }));
      return norm;
    };
    const all = (norm: BatchNorm1d) => Object.fromEntries(Object.entries(norm.stateDict()).map(([key, t]) => [key, values(t)]));

    it("its buffers come back from a checkpoint and from weights", async () => {
      const norm = trained();
      const [one, two] = [join(folder, "a.safetensors"), join(folder, "b.safetensors")];
      await saveCheckpoint(one, { model: norm, optimizer: new SGD(norm, { lr: 0.1 }) });
      await saveWeights(two, norm);
      const fresh = () => new BatchNorm1d(FEATURES, { device: "reference" });
      const [restored, loaded] = [fresh(), fresh()];
      (await readCheckpoint(one)).restore({ model: restored });
      await loadWeights(two, loaded);
      expect(all(restored)).toEqual(all(norm));
      expect(all(loaded)).toEqual(all(norm));
    });

    it("takes the count of a PyTorch file, an int64", async () => {
      const norm = trained();
      const path = join(folder, "torch.safetensors");
      const own = Object.entries(norm.stateDict()).map(
        ([key, t]) => [key, { shape: t.shape, data: Float32Array.from(t.dataSync()) }] as const,
      );
      const count = { shape: [], data: BigInt64Array.of(7n) };
      await writeSafetensors(path, new Map<string, never>([...own, ["num_batches_tracked", count]] as never));
      const loaded = new BatchNorm1d(FEATURES, { device: "reference" });
      await loadWeights(path, loaded);
      expect(all(loaded)).toEqual({ ...all(norm), num_batches_tracked: [7] });
    });
  });
});
