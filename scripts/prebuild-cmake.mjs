#!/usr/bin/env node
// prebuildify calls this in place of node-gyp: the addon comes from CMakeLists.txt, and its result lies where node-gyp's would.
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";

const cmake = createRequire(import.meta.url).resolve("cmake-js/bin/cmake-js");
const { status } = spawnSync(process.execPath, [cmake, "build", "--CDCMAKE_BUILD_TYPE=Release"], { stdio: "inherit" });
process.exitCode = status ?? 1;
