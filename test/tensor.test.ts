import { describe, expect, test } from "vitest";
import {
  add, argmax, clamp, composed, concat, crossEntropy, device, div, embedding, exp, expand, flip, full, grad, keep, layerNorm, linear, logSoftmax,
  logSumExp, matmul, max, mean, meanSquaredError, mul, neg, noGrad, normal, ones, pad, relu, reshape, scope, select, sigmoid, slice, softmax, split, square,
  stack, sub, sum, tanh, tensor, to, transpose, uniform, unstack, where, zeros, Generator, type Tensor, type TensorOptions,
} from "../src/index.js";
import { devicesUnderTest, nativeAvailable } from "./helpers.js";

const values = (t: Tensor | null) => Array.from(t!.dataSync());
const ulps = 5; // decimal digits that float32 arithmetic on a handful of numbers keeps

describe.each(devicesUnderTest())("on %s", (name) => {
  const on = device(name);
  const make = (data: Parameters<typeof tensor>[0], options: TensorOptions & { shape?: number[] } = {}) => tensor(data, { device: on, ...options });
  const leaf = (data: Parameters<typeof tensor>[0]) => make(data, { requiresGrad: true });
  const buffers = () => on.memory().buffers;

  describe("making tensors", () => {
    test("from nested arrays, typed arrays, numbers", () => {
      expect(make([[1, 2, 3], [4, 5, 6]]).shape).toEqual([2, 3]);
      expect(make(7).shape).toEqual([]);
      expect(make([]).shape).toEqual([0]);
      const ints = make(Int32Array.of(1, 2, 3, 4), { shape: [2, 2] });
      expect([ints.dtype, ints.shape, values(ints)]).toEqual(["int32", [2, 2], [1, 2, 3, 4]]);
      expect(values(full([2], 3, { device: on, dtype: "int32" }))).toEqual([3, 3]);
    });

    test("reads wait for what was queued, in order", async () => {
      const x = make([1, 2]);
      const y = add(mul(x, x), x);
      expect(Array.from(await y.data())).toEqual([2, 6]);
      expect(await sum(y).item()).toBe(8);
      await expect(y.item()).rejects.toThrow("item: the tensor must have one element but is [2]");
    });

    test("what is read is a copy, what is written was copied", () => {
      const data = Float32Array.of(1, 2);
      const x = make(data);
      data[0] = 9;
      x.dataSync()[1] = 9;
      expect(values(x)).toEqual([1, 2]);
    });

    test.each([
      [() => make([[1, 2], [3]]), "tensor: nested arrays must be regular, but axis 1 has 2 and 1 entries"],
      [() => make([[1], 2]), "tensor: nested arrays must be regular, but a number stands at depth 1 of 2"],
      [() => make([1, 2, 3], { shape: [2, 2] }), "tensor: shape [2, 2] needs 4 values but 3 were given"],
      [() => make([1.5], { dtype: "int32" }), "tensor: an int32 tensor needs integers but value 0 is 1.5"],
      [() => zeros([2, -1], { device: on }), "tensor: shape must be non-negative integers but is [2, -1]"],
      [() => make([1], { dtype: "int32", requiresGrad: true }), "requiresGrad: an int32 tensor has no gradient"],
    ])("refuses: %#", (call, message) => expect(call).toThrow(message));
  });

  describe("autograd", () => {
    test("a gradient adds up over uses and over backward passes", () => {
      const x = leaf([1, 2]);
      sum(add(mul(x, x), x)).backward();
      expect(values(x.grad)).toEqual([3, 5]);
      sum(x).backward();
      expect(values(x.grad)).toEqual([4, 6]);
    });

    test("broadcasting sums back", () => {
      const [a, b] = [leaf([[1], [2]]), leaf([3, 4, 5])];
      sum(mul(a, b)).backward();
      expect([a.grad!.shape, values(a.grad)]).toEqual([[2, 1], [12, 12]]);
      expect(values(b.grad)).toEqual([3, 3, 3]);
    });

    test("two leaves never share a gradient buffer", () => {
      const [a, b] = [leaf([1]), leaf([2])];
      sum(add(a, b)).backward();
      expect(a.grad!.storage.buffer).not.toBe(b.grad!.storage.buffer);
    });

    test("a result that is not a scalar needs a gradient of its shape", () => {
      const x = leaf([1, 2]);
      expect(() => mul(x, x).backward()).toThrow("backward: gradient must be given for a tensor of shape [2]");
      expect(() => mul(x, x).backward({ gradient: make([1]) })).toThrow("backward: gradient must be [2] but is [1]");
      mul(x, x).backward({ gradient: make([1, 10]) });
      expect(values(x.grad)).toEqual([2, 40]);
    });

    test("nothing to differentiate is an error", () => {
      expect(() => sum(make([1])).backward()).toThrow("backward: the tensor does not depend on anything that requires a gradient");
      const x = leaf([1]);
      expect(() => noGrad(() => mul(x, x)).backward()).toThrow("does not depend on anything");
      expect(() => (mul(x, x).requiresGrad = true)).toThrow("requiresGrad: only a leaf can be marked; detach() the tensor first");
    });

    test("grad() leaves .grad alone and gives null for what does not matter", () => {
      const [x, y] = [leaf([3]), leaf([4])];
      const [dx, dy] = grad(mul(x, x), [x, y]);
      expect(values(dx)).toEqual([6]);
      expect([dy, x.grad, y.grad]).toEqual([null, null, null]);
    });

    test("grad() with respect to an intermediate result", () => {
      const x = leaf([3]);
      const y = mul(x, x);
      expect(values(grad(mul(y, y), [y])[0])).toEqual([18]);
    });

    test("detach cuts the tape and shares the values", () => {
      const x = leaf([3]);
      const y = mul(x, x);
      sum(mul(y.detach(), x)).backward();
      expect(values(x.grad)).toEqual([9]);
    });

    test("a second backward through a freed tape says what to do", () => {
      const x = leaf([3]);
      const y = mul(x, x);
      const z = exp(y);
      z.backward();
      expect(() => z.backward()).toThrow("backward: the graph through exp was already freed; detach() a carried state between backward passes, or pass { retainGraph: true } to the first");
      expect(() => y.dataSync()).toThrow("was freed: by dispose(), by the scope it was made in, or as an intermediate result by backward()");
      expect(values(z).length).toBe(1);
    });

    test("retainGraph keeps it", () => {
      const x = leaf([3]);
      const y = square(square(x));
      y.backward({ retainGraph: true });
      y.backward();
      expect(values(x.grad)).toEqual([216]);
    });

    test("a state carried without detach fails, with detach it trains", () => {
      const w = leaf([0.5]);
      const step = (state: Tensor) => {
        const next = tanh(mul(w, state));
        return { output: reshape(next, [1]), state: reshape(next, [1]) };
      };
      const first = step(make([1]));
      first.output.backward();
      expect(() => step(first.state).output.backward()).toThrow(/the graph through tanh was already freed; detach\(\) a carried state/);
      expect(() => step(first.state.detach()).output.backward()).not.toThrow();
    });

    test("derivatives of derivatives", () => {
      const x = leaf([2]);
      const [d1] = grad(mul(mul(x, x), mul(x, x)), [x], { createGraph: true });
      const [d2] = grad(d1!, [x], { createGraph: true });
      const [d3] = grad(d2!, [x]);
      expect([values(d1), values(d2), values(d3)]).toEqual([[32], [48], [48]]);
    });

    test("a penalty on a gradient reaches the weights", () => {
      const [w, x] = [leaf([[0.5, -1]]), leaf([[1, 2]])];
      const [slope] = grad(sum(tanh(linear(x, w))), [x], { createGraph: true });
      sum(square(slope!)).backward();
      // s = w (1 - tanh^2(w x)): d|s|^2 / dw_j = 2 w_j d^2 - 4 |w|^2 d^2 t x_j, with t = tanh(-1.5), d = 1 - t^2
      const t = Math.tanh(-1.5);
      const d = 1 - t * t;
      values(w.grad).forEach((v, j) => expect(v).toBeCloseTo(2 * [0.5, -1][j] * d * d - 4 * 1.25 * d * d * t * [1, 2][j], ulps));
    });

    test("a fused op differentiates twice, and its composition agrees", () => {
      const second = () => {
        const x = make([[0.3, -1, 2]], { requiresGrad: true });
        const [g] = grad(crossEntropy(x, make([1], { dtype: "int32" })), [x], { createGraph: true });
        return values(grad(sum(square(g!)), [x])[0]);
      };
      const apart = composed(second);
      second().forEach((v, i) => expect(v).toBeCloseTo(apart[i], ulps));
      expect(apart.some((v) => Math.abs(v) > 0.01)).toBe(true);
    });

    test("results that nothing uses get no gradient", () => {
      const x = leaf([[1, 2, 3]]);
      const [a] = split(x, [1, 2], 1);
      sum(a).backward();
      expect(values(x.grad)).toEqual([1, 0, 0]);
    });
  });

  describe("memory", () => {
    test("a scope frees what it does not return", () => {
      const x = make([1, 2]);
      const before = buffers();
      const kept = scope(() => {
        const y = exp(x);
        return { loss: sum(mul(y, y)), more: [neg(x)] };
      });
      expect(buffers()).toBe(before + 2);
      expect(values(kept.more[0])).toEqual([-1, -2]);
      kept.loss.dispose();
      kept.more[0].dispose();
      expect(buffers()).toBe(before);
    });

    test("scopes nest: what an inner one returns belongs to the outer one", () => {
      const before = buffers();
      scope(() => {
        const x = scope(() => add(make([1]), make([2])));
        expect(values(x)).toEqual([3]);
        expect(buffers()).toBe(before + 1);
      });
      expect(buffers()).toBe(before);
    });

    test("keep takes a tensor out of every scope", () => {
      const before = buffers();
      let saved: Tensor | null = null;
      scope(() => void scope(() => void (saved = keep(make([5])))));
      expect(values(saved)).toEqual([5]);
      saved!.dispose();
      expect(buffers()).toBe(before);
    });

    test("a scope that throws frees all, and one that returns a promise is refused", () => {
      const before = buffers();
      expect(() => scope(() => { make([1]); throw new Error("stop"); })).toThrow("stop"); // prettier-ignore
      expect(() => scope(async () => make([1]))).toThrow("scope: the body must be synchronous but returned a promise");
      expect(buffers()).toBe(before);
    });

    test("using frees at the end of a block", () => {
      const before = buffers();
      {
        using x = make([1]);
        expect(values(x)).toEqual([1]);
      }
      expect(buffers()).toBe(before);
    });

    test("a disposed tensor is an error to use, twice is not to dispose", () => {
      const x = make([1, 2]);
      x.dispose();
      x.dispose();
      expect(() => exp(x)).toThrow("Tensor [2] was freed");
    });

    test("views live as long as one of them does", () => {
      const before = buffers();
      const x = make([1, 2, 3, 4]);
      const y = reshape(x, [2, 2]);
      x.dispose();
      expect(values(y)).toEqual([1, 2, 3, 4]);
      y.dispose();
      expect(buffers()).toBe(before);
    });

    test("the tape keeps what a scope lets go of, until backward", () => {
      const x = leaf([0.5]);
      const before = buffers();
      const loss = scope(() => sum(square(exp(x))));
      expect(buffers()).toBeGreaterThan(before + 1);
      loss.backward();
      expect(values(x.grad)[0]).toBeCloseTo(2 * Math.exp(1), ulps);
      loss.dispose();
      x.grad!.dispose();
      expect(buffers()).toBe(before);
    });

    test("a recorded computation that nobody can differentiate any more is freed", () => {
      const x = leaf([0.5, 1]);
      const before = buffers();
      scope(() => void sum(square(exp(x))));
      expect(buffers()).toBe(before);
      const [first, state] = scope(() => {
        const [a, b] = split(exp(x), [1, 1], 0);
        return [sum(a), tanh(b)];
      });
      first.backward();
      expect(values(x.grad)).toEqual([Math.fround(Math.exp(0.5)), 0]);
      for (const t of [first, state, x.grad!]) t.dispose();
      expect(buffers()).toBe(before);
    });

    test("training steps hold the number of buffers", () => {
      const [w, b] = [leaf([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]), leaf([0, 0, 0])];
      const [x, y] = [make([[1, 2]]), make([2], { dtype: "int32" })];
      const gain = make([1, 1, 1], { requiresGrad: true });
      const step = () => {
        const hidden = layerNorm(linear(x, w, b), gain);
        const loss = crossEntropy(concat([relu(hidden), softmax(hidden)], 1), y);
        loss.backward();
        loss.dispose();
      };
      step();
      const before = buffers();
      for (let i = 0; i < 20; i++) step();
      expect(buffers()).toBe(before);
    });

    test("gradients of gradients leave nothing behind inside a scope", () => {
      const x = leaf([0.3, 0.7]);
      const before = buffers();
      scope(() => {
        const [g] = grad(sum(exp(softmax(x))), [x], { createGraph: true });
        grad(sum(square(g!)), [x]);
      });
      expect(buffers()).toBe(before);
    });

    test("ops leave only their results", () => {
      const x = make([[1, 2, 3], [4, 5, 6]]);
      const before = buffers();
      const results = [sum(x, { axis: [0, 1] }), mean(x), max(x, { axis: 1 }), argmax(x), logSumExp(x), softmax(x, 0), stack([x, x]), meanSquaredError(x, x), select(x, 1, 0), transpose(x)];
      expect(buffers()).toBe(before + results.length);
      results.forEach((t) => t.dispose());
      expect(buffers()).toBe(before);
    });
  });

  describe("values", () => {
    const x = make([[1, 2, 3], [4, 5, 6]]);

    test("moving elements", () => {
      expect(values(transpose(x))).toEqual([1, 4, 2, 5, 3, 6]);
      expect(values(transpose(x, [0, -1]))).toEqual([1, 2, 3, 4, 5, 6]);
      expect(values(slice(x, 1, 1))).toEqual([2, 3, 5, 6]);
      expect(values(slice(x, -1, -2, -1))).toEqual([2, 5]);
      expect(values(select(x, 0, -1))).toEqual([4, 5, 6]);
      expect(values(flip(x, 1))).toEqual([3, 2, 1, 6, 5, 4]);
      expect(values(pad(x, 1, 1, 0))).toEqual([0, 1, 2, 3, 0, 4, 5, 6]);
      expect(split(x, [1, 2], 1).map(values)).toEqual([[1, 4], [2, 3, 5, 6]]);
      expect(values(concat([x, slice(x, 0, 0, 1)], 0))).toEqual([1, 2, 3, 4, 5, 6, 1, 2, 3]);
      const both = stack([x, neg(x)], -1);
      expect([both.shape, values(both).slice(0, 4)]).toEqual([[2, 3, 2], [1, -1, 2, -2]]);
      expect(unstack(x, 1).map((t) => [t.shape, values(t)])).toEqual([[[2], [1, 4]], [[2], [2, 5]], [[2], [3, 6]]]);
      expect(reshape(x, [3, -1]).shape).toEqual([3, 2]);
      expect(values(transpose(make([[1, 2], [3, 4]], { dtype: "int32" })))).toEqual([1, 3, 2, 4]);
    });

    test("reducing", () => {
      expect(values(sum(x, { axis: 0 }))).toEqual([5, 7, 9]);
      expect(mean(x, { axis: [0, 1], keepDims: true }).shape).toEqual([1, 1]);
      expect(values(mean(x))).toEqual([3.5]);
      expect(values(max(x, { axis: -1 }))).toEqual([3, 6]);
      expect(values(max(make([1, NaN, 3])))).toEqual([NaN]);
      expect(values(argmax(make([[1, 3, 3], [NaN, 9, 0]])))).toEqual([1, 0]);
      values(logSumExp(x, { axis: 1 })).forEach((v, i) => expect(v).toBeCloseTo([3.4076059, 6.4076059][i], ulps));
      expect(values(logSumExp(make([-Infinity, -Infinity])))).toEqual([-Infinity]);
    });

    test("equal maxima share the gradient", () => {
      const y = leaf([2, 1, 2]);
      max(y).backward();
      expect(values(y.grad)).toEqual([0.5, 0, 0.5]);
    });

    test("choosing and limiting", () => {
      expect(values(where(make([1, 0, -1]), make([1, 2, 3]), make(9)))).toEqual([1, 9, 3]);
      expect(values(clamp(make([-2, 0.5, NaN, 3]), -1, 1))).toEqual([-1, 0.5, NaN, 1]);
      const [a, b] = [leaf([1, 2]), leaf([3])];
      sum(where(make([0, 1]), a, b)).backward();
      expect([values(a.grad), values(b.grad)]).toEqual([[0, 1], [1]]);
    });

    test("softmax is stable, and takes any axis", () => {
      values(softmax(make([1000, 1000, -1000]))).forEach((v, i) => expect(v).toBeCloseTo([0.5, 0.5, 0][i], ulps));
      values(logSoftmax(make([1000, 0]))).forEach((v, i) => expect(v).toBe([0, -1000][i]));
      const columns = values(softmax(x, 0));
      values(transpose(softmax(transpose(x)))).forEach((v, i) => expect(v).toBeCloseTo(columns[i], ulps));
      expect(values(softmax(make([0, -Infinity])))).toEqual([1, 0]);
    });

    test("cross entropy: reductions, ignored targets, excluded classes", () => {
      const logits = make([[0, 0], [0, Math.log(3)], [5, -Infinity]]);
      const targets = make([0, 1, 0], { dtype: "int32" });
      const each = values(crossEntropy(logits, targets, { reduction: "none" }));
      each.forEach((v, i) => expect(v).toBeCloseTo([Math.LN2, Math.log(4 / 3), 0][i], ulps));
      expect(values(crossEntropy(logits, targets, { reduction: "sum" }))[0]).toBeCloseTo(Math.LN2 + Math.log(4 / 3), ulps);
      expect(values(crossEntropy(logits, targets, { ignoreIndex: 0 }))[0]).toBeCloseTo(Math.log(4 / 3), ulps);
      expect(values(crossEntropy(logits, full([3], -100, { dtype: "int32", device: on })))).toEqual([NaN]);
    });

    test("no valid target gives no gradient", () => {
      const logits = leaf([[1, 2]]);
      crossEntropy(logits, make([-100], { dtype: "int32" })).backward();
      expect(values(logits.grad)).toEqual([0, 0]);
    });

    test("layer norm has mean 0 and variance 1", () => {
      const y = layerNorm(make([[1, 2, 3, 10]]));
      expect(values(mean(y))[0]).toBeCloseTo(0, ulps);
      expect(values(mean(square(y)))[0]).toBeCloseTo(1, 4);
    });

    test("mean squared error", () => {
      const [a, b] = [make([1, 2, 3]), make([1, 0, 0])];
      expect(values(meanSquaredError(a, b, { reduction: "none" }))).toEqual([0, 4, 9]);
      expect(values(meanSquaredError(a, b, { reduction: "sum" }))).toEqual([13]);
      expect(values(meanSquaredError(a, b))[0]).toBeCloseTo(13 / 3, ulps);
    });

    test("casting", () => {
      expect(values(to(make([1.9, -1.9, 3]), { dtype: "int32" }))).toEqual([1, -1, 3]);
      expect(to(make([1, 2], { dtype: "int32" }), { dtype: "float32" }).dtype).toBe("float32");
      expect(to(x, { dtype: "float32", device: on })).toBe(x);
    });

    test("empty tensors pass through", () => {
      const none = zeros([0, 3], { device: on });
      expect(values(sum(none, { axis: 0 }))).toEqual([0, 0, 0]);
      expect([softmax(none), layerNorm(none), exp(none), linear(none, ones([2, 3], { device: on })), concat([none, none], 0)].map((t) => t.shape)).toEqual([[0, 3], [0, 3], [0, 3], [0, 2], [0, 3]]);
      expect(values(matmul(zeros([2, 0], { device: on }), zeros([0, 2], { device: on })))).toEqual([0, 0, 0, 0]);
    });
  });

  describe("bad input", () => {
    const x = make([[1, 2, 3], [4, 5, 6]]);
    const ids = make([0, 1], { dtype: "int32" });
    test.each<[() => unknown, string]>([
      [() => add(x, make([1, 2])), "add: shapes [2, 3] and [2] do not broadcast: axis 1 is 3 and 2"],
      [() => mul(x, ids), "mul: x must be float32 or float64 but is int32"],
      [() => exp(ids), "exp: x must be float32 or float64 but is int32"],
      [() => sigmoid(ids), "sigmoid: x must be float32 or float64 but is int32"],
      [() => matmul(x, x), "matmul: inner sizes must agree but are 3 and 2: a is [2, 3], b is [2, 3]"],
      [() => matmul(make([1]), x), "matmul: both operands need at least two axes: a is [1], b is [2, 3]"],
      [() => linear(x, make([[1, 2]])), "linear: x must be [..., 2] but is [2, 3]"],
      [() => linear(x, x, make([1])), "linear: bias must be [2] but is [1]"],
      [() => reshape(x, [4, -1]), "reshape: [2, 3] has 6 elements and cannot be [4, -1]"],
      [() => expand(x, [3, 3]), "expand: shapes [2, 3] and [3, 3] do not broadcast"],
      [() => expand(x, [3]), "expand: [2, 3] does not stretch to [3]"],
      [() => transpose(x, [0, 0]), "transpose: axes must name each axis of [2, 3] once but is [0, 0]"],
      [() => slice(x, 0, 1, 4), "slice: start and end must be a range within axis 0 of [2, 3] but are 1 and 4"],
      [() => slice(x, 2, 0), "slice: axis must be an integer in [-2, 1] for [2, 3] but is 2"],
      [() => select(x, 1, 3), "select: index must be an integer in [-3, 2] for axis 1 of [2, 3] but is 3"],
      [() => split(x, [1, 1], 1), "split: sizes must add up to 3, axis 1 of [2, 3], but are [1, 1]"],
      [() => concat([], 0), "concat: there must be at least one tensor"],
      [() => concat([x, make([[1, 2]])], 0), "concat: tensors[1] must be [any, 3] but is [1, 2]"],
      [() => concat([ids, make([1])], 0), "concat: tensors[1] must be int32 as tensors[0] but is float32"],
      [() => stack([x, ids]), "stack: tensors[1] must be [2, 3] as tensors[0] but is [2]"],
      [() => pad(x, 0, -1, 0), "pad: before and after must be non-negative integers but are -1 and 0"],
      [() => sum(x, { axis: -3 }), "sum: axis must be an integer in [-2, 1] for [2, 3] but is -3"],
      [() => max(zeros([2, 0], { device: on }), { axis: 1 }), "max: axis 1 of [2, 0] is empty"],
      [() => where(ids, x, x), "where: condition, a and b must have one floating dtype but are int32, float32, float32"],
      [() => clamp(x, 1, 0), "clamp: low must be at most high but they are 1 and 0"],
      [() => softmax(ids), "softmax: x must be floating with at least one axis but is int32 [2]"],
      [() => layerNorm(x, make([1])), "layerNorm: weight must be float32 [3] but is float32 [1]"],
      [() => embedding(x, x), "embedding: ids must be int32 but are float32"],
      [() => embedding(ids, ids), "embedding: weight must be a floating [count, features] but is int32 [2]"],
      [() => crossEntropy(x, make([0, 1])), "crossEntropy: targets must be int32 [2] for logits [2, 3] but are float32 [2]"],
      [() => crossEntropy(x, make([0], { dtype: "int32" })), "crossEntropy: targets must be int32 [2] for logits [2, 3] but are int32 [1]"],
      [() => crossEntropy(x, ids, { reduction: "avg" as never }), 'crossEntropy: reduction must be "mean", "sum" or "none" but is "avg"'],
      [() => crossEntropy(x, ids, { ignoreIndex: 0.5 }), "crossEntropy: ignoreIndex must be a 32-bit integer but is 0.5"],
      [() => meanSquaredError(x, ids), "meanSquaredError: target must be [2, 3] as the prediction but is [2]"],
      // Found by the kernel: at once on the reference device, at the next read on a native one.
      [() => embedding(make([0, 5], { dtype: "int32" }), x).dataSync(), "embedding: ids must be in [0, 1] for a table of 2 rows, but ids[1] is 5"],
      [() => embedding(make([-1], { dtype: "int32" }), x).dataSync(), "embedding: ids must be in [0, 1] for a table of 2 rows, but ids[0] is -1"],
      [() => crossEntropy(x, make([2, 3], { dtype: "int32" })).dataSync(), "crossEntropy: targets must be in [0, 2] for 3 classes, or -100 to be ignored, but targets[1] is 3"],
    ])("%#", (call, message) => expect(call).toThrow(message));

    test("the device still works after a kernel failed", () => {
      expect(() => embedding(make([7], { dtype: "int32" }), x).dataSync()).toThrow("ids[0] is 7");
      expect(values(embedding(ids, x))).toEqual([1, 2, 3, 4, 5, 6]);
    });
  });
});

