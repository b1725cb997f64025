/**
 * Linear recurrences over long sequences, beside PyTorch's loop over the steps and its parallel form, one after the other:
 * npm run bench:scans -- [--cases mingru,mamba,scalar,vector,delta] [--steps 1024] [--rounds N] [--threads N] [--python P]
 * Without --python there is no peer. Then the cost of a step, and of long sequences.
 */
import { execFileSync } from "node:child_process";
import { parseArgs } from "node:util";
import {
  deltaRule,
  device,
  matrixScan,
  mul,
  neg,
  noGrad,
  scan,
  scope,
  selectiveScan,
  setThreads,
  sigmoid,
  sum,
  tensor,
  unit,
  type Tensor,
} from "../src/index.js";
import { positive } from "../src/nn/minGru.js";
import { peakFlops } from "./peak.js";
import { stop, threadsOf } from "./select.js";

const on = device("cpu");

interface Case {
  readonly sizes: Readonly<Record<string, number>>;
  /** Operations of a forward pass that a step cannot do without. */
  readonly flops: number;
  readonly inputs: readonly Tensor[];
  run(): Tensor;
}

let seed = 1;
/** Numbers in [low, high), the same in every run. */
function draw(shape: readonly number[], low = -1, high = 1): Tensor {
  const data = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return low + ((high - low) * seed) / 2147483648;
  });
  return tensor(data, { shape, device: on, requiresGrad: true });
}

const [D, S, H, K] = [512, 16, 4, 64];
const matrixFlops = (N: number, T: number, products: number) => 2 * products * N * T * H * K * K;

const cases: Readonly<Record<string, (T: number, N: number) => Case>> = {
  mingru(T, N) {
    const [gate, candidate] = [draw([N, T, D], -3, 3), draw([N, T, D], -3, 3)];
    const run = () => scan(sigmoid(neg(gate)), mul(sigmoid(gate), positive(candidate))).output;
    return { sizes: { N, T, D }, flops: 2 * N * T * D, inputs: [gate, candidate], run };
  },
  mamba(T, N) {
    const [u, delta, B, C] = [draw([N, T, D]), draw([N, T, D]), draw([N, T, S]), draw([N, T, S])];
    const A = draw([D, S], -1.5, -0.5);
    return {
      sizes: { N, T, D, S },
      flops: 6 * N * T * D * S,
      inputs: [u, delta, A, B, C],
      run: () => selectiveScan({ u, delta, A, B, C }).output,
    };
  },
  scalar(T, N) {
    const [q, k, v, logDecay] = [draw([N, T, H, K]), draw([N, T, H, K]), draw([N, T, H, K]), draw([N, T, H], -0.1, 0)];
    return {
      sizes: { N, T, H, K, V: K },
      flops: matrixFlops(N, T, 3),
      inputs: [q, k, v, logDecay],
      run: () => matrixScan({ q, k, v, logDecay }).output,
    };
  },
  vector(T, N) {
    const [q, k, v, logDecay] = [draw([N, T, H, K]), draw([N, T, H, K]), draw([N, T, H, K]), draw([N, T, H, K], -0.1, 0)];
    return {
      sizes: { N, T, H, K, V: K },
      flops: matrixFlops(N, T, 3),
      inputs: [q, k, v, logDecay],
      run: () => matrixScan({ q, k, v, logDecay }).output,
    };
  },
  delta(T, N) {
    const [q, k, v, gate] = [draw([N, T, H, K]), draw([N, T, H, K]), draw([N, T, H, K]), draw([N, T, H], 0, 1)];
    return {
      sizes: { N, T, H, K, V: K },
      flops: matrixFlops(N, T, 4),
      inputs: [q, k, v, gate],
      run: () => deltaRule({ q, k: unit(k), v, beta: gate }).output,
    };
  },
};

