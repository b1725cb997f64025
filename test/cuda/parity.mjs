// Every op of the library on the CUDA device in float32 against the reference in float64: outputs and all gradients, over
// the examples that each op brings along. Plain JavaScript over dist, so that it runs where there is nothing but Node and
// the built files:   node test/cuda/parity.mjs [REGEX of op names]
import { pathToFileURL } from "node:url";
import { join } from "node:path";

const dist = process.env.THROUGHTIME_DIST ?? join(import.meta.dirname, "..", "..", "dist");
const load = (file) => import(pathToFileURL(join(dist, file)).href);
const { add, device, mul, noGrad, scope, sum, tensor } = await load("index.js");
const { apply, applyFused, applyOn } = await load("tensor/apply.js");
const { definedFused, definedOps, size } = await load("tensor/op.js");
const { words } = await load("tensor/philox.js");

// The reasons are in test/ops-parity.test.ts.
const TOLERANCE = 2e-6;

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

function evaluate(op, on, { inputs: specs, attrs }, differentiate) {
  return scope(() => {
    const real = on.name === "reference" ? "float64" : "float32";
    const inputs = specs.map(
      (spec, i) => spec && tensor(valuesOf(spec, i), { shape: spec.shape, dtype: spec.dtype === "int32" ? "int32" : real, device: on }),
    );
    if (differentiate) inputs.forEach((t, i) => isVariable(specs[i]) && (t.requiresGrad = true));
    const results = differentiate ? op.run(on, inputs, attrs) : noGrad(() => op.run(on, inputs, attrs));
    const outputs = results.map((t) => t.dataSync());
    const terms = results.flatMap((t, k) =>
      t.requiresGrad ? [sum(mul(t, tensor(valuesOf({ shape: t.shape }, 500 + k), { shape: t.shape, dtype: t.dtype, device: on })))] : [],
    );
    if (terms.length > 0) terms.reduce(add).backward();
    const grads = inputs.map((t) => t?.grad?.dataSync() ?? null);
    inputs.forEach((t) => t?.grad?.dispose());
    return { outputs, grads };
  });
}

/** What is wrong with `got`, or nothing. */
function difference(what, got, expected, tolerance) {
  if (!got || !expected) return got === expected ? "" : `${what} is ${got ? "there" : "missing"}`;
  let largest = 0;
  for (const v of expected) if (Number.isFinite(v)) largest = Math.max(largest, Math.abs(v));
  const allowed = tolerance * (1 + largest);
  const wrong = got.findIndex((v, i) => !(Object.is(v, expected[i]) || Math.abs(v - expected[i]) <= allowed));
  return wrong < 0 ? "" : `${what}: element ${wrong} is ${got[wrong]}, should be ${expected[wrong]} within ${allowed}`;
}

function compare(op, example, cuda, reference) {
  const tolerance = example.tolerance ?? TOLERANCE;
  for (const differentiate of op.fused ? [false, true] : [false]) {
    const [got, again, expected] = [
      evaluate(op, cuda, example, differentiate),
      evaluate(op, cuda, example, differentiate),
      evaluate(op, reference, example, differentiate),
    ];
    const pairs = [
      ...expected.outputs.map((v, k) => [`output ${k}`, got.outputs[k], v, again.outputs[k]]),
      ...expected.grads.map((v, k) => [`gradient of input ${k}`, got.grads[k], v, again.grads[k]]),
    ];
    for (const [what, mine, right, twice] of pairs) {
      const found = difference(what, mine, right, tolerance);
      if (found) return found;
      if (mine && mine.some((v, i) => !Object.is(v, twice[i]))) return `${what} is another one the second time`;
    }
  }
  return "";
}

const wanted = new RegExp(process.argv[2] ?? "");
const [cuda, reference] = [device("cuda"), device("reference")];
const count = { passed: 0, failed: 0 };
for (const op of everyOp()) {
  if (!wanted.test(op.name)) continue;
  for (const example of op.cases) {
    let found;
    try {
      const dtypes = scope(() =>
        noGrad(() =>
          op.run(
            reference,
            example.inputs.map(
              (spec, i) => spec && tensor(valuesOf(spec, i), { shape: spec.shape, dtype: spec.dtype ?? "float32", device: reference }),
            ),
            example.attrs,
          ),
        ).map((t) => t.dtype),
      );
      if (dtypes.includes("float64")) continue; // there is none natively
      found = compare(op, example, cuda, reference);
    } catch (error) {
      found = error.message;
    }
    count[found ? "failed" : "passed"]++;
    if (found) {
      const shapes = example.inputs.map((input) => (input ? `[${input.shape}]` : "-")).join(" ");
      console.log(`FAIL ${op.name} ${shapes} ${JSON.stringify(example.attrs) ?? ""}\n     ${found}`);
    }
  }
}
console.log(`${count.passed} passed, ${count.failed} failed`);
process.exitCode = count.failed > 0 || count.passed === 0 ? 1 : 0;
