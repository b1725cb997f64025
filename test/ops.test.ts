import { describe, expect, test } from "vitest";
import {
  add,
  argmax,
  clamp,
  concat,
  crossEntropy,
  device,
  embedding,
  exp,
  expand,
  flip,
  full,
  layerNorm,
  linear,
  logSoftmax,
  logSumExp,
  matmul,
  max,
  mean,
  meanSquaredError,
  mul,
  neg,
  ones,
  pad,
  reshape,
  select,
  sigmoid,
  slice,
  softmax,
  split,
  square,
  stack,
  sum,
  tensor,
  to,
  transpose,
  type Tensor,
  type TensorOptions,
  unstack,
  where,
  zeros,
} from "../src/index.js";
import { devicesUnderTest } from "./helpers.js";

const values = (t: Tensor | null) => Array.from(t!.dataSync());
const digits = 5; // decimals that float32 arithmetic on a handful of numbers keeps

describe.each(devicesUnderTest())("on %s", (name) => {
  const on = device(name);
  const make = (data: Parameters<typeof tensor>[0], options: TensorOptions & { shape?: number[] } = {}) =>
    tensor(data, { device: on, ...options });
  const leaf = (data: Parameters<typeof tensor>[0]) => make(data, { requiresGrad: true });

  describe("values", () => {
    const x = make([
      [1, 2, 3],
      [4, 5, 6],
    ]);

    test("there may be more parts than one call of a kernel has room for", () => {
      const x = tensor(
        Float32Array.from({ length: 2 * 9001 }, (_, i) => i),
        { shape: [2, 9001], device: on, requiresGrad: true },
      );
      const parts = split(x, new Array<number>(9001).fill(1), 1);
      expect(parts.map(values).every(([a, b], i) => a === i && b === 9001 + i)).toBe(true);
      const again = concat(parts, 1);
      expect(values(again)).toEqual(values(x));
      sum(mul(again, again)).backward();
      expect(values(x.grad)).toEqual(Array.from(x.dataSync(), (v) => Math.fround(2 * v)));
    });

    test("split gives a list that its caller may change", () => {
      const x = tensor([1, 2, 3], { device: on, requiresGrad: true });
      const parts = split(x, [1, 1, 1], 0);
      parts[0] = mul(parts[0], parts[2]);
      sum(concat(parts, 0)).backward();
      expect(values(x.grad)).toEqual([3, 1, 2]);
    });

    test("moving elements", () => {
      expect(values(transpose(x))).toEqual([1, 4, 2, 5, 3, 6]);
      expect(values(transpose(x, [0, -1]))).toEqual([1, 2, 3, 4, 5, 6]);
      expect(values(slice(x, 1, 1))).toEqual([2, 3, 5, 6]);
      expect(values(slice(x, -1, -2, -1))).toEqual([2, 5]);
      expect(values(select(x, 0, -1))).toEqual([4, 5, 6]);
      expect(values(flip(x, 1))).toEqual([3, 2, 1, 6, 5, 4]);
      expect(values(pad(x, 1, 1, 0))).toEqual([0, 1, 2, 3, 0, 4, 5, 6]);
      expect(split(x, [1, 2], 1).map(values)).toEqual([
        [1, 4],
        [2, 3, 5, 6],
      ]);
      expect(values(concat([x, slice(x, 0, 0, 1)], 0))).toEqual([1, 2, 3, 4, 5, 6, 1, 2, 3]);
      const both = stack([x, neg(x)], -1);
      expect([both.shape, values(both).slice(0, 4)]).toEqual([
        [2, 3, 2],
        [1, -1, 2, -2],
      ]);
      expect(unstack(x, 1).map((t) => [t.shape, values(t)])).toEqual([
        [[2], [1, 4]],
        [[2], [2, 5]],
        [[2], [3, 6]],
      ]);
      expect(reshape(x, [3, -1]).shape).toEqual([3, 2]);
      expect(
        values(
          transpose(
            make(
              [
                [1, 2],
                [3, 4],
              ],
              { dtype: "int32" },
            ),
          ),
        ),
      ).toEqual([1, 3, 2, 4]);
    });

    test("reducing", () => {
      expect(values(sum(x, { axis: 0 }))).toEqual([5, 7, 9]);
      expect(mean(x, { axis: [0, 1], keepDims: true }).shape).toEqual([1, 1]);
      expect(values(mean(x))).toEqual([3.5]);
      expect(values(max(x, { axis: -1 }))).toEqual([3, 6]);
      expect(values(max(make([1, NaN, 3])))).toEqual([NaN]);
      expect(
        values(
          argmax(
            make([
              [1, 3, 3],
              [NaN, 9, 0],
            ]),
          ),
        ),
      ).toEqual([1, 0]);
      values(logSumExp(x, { axis: 1 })).forEach((v, i) => expect(v).toBeCloseTo([3.4076059, 6.4076059][i], digits));
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
      values(softmax(make([1000, 1000, -1000]))).forEach((v, i) => expect(v).toBeCloseTo([0.5, 0.5, 0][i], digits));
      values(logSoftmax(make([1000, 0]))).forEach((v, i) => expect(v).toBe([0, -1000][i]));
      const columns = values(softmax(x, 0));
      values(transpose(softmax(transpose(x)))).forEach((v, i) => expect(v).toBeCloseTo(columns[i], digits));
      expect(values(softmax(make([0, -Infinity])))).toEqual([1, 0]);
    });

    test("cross entropy: reductions, ignored targets, excluded classes", () => {
      const logits = make([
        [0, 0],
        [0, Math.log(3)],
        [5, -Infinity],
      ]);
      const targets = make([0, 1, 0], { dtype: "int32" });
      const each = values(crossEntropy(logits, targets, { reduction: "none" }));
      each.forEach((v, i) => expect(v).toBeCloseTo([Math.LN2, Math.log(4 / 3), 0][i], digits));
      expect(values(crossEntropy(logits, targets, { reduction: "sum" }))[0]).toBeCloseTo(Math.LN2 + Math.log(4 / 3), digits);
      expect(values(crossEntropy(logits, targets, { ignoreIndex: 0 }))[0]).toBeCloseTo(Math.log(4 / 3), digits);
      expect(values(crossEntropy(logits, full([3], -100, { dtype: "int32", device: on })))).toEqual([NaN]);
    });

    test("no valid target gives no gradient", () => {
      const logits = leaf([[1, 2]]);
      crossEntropy(logits, make([-100], { dtype: "int32" })).backward();
      expect(values(logits.grad)).toEqual([0, 0]);
    });

    test("layer norm has mean 0 and variance 1", () => {
      const y = layerNorm(make([[1, 2, 3, 10]]));
      expect(values(mean(y))[0]).toBeCloseTo(0, digits);
      expect(values(mean(square(y)))[0]).toBeCloseTo(1, 4);
    });

    test("mean squared error", () => {
      const [a, b] = [make([1, 2, 3]), make([1, 0, 0])];
      expect(values(meanSquaredError(a, b, { reduction: "none" }))).toEqual([0, 4, 9]);
      expect(values(meanSquaredError(a, b, { reduction: "sum" }))).toEqual([13]);
      expect(values(meanSquaredError(a, b))[0]).toBeCloseTo(13 / 3, digits);
    });

    test("casting", () => {
      expect(values(to(make([1.9, -1.9, 3]), { dtype: "int32" }))).toEqual([1, -1, 3]);
      expect(to(make([1, 2], { dtype: "int32" }), { dtype: "float32" }).dtype).toBe("float32");
      expect(to(x, { dtype: "float32", device: on })).toBe(x);
    });

    test("empty tensors pass through", () => {
      const none = zeros([0, 3], { device: on });
      expect(values(sum(none, { axis: 0 }))).toEqual([0, 0, 0]);
      expect(
        [softmax(none), layerNorm(none), exp(none), linear(none, ones([2, 3], { device: on })), concat([none, none], 0)].map(
          (t) => t.shape,
        ),
      ).toEqual([
        [0, 3],
        [0, 3],
        [0, 3],
        [0, 2],
        [0, 3],
      ]);
      expect(values(matmul(zeros([2, 0], { device: on }), zeros([0, 2], { device: on })))).toEqual([0, 0, 0, 0]);
    });
  });

  describe("bad input", () => {
    const x = make([
      [1, 2, 3],
      [4, 5, 6],
    ]);
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
      [
        () => embedding(make([0, 5], { dtype: "int32" }), x).dataSync(),
        "embedding: ids must be in [0, 1] for a table of 2 rows, but ids[1] is 5",
      ],
      [
        () => embedding(make([-1], { dtype: "int32" }), x).dataSync(),
        "embedding: ids must be in [0, 1] for a table of 2 rows, but ids[0] is -1",
      ],
      [
        () => crossEntropy(x, make([2, 3], { dtype: "int32" })).dataSync(),
        "crossEntropy: targets must be in [0, 2] for 3 classes, or -100 to be ignored, but targets[1] is 3",
      ],
    ])("%#", (call, message) => expect(call).toThrow(message));

    test("the device still works after a kernel failed", () => {
      expect(() => embedding(make([7], { dtype: "int32" }), x).dataSync()).toThrow("ids[0] is 7");
      expect(values(embedding(ids, x))).toEqual([1, 2, 3, 4, 5, 6]);
    });
  });
});
