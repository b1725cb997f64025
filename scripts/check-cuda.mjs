// Compiles the CUDA kernels for each architecture and reads what ptxas says: no warnings, no registers spilled to memory,
// and in the persistent sweeps and products no more registers than leave a block its SM.   npm run check:cuda
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

// Registers a thread. A block of 256 threads has its SM to itself up to 255; two share it up to 128.
const budgets = [
  { kernel: /sweep_forward|sweep_backward/, most: 128 },
  { kernel: /multiply_tiles/, most: 128 },
];

const root = dirname(dirname(fileURLToPath(import.meta.url)));
if (spawnSync("nvcc", ["--version"]).status !== 0) {
  console.log("\n*** THE CUDA KERNELS WERE NOT COMPILED: there is no nvcc ***\n");
  process.exit(0);
}
const folder = mkdtempSync(join(tmpdir(), "throughtime-cuda-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

function sh(command, args) {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: root, encoding: "utf8", maxBuffer: 1 << 28 });
  if (status !== 0) {
    console.error(stdout, stderr);
    process.exit(1);
  }
  return stdout + stderr;
}

// The flags that the build is given by the environment count too: with the same ones a cache of compilations has it all.
const flags = process.env.CUDAFLAGS ?? "-Xptxas=-v";
sh("cmake", ["-S", root, "-B", folder, "-DTHROUGHTIME_BASE_ONLY=ON", `-DCMAKE_CUDA_FLAGS=${flags}`]);
const log = sh("cmake", ["--build", folder, "--target", "throughtime_cuda", "--parallel", String(availableParallelism())]);

const problems = [...log.matchAll(/^.*\bwarning\b.*$/gim)].map(([line]) => line.trim());
const kernels = [];
let current = null;
for (const line of log.split("\n")) {
  const entry = /Compiling entry function '([^']+)' for '([^']+)'/.exec(line);
  if (entry) kernels.push((current = { name: entry[1], arch: entry[2], spilled: 0, registers: 0 }));
  const spill = /(\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line);
  if (spill && current) current.spilled += Number(spill[1]) + Number(spill[2]);
  const used = /Used (\d+) registers/.exec(line);
  if (used && current) current.registers = Number(used[1]);
}
if (kernels.length === 0) problems.push("ptxas told nothing of any kernel");
for (const { name, arch, spilled, registers } of kernels) {
  if (spilled > 0) problems.push(`${name} for ${arch} spills ${spilled} bytes of registers`);
  const budget = budgets.find(({ kernel }) => kernel.test(name));
  if (budget && registers > budget.most) problems.push(`${name} for ${arch} takes ${registers} registers, more than ${budget.most}`);
}
const most = (kernel) => Math.max(0, ...kernels.filter(({ name }) => kernel.test(name)).map(({ registers }) => registers));
console.log(`check-cuda: ${kernels.length} kernels, ${problems.length} problems`);
for (const { kernel } of budgets) console.log(`  ${kernel.source}: at most ${most(kernel)} registers`);
for (const problem of problems) console.error(`  ${problem}`);
process.exitCode = problems.length > 0 ? 1 : 0;
