#!/usr/bin/env node
// prebuildify calls this in place of node-gyp: the addon comes from CMakeLists.txt, and its result lies where node-gyp's would.
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const cmake = createRequire(import.meta.url).resolve("cmake-js/bin/cmake-js");
// prebuildify names the architecture; another than this machine's is cross-compiled, without CUDA: nvcc is this machine's.
// Where there is nvcc, throughtime_cuda.so comes to lie beside the addon, and prebuildify takes every .so along.
const arch = process.env.PREBUILD_ARCH ?? process.arch;
const toolchain = fileURLToPath(new URL("aarch64-linux-gnu.cmake", import.meta.url));
const cross = arch === "arm64" && process.arch !== arch && process.platform === "linux";
const { status } = spawnSync(
  process.execPath,
  [
    cmake,
    cross ? "rebuild" : "build",
    "--CDCMAKE_BUILD_TYPE=Release",
    ...(cross ? ["--arch", arch, `--CDCMAKE_TOOLCHAIN_FILE=${toolchain}`, "--CDTHROUGHTIME_CUDA=OFF"] : []),
  ],
  { stdio: "inherit" },
);
process.exitCode = status ?? 1;
