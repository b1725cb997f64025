// The tests of the CUDA kernels without a GPU: the library is built for the processor, each CUDA thread a fiber
// (test/emulated), and the tests run on it as the device "cuda".   npm run test:emulated [-- FILES]
import { spawnSync } from "node:child_process";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const folder = join(root, "build-emulated");

function sh(command, args, env = {}) {
  const { status } = spawnSync(command, args, { cwd: root, stdio: "inherit", env: { ...process.env, ...env } });
  if (status !== 0) process.exit(status ?? 1);
}

const options = ["-DTHROUGHTIME_EMULATE_CUDA=ON", "-DTHROUGHTIME_CUDA=OFF", "-DTHROUGHTIME_BASE_ONLY=ON", "-DCMAKE_BUILD_TYPE=Release"];
sh("cmake", ["-S", root, "-B", folder, "--log-level=ERROR", ...options]);
sh("cmake", ["--build", folder, "--parallel", String(availableParallelism()), "--target", "throughtime_emulated"]);

const emulated = { THROUGHTIME_CUDA: join(folder, "Release", "throughtime_emulated.so"), THROUGHTIME_TEST: "cuda" };
const vitest = (args, env) => sh("npx", ["vitest", "run", ...args], { ...emulated, ...env });

const files = process.argv.slice(2);
if (files.length > 0) {
  vitest(files);
} else {
  // What a device must do; the other tests see no device, or take long without showing more.
  const names = [
    "ops-parity",
    "tensor",
    "optimizers",
    "update",
    "lookup",
    "recurrent-masks",
    "stream",
    "streams",
    "train",
    "cuda",
    "products",
    "cublaslt",
  ];
  vitest([...names.map((name) => `test/${name}.test.ts`), "--reporter=dot"]);
  // Sweeps by teams that are not chosen for sizes as small as those of the tests.
  for (const team of ["cluster2", "grid3"])
    vitest(["test/ops-parity.test.ts", "-t", "on 'cuda' sweep.(lstm|gru) ", "--reporter=dot"], { THROUGHTIME_SWEEP: team });
  // Every product that may be is taken by a stand-in for cuBLASLt.
  vitest(["test/ops-parity.test.ts", "-t", "on 'cuda' (matmul|linear|conv) ", "--reporter=dot"], {
    THROUGHTIME_CUBLASLT: join(folder, "Release", "fake_cublaslt_good.so"),
    THROUGHTIME_CUBLASLT_FROM: "1",
  });
}
