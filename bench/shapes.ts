/**
 * Times odd shapes beside even ones, one size varied at a time, to find those that fall behind their neighbours:
 *   npm run bench:shapes -- [--cells lstm,gru] [--modes infer,train] [--rounds 3] [--budget 0.06] [--threads N]
 * Prints GFLOP/s of the fastest call of all rounds, so that it may be run on a machine that others use as well.
 */
import { parseArgs } from "node:util";
import { device } from "../src/index.js";
import { flops, gates, type BenchCase, type CellName, type Mode } from "./cases.js";
import { measure } from "./measure.js";
import { stop, threadsOf } from "./select.js";
import { workload } from "./workload.js";

type Sizes = Pick<BenchCase, "B" | "T" | "I" | "H">;

const even: Sizes = { B: 16, T: 32, I: 128, H: 128 };
const grids: readonly { readonly title: string; readonly sizes: readonly Sizes[]; readonly vary: keyof Sizes }[] = [
  grid("H", [1, 2, 3, 5, 7, 13, 16, 17, 31, 32, 33, 61, 64, 67, 127, 128, 131, 251, 256, 257, 384, 509, 512, 521], (H) => ({ I: H, H })),
  grid("B", [1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 16, 17, 23, 31, 32, 33, 47, 64], (B) => ({ B })),
  grid("T", [1, 2, 3, 5, 8, 16, 37, 64, 101], (T) => ({ T })),
  grid("I", [1, 3, 8, 16, 31, 64, 128, 257, 512, 1024, 2048], (I) => ({ I })),
  grid("B", [1, 2, 4, 7, 8, 16, 64], (B) => ({ B, T: 1, I: 256, H: 256 })),
];

function grid(vary: keyof Sizes, values: readonly number[], change: (value: number) => Partial<Sizes>) {
  const sizes = values.map((value) => ({ ...even, ...change(value) }));
  const fixed = (Object.keys(even) as (keyof Sizes)[]).filter((key) => sizes.every((s) => s[key] === sizes[0][key]));
  return { title: fixed.map((key) => `${key} ${sizes[0][key]}`).join(", "), sizes, vary };
}

function parse() {
  try {
    const text = (value: string) => ({ type: "string", default: value }) as const;
    const { values } = parseArgs({
      options: {
        ...{ cells: text("lstm,gru"), modes: text("infer,train"), rounds: text("3"), budget: text("0.06") },
        threads: { type: "string" },
      },
    });
    const [rounds, budget] = [values.rounds, values.budget].map(Number);
    if (!(Number.isInteger(rounds) && rounds > 0)) throw new RangeError(`--rounds must be a positive integer but is ${values.rounds}`);
    if (!(budget > 0)) throw new RangeError(`--budget must be a positive number of seconds but is ${values.budget}`);
    const [cells, modes] = [values.cells.split(","), values.modes.split(",")];
    for (const cell of cells)
      if (!(cell in gates)) throw new RangeError(`--cells must be of ${Object.keys(gates).join(", ")} but is ${cell}`);
    for (const mode of modes)
      if (!["infer", "train"].includes(mode)) throw new RangeError(`--modes must be of infer, train but is ${mode}`);
    const threads = threadsOf(values);
    if (threads) process.env.THROUGHTIME_THREADS = String(threads);
    return { rounds, budget, columns: cells.flatMap((cell) => modes.map((mode) => ({ cell: cell as CellName, mode: mode as Mode }))) };
  } catch (error) {
    return stop(error);
  }
}

const { rounds, budget, columns } = parse();
const place = { device: device("cpu"), dtype: "float32" } as const;

/** GFLOP/s of the fastest call. */
function fastest(c: BenchCase): number {
  const work = workload(c, place);
  try {
    return flops(c) / Math.min(...measure(() => work.step(), budget).times) / 1e6;
  } finally {
    work.dispose();
  }
}

const row = (cells: readonly string[]) => console.log(`| ${cells.join(" | ")} |`);
const { isa, threads } = place.device.info();
console.log(`${isa}, ${threads} threads, ${rounds} rounds of ${budget} s, Node ${process.version}`);
for (const { title, sizes, vary } of grids) {
  const best = sizes.map(() => columns.map(() => 0));
  for (let round = 0; round < rounds; round++)
    sizes.forEach((size, i) => {
      columns.forEach((column, j) => {
        const c = { id: "shape", shape: "shape", layers: 1, bidirectional: false, ...column, ...size };
        best[i][j] = Math.max(best[i][j], fastest(c));
      });
    });
  console.log(`\n${title}\n`);
  row([vary, ...columns.map(({ cell, mode }) => `${cell} ${mode}`)]);
  row(["---:", ...columns.map(() => "---:")]);
  sizes.forEach((size, i) => {
    row([String(size[vary]), ...best[i].map((rate) => rate.toPrecision(3))]);
  });
}
process.exit();
