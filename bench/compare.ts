/**
 * Times the library and its peers on this machine, in turns, and prints how they compare:
 *   npm run bench:compare -- [--peers torch,torch-malloc,onnxruntime] [--python python3] [--rounds 3] [--budget 0.25]
 *     [--cases FILE] [--shapes S] [--cells C] [--modes M] [--threads N] [--extra NAME=COMMAND]... [--patience SECONDS]
 *     [--out FILE.md]
 * torch-malloc is PyTorch with glibc told to keep freed memory. COMMAND is any program that speaks the line protocol of
 * bench/peers/peer.py. Patience is how long in all to wait for other programs to leave the machine alone (300).
 */
import { availableParallelism, cpus, totalmem } from "node:os";
import { parseArgs } from "node:util";
import { writeFileAtomic } from "../src/io/files.js";
import type { BenchCase } from "./cases.js";
import { median } from "./measure.js";
import { OURS, Peer, type Answer } from "./peer.js";
import { QUIET, quiet } from "./quiet.js";
import { caseFlags, selectCases, stop, threadsOf } from "./select.js";
import { tables, type Timing } from "./tables.js";

function parse() {
  try {
    const { values } = parseArgs({
      options: {
        ...caseFlags,
        peers: { type: "string", default: "torch,torch-malloc,onnxruntime" },
        python: { type: "string", default: "python3" },
        rounds: { type: "string", default: "3" },
        budget: { type: "string", default: "0.25" },
        patience: { type: "string", default: "300" },
        extra: { type: "string", multiple: true, default: [] },
        out: { type: "string" },
      },
    });
    const [rounds, budget, patience] = [values.rounds, values.budget, values.patience].map(Number);
    if (!(Number.isInteger(rounds) && rounds > 0)) throw new RangeError(`--rounds must be a positive integer but is ${values.rounds}`);
    if (!(budget > 0)) throw new RangeError(`--budget must be a positive number of seconds but is ${values.budget}`);
    if (!(patience >= 0)) throw new RangeError(`--patience must be a number of seconds but is ${values.patience}`);
    return { ...values, rounds, budget, patience, threads: threadsOf(values) ?? availableParallelism(), cases: selectCases(values) };
  } catch (error) {
    return stop(error);
  }
}

const options = parse();

async function startPeers(): Promise<Peer[]> {
  const started: Peer[] = [];
  for (const name of [OURS, ...options.peers.split(",").filter(Boolean)]) started.push(await Peer.named(name, options));
  for (const extra of options.extra) {
    const [, name, command] = /^([^=]+)=(.+)$/.exec(extra) ?? [];
    if (!command) throw new Error(`--extra must be NAME=COMMAND but is ${extra}`);
    started.push(await Peer.start(name, ["sh", "-c", command]));
  }
  return started;
}

const others = quiet(options.patience);

/** One round of one case on one peer, tried again while others use the machine and there is patience. */
async function round(peer: Peer, c: BenchCase): Promise<Answer> {
  for (;;) {
    await others();
    const answer = await peer.ask({ case: c.id, budget: options.budget });
    if (answer.error !== undefined || answer.other_cores! <= QUIET || others.left() <= 0) return answer;
  }
}

async function time(peers: readonly Peer[], c: BenchCase): Promise<Map<string, Timing>> {
  const answers = new Map(peers.map((peer) => [peer.name, [] as Answer[]]));
  for (let k = 0; k < options.rounds; k++) {
    for (const peer of peers) {
      const list = answers.get(peer.name)!;
      if (!list.some((a) => a.error !== undefined)) list.push(await round(peer, c));
    }
  }
  return new Map(
    [...answers].map(([name, list]): [string, Timing] => {
      const { error } = list.at(-1)!;
      if (error !== undefined) return [name, { error }];
      const calm = list.filter((a) => a.other_cores! <= QUIET);
      const used = calm.length > 0 ? calm : list;
      const peaks = used.flatMap(({ peak_gflops }) => peak_gflops ?? []);
      const peak = peaks.length > 0 ? { peak: median(peaks) } : {};
      return [name, { ms: median(used.flatMap((a) => a.times!)), quiet: calm.length > 0, ...peak }];
    }),
  );
}

try {
  const peers = await startPeers();
  const results = new Map<BenchCase, Map<string, Timing>>();
  for (const c of options.cases) {
    const timings = await time(peers, c);
    results.set(c, timings);
    console.error(
      `${c.id}: ${[...timings].map(([name, t]) => `${name} ${"ms" in t ? `${t.ms.toPrecision(4)} ms` : t.error.slice(0, 60)}`).join(", ")}`,
    );
  }
  for (const peer of peers) peer.stop();
  const about = [
    `${new Date().toISOString().slice(0, 10)}, ${cpus()[0].model.trim()}, ${availableParallelism()} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, ${process.platform} ${process.arch}`,
    `${options.threads} threads each, ${options.rounds} rounds of ${options.budget} s in turns; medians of the rounds in which others used less than ${QUIET} cores`,
    ...peers.map(({ name, versions }) => `${name}: ${Object.entries(versions).map(([k, v]) => `${k} ${String(v)}`).join(", ")}`), // prettier-ignore
  ];
  const text = tables(OURS, about, results);
  console.log(text);
  if (options.out) await writeFileAtomic(options.out, [Buffer.from(text)]);
} catch (error) {
  stop(error);
}