function parse() {
  try {
    const { values } = parseArgs({
      options: {
        cases: { type: "string", default: Object.keys(cases).join(",") },
        steps: { type: "string", default: "1024" },
        rounds: { type: "string", default: "5" },
        threads: { type: "string" },
        python: { type: "string" },
      },
    });
    const names = values.cases.split(",");
    for (const name of names)
      if (!(name in cases)) throw new RangeError(`--cases must be of ${Object.keys(cases).join(", ")} but has ${name}`);
    const [steps, rounds] = [Number(values.steps), Number(values.rounds)];
    if (!Number.isInteger(steps) || steps < 64 || steps % 64 !== 0)
      throw new RangeError(`--steps must be a multiple of 64 but is ${values.steps}`);
    if (!Number.isInteger(rounds) || rounds < 1) throw new RangeError(`--rounds must be a positive integer but is ${values.rounds}`);
    return { names, steps, rounds, threads: threadsOf(values) ?? on.info().threads ?? 1, python: values.python };
  } catch (error) {
    return stop(error);
  }
}

const given = parse();
setThreads(given.threads);

/** The least of some rounds in milliseconds, after one that does not count. */
function least(call: () => void): number {
  call();
  const times = Array.from({ length: given.rounds }, () => {
    const start = performance.now();
    call();
    return performance.now() - start;
  });
  return Math.min(...times);
}

function measure({ inputs, run }: Case): { train: number; infer: number } {
  const infer = least(() => noGrad(() => scope(() => void sum(run()).dataSync())));
  const train = least(() => {
    scope(() => sum(run()).backward());
    scope(() => void sum(inputs[0].grad!).dataSync());
    for (const t of inputs) {
      t.grad!.dispose();
      t.grad = null;
    }
  });
  return { train, infer };
}

/** PyTorch's times of a case with its malloc kept from giving memory back, which is what costs it most otherwise. */
function peer(kind: string, sizes: Case["sizes"], form: "loop" | "parallel"): { train_ms: number; infer_ms: number } | null {
  if (!given.python) return null;
  const script = new URL("peers/scans_peer.py", import.meta.url).pathname;
  const rounds = form === "loop" ? 1 : given.rounds;
  const args = [script, JSON.stringify({ kind, ...sizes }), "--form", form, "--threads", String(given.threads), "--rounds", String(rounds)];
  const env = { ...process.env, MALLOC_MMAP_THRESHOLD_: "1073741824", MALLOC_TRIM_THRESHOLD_: "4294967296" };
  return JSON.parse(execFileSync(given.python, args, { env, encoding: "utf8" })) as { train_ms: number; infer_ms: number };
}

const table = (rows: readonly (readonly (string | number)[])[]) => {
  const widths = rows[0].map((_, j) => Math.max(...rows.map((row) => String(row[j]).length)));
  for (const row of rows)
    console.log(row.map((cell, j) => (j === 0 ? String(cell).padEnd(widths[j]) : String(cell).padStart(widths[j]))).join("  "));
};

const { isa, threads } = on.info();
const peak = peakFlops(on);
console.log(`${isa}, ${threads} threads, ${(peak / 1e9).toFixed(0)} GFLOP/s at most, Node ${process.version}\n`);

const head = ["case", "train ms", "loop", "ratio", "parallel", "ratio", "infer ms", "of peak", "loop", "parallel"];
const results: (string | number)[][] = [head];
for (const name of given.names) {
  const made = cases[name](given.steps, 8);
  const { train, infer } = measure(made);
  const [loop, parallel] = (["loop", "parallel"] as const).map((form) => peer(name, made.sizes, form));
  for (const t of made.inputs) t.dispose();
  const against = (other: number | undefined) => (other === undefined ? ["-", "-"] : [other.toFixed(1), (other / train).toFixed(1)]);
  const share = `${((100 * made.flops) / infer / 1e-3 / peak).toFixed(0)} %`;
  const peers = [loop, parallel].map((t) => t?.infer_ms.toFixed(1) ?? "-");
  results.push([name, train.toFixed(1), ...against(loop?.train_ms), ...against(parallel?.train_ms), infer.toFixed(1), share, ...peers]);
}
console.log(`${given.steps} steps, milliseconds; beside PyTorch's loop over the steps and its parallel form`);
table(results);

const lengths = [1024, 4096, 16384, 65536];
console.log("\nnanoseconds a step of one sequence by its length, forward");
table([
  ["case", ...lengths.map(String)],
  ...given.names.map((name) => [
    name,
    ...lengths.map((steps) => {
      const { inputs, run } = cases[name](steps, 1);
      const ms = least(() => noGrad(() => scope(() => void sum(run()).dataSync())));
      for (const t of inputs) t.dispose();
      return ((ms * 1e6) / steps).toFixed(0);
    }),
  ]),
]);
