// Sweeps on a GPU, microseconds a step, beside cuDNN through PyTorch where there is one. Needs Node and the built files:
//   node bench/cuda/run.mjs [--seconds 300] [--out FILE.md] [--small]
// Both sides are timed by the clock around whole calls, from an idle GPU to an idle GPU. TF32 is measured in a process of
// its own, as it is asked for by the environment.
import { spawn, spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { cases, floor } from "./cases.mjs";

const dist = process.env.THROUGHTIME_DIST ?? join(import.meta.dirname, "..", "..", "dist");
const { device, Generator, GRU, LSTM, mul, noGrad, RNN, scope, sum, uniform } = await import(pathToFileURL(join(dist, "index.js")).href);

function option(name, otherwise) {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? otherwise : process.argv[at + 1];
}
const small = process.argv.includes("--small");
const tf32 = process.env.THROUGHTIME_TF32 === "1";
const until = Date.now() + 1000 * Number(option("seconds", 300));

const info = device.info().devices.find(({ name }) => name === "cuda");
if (!info.available) {
  console.log(`\n*** NOTHING WAS MEASURED ON CUDA: ${info.reason} ***\n`);
  process.exit(0);
}
const on = device("cuda");
const Cells = { lstm: LSTM, gru: GRU, rnn: RNN };
const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];

/** PyTorch, asked one case at a time; null where it is not installed. */
async function peer() {
  const python = process.env.PYTHON ?? "python3";
  if (spawnSync(python, ["-c", "import torch; assert torch.cuda.is_available()"], { stdio: "ignore" }).status !== 0) return null;
  const child = spawn(python, [join(import.meta.dirname, "peer.py")], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => JSON.parse((await lines.next()).value);
  const versions = await next();
  return { versions, ask: (c) => (child.stdin.write(`${JSON.stringify(c)}\n`), next()), end: () => child.stdin.end() };
}

/** Milliseconds of `body`, which ends with a read, the median of some runs after warming up. */
function timed(body, repeats) {
  for (let i = 0; i < 3; i++) body();
  return median(
    Array.from({ length: repeats }, () => {
      const start = performance.now();
      body();
      return performance.now() - start;
    }),
  );
}

function measure(c) {
  const { cell, hidden, batch, layers, precision, bidirectional = false, ragged = false } = c;
  const steps = small ? 8 : c.steps;
  const generator = new Generator(1);
  const model = new Cells[cell](hidden, hidden, {
    layers,
    bidirectional,
    device: on,
    generator,
    ...(precision === "bf16" && { precision: "bf16" }),
  });
  const x = uniform([batch, steps, hidden], { low: -1, high: 1, generator, device: on });
  const lengths = Array.from({ length: batch }, (_, i) => Math.round(steps - (i * 0.75 * steps) / Math.max(1, batch - 1)));
  const run = () => model.forward(x, ragged ? { lengths } : {}).output;
  // Reading one number waits for the GPU; what that costs is taken off.
  const one = uniform([1], { generator, device: on });
  const read = timed(() => one.dataSync(), 20);
  const forward = timed(() => scope(() => noGrad(() => (run(), one.dataSync()))), small ? 2 : 10);
  const weights = scope(() => uniform(run().shape, { low: -1, high: 1, generator, device: on }));
  const train = timed(
    () =>
      scope(() => {
        for (const p of model.parameters()) {
          p.grad?.dispose();
          p.grad = null;
        }
        sum(mul(run(), weights)).backward();
        one.dataSync();
      }),
    small ? 2 : 6,
  );
  const micro = (ms) => (1000 * Math.max(0, ms - read)) / steps / layers;
  return { forward: micro(forward), train: micro(train) };
}

const other = await peer();
const rows = [];
for (const c of small ? [{ ...cases[0], hidden: 16, batch: 2 }] : cases) {
  if (Date.now() > until) break;
  // What float32 means is fixed for a process.
  if (c.precision === (tf32 ? "fp32" : "tf32")) continue;
  const theirs = (await other?.ask(c)) ?? {};
  let mine = {};
  try {
    if (c.precision !== "fp16") mine = measure(c);
  } catch (error) {
    mine = { error: error.message };
  }
  rows.push({ c, mine, theirs });
  console.log(JSON.stringify({ ...c, floor: floor(c), mine, theirs }));
}
other?.end();

const us = (v) => (v === undefined ? "-" : v.toFixed(2));
const ratio = (theirs, mine) => (theirs === undefined || mine === undefined ? "-" : `x${(theirs / mine).toFixed(2)}`);
const described = ({ layers, bidirectional, ragged }) =>
  [layers > 1 && `${layers} layers`, bidirectional && "both directions", ragged && "ragged"].filter(Boolean).join(", ");
const table = [
  `# Sweeps on ${info.gpu}, ${new Date().toISOString().slice(0, 10)}${tf32 ? ", TF32" : ""}`,
  "",
  "Microseconds a step and layer, forward, and forward and backward with the gradients of weights; by the clock, median of some calls. " +
    `Driver CUDA ${info.driver}, kernels CUDA ${info.runtime}, Node ${process.version}, ` +
    (other ? `PyTorch ${other.versions.torch} with cuDNN ${other.versions.cudnn}` : "no PyTorch") +
    ". Above x1 ours is faster. The floor is arithmetic (bench/cuda/cases.mjs).",
  "",
  "| cell | H | B | precision | | forward | cuDNN | | floor | train | cuDNN | |",
  "|---|---|---|---|---|---|---|---|---|---|---|---|",
  ...rows.map(({ c, mine, theirs }) => {
    const start = `| ${c.cell} | ${c.hidden} | ${c.batch} | ${c.precision} | ${described(c)} |`;
    if (mine.error) return `${start} ${mine.error} | | | | | | |`;
    const forward = `${us(mine.forward)} | ${us(theirs.forward)} | ${ratio(theirs.forward, mine.forward)} | ${us(floor(c))}`;
    return `${start} ${forward} | ${us(mine.train)} | ${us(theirs.train)} | ${ratio(theirs.train, mine.train)} |`;
  }),
  "",
].join("\n");
console.log(`\n${table}`);
const out = option("out", null);
if (out) writeFileSync(out, table);
