/**
 * Times cases on one thread and on several, with the machine to itself and beside a program that never rests, in turns:
 *   npm run bench:scaling -- [--cases FILE] [--shapes S] [--cells C] [--modes M] [--threads N] [--rounds 7] [--budget 0.1]
 *     [--neighbours 1] [--json]
 * A round gives each way `budget` seconds; a figure is the median over rounds of the median call. `slower` is the time on
 * N threads beside the neighbours over the time without them, and `fair` the same over what a fair share of the cores
 * would make of it: N of N + neighbours threads, each entitled to as much.
 */
import { spawn } from "node:child_process";
import { availableParallelism } from "node:os";
import { setTimeout } from "node:timers/promises";
import { parseArgs } from "node:util";
import { device, setThreads } from "../src/index.js";
import type { BenchCase } from "./cases.js";
import { median } from "./measure.js";
import { checkCase } from "./parity.js";
import { caseFlags, selectCases, stop, threadsOf } from "./select.js";
import { workload, type Place, type Workload } from "./workload.js";

function parse() {
  try {
    const { values } = parseArgs({
      options: {
        ...caseFlags,
        shapes: { type: "string", default: "small,charlm,medium,xl,long" },
        cells: { type: "string", default: "lstm" },
        modes: { type: "string", default: "train,infer" },
        rounds: { type: "string", default: "7" },
        budget: { type: "string", default: "0.1" },
        neighbours: { type: "string", default: "1" },
        json: { type: "boolean", default: false },
      },
    });
    const [rounds, budget, neighbours] = [values.rounds, values.budget, values.neighbours].map(Number);
    if (!(Number.isInteger(rounds) && rounds > 0)) throw new RangeError(`--rounds must be a positive integer but is ${values.rounds}`);
    if (!(budget > 0)) throw new RangeError(`--budget must be a positive number of seconds but is ${values.budget}`);
    if (!(Number.isInteger(neighbours) && neighbours >= 0))
      throw new RangeError(`--neighbours must be an integer of at least 0 but is ${values.neighbours}`);
    const place: Place = { device: device("cpu"), dtype: "float32" };
    return {
      cases: selectCases(values),
      threads: threadsOf(values) ?? availableParallelism(),
      json: values.json,
      rounds,
      budget,
      neighbours,
      place,
    };
  } catch (error) {
    return stop(error);
  }
}

const { cases, threads, rounds, budget, neighbours, json, place } = parse();

/** Programs that never rest, asleep until they are told. */
const others = Array.from({ length: neighbours }, () => spawn(process.execPath, ["-e", "for (;;);"], { stdio: "ignore" }));
process.on("exit", () => others.forEach((other) => other.kill("SIGKILL")));
const signal = (name: "SIGCONT" | "SIGSTOP") => others.forEach((other) => other.kill(name));

/** The median call of `budget` seconds' worth, in ms, after one that is not counted. */
function time(work: Workload): number {
  work.step();
  const times: number[] = [];
  for (const start = performance.now(); times.length === 0 || performance.now() - start < budget * 1e3;) {
    const from = performance.now();
    work.step();
    times.push(performance.now() - from);
  }
  return median(times);
}

interface Scaling {
  readonly one: number;
  readonly several: number;
  readonly crowded: number;
}

async function timeCase(c: BenchCase): Promise<Scaling> {
  checkCase(c, place);
  const work = workload(c, place);
  const times: { [K in keyof Scaling]: number[] } = { one: [], several: [], crowded: [] };
  // The first round warms up.
  for (let round = -1; round < rounds; round++) {
    setThreads(1);
    const one = time(work);
    setThreads(threads);
    const several = time(work);
    signal("SIGCONT");
    await setTimeout(10);
    const crowded = time(work);
    signal("SIGSTOP");
    if (round < 0) continue;
    times.one.push(one);
    times.several.push(several);
    times.crowded.push(crowded);
  }
  work.dispose();
  return { one: median(times.one), several: median(times.several), crowded: median(times.crowded) };
}

const cores = availableParallelism();
/** What a fair share of the cores makes of the time on `threads` threads. */
const fair = Math.min(threads, cores) / Math.min(threads, (cores * threads) / (threads + neighbours));

signal("SIGSTOP");
await setTimeout(200);
const titles = ["1 thread", `${threads} threads`, "speed-up", "crowded", "slower", "fair"];
const { isa } = place.device.info();
if (!json) {
  console.log(`${isa}, ${threads} of ${cores} cores, ${neighbours} busy neighbours, ms, Node ${process.version}`);
  console.log(`${"case".padEnd(22)}${titles.map((title) => title.padStart(11)).join("")}`);
}
for (const c of cases) {
  const { one, several, crowded } = await timeCase(c);
  const cells = [one, several, one / several, crowded, crowded / several, crowded / several / fair];
  if (json) console.log(JSON.stringify({ case: c.id, isa, threads, neighbours, one, several, crowded, fair }));
  else console.log(`${c.id.padEnd(22)}${cells.map((x) => x.toPrecision(3).padStart(11)).join("")}`);
}
process.exit();
