/**
 * Measures the memory of a training step, each case in a fresh process of each peer:
 *   npm run bench:memory -- [--peers torch,torch-malloc] [--python python3] [--steps 20]
 *     [--cases FILE] [--shapes S] [--cells C] [--modes train] [--threads N]
 * Prints the peak of resident memory in MiB beyond the idle process, the libraries loaded, and page faults a step once it
 * has warmed up. `checkpoint` is this library with `checkpoint: true`. Linux only.
 */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import type { BenchCase } from "./cases.js";
import { OURS, Peer, type Answer } from "./peer.js";
import { caseFlags, selectCases, stop, threadsOf } from "./select.js";

function parse() {
  try {
    const { values } = parseArgs({
      options: {
        ...caseFlags,
        modes: { type: "string", default: "train" },
        peers: { type: "string", default: "torch,torch-malloc" },
        python: { type: "string", default: "python3" },
        steps: { type: "string", default: "20" },
      },
    });
    const steps = Number(values.steps);
    if (!(Number.isInteger(steps) && steps > 1)) throw new RangeError(`--steps must be an integer above 1 but is ${values.steps}`);
    return { ...values, steps, threads: threadsOf(values) ?? availableParallelism(), cases: selectCases(values) };
  } catch (error) {
    return stop(error);
  }
}

const { cases, peers, steps, ...options } = parse();

async function measured(name: string, c: BenchCase): Promise<Answer> {
  const checkpoint = name === "checkpoint";
  const peer = await Peer.named(checkpoint ? OURS : name, options);
  try {
    return await peer.ask({ case: c.id, steps, ...(checkpoint && { checkpoint }) });
  } finally {
    peer.stop();
  }
}

try {
  const names = [OURS, "checkpoint", ...peers.split(",").filter(Boolean)];
  const row = (cells: readonly string[]) => console.log(`| ${cells.join(" | ")} |`);
  row(["case", ...names]);
  row(["---", ...names.map(() => "---:")]);
  for (const c of cases) {
    const cells: string[] = [];
    for (const name of names) {
      const { error, peak_mib, faults } = await measured(name, c);
      cells.push(error ?? `${peak_mib!.toFixed(1)} (${faults!.toFixed(0)} faults)`);
    }
    row([c.id, ...cells]);
  }
} catch (error) {
  stop(error);
}
