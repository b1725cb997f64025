// Builds and runs the tests that need no Node: as they are, or with --sanitize under the compiler's sanitizers.
// With --arm64 they are compiled for 64-bit ARM and run under qemu-user.
// With --wide it runs the tests of the kernels instead, on an addon whose AVX-512 kernels are compiled for AVX2.
import { spawnSync } from "node:child_process";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

function sh(command, args, env = {}) {
  const { status } = spawnSync(command, args, { cwd: root, stdio: "inherit", env: { ...process.env, ...env } });
  if (status !== 0) process.exit(status ?? 1);
}

/**
 * Builds the named tests in a folder of their own and runs them. It lies beside `build`: as deep in the project, its
 * compiler is called with the same relative paths, so that a cache of compilations knows what the addon was made of.
 */
function check(name, tests, options) {
  const folder = join(root, `build-${name}`);
  options = ["-DTHROUGHTIME_TESTS=ON", "-DTHROUGHTIME_BASE_ONLY=ON", "-DTHROUGHTIME_CUDA=OFF", ...options];
  sh("cmake", ["-S", root, "-B", folder, "--log-level=ERROR", ...options]);
  sh("cmake", ["--build", folder, "--parallel", String(availableParallelism()), "--target", ...tests]);
  sh("ctest", ["--test-dir", folder, "--output-on-failure", "--tests-regex", tests.join("|")]);
}

const wide = process.arch === "x64" ? ["gemm_sweep_avx2", "gemm_sweep_wide"] : [];
if (process.argv.includes("--sanitize")) {
  // The engine's test calls kernels of these files only; the others would be compiled for nothing.
  const few = "-DTHROUGHTIME_KERNELS=elementwise;reduce;gather";
  check("sanitize-address", ["engine_test", wide[0] ?? "gemm_sweep_base"], ["-DTHROUGHTIME_SANITIZE=address,undefined", few]);
  check("sanitize-thread", ["engine_test"], ["-DTHROUGHTIME_SANITIZE=thread", few]);
} else if (process.argv.includes("--arm64")) {
  check("arm64", ["engine_test", "gemm_sweep_base"], [`-DCMAKE_TOOLCHAIN_FILE=${join(root, "scripts", "aarch64-linux-gnu.cmake")}`]);
} else if (process.argv.includes("--wide")) {
  const folder = join(root, "build", "wide");
  sh("npx", [
    "cmake-js",
    "build",
    "--log-level",
    "error",
    "--out",
    join(folder, "build"),
    "--CDTHROUGHTIME_EMULATE_AVX512=ON",
    "--CDTHROUGHTIME_CUDA=OFF",
  ]);
  sh("npx", ["vitest", "run", "test/ops-parity.test.ts", "test/native.test.ts"], {
    THROUGHTIME_PREBUILD: folder,
    THROUGHTIME_ISA: "avx512",
  });
} else {
  check("test", ["engine_test", "gemm_sweep_base", ...wide], []);
}
