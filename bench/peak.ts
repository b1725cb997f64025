import type { Backend } from "../src/backend/backend.js";
import { median } from "./measure.js";

/**
 * The multiply-adds the device can do at all, in operations a second: a loop of nothing else on all its threads, the
 * median of a few runs of some hundredths of a second.
 */
export function peakFlops(device: Backend): number {
  const threads = device.info().threads ?? 1;
  const out = device.alloc(Math.max(threads, 1 << 14), "float32"); // calls on less are taken to be short, and run on one thread
  const perRound = device.kernelInfo("peak") * threads;
  const seconds = (rounds: number) => {
    const start = performance.now();
    device.run({ kernel: "peak", inputs: [], outputs: [out], ints: [rounds, threads], floats: [] });
    device.readSync(out);
    return (performance.now() - start) / 1e3;
  };
  let rounds = 1 << 16;
  while (seconds(rounds) < 0.02) rounds *= 2;
  const rates = Array.from({ length: 7 }, () => (rounds * perRound) / seconds(rounds));
  device.free(out);
  return median(rates);
}
