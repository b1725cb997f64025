/**
 * Times the library's layers on native CPU:
 *   npm run bench -- [--cases FILE] [--shapes S] [--cells C] [--modes M] [--threads N] [--budget SECONDS] [--precision P] [--json] [--serve]
 * S, C and M are lists with commas, P is float32, bf16 or int8. A case is timed only if it agrees with the reference backend. Exit status 1 if any
 * case could not be timed. The peak is measured beside each case: multiply-adds of float32 alone, on as many threads. --serve speaks the line protocol of bench/peers/peer.py.
 */
import { parseArgs } from "node:util";
import { device } from "../src/index.js";
import { flops, type BenchCase } from "./cases.js";
import { measure, median } from "./measure.js";
import { checkCase } from "./parity.js";
import { peakFlops } from "./peak.js";
import { precisions } from "../src/ops/precision.js";
import { caseFlags, selectCases, stop, threadsOf } from "./select.js";
import { serve } from "./serve.js";
import { workload, type Place } from "./workload.js";

const PEER = "throughtime";

function prepare() {
  try {
    const flags = {
      budget: { type: "string", default: "1" },
      precision: { type: "string", default: "float32" },
      json: { type: "boolean", default: false },
      serve: { type: "boolean", default: false },
    } as const;
    const { values } = parseArgs({ options: { ...caseFlags, ...flags } });
    const budget = Number(values.budget);
    if (!(budget > 0)) throw new RangeError(`--budget must be a positive number of seconds but is ${values.budget}`);
    const threads = threadsOf(values);
    if (threads) process.env.THROUGHTIME_THREADS = String(threads);
    const precision = precisions.find((p) => p === values.precision);
    if (!precision) throw new RangeError(`--precision must be one of ${precisions.join(", ")} but is ${values.precision}`);
    const place: Place = { device: device("cpu"), dtype: "float32", precision };
    return { cases: selectCases(values), budget, place, json: values.json, serving: values.serve };
  } catch (error) {
    return stop(error);
  }
}

const { cases, budget, place, json, serving } = prepare();

function timeCase(c: BenchCase) {
  checkCase(c, place);
  const work = workload(c, place);
  try {
    const { times, first_ms, own_cores, other_cores, steal_cores } = measure(() => work.step(), budget);
    const ms = median(times);
    const round = (x: number, digits: number) => Number(x.toFixed(digits));
    const rate = flops(c) / ms / 1e6;
    return {
      ms: round(ms, 5),
      ms_min: round(Math.min(...times), 5),
      n: times.length,
      per_s: round(1e3 / ms, 2),
      gflops: round(rate, 3),
      peak: round((rate * 1e9) / peakFlops(place.device), 4),
      first_ms: round(first_ms, 3),
      own_cores: round(own_cores, 2),
      other_cores: round(other_cores, 3),
      steal_cores: round(steal_cores, 3),
    };
  } finally {
    work.dispose();
  }
}

function line(id: string, { ms, ms_min, gflops, peak, n, other_cores }: ReturnType<typeof timeCase>): string {
  const columns = [ms.toPrecision(4), ms_min.toPrecision(4), gflops.toFixed(1), `${(peak * 100).toFixed(0)} %`, String(n)].map((text) =>
    text.padStart(10),
  );
  return `${id.padEnd(26)} ${columns.join(" ")}${other_cores > 0.15 ? `  (others used ${other_cores} cores)` : ""}`;
}

const { isa, threads } = place.device.info();
if (serving) {
  await serve(PEER, cases, place, { node: process.version, isa, threads, layout: "batch-major" });
} else {
  if (!json) console.log(`${PEER}, ${place.precision}, ${isa}, ${threads} threads, Node ${process.version}`);
  if (!json)
    console.log(
      `${"case".padEnd(26)} ${["median ms", "best ms", "GFLOP/s", "of peak", "calls"].map((text) => text.padStart(10)).join(" ")}`,
    );
  for (const { id, ...c } of cases) {
    try {
      const result = timeCase({ id, ...c });
      console.log(json ? JSON.stringify({ peer: PEER, case: id, ...c, ...result }) : line(id, result));
    } catch (error) {
      process.exitCode = 1;
      const { message } = error as Error;
      console.log(json ? JSON.stringify({ peer: PEER, case: id, error: message }) : `${id.padEnd(26)} not timed: ${message}`);
    }
  }
}
