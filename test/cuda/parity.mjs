// Every op of the library on the CUDA device in float32 against the reference in float64: outputs and all gradients, over
// the examples that each op brings along, each twice and to the same bits.   node test/cuda/parity.mjs [REGEX of op names]
import library, { load } from "./library.mjs";

const { add, device, mul, noGrad, scope, sum, tensor } = library;
const { apply, applyFused, applyOn } = await load("tensor/apply.js");
const { definedFused, definedOps, size } = await load("tensor/op.js");
const { words } = await load("tensor/philox.js");

// The reasons are in test/ops-parity.test.ts, of which this is the part that needs no TypeScript.
const TOLERANCE = 2e-6;
// TF32 has 10 bits of mantissa: a product is off by 2^-10, and a sum of some by about as much of the largest.
const coarse = process.env.THROUGHTIME_TF32 === "1" ? 3e-3 : 0;

/** Numbers that float32 holds exactly, the same on every call. */
function valuesOf(input, position) {
  if ("values" in input) return [...input.values];
  const { low = -1, high = 1, dtype, shape } = input;
  const drawn = new Array(size(shape));
  words(drawn.length, [1000 + position, 0, 0, 0], (i, word) => {
    const value = low + (high - low) * (word / 2 ** 32);
    drawn[i] = dtype === "int32" ? Math.floor(value) : Math.fround(value);
  });
  return drawn;
}

const tensorsOf = (inputs, on, real) =>
  inputs.map((spec, i) => {
    if (!spec) return null;
    return tensor(valuesOf(spec, i), { shape: spec.shape, dtype: spec.dtype === "int32" ? "int32" : real, device: on });
  });

const isVariable = (input) => input !== null && input.dtype !== "int32" && input.constant !== true;

function everyOp() {
  const primitives = definedOps().map((op) => ({
    name: op.name,
    fused: false,
    cases: op.cases(),
    run: (on, inputs, attrs) => (inputs.length > 0 ? apply(op, inputs, attrs) : applyOn(on, op, [], attrs)),
  }));
  const fused = definedFused().map((op) => ({
    name: op.name,
    fused: true,
    cases: op.cases(),
    run: (_, inputs, attrs) => applyFused(op, inputs, attrs),
  }));
  return [...primitives, ...fused];
}

const read = (t) => t?.dataSync() ?? null;

/** `mode`: "forward"; "all" gradients; those of the "first output"; or the number of the one input to differentiate. */
function evaluate(op, on, { inputs: specs, attrs }, mode) {
  return scope(() => {
    const inputs = tensorsOf(specs, on, on.name === "reference" ? "float64" : "float32");
    const before = inputs.map(read);
    if (mode !== "forward")
      inputs.forEach((t, i) => t && isVariable(specs[i]) && (typeof mode === "string" || mode === i) && (t.requiresGrad = true));
    const results = mode === "forward" ? noGrad(() => op.run(on, inputs, attrs)) : op.run(on, inputs, attrs);
    const outputs = results.map(read);
    const used = mode === "first output" ? results.slice(0, 1) : results;
    const terms = used.flatMap((t, k) => {
      if (!t.requiresGrad) return [];
      return [sum(mul(t, tensor(valuesOf({ shape: t.shape }, 500 + k), { shape: t.shape, dtype: t.dtype, device: on })))];
    });
    if (terms.length > 0) terms.reduce(add).backward();
    const changed = inputs.findIndex((t, i) => t && !same(read(t), before[i]));
    if (changed >= 0) throw new Error(`input ${changed} is another one after the call`);
    const grads = inputs.map((t) => read(t?.grad));
    inputs.forEach((t) => t?.grad?.dispose());
    return { outputs, grads };
  });
}

const same = (a, b) => a.length === b.length && a.every((v, i) => Object.is(v, b[i]));

