// The tests of the CUDA device on a real GPU: parity of every op with the reference, sweeps in every kind of team, golden
// cases, and compute-sanitizer where it is installed. Needs Node and the built files only.
//   node test/cuda/run.mjs [--golden DIR] [--quick]     --quick: no sweeps but those of each team, and no sanitizer
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { gpu } from "./library.mjs";

const { quick, golden } = parseArgs({ options: { quick: { type: "boolean" }, golden: { type: "string" } } }).values;
const parity = join(import.meta.dirname, "parity.mjs");
const sweeps = "^sweep\\.(lstm|gru|elman_tanh|elman_relu)$";
const longest = 300; // seconds of a step: blocks that wait for each other in vain must not hold up the others

const info = gpu("NOTHING WAS TESTED ON CUDA");
console.log(info);

const failed = [];
function step(name, command, args, env = {}) {
  const started = Date.now();
  console.log(`\n== ${name}`);
  const { status, error } = spawnSync(command, args, {
    stdio: "inherit",
    env: { ...process.env, ...env },
    timeout: 1000 * longest,
    killSignal: "SIGKILL",
  });
  const outcome = status === 0 ? "ok" : error ? `FAILED: ${error.message}` : "FAILED";
  if (status !== 0) failed.push(name);
  console.log(`== ${name}: ${outcome}, ${((Date.now() - started) / 1000).toFixed(1)} s`);
}

step("parity of every op", process.execPath, [parity, quick ? "^(?!sweep)" : ""]);
for (const team of ["steps", "block", "cluster2", "cluster4", "cluster8", "cluster16", "grid2", "grid5"])
  if (!team.startsWith("cluster") || Number(info.capability) >= 9)
    step(`sweeps, teams: ${team}`, process.execPath, [parity, sweeps], { THROUGHTIME_SWEEP: team });

step("products in TF32", process.execPath, [parity, "^(matmul|linear)$"], { THROUGHTIME_TF32: "1" });

if (golden !== undefined) {
  const script = join(import.meta.dirname, "..", "golden", "run");
  const how = existsSync(`${script}.js`) ? [`${script}.js`] : ["--import", "tsx", `${script}.ts`];
  step(`golden cases of ${golden}`, process.execPath, [...how, golden, "--device", "cuda"]);
}

const few = "^(sweep\\.(lstm|gru)|matmul|softmax|scan|matrixScan|embedding)$";
if (quick) console.log("\n*** memory and races were not checked ***");
else if (spawnSync("compute-sanitizer", ["--version"]).status !== 0)
  console.log("\n*** compute-sanitizer is not installed: memory and races were not checked ***");
else
  for (const tool of ["memcheck", "racecheck", "synccheck"])
    for (const team of ["block", "cluster2", "grid2"])
      if (!team.startsWith("cluster") || Number(info.capability) >= 9)
        step(
          `${tool}, teams: ${team}`,
          "compute-sanitizer",
          ["--tool", tool, "--error-exitcode", "9", process.execPath, parity, team === "block" ? few : "^sweep\\.(lstm|gru)$"],
          { THROUGHTIME_SWEEP: team },
        );

console.log(failed.length > 0 ? `\nfailed: ${failed.join("; ")}` : "\nall passed");
process.exitCode = failed.length > 0 ? 1 : 0;
