// Packs what a machine with a GPU needs to test and measure the CUDA kernels, and has not: Node itself, dist, the addon, the
// CUDA library, the tests with golden cases, and the benchmark.   npm run pack:cuda [-- FILE.tar.xz]
// There, with nothing installed and no network:   tar xf FILE.tar.xz && throughtime-cuda/run.sh [FOLDER of results]
import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const archive = resolve(process.argv[2] ?? join(root, "build", "throughtime-cuda.tar.xz"));
const scratch = mkdtempSync(join(tmpdir(), "throughtime-pack-cuda-"));
process.on("exit", () => rmSync(scratch, { recursive: true, force: true }));
const inside = join(scratch, "throughtime-cuda");
const largest = 60e6; // bytes

const libraries = ["throughtime.node", "throughtime_cuda.so"].map((name) => join("build", "Release", name));
for (const file of [join("dist", "index.js"), ...libraries])
  if (!existsSync(join(root, file))) {
    console.error(`pack:cuda: there is no ${file}: npm run build makes it, the CUDA library where there is nvcc`);
    process.exit(1);
  }

function copy(...files) {
  for (const file of files) cpSync(join(root, file), join(inside, file), { recursive: true, dereference: true });
}

// The addon is found by node-gyp-build.
copy("package.json", "dist", ...libraries, "test/cuda", "bench/cuda", "test/golden/cases", "node_modules/node-gyp-build");
copyFileSync(process.execPath, join(inside, "node"));
chmodSync(join(inside, "node"), 0o755);
spawnSync("strip", [join(inside, "node")]);

// The runner of golden cases as JavaScript over dist.
const golden = join(root, "test", "golden");
for (const name of readdirSync(golden, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"))) {
  const compilerOptions = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022, verbatimModuleSyntax: true };
  const { outputText } = ts.transpileModule(readFileSync(join(golden, name), "utf8"), { compilerOptions, fileName: name });
  const to = join(inside, "test", "golden", name.replace(/\.ts$/, ".js"));
  mkdirSync(dirname(to), { recursive: true });
  writeFileSync(to, outputText.replaceAll(/(from ")((?:\.\.\/)+)src\//g, "$1$2dist/"));
}

writeFileSync(
  join(inside, "run.sh"),
  `#!/bin/sh
# Tests the CUDA kernels on this machine's GPU, then measures them. Results go to the folder named, or to this one.
#   QUICK=1 leaves out the longest tests; MEASURE=600 measures for so many seconds; PYTHON names one that has PyTorch.
here=$(cd "$(dirname "$0")" && pwd)
out=\${1:-$here/results}
mkdir -p "$out"
# Nothing but what is packed here is tested.
unset THROUGHTIME_CUDA THROUGHTIME_DIST THROUGHTIME_DEVICE
{ "$here/node" "$here/test/cuda/run.mjs" --golden "$here/test/golden/cases" \${QUICK:+--quick} 2>&1; echo $? >"$out/status"; } | tee "$out/test.txt"
"$here/node" "$here/bench/cuda/run.mjs" --seconds "\${MEASURE:-300}" --out "$out/bench.md" 2>&1 | tee "$out/bench.txt"
exit "$(cat "$out/status")"
`,
  { mode: 0o755 },
);

mkdirSync(dirname(archive), { recursive: true });
execFileSync("tar", ["-C", scratch, "-cJf", archive, "throughtime-cuda"], { env: { ...process.env, XZ_OPT: "-6 -T0" } });
const { size } = statSync(archive);
console.log(`pack:cuda: ${archive}, ${(size / 1e6).toFixed(1)} MB`);
if (size > largest) {
  console.error(`pack:cuda: that is more than ${largest / 1e6} MB`);
  process.exitCode = 1;
}
