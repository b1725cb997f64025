// Runs when the package is installed, and by hand to compile: `node scripts/install.mjs [--build]`.
// A prebuilt addon that loads is enough, unless --build (or npm's --build-from-source) asks for a compiled one. Without
// either the package works on its reference device; so installation never fails here, and only --build does.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const require = createRequire(import.meta.url);
const asked = process.argv.includes("--build");
const compile = asked || process.env.npm_config_build_from_source === "true";

/** Whether the addon loads, tried in a process of its own: a bad binary may crash. */
function loads(env = {}) {
  const program = 'process.exit(require(require("node-gyp-build").resolve(process.argv[1])).isas.length > 0 ? 0 : 1)';
  return spawnSync(process.execPath, ["-e", program, root], { cwd: root, env: { ...process.env, ...env }, stdio: "ignore" }).status === 0;
}

function run(script, args) {
  return spawnSync(process.execPath, [script, ...args], { cwd: root, stdio: "inherit" }).status === 0;
}

/** A dependency's script, or null if it is not installed. */
function find(path) {
  try {
    return require.resolve(path);
  } catch {
    return null;
  }
}

/** An nvcc that does not get on with the compiler must not cost the processor's kernels: then it is left out. */
function withCmake() {
  const script = find("cmake-js/bin/cmake-js");
  const build = ["build", "--log-level", "error", "--parallel", String(availableParallelism())];
  return script !== null && (run(script, build) || run(script, [...build, "--CDTHROUGHTIME_CUDA=OFF"]));
}

function withNodeGyp() {
  const script = process.env.npm_config_node_gyp ?? find("node-gyp/bin/node-gyp.js");
  const home = dirname(dirname(process.execPath));
  // The headers beside Node itself save a download.
  const headers = existsSync(join(home, "include", "node", "node_api.h")) ? [`--nodedir=${home}`] : [];
  return script !== null && run(script, ["rebuild", "--silent", "--jobs", String(availableParallelism()), ...headers]);
}

if (!compile && loads({ PREBUILDS_ONLY: "1" })) {
  console.log("throughtime: the prebuilt addon loads");
} else if ((withCmake() && loads()) || (withNodeGyp() && loads())) {
  console.log("throughtime: the native addon is compiled");
} else {
  console.warn(
    "throughtime: there is no prebuilt addon for this machine and none could be compiled (this needs CMake, or Python and Make, and\n" +
      "GCC or Clang for C++17). The package works on its reference device, which is slow. To try again: node scripts/install.mjs --build",
  );
  if (asked) process.exitCode = 1;
}
