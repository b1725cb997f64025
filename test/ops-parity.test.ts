import { describe, expect, test } from "vitest";
import type { Backend, TypedArray } from "../src/backend/backend.js";
import type { NativeBackend } from "../src/backend/native.js";
import { definedKernels } from "../src/backend/reference.js";
import { add, device, mul, noGrad, scope, sum } from "../src/index.js";
import { definedFused, definedOps, type Case, type MaybeTensor } from "../src/tensor/op.js";
import {
  caseTensors,
  cudaUnderTest,
  describeCase,
  everyOp,
  isVariable,
  nativeAvailable,
  nativeBackends,
  sameBits,
  weightsLike,
  type Applicable,
} from "./helpers.js";

// Every op and every fused op, native float32 against the reference in float64 on the same values, on each instruction
// set of this processor, with one thread and with two. A kernel in float32 rounds its result (6e-8 relative) and a few
// values of the size of its largest term on the way; sums of up to some thousand terms of order one grow that to about
// 1e-6 of the largest result. So the tolerance is 2e-6 * (1 + largest |reference|) unless a case states another.
const TOLERANCE = 2e-6;

interface Outcome {
  readonly outputs: readonly TypedArray[];
  /** Gradients of the inputs, null where there is none. */
  readonly grads: readonly (TypedArray | null)[];
}

/** What to differentiate: nothing, all inputs with all outputs in use, with the first output only, or one input only. */
type Mode = "forward" | "all" | "first output" | number;

function evaluate(op: Applicable, on: Backend, { inputs: specs, attrs }: Case<unknown>, mode: Mode): Outcome {
  return scope(() => {
    const inputs = caseTensors(specs, on, on.name === "reference" ? "float64" : "float32");
    const before = inputs.map(read);
    inputs.forEach(
      (t, i) => t && isVariable(specs[i]) && mode !== "forward" && (typeof mode === "string" || mode === i) && (t.requiresGrad = true),
    );
    const results = mode === "forward" ? noGrad(() => op.run(on, inputs, attrs)) : op.run(on, inputs, attrs);
    const outputs = results.map((t) => t.dataSync());
    const used = mode === "first output" ? results.slice(0, 1) : results;
    const terms = used.flatMap((t, k) => (t.requiresGrad ? [sum(mul(t, weightsLike(t, k)))] : []));
    if (terms.length > 0) terms.reduce(add).backward();
    inputs.forEach((t, i) => expectBits(`input ${i} after the call`, read(t), before[i]));
    const grads = inputs.map((t) => read(t?.grad ?? null));
    inputs.forEach((t) => t?.grad?.dispose());
    return { outputs, grads };
  });
}

const read = (t: MaybeTensor): TypedArray | null => t && t.dataSync();

function expectBits(what: string, got: TypedArray | null, expected: TypedArray | null): void {
  if (got && expected) expect(sameBits(got, expected), `${what} has the same bits`).toBe(true);
  else expect(got, what).toBe(expected);
}

function expectClose(what: string, got: TypedArray, expected: TypedArray, tolerance: number): void {
  expect(got.length, `${what}: length`).toBe(expected.length);
  let largest = 0;
  for (const v of expected) if (Number.isFinite(v)) largest = Math.max(largest, Math.abs(v));
  const allowed = tolerance * (1 + largest);
  const wrong = got.findIndex((v: number, i: number) => !(Object.is(v, expected[i]) || Math.abs(v - expected[i]) <= allowed));
  expect(wrong < 0 ? "" : `${what}: element ${wrong} is ${got[wrong]}, should be ${expected[wrong]} within ${allowed}`).toBe("");
}

function expectSame(got: Outcome, expected: Outcome, tolerance: number): void {
  got.outputs.forEach((values, k) => expectClose(`output ${k}`, values, expected.outputs[k], tolerance));
  expected.grads.forEach((grad, i) => {
    if (got.grads[i] && grad) expectClose(`gradient of input ${i}`, got.grads[i], grad, tolerance);
    else expect(got.grads[i], `gradient of input ${i}`).toBe(grad);
  });
}

/** Lets new buffers hold NaN (or an absurd integer), so that an element no kernel writes is seen. */
function poison(backend: NativeBackend): void {
  const alloc = backend.alloc.bind(backend);
  backend.alloc = (length, dtype) => {
    const buffer = alloc(length, dtype);
    backend.run({ kernel: "fill", inputs: [], outputs: [buffer], ints: [], floats: [dtype === "int32" ? -2147483647 : NaN] });
    return buffer;
  };
}

const reference = device("reference");

if (!nativeAvailable)
  console.warn(`\n*** NATIVE KERNELS ARE NOT TESTED: ${device.info().devices.find(({ name }) => name === "cpu")!.reason} ***\n`);

describe.skipIf(!nativeAvailable)("native kernels", () => {
  test.skipIf(cudaUnderTest)("there is one for every kernel of the reference, and for every fused op", () => {
    const fused = definedFused().flatMap(({ name }) => [name, `${name}.backward`]);
    expect([...definedKernels(), ...fused].filter((name) => !device("cpu").has(name))).toEqual([]);
    expect(definedOps().length).toBeGreaterThan(40);
  });

  const backends = nativeBackends(2);
  test.skipIf(cudaUnderTest)("the base instruction set and the one in use are tested", () => {
    const isas = backends.map(({ isa }) => isa);
    expect(isas).toContain("base");
    expect(isas).toContain((device("cpu") as NativeBackend).info().isa);
  });

  const references = new Map<Case<unknown>, Map<Mode, Outcome>>();
  const referenceOf = (op: Applicable, example: Case<unknown>, mode: Mode): Outcome => {
    const known = references.get(example) ?? new Map<Mode, Outcome>();
    references.set(example, known);
    if (!known.has(mode)) known.set(mode, evaluate(op, reference, example, mode));
    return known.get(mode)!;
  };
  const ops = nativeAvailable ? everyOp() : [];

  describe.each(backends)("on $isa", ({ backend }) => {
    poison(backend);
    for (const op of ops) {
      describe(op.name, () => {
        for (const example of op.cases) {
          const { inputs: specs, attrs, tolerance = TOLERANCE } = example;
          // What would be float64 does not exist natively.
          const dtypes = scope(() => op.run(reference, caseTensors(specs, reference, "float32"), attrs).map(({ dtype }) => dtype));
          if (dtypes.includes("float64")) continue;

          const expected = (mode: Mode) => referenceOf(op, example, mode);
          const native = (mode: Mode) => {
            backend.setThreads(2);
            const got = evaluate(op, backend, example, mode);
            backend.setThreads(1);
            const alone = evaluate(op, backend, example, mode);
            alone.outputs.forEach((values, k) => expectBits(`output ${k} with one thread`, values, got.outputs[k]));
            alone.grads.forEach((values, i) => expectBits(`gradient of input ${i} with one thread`, values, got.grads[i]));
            return got;
          };
          test(describeCase(example), () => {
            expectSame(native("forward"), expected("forward"), tolerance);
            if (!op.fused) return;
            const all = expected("all");
            expectSame(native("all"), all, tolerance);
            if (dtypes.length > 1) expectSame(native("first output"), expected("first output"), tolerance);
            specs.forEach((spec, i) => {
              if (isVariable(spec)) expectSame(native(i), { ...all, grads: all.grads.map((g, k) => (k === i ? g : null)) }, tolerance);
            });
          });
        }
      });
    }
  });
});
