import { describe, expect, test } from "vitest";
import {
  Generator,
  add,
  argmax,
  composed,
  concat,
  crossEntropy,
  device,
  div,
  exp,
  full,
  grad,
  keep,
  layerNorm,
  linear,
  logSumExp,
  max,
  mean,
  meanSquaredError,
  mul,
  neg,
  noGrad,
  normal,
  relu,
  reshape,
  scope,
  select,
  softmax,
  split,
  square,
  stack,
  sub,
  sum,
  tanh,
  tensor,
  to,
  transpose,
  type Tensor,
  type TensorOptions,
  uniform,
  zeros,
  type DeviceName,
} from "../src/index.js";
import { devicesUnderTest, nativeAvailable } from "./helpers.js";

const values = (t: Tensor | null) => Array.from(t!.dataSync());
const digits = 5; // decimals that float32 arithmetic on a handful of numbers keeps

describe.each(devicesUnderTest())("on %s", (name) => {
  const on = device(name);
  const make = (data: Parameters<typeof tensor>[0], options: TensorOptions & { shape?: number[] } = {}) =>
    tensor(data, { device: on, ...options });
  const leaf = (data: Parameters<typeof tensor>[0]) => make(data, { requiresGrad: true });
  const buffers = () => on.memory().buffers;

  describe("making tensors", () => {
    test("from nested arrays, typed arrays, numbers", () => {
      expect(
        make([
          [1, 2, 3],
          [4, 5, 6],
        ]).shape,
      ).toEqual([2, 3]);
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
      expect([a.grad!.shape, values(a.grad)]).toEqual([
        [2, 1],
        [12, 12],
      ]);
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
      expect(() => z.backward()).toThrow(
        "backward: the graph through exp was already freed; detach() a carried state between backward passes, or pass { retainGraph: true } to the first",
      );
      expect(() => y.dataSync()).toThrow(
        "was freed: by dispose(), by the scope it was made in, or as an intermediate result by backward()",
      );
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
      values(w.grad).forEach((v, j) => expect(v).toBeCloseTo(2 * [0.5, -1][j] * d * d - 4 * 1.25 * d * d * t * [1, 2][j], digits));
    });

    test("a fused op differentiates twice, and its composition agrees", () => {
      const second = () => {
        const x = make([[0.3, -1, 2]], { requiresGrad: true });
        const [g] = grad(crossEntropy(x, make([1], { dtype: "int32" })), [x], { createGraph: true });
        return values(grad(sum(square(g!)), [x])[0]);
      };
      const apart = composed(second);
      second().forEach((v, i) => expect(v).toBeCloseTo(apart[i], digits));
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
      expect(() => scope(() => Promise.resolve(make([1])))).toThrow("scope: the body must be synchronous but returned a promise");
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
      expect(values(x.grad)[0]).toBeCloseTo(2 * Math.exp(1), digits);
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
      const [w, b] = [
        leaf([
          [0.1, 0.2],
          [0.3, 0.4],
          [0.5, 0.6],
        ]),
        leaf([0, 0, 0]),
      ];
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
      const x = make([
        [1, 2, 3],
        [4, 5, 6],
      ]);
      const before = buffers();
      const results = [
        sum(x, { axis: [0, 1] }),
        mean(x),
        max(x, { axis: 1 }),
        argmax(x),
        logSumExp(x),
        softmax(x, 0),
        stack([x, x]),
        meanSquaredError(x, x),
        select(x, 1, 0),
        transpose(x),
      ];
      expect(buffers()).toBe(before + results.length);
      results.forEach((t) => t.dispose());
      expect(buffers()).toBe(before);
    });
  });
});

test("draws are the same on every device", () => {
  const draw = (name: DeviceName) =>
    [
      uniform([9], { device: device(name), generator: new Generator(3) }),
      normal([9], { device: device(name), generator: new Generator(3) }),
    ].map(values);
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

  test("do not mix", () =>
    expect(() => add(here(), there())).toThrow("add: all tensors must be on one device but are on cpu and reference"));
  test("float64 is refused natively, saying where it is", () =>
    expect(() => zeros([1], { device: device("cpu"), dtype: "float64" })).toThrow(
      "the cpu device has no float64 tensors (it has float32, int32); use the reference device",
    ));

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
