// Packs what a machine with a GPU needs to test and measure the CUDA kernels, and nothing it has not: Node itself, dist,
// the addon, the CUDA library, the tests and the benchmark.   npm run pack:cuda [-- FILE.tar.xz]
import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const archive = resolve(process.argv[2] ?? join(root, "build", "throughtime-cuda.tar.xz"));
const folder = mkdtempSync(join(tmpdir(), "throughtime-pack-cuda-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
const inside = join(folder, "throughtime-cuda");
const largest = 60e6; // bytes

const release = join(root, "build", "Release");
for (const file of [join(root, "dist", "index.js"), join(release, "throughtime.node"), join(release, "throughtime_cuda.so")])
  if (!existsSync(file)) {
    console.error(`pack:cuda: there is no ${file}; it comes from npm run build, the CUDA library where there is nvcc`);
    process.exit(1);
  }

mkdirSync(join(inside, "build", "Release"), { recursive: true });
copyFileSync(process.execPath, join(inside, "node"));
chmodSync(join(inside, "node"), 0o755);
execFileSync("strip", [join(inside, "node")], { stdio: "ignore" });
for (const name of ["throughtime.node", "throughtime_cuda.so"]) copyFileSync(join(release, name), join(inside, "build", "Release", name));
cpSync(join(root, "dist"), join(inside, "dist"), { recursive: true });
for (const part of [join("test", "cuda"), join("bench", "cuda")]) cpSync(join(root, part), join(inside, part), { recursive: true });
copyFileSync(join(root, "package.json"), join(inside, "package.json"));
// The addon is found through this one dependency.
cpSync(join(root, "node_modules", "node-gyp-build"), join(inside, "node_modules", "node-gyp-build"), {
  recursive: true,
  dereference: true,
});
writeFileSync(
  join(inside, "run.sh"),
  `#!/bin/sh
# Tests the CUDA kernels on this machine's GPU, then measures them; results go to the folder given, or to this one.
here=$(cd "$(dirname "$0")" && pwd)
out=\${1:-$here}
"$here/node" "$here/test/cuda/run.mjs" >"$out/test.txt" 2>&1
status=$?
cat "$out/test.txt"
"$here/node" "$here/bench/cuda/run.mjs" --seconds \${SECONDS_TO_MEASURE:-240} --out "$out/bench.md"
exit $status
`,
  { mode: 0o755 },
);
mkdirSync(dirname(archive), { recursive: true });
execFileSync("tar", ["-C", folder, "-cJf", archive, "throughtime-cuda"], { env: { ...process.env, XZ_OPT: "-6 -T0" } });
const { size } = statSync(archive);
console.log(`pack:cuda: ${archive}, ${(size / 1e6).toFixed(1)} MB`);
if (size > largest) {
  console.error(`pack:cuda: that is more than ${largest / 1e6} MB`);
  process.exitCode = 1;
}
