import { setTimeout } from "node:timers/promises";
import { machineTime } from "./measure.js";

/** A measurement counts as quiet if all other programs together used less of the machine than this, in cores. */
export const QUIET = 0.15;

/** Cores in use on the whole machine, over a tenth of a second; 0 where the system does not say. */
async function busy(): Promise<number> {
  const [before, start] = [machineTime()?.busy ?? 0, performance.now()];
  await setTimeout(120);
  return (((machineTime()?.busy ?? 0) - before) / (performance.now() - start)) * 1000;
}

/** A function that waits until other programs leave the machine alone, with patience for so many seconds in all its calls. */
export function quiet(seconds: number): (() => Promise<void>) & { readonly left: () => number } {
  let patience = seconds * 1000;
  const wait = async () => {
    const start = performance.now();
    while ((await busy()) > QUIET && performance.now() - start < patience) await setTimeout(300);
    patience -= performance.now() - start;
  };
  return Object.assign(wait, { left: () => patience });
}
