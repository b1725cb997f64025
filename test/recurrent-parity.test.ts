import { describe, expect, it } from "vitest";
import { add, device, mul, scope, sum, tensor, type Tensor } from "../src/index.js";
import type { ForwardOptions, RecurrentOptions } from "../src/nn/recurrent.js";
import { Generator, uniform } from "../src/tensor/random.js";
import { nativeAvailable, nativeUnderTest, weightsLike } from "./helpers.js";
import { possible, randomised, structures, type Variant } from "./recurrentVariants.js";

/** What a batch can look like. */
interface Corner {
  readonly n?: number;
  readonly steps?: number;
  readonly hidden?: number;
  readonly options?: RecurrentOptions;
  readonly lengths?: readonly number[];
  readonly state?: boolean;
  readonly update?: boolean;
}

const corners: Readonly<Record<string, Corner>> = {
  "lengths, initial state": { lengths: [2, 4, 0, 1], n: 4, state: true },
  "both directions, lengths": { options: { bidirectional: true }, lengths: [4, 0, 1], state: true },
  "stacked, dropout between": { options: { layers: 2 }, steps: 3 },
  "T = 1, B = 1": { n: 1, steps: 1 },
  "H = 13, no bias": { hidden: 13, options: { bias: false }, steps: 2 },
  "from the end, update mask": { options: { reverse: true }, update: true, state: true },
};

const on = { cpu: "float32", cuda: "float32", reference: "float64" } as const;
type Name = keyof typeof on;

/** Outputs, states and gradients of a layer, by name; weighted so that each output counts differently. */
function computed(name: Name, { make }: Variant, corner: Corner, parameters?: Record<string, ArrayLike<number>>) {
  const { n = 3, steps = 4, hidden = 5, options = {}, lengths, state = false, update = false } = corner;
  const place = { device: device(name), dtype: on[name] };
  const layer = make(3, hidden, { generator: new Generator(3), ...options, ...place });
  if (parameters)
    layer.loadStateDict(
      Object.fromEntries([...layer.namedParameters()].map(([key, { shape }]) => [key, { shape, data: parameters[key] }])),
    );
  const generator = new Generator(5);
  const draw = (...shape: number[]) => leaf(uniform(shape, { low: -1, high: 1, generator, device: device("reference") }), place);
  const x = draw(n, steps, 3);
  const start = state ? Object.fromEntries(Object.entries(layer.initialState(n)).map(([s, { shape }]) => [s, draw(...shape)])) : undefined;
  const counts = Float32Array.from({ length: n * steps }, (_, i) => (i % 3 === 1 ? 0 : 1));
  const given: ForwardOptions<string> = {
    state: start,
    ...(lengths && { lengths }),
    ...(update && { update: tensor(counts, { shape: [n, steps], ...place }) }),
  };
  const result = layer.forward(x, given);
  const outputs = { output: result.output, ...result.state };
  const before = Object.entries(outputs).map(([key, t]) => [key, Array.from(t.dataSync())] as const);
  const terms = Object.values(outputs).map((t, k) => sum(mul(t, weightsLike(t, k))));
  terms.reduce((a, b) => add(a, b)).backward();
  const leaves = { x, ...Object.fromEntries(Object.entries(start ?? {}).map(([s, t]) => [`state ${s}`, t])), ...layer.stateDict() };
  return {
    values: Object.fromEntries([
      ...before,
      ...Object.entries(leaves).flatMap(([key, t]) => (t.grad ? [[`gradient of ${key}`, Array.from(t.grad.dataSync())] as const] : [])),
    ]),
    parameters: Object.fromEntries([...layer.namedParameters()].map(([key, p]) => [key, p.dataSync()])),
    layer,
  };
}

function leaf(t: Tensor, place: { device: ReturnType<typeof device>; dtype: "float32" | "float64" }): Tensor {
  const values = place.dtype === "float64" ? Float64Array.from(t.dataSync()) : Float32Array.from(t.dataSync());
  return tensor(values, { shape: t.shape, ...place, requiresGrad: true });
}

// float32 over at most a few hundred sums of order one, through at most 4 steps and 2 layers; a layer norm over 5 units
// may divide what it is given, error and all, by a small deviation.
const TOLERANCE = 2e-5;

describe.skipIf(!nativeAvailable)("every option on the native device, in single precision, against the reference in double", () => {
  describe.each([...structures(), ...randomised()])("$name", (variant) => {
    it.each(Object.entries(corners).filter(([, { options = {} }]) => possible(variant, options)))("%s", (_, corner) => {
      scope(() => {
        const cpu = computed(nativeUnderTest, variant, corner);
        const reference = computed("reference", variant, corner, cpu.parameters);
        expect(Object.keys(cpu.values)).toEqual(Object.keys(reference.values));
        for (const key of cpu.layer.namedParameters().keys()) expect(cpu.values, key).toHaveProperty([`gradient of ${key}`]);
        for (const [key, wanted] of Object.entries(reference.values)) {
          const got = cpu.values[key];
          const largest = wanted.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
          let worst = 0;
          wanted.forEach((v, i) => (worst = Math.max(worst, Math.abs(v - got[i]) || 0)));
          expect(got.every(Number.isFinite), `${key} is finite`).toBe(true);
          expect(worst, key).toBeLessThan(TOLERANCE * (1 + largest));
        }
      });
    });
  });
});
