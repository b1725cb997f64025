/**
 * Many sessions of one model: stepped together, and each on its own by a stream, in alternation:
 * npm run bench:streams -- [--cells lstm,gru,rnn] [--sizes I:H,...] [--sessions N,...] [--rounds N] [--threads N] [--json]
 */
import { parseArgs } from "node:util";
import { device, GRU, LSTM, RNN, setThreads, type Recurrent } from "../src/index.js";
import { median } from "./measure.js";
import { stop, threadsOf } from "./select.js";
import { noise } from "./workload.js";

const on = device("cpu");
const cells: Readonly<Record<string, (I: number, H: number) => Recurrent<string>>> = {
  lstm: (I, H) => new LSTM(I, H, { device: on }),
  gru: (I, H) => new GRU(I, H, { device: on }),
  rnn: (I, H) => new RNN(I, H, { device: on }),
};

function parse() {
  try {
    const { values } = parseArgs({
      options: {
        cells: { type: "string", default: "lstm,gru,rnn" },
        sizes: { type: "string", default: "64:64,128:128,64:256,256:256,512:512" },
        sessions: { type: "string", default: "10,100,1000" },
        rounds: { type: "string", default: "9" },
        threads: { type: "string" },
        json: { type: "boolean", default: false },
      },
    });
    const threads = threadsOf(values);
    if (threads !== undefined) setThreads(threads);
    const positive = (name: string, value: string) => {
      const n = Number(value);
      if (!Number.isInteger(n) || n < 1) throw new RangeError(`--${name} must be positive integers but has ${value}`);
      return n;
    };
    const names = values.cells.split(",");
    for (const name of names)
      if (!(name in cells)) throw new RangeError(`--cells must be of ${Object.keys(cells).join(", ")} but has ${name}`);
    return {
      names,
      sizes: values.sizes.split(",").map((pair) => pair.split(":").map((part) => positive("sizes", part)) as [number, number]),
      sessions: values.sessions.split(",").map((n) => positive("sessions", n)),
      rounds: positive("rounds", values.rounds),
      json: values.json,
    };
  } catch (error) {
    return stop(error);
  }
}

const { names, sizes, sessions, rounds, json } = parse();

/** Microseconds of a call. */
function timed(call: () => void): number {
  const start = performance.now();
  call();
  return (performance.now() - start) * 1000;
}

function compare(make: (I: number, H: number) => Recurrent<string>, I: number, H: number, count: number) {
  const layer = make(I, H);
  using together = layer.streams({ capacity: count });
  using alone = layer.stream();
  const all = Array.from({ length: count }, () => together.open());
  const x = noise(count * I, 1);
  const inputs = Array.from({ length: count }, (_, i) => x.slice(i * I, (i + 1) * I));
  const [outputs, output] = [new Float32Array(count * H), new Float32Array(H)];
  const ways = [
    () => inputs.forEach((input) => alone.step(input, output)), // the state is one: to keep as many warm would only be slower
    () => together.step(all, x, outputs),
  ];
  for (const way of [...ways, ...ways]) way();
  const times: number[][] = [[], []];
  // Short calls are repeated, so that a round is some milliseconds of each way.
  const repeats = Math.max(1, Math.round(500 / count));
  for (let round = 0; round < rounds; round++)
    ways.forEach((way, i) => times[i].push(timed(() => { for (let k = 0; k < repeats; k++) way(); }) / repeats)); // prettier-ignore
  for (const p of layer.parameters()) p.dispose();
  return times.map((list) => median(list) / count);
}

const { isa, threads } = on.info();
if (!json) console.log(`microseconds a step and session, ${isa}, ${threads} threads, Node ${process.version}`);
if (!json)
  console.log(
    `${"cell".padEnd(6)}${["I", "H", "sessions", "each alone", "together", "speed"].map((title) => title.padStart(12)).join("")}`,
  );
for (const name of names)
  for (const [I, H] of sizes)
    for (const count of sessions) {
      const [alone, together] = compare(cells[name], I, H, count);
      if (json)
        console.log(JSON.stringify({ cell: name, I, H, sessions: count, alone_us: alone, together_us: together, speed: alone / together }));
      else
        console.log(
          `${name.padEnd(6)}${[I, H, count, alone.toFixed(2), together.toFixed(2), (alone / together).toFixed(2)].map((text) => String(text).padStart(12)).join("")}`,
        );
    }
