import { createInterface } from "node:readline";
import { writeSync } from "node:fs";
import type { BenchCase } from "./cases.js";
import { measure } from "./measure.js";
import { memoryUse } from "./memoryUse.js";
import { checkCase } from "./parity.js";
import { peakFlops } from "./peak.js";
import { workload, type Place, type Workload } from "./workload.js";

const say = (answer: object) => writeSync(1, `${JSON.stringify(answer)}\n`);

/**
 * Answers lines {"case": id, "budget": seconds} on standard input with one line of JSON each, after a first line that
 * says who is there. A case is checked before it is timed for the first time; an error is an answer too.
 * {"case": id, "steps": count}, asked of a fresh process, is answered by what memory so many steps take.
 */
export async function serve(peer: string, cases: readonly BenchCase[], place: Place, versions: object): Promise<void> {
  const caseOf = (id: string) => {
    const c = cases.find((one) => one.id === id);
    if (!c) throw new Error(`there is no case ${id}`);
    return c;
  };
  say({ peer, ready: true, versions });
  const checked = new Set<string>();
  let current = null as { readonly id: string; readonly work: Workload } | null;
  for await (const line of createInterface({ input: process.stdin })) {
    let id: string | undefined;
    try {
      const request = JSON.parse(line) as { case: string; budget: number; steps?: number; checkpoint?: boolean };
      id = request.case;
      const { steps, checkpoint } = request;
      if (steps !== undefined) {
        const step = () => {
          const work = workload({ ...caseOf(id!), checkpoint }, place);
          return () => work.step();
        };
        say({ peer, case: id, ...memoryUse(step, steps) });
        continue;
      }
      if (current?.id !== id) {
        current?.work.dispose();
        current = null;
        const c = caseOf(id);
        if (!checked.has(id)) checkCase(c, place);
        checked.add(id);
        current = { id, work: workload(c, place) };
      }
      const { times, ...rest } = measure(() => current!.work.step(), request.budget);
      say({ peer, case: id, ...rest, peak_gflops: peakFlops(place.device) / 1e9, times: times.map((t) => Number(t.toFixed(5))) });
    } catch (error) {
      say({ peer, case: id, error: error instanceof Error ? error.message : String(error) });
    }
  }
  current?.work.dispose();
}