/** What is wrong with `got`, or nothing. */
function difference(what, got, again, expected, tolerance) {
  if (!got || !expected) return got === expected ? "" : `${what} is ${got ? "there" : "missing"}`;
  if (got.length !== expected.length) return `${what} has ${got.length} elements, should have ${expected.length}`;
  let largest = 0;
  for (const v of expected) if (Number.isFinite(v)) largest = Math.max(largest, Math.abs(v));
  const allowed = tolerance * (1 + largest);
  const wrong = got.findIndex((v, i) => !(Object.is(v, expected[i]) || Math.abs(v - expected[i]) <= allowed));
  if (wrong >= 0) return `${what}: element ${wrong} is ${got[wrong]}, should be ${expected[wrong]} within ${allowed}`;
  return same(got, again) ? "" : `${what} is another one the second time`;
}

function compare(op, example, outputs) {
  const { inputs } = example;
  const tolerance = Math.max(coarse, example.tolerance ?? TOLERANCE);
  const one = inputs.flatMap((spec, i) => (isVariable(spec) ? [i] : []));
  const modes = op.fused ? ["forward", "all", ...(outputs > 1 ? ["first output"] : []), ...one] : ["forward"];
  const right = new Map(modes.filter((mode) => typeof mode === "string").map((mode) => [mode, evaluate(op, reference, example, mode)]));
  for (const mode of modes) {
    const [got, again] = [evaluate(op, cuda, example, mode), evaluate(op, cuda, example, mode)];
    const expected = right.get(mode) ?? { ...right.get("all"), grads: right.get("all").grads.map((g, i) => (i === mode ? g : null)) };
    const found = [
      ...expected.outputs.map((v, k) => difference(`output ${k}`, got.outputs[k], again.outputs[k], v, tolerance)),
      ...expected.grads.map((v, i) => difference(`gradient of input ${i}`, got.grads[i], again.grads[i], v, tolerance)),
    ].find((text) => text !== "");
    if (found) return `${mode}: ${found}`;
  }
  return "";
}

/** Lets new buffers hold NaN (or an absurd integer), so that an element no kernel writes is seen. */
function poison(backend) {
  const alloc = backend.alloc.bind(backend);
  backend.alloc = (length, dtype) => {
    const buffer = alloc(length, dtype);
    backend.run({ kernel: "fill", inputs: [], outputs: [buffer], ints: [], floats: [dtype === "int32" ? -2147483647 : NaN] });
    return buffer;
  };
}

function check(op, example) {
  try {
    const run = () => op.run(reference, tensorsOf(example.inputs, reference, "float32"), example.attrs).map(({ dtype }) => dtype);
    const dtypes = scope(() => noGrad(run));
    if (dtypes.includes("float64")) return null; // there is none natively
    return compare(op, example, dtypes.length);
  } catch (error) {
    return error.message;
  }
}

const wanted = new RegExp(process.argv[2] ?? "");
const [cuda, reference] = [device("cuda"), device("reference")];
poison(cuda);
const count = { passed: 0, failed: 0 };
for (const op of everyOp().filter(({ name }) => wanted.test(name))) {
  const before = { ...count, at: performance.now() };
  for (const example of op.cases) {
    const found = check(op, example);
    if (found === null) continue;
    count[found ? "failed" : "passed"]++;
    if (!found) continue;
    const shapes = example.inputs.map((input) => (input ? `[${input.shape}]` : "-")).join(" ");
    console.log(`FAIL ${op.name} ${shapes} ${JSON.stringify(example.attrs) ?? ""}\n     ${found}`);
  }
  const failed = count.failed - before.failed;
  const all = count.passed - before.passed + failed;
  console.log(`${failed ? "FAIL" : "ok  "} ${op.name}: ${all} cases, ${((performance.now() - before.at) / 1000).toFixed(2)} s`);
}
console.log(`${count.passed} passed, ${count.failed} failed`);
process.exitCode = count.failed > 0 || count.passed === 0 ? 1 : 0;
