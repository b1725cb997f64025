// Linear recurrences, forward and backward: milliseconds of a training step. `tsx bench/scans.ts [B T D] [--only NAME]`.
import { Mamba, MinGRU, MinLSTM, noGrad, scan, scope, selectiveScan, setThreads, square, sum, uniform, type Tensor } from "../src/index.js";

const numbers = process.argv
  .slice(2)
  .filter((a) => /^\d+$/.test(a))
  .map(Number);
const [B = 8, T = 1024, D = 512] = numbers;
const only = process.argv.includes("--only") ? process.argv[process.argv.indexOf("--only") + 1] : null;
if (process.env.BENCH_THREADS) setThreads(Number(process.env.BENCH_THREADS));
const S = 16;

const draw = (shape: readonly number[], low = -1, high = 1): Tensor => uniform(shape, { low, high, requiresGrad: true });

interface Case {
  readonly leaves: readonly Tensor[];
  readonly run: () => Tensor;
}

const cases: Record<string, () => Case> = {
  scan() {
    const [a, b] = [draw([B, T, D], 0.5, 1), draw([B, T, D])];
    return { leaves: [a, b], run: () => scan(a, b).output };
  },
  selectiveScan() {
    const inputs = {
      u: draw([B, T, D]),
      delta: draw([B, T, D], -4, 0),
      A: draw([D, S], -16, -1),
      B: draw([B, T, S]),
      C: draw([B, T, S]),
      D: draw([D]),
      z: draw([B, T, D]),
    };
    return { leaves: Object.values(inputs), run: () => selectiveScan(inputs).output };
  },
  minGRU() {
    const [x, layer] = [draw([B, T, D]), new MinGRU(D, D)];
    return { leaves: [x, ...layer.parameters()], run: () => layer.forward(x).output };
  },
  minLSTM() {
    const [x, layer] = [draw([B, T, D]), new MinLSTM(D, D)];
    return { leaves: [x, ...layer.parameters()], run: () => layer.forward(x).output };
  },
  mamba() {
    const [x, layer] = [draw([B, T, D]), new Mamba(D)];
    return { leaves: [x, ...layer.parameters()], run: () => layer.forward(x).output };
  },
};

async function best(body: () => Promise<void>, budget = 4000): Promise<number> {
  await body();
  const times: number[] = [];
  for (const begin = performance.now(); times.length < 3 || (performance.now() - begin < budget && times.length < 20);) {
    const from = performance.now();
    await body();
    times.push(performance.now() - from);
  }
  return Math.min(...times);
}

for (const [name, make] of Object.entries(cases)) {
  if (only && name !== only) continue;
  const { leaves, run } = make();
  const forward = await best(async () => {
    const y = noGrad(() => scope(() => sum(run())));
    await y.data();
    y.dispose();
  });
  const training = await best(async () => {
    scope(() => sum(square(run())).backward());
    const last = leaves.at(-1)!;
    await last.grad!.data();
    for (const t of leaves) {
      t.grad?.dispose();
      t.grad = null;
    }
  });
  console.log(`${name.padEnd(14)} ${B} x ${T} x ${D}: forward ${forward.toFixed(1)} ms, forward and backward ${training.toFixed(1)} ms`);
}
