// The tests of the CUDA device on a real GPU: parity of every op with the reference, sweeps in every kind of team, and
// compute-sanitizer where it is installed. Needs Node and the built files only:   node test/cuda/run.mjs [--quick]
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const dist = process.env.THROUGHTIME_DIST ?? join(import.meta.dirname, "..", "..", "dist");
const { device } = await import(pathToFileURL(join(dist, "index.js")).href);
const quick = process.argv.includes("--quick");
const parity = join(import.meta.dirname, "parity.mjs");
const sweeps = "^sweep\\.(lstm|gru|elman_tanh|elman_relu)$";

const info = device.info().devices.find(({ name }) => name === "cuda");
if (!info.available) {
  console.log(`\n*** NOTHING WAS TESTED ON CUDA: ${info.reason} ***\n`);
  process.exit(0);
}
console.log(info);

let failed = 0;
function step(name, command, args, env = {}) {
  const started = Date.now();
  console.log(`\n== ${name}`);
  const { status } = spawnSync(command, args, { stdio: "inherit", env: { ...process.env, ...env } });
  if (status !== 0) failed++;
  console.log(`== ${name}: ${status === 0 ? "ok" : "FAILED"}, ${((Date.now() - started) / 1000).toFixed(1)} s`);
}

step("parity of every op", process.execPath, [parity, quick ? "^(?!sweep)" : ""]);
for (const team of ["steps", "block", "cluster2", "cluster4", "cluster8", "cluster16", "grid2", "grid5"])
  if (!team.startsWith("cluster") || Number(info.capability) >= 9)
    step(`sweeps, teams: ${team}`, process.execPath, [parity, sweeps], { THROUGHTIME_SWEEP: team });
step(
  "products in TF32 say so",
  process.execPath,
  [
    "-e",
    `import(${JSON.stringify(pathToFileURL(join(dist, "index.js")).href)}).then(({ device }) => process.exit(device.info().devices.find((d) => d.name === "cuda").tf32 ? 0 : 1))`,
  ],
  { THROUGHTIME_TF32: "1" },
);

const sanitizer = spawnSync("compute-sanitizer", ["--version"]).status === 0;
if (!sanitizer) console.log("\n*** compute-sanitizer is not installed: memory and races were not checked ***");
else
  for (const tool of ["memcheck", "racecheck", "synccheck"])
    for (const team of ["block", "cluster2", "grid2"])
      step(
        `${tool}, sweeps, teams: ${team}`,
        "compute-sanitizer",
        ["--tool", tool, "--error-exitcode", "9", process.execPath, parity, "^sweep\\.(lstm|gru)$"],
        { THROUGHTIME_SWEEP: team },
      );

console.log(failed > 0 ? `\n${failed} steps failed` : "\nall passed");
process.exitCode = failed > 0 ? 1 : 0;
