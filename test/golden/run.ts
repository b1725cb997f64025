/**
 * Runs golden cases: npm run golden -- DIR [--device reference|cpu|cuda] [--family NAME].
 * Exit status 0 if nothing failed, 1 if a case failed, 2 if there was nothing to run.
 */
import { parseArgs } from "node:util";
import type { DeviceName } from "../../src/backend/devices.js";
import { findCases, type Found } from "./case.js";
import { runCases, show, unavailable } from "./runner.js";

const usage = "usage: npm run golden -- DIR [--device reference|cpu|cuda] [--family NAME]";

function stop(message: string): never {
  console.error(`golden: ${message}`);
  process.exit(2);
}

function parse() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: { device: { type: "string" }, family: { type: "string" } },
    });
    if (positionals.length !== 1) stop(`one folder of cases is expected\n${usage}`);
    const { device, family } = values;
    if (device !== undefined && !["reference", "cpu", "cuda"].includes(device))
      stop(`--device must be reference, cpu or cuda but is ${device}\n${usage}`);
    return { folder: positionals[0], devices: (device ? [device] : ["reference", "cpu"]) as DeviceName[], family };
  } catch (error) {
    return stop(`${(error as Error).message}\n${usage}`);
  }
}

const { folder, devices, family } = parse();
let cases: Found[] = [];
try {
  cases = findCases(folder);
} catch (error) {
  stop(`cannot read the folder ${folder}: ${(error as Error).message}`);
}
if (cases.length === 0) stop(`there are no cases (NAME.json beside NAME.safetensors) under ${folder}`);
for (const name of devices) {
  const reason = unavailable(name);
  if (reason) console.error(`golden: THE ${name} DEVICE IS MISSING, its cases count as unsupported: ${reason}`);
}

const count = { ok: 0, FAIL: 0, unsupported: 0 };
for await (const result of runCases(cases, { devices, family })) {
  console.log(show(result));
  count[result.outcome]++;
}
if (count.ok + count.FAIL + count.unsupported === 0) stop(`there are no cases of the family ${family} under ${folder}`);
console.log(`${count.ok} passed, ${count.FAIL} failed, ${count.unsupported} unsupported`);
process.exitCode = count.FAIL > 0 ? 1 : 0;
