import { describe, expect, test } from "vitest";
import { add, device, grad, mul, scope, sum, tensor, zeros, type Tensor } from "../src/index.js";
import type { Case, MaybeTensor } from "../src/tensor/op.js";
import { caseTensors, caseValues, describeCase, everyOp, isVariable, weightsLike, type Applicable } from "./helpers.js";

// Every op against central differences of its reference in float64, and every gradient against central differences of
// itself. With h = 1e-5 the differences are good to about 1e-9 times the third derivative; a wrong gradient is off by O(1).
const on = device("reference");
const STEP = 1e-5;
const TOLERANCE = 1e-6;
const LARGE = 20000;
const LARGE_TWICE = 400;

/** The quantity that is differentiated: every floating output times weights of its own, summed. */
function total(op: Applicable, inputs: readonly MaybeTensor[], attrs: unknown): Tensor {
  const terms = op.run(on, inputs, attrs).flatMap((t, k) => (t.dtype === "float64" ? [sum(mul(t, weightsLike(t, k)))] : []));
  return terms.reduce(add);
}

/** The inputs of an example that have a gradient, with their places. */
function variables(inputs: readonly MaybeTensor[], specs: Case<unknown>["inputs"]): [Tensor, number][] {
  return inputs.flatMap((t, i): [Tensor, number][] => (t?.dtype === "float64" && isVariable(specs[i]) ? [[t, i]] : []));
}
const value = (t: Tensor) => t.dataSync()[0];

/** Unit vectors where there are few elements, else three random directions: [input, direction]. */
function directions(variables: readonly [Tensor, number][]): [number, Float64Array][] {
  return variables.flatMap(([t, i]): [number, Float64Array][] => {
    if (t.size <= 8) return Array.from({ length: t.size }, (_, j) => [i, new Float64Array(t.size).fill(0).fill(1, j, j + 1)]);
    return [0, 1, 2].map((d) => [i, Float64Array.from(caseValues({ shape: t.shape }, 900 + 10 * i + d))]);
  });
}

function moved(inputs: readonly MaybeTensor[], at: number, direction: Float64Array, by: number): MaybeTensor[] {
  return inputs.map((t, i) =>
    t && i === at
      ? tensor(
          Float64Array.from(t.dataSync(), (v, j) => v + by * direction[j]),
          { shape: t.shape, device: on },
        )
      : t,
  );
}

/** Compares <gradient, direction> with the central difference of `f` along each direction. */
function compare(
  f: (inputs: readonly MaybeTensor[]) => number,
  inputs: readonly MaybeTensor[],
  at: readonly [Tensor, number][],
  grads: readonly MaybeTensor[],
): void {
  const gradOf = new Map(at.map(([, i], k) => [i, grads[k]]));
  for (const [i, direction] of directions(at)) {
    const expected = scope(() => (f(moved(inputs, i, direction, STEP)) - f(moved(inputs, i, direction, -STEP))) / (2 * STEP));
    const slope = gradOf.get(i)?.dataSync() ?? [];
    const got = Array.from(slope).reduce((acc, g, j) => acc + g * direction[j], 0);
    expect(Math.abs(got - expected), `input ${i}: gradient along a direction is ${got}, difference quotient ${expected}`).toBeLessThan(
      TOLERANCE * (1 + Math.abs(expected)),
    );
  }
}

function leaves(at: readonly [Tensor, number][]): Tensor[] {
  for (const [t] of at) t.requiresGrad = true;
  return at.map(([t]) => t);
}

for (const op of everyOp().filter(({ differentiable }) => differentiable)) {
  describe(op.name, () => {
    for (const example of op.cases) {
      const { inputs: specs, attrs } = example;
      const elements = specs.reduce((n, s) => n + (s && s.dtype !== "int32" ? s.shape.reduce((a, b) => a * b, 1) : 0), 0);
      const probe = scope(() => op.run(on, caseTensors(specs, on, "float64"), attrs).map(({ dtype }) => dtype));
      // Casts to a coarser type have no difference quotient; a case without floating inputs has no gradient.
      if (elements === 0 || elements > LARGE || !probe.includes("float64")) continue;

      test(`gradient ${describeCase(example)}`, () =>
        scope(() => {
          const inputs = caseTensors(specs, on, "float64");
          const at = variables(inputs, specs);
          const floats = leaves(at);
          const grads = grad(total(op, inputs, attrs), floats);
          compare((moved) => value(total(op, moved, attrs)), inputs, at, grads);
        }));

      if (elements > LARGE_TWICE) continue;
      test(`gradient of the gradient ${describeCase(example)}`, () =>
        scope(() => {
          const slope = (given: readonly MaybeTensor[]) => {
            const at = variables(given, specs);
            const floats = leaves(at);
            const grads = grad(total(op, given, attrs), floats, { createGraph: true });
            const terms = grads.map((g, k) => (g ? sum(mul(g, weightsLike(g, 50 + k))) : zeros([], { dtype: "float64", device: on })));
            return { at, floats, result: terms.reduce(add) };
          };
          const inputs = caseTensors(specs, on, "float64");
          const { at, floats, result } = slope(inputs);
          const seconds = result.requiresGrad ? grad(result, floats) : floats.map(() => null);
          compare((moved) => value(slope(moved).result), inputs, at, seconds);
        }));
    }
  });
}

test("the loop found the ops and their cases", () => {
  const names = everyOp().map(({ name }) => name);
  for (const name of ["add", "matmul", "slice", "embedding", "softmax", "crossEntropy", "layerNorm", "sweep.lstm"])
    expect(names).toContain(name);
  for (const { name, cases } of everyOp()) expect(cases.length, `${name} has cases`).toBeGreaterThan(0);
});
