// Recurrent layers on a GPU, microseconds a step, in turns with cuDNN through PyTorch where that is installed.
//   node bench/cuda/run.mjs [--seconds 300] [--out FILE.md] [--small]     --small: a few tiny cases, to see that it runs
// Needs Node and the built files; cases that the seconds do not suffice for are left out.
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";
import { parseArgs } from "node:util";
import { gpu } from "../../test/cuda/library.mjs";
import { cases, smallCases } from "./cases.mjs";
import { floor } from "./floor.mjs";
import { report } from "./report.mjs";

const options = { seconds: { type: "string", default: "300" }, out: { type: "string" }, small: { type: "boolean", default: false } };
const { seconds, out, small } = parseArgs({ options }).values;
const until = Date.now() + 1000 * Number(seconds);
const rounds = small ? 1 : 7;
const longest = 60; // seconds until an answer

const info = gpu("NOTHING WAS MEASURED ON CUDA");
const date = new Date().toISOString().slice(0, 10);
const slug = info.gpu.toLowerCase().replace(/[^a-z0-9]+/g, "-");
const file = out ?? join(import.meta.dirname, "..", "results", `${date}-${slug}-cuda.md`);

/** A process that is asked one line at a time and answers with one. One that ends or hangs is followed by another. */
async function open(command, args, env = {}) {
  let next, child;
  const start = async () => {
    child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"], env: { ...process.env, ...env } });
    child.stdin.on("error", () => undefined);
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    next = async () => {
      const patience = new AbortController();
      const late = setTimeout(1000 * longest, { late: true }, { signal: patience.signal, ref: false }).catch(() => ({}));
      const { value, done, late: hangs } = await Promise.race([lines.next(), late]);
      patience.abort();
      if (!hangs && !done) return JSON.parse(value);
      child.kill("SIGKILL");
      child = null;
      return { error: hangs ? `no answer in ${longest} s` : "its process ended" };
    };
    return await next();
  };
  const about = await start();
  const ask = async (request) => {
    if (!child) await start();
    if (!child) return { error: "its process does not start" };
    child.stdin.write(`${JSON.stringify(request)}\n`);
    return await next();
  };
  return { about, ask, end: () => child?.stdin.end() };
}

const script = join(import.meta.dirname, "ours.mjs");
const ours = await open(process.execPath, [script], { THROUGHTIME_TF32: "0" });
const oursInTf32 = await open(process.execPath, [script], { THROUGHTIME_TF32: "1" });
const python = process.env.PYTHON ?? "python3";
const hasPeer = spawnSync(python, ["-c", "import torch; assert torch.cuda.is_available()"], { stdio: "ignore" }).status === 0;
const peer = hasPeer ? await open(python, [join(import.meta.dirname, "peer.py")]) : null;
if (!peer) console.log("PyTorch with a GPU is not here: there is nothing to compare with");

const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];

/** Medians of rounds in turns, of each side that can compute the case. */
async function measure(c) {
  const sides = { mine: c.precision === "tf32" ? oursInTf32 : ours, theirs: peer };
  const results = {};
  const ready = [];
  for (const [name, side] of Object.entries(sides)) {
    if (!side) continue;
    const answer = await side.ask({ case: c });
    results[name] = answer.error ? { error: answer.error } : { forward: [], train: [] };
    if (!answer.error) ready.push(name);
  }
  for (let round = 0; round < rounds; round++)
    for (const mode of ["forward", "train"])
      for (const name of ready) {
        if (results[name].error) continue;
        const { us, error } = await sides[name].ask({ run: mode });
        if (error) results[name] = { error };
        else results[name][mode].push(us);
      }
  const medians = ({ error, forward, train }) => (error ? { error } : { forward: median(forward), train: median(train) });
  return Object.fromEntries(Object.entries(results).map(([name, result]) => [name, medians(result)]));
}

// Bytes a microsecond of the memory.
const memory = /h200/i.test(info.gpu) ? 4.8e6 : 3.35e6;
const rows = [];
const about = { info, date, node: ours.about.node, peer: peer?.about, rounds };
mkdirSync(dirname(file), { recursive: true });
const chosen = small ? smallCases : cases;
for (const c of chosen) {
  if (Date.now() > until) break;
  const row = { case: c, floor: floor(c, memory), ...(await measure(c)) };
  rows.push(row);
  console.log(JSON.stringify(row));
  // Whole after each case, so that a run that is cut short has its results.
  writeFileSync(file, report(about, rows, chosen.length));
}
for (const side of [ours, oursInTf32, peer]) side?.end();
console.log(`\n${report(about, rows, chosen.length)}\nwritten to ${file}`);
if (rows.length === 0 || rows.some(({ mine }) => mine?.error)) process.exitCode = 1;
