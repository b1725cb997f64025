// Compiles the CUDA kernels for Ampere and Hopper and reads what ptxas says of each: no warnings, no registers spilled to
// memory, and in sweeps and products no more registers than leave the SM to as many threads as they count on.
//   npm run check:cuda [-- FILE]      reads FILE, the log of such a build
// The addon's own build folder is taken where it was configured with CUDAFLAGS=-Xptxas=-v: behind a compiler cache
// (CMAKE_CUDA_COMPILER_LAUNCHER=ccache) that compiles nothing again, as a cache tells once more what ptxas told.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Registers a thread may take. An SM has 65536: two blocks of 256 threads side by side take up to 128 each, one block 255. */
const budgets = [
  { kernel: /\bsweep_(forward|backward)\b/, most: 128 },
  { kernel: /\bfloat_product\b/, most: 128 },
  { kernel: /\btensor_product\b/, most: 224 },
];

const root = dirname(dirname(fileURLToPath(import.meta.url)));

function sh(command, args) {
  // make lets files that are compiled side by side speak one after the other.
  const env = { ...process.env, MAKEFLAGS: "-Otarget" };
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: root, encoding: "utf8", maxBuffer: 1 << 28, env });
  if (status === 0) return stdout + stderr;
  console.error(stdout, stderr);
  process.exit(1);
}

/** The log of compiling every file. */
function compiled() {
  if (spawnSync("nvcc", ["--version"]).status !== 0) {
    console.log("\n*** THE CUDA KERNELS WERE NOT COMPILED: there is no nvcc ***\n");
    process.exit(0);
  }
  const own = join(root, "build");
  const cache = join(own, "CMakeCache.txt");
  const verbose = existsSync(cache) && /^CMAKE_CUDA_FLAGS:.*-Xptxas=-v/m.test(readFileSync(cache, "utf8"));
  const folder = verbose ? own : join(own, "check-cuda");
  if (verbose) rmSync(join(folder, "native", "cuda", "CMakeFiles", "throughtime_cuda.dir"), { recursive: true, force: true });
  else {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
  }
  const options = ["-DTHROUGHTIME_BASE_ONLY=ON", "-DCMAKE_CUDA_FLAGS=-Xptxas=-v"];
  sh("cmake", ["-S", root, "-B", folder, "--log-level=ERROR", ...(verbose ? [] : options)]);
  return sh("cmake", ["--build", folder, "--target", "throughtime_cuda", "--parallel", String(availableParallelism())]);
}

/** What ptxas told of the kernels, and what it says of the functions that they call. */
function read(log) {
  const functions = new Map();
  let arch = "";
  let name = "";
  const about = (mangled) => {
    const key = `${arch} ${mangled}`;
    if (!functions.has(key)) functions.set(key, { mangled, arch, entry: false, spilled: 0, frame: 0, registers: 0 });
    return functions.get(key);
  };
  for (const line of log.split("\n")) {
    const entry = /Compiling entry function '([^']+)' for '([^']+)'/.exec(line);
    if (entry) {
      [, name, arch] = entry;
      about(name).entry = true;
    }
    const properties = /Function properties for (\S+)/.exec(line);
    const spill = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line);
    const used = /Used (\d+) registers/.exec(line);
    // The figures of a function follow its line; a kernel's registers follow the line that began it.
    if (properties) name = properties[1];
    if (spill) Object.assign(about(name), { frame: Number(spill[1]), spilled: Number(spill[2]) + Number(spill[3]) });
    if (used) about(name).registers = Number(used[1]);
  }
  return [...functions.values()];
}

/** Names as they are written, without arguments; as they are where there is no c++filt. */
function named(kernels) {
  const { status, stdout } = spawnSync("c++filt", ["-p"], { input: kernels.map(({ mangled }) => mangled).join("\n"), encoding: "utf8" });
  const names = status === 0 ? stdout.split("\n") : [];
  const plain = (name) => name.replaceAll(/throughtime::|\(anonymous namespace\)::|_GLOBAL__N__\w+::/g, "");
  return kernels.map((kernel, i) => ({ ...kernel, name: plain(names[i] ?? kernel.mangled) }));
}

const log = process.argv[2] ? readFileSync(process.argv[2], "utf8") : compiled();
const kernels = named(read(log));
const problems = [...new Set([...log.matchAll(/^.*\bwarning\b.*$/gim)].map(([line]) => line.trim()))];
if (!kernels.some(({ entry }) => entry)) problems.push("ptxas told nothing of any kernel");
for (const { name, arch, spilled, registers } of kernels) {
  if (spilled > 0) problems.push(`${arch} ${name}: spills ${spilled} bytes of registers`);
  const budget = budgets.find(({ kernel }) => kernel.test(name));
  if (budget && registers > budget.most) problems.push(`${arch} ${name}: takes ${registers} registers, more than ${budget.most}`);
}

const count = kernels.filter(({ entry }) => entry).length;
console.log(`check-cuda: ${count} kernels for ${[...new Set(kernels.map(({ arch }) => arch))].join(" and ")}, ${problems.length} problems`);
for (const { kernel, most } of budgets) {
  const matching = kernels.filter(({ name }) => kernel.test(name));
  if (matching.length === 0) continue;
  const largest = Math.max(...matching.map(({ registers }) => registers));
  console.log(`  ${kernel.source}: ${matching.length}, at most ${largest} registers of ${most}`);
}
for (const { name, arch, frame } of kernels.filter(({ frame, spilled }) => frame > 0 && spilled === 0))
  console.log(`  ${arch} ${name}: ${frame} bytes of local memory`);
for (const problem of problems) console.error(`  ${problem}`);
if (problems.length > 0) process.exitCode = 1;