test("draws are the same on every device", () => {
  const draw = (name: "reference" | "cpu") => [uniform([9], { device: device(name), generator: new Generator(3) }), normal([9], { device: device(name), generator: new Generator(3) })].map(values);
  for (const name of devicesUnderTest()) expect(draw(name)).toEqual(draw("reference"));
});

test("float64 keeps its digits on the reference", () => {
  const x = tensor([0.1], { dtype: "float64", device: device("reference"), requiresGrad: true });
  const y = to(exp(x), { dtype: "float32" });
  expect(exp(x).dataSync()[0]).toBe(Math.exp(0.1));
  y.backward();
  expect([x.grad!.dtype, x.grad!.dataSync()[0]]).toEqual(["float64", Math.exp(0.1)]);
});

describe.skipIf(!nativeAvailable)("two devices", () => {
  const here = () => tensor([1, 2], { device: device("cpu"), requiresGrad: true });
  const there = () => tensor([3, 4], { device: device("reference") });

  test("do not mix", () => expect(() => add(here(), there())).toThrow("add: all tensors must be on one device but are on cpu and reference"));
  test("float64 is refused natively, saying where it is", () =>
    expect(() => zeros([1], { device: device("cpu"), dtype: "float64" })).toThrow("the cpu device has no float64 tensors (it has float32, int32); use the reference device"));

  test("a tensor moves, converts, and its gradient comes back", () => {
    const x = here();
    const y = div(there(), to(x, { device: device("reference") }));
    expect(values(y)).toEqual([3, 2]);
    sum(y).backward();
    expect([x.grad!.device.name, values(x.grad)]).toEqual(["cpu", [-3, -1]]);
    const precise = to(x, { device: device("reference"), dtype: "float64" });
    expect(precise.dtype).toBe("float64");
    expect(values(to(sub(precise, precise), { device: device("cpu"), dtype: "float32" }))).toEqual([0, 0]);
  });
});
