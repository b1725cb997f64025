// Packs the project as it would be published, installs the tarball into an empty folder without running any script,
// and uses it: with its prebuilt addon and no compiler, without both, and compiled on the spot.
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const scratch = mkdtempSync(join(tmpdir(), "throughtime-pack-"));
const needed = ["package.json", "README.md", "CHANGELOG.md", "LICENSE", "CMakeLists.txt", "binding.gyp", "scripts/install.mjs"];
const folders = /^(dist|native|prebuilds)\//;
const source = join(scratch, "source");
const user = join(scratch, "user");
const nothing = join(scratch, "nothing");
const broken = join(scratch, "broken");
process.on("exit", () => rmSync(scratch, { recursive: true, force: true }));

function sh(cwd, command, args, env = {}) {
  return execFileSync(command, args, { cwd, env: { ...process.env, ...env }, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
}

function check(what, ok, detail = "") {
  if (!ok) throw new Error(`pack-smoke: ${what}${detail && `: ${detail}`}`);
  console.log(`ok  ${what}`);
}

/** The project's own files in a folder of their own, so that no earlier build is packed. */
function copySource() {
  mkdirSync(source);
  const files = sh(root, "git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).split("\0").filter(Boolean);
  for (const file of files) if (existsSync(join(root, file))) cpSync(join(root, file), join(source, file));
  symlinkSync(join(root, "node_modules"), join(source, "node_modules"));
}

/** The tarball, and the names of the files in it. */
function pack() {
  sh(source, "npm", ["run", "-s", "prebuildify"]);
  sh(source, "npm", ["run", "-s", "build:ts"]);
  const [packed] = JSON.parse(sh(source, "npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", scratch]));
  return { tarball: join(scratch, packed.filename), files: packed.files.map((f) => f.path), bytes: packed.size };
}

/** The newest glibc any symbol of the addon asks for. */
function glibcFloor(addon) {
  const versions = [...sh(source, "objdump", ["-T", addon]).matchAll(/GLIBC_(\d+)\.(\d+)/g)].map((m) => [Number(m[1]), Number(m[2])]);
  return versions.reduce((a, b) => ((b[0] - a[0] || b[1] - a[1]) > 0 ? b : a)).join(".");
}

/** Runs one of the programs beside this file as the user would, in the user's folder. */
function use(program, env = {}) {
  cpSync(join(root, "scripts", program), join(user, program));
  return JSON.parse(sh(user, process.execPath, [program], env));
}

/** Whether prebuildify could build the CUDA kernels. */
const nvcc = spawnSync(process.env.CUDACXX || "nvcc", ["--version"], { stdio: "ignore" }).status === 0;

/** What a program was told of the GPU: where the kernels were found, there is no GPU or there is one. */
const gpuOf = ({ devices }) => devices.find((d) => d.name === "cuda");
const foundKernels = (gpu) => gpu.available || !/not built|cannot be loaded|another version|native addon/.test(gpu.reason);

const noCompiler = { PATH: nothing, CC: "", CXX: "" };

function works(how, expected, env) {
  for (const program of ["smoke-import.mjs", "smoke-require.cjs"]) {
    const result = use(program, env);
    const cpu = result.devices.find((d) => d.name === "cpu");
    check(`${program} ${how} runs on ${expected}`, result.default === expected, JSON.stringify(result));
    if (program.endsWith(".cjs")) check(`${program} ${how} multiplies`, result.product[0] === 11, String(result.product));
    else check(`${program} ${how} learns`, result.last < 0.5 * result.first, JSON.stringify(result));
    if (expected === "reference") check(`device.info() says why: ${cpu.reason}`, cpu.available === false && cpu.reason.length > 0);
    const gpu = gpuOf(result);
    const withKernels = nvcc && how.startsWith("from the prebuilt");
    check(`device.info() says of the GPU: ${gpu.gpu ?? gpu.reason}`, foundKernels(gpu) === withKernels, JSON.stringify(gpu));
  }
}

copySource();
const { tarball, files, bytes } = pack();
const native = files.filter((f) => /^prebuilds\/.*\.node$/.test(f));
check(`${basename(tarball)}, ${files.length} files, ${(bytes / 1024).toFixed(0)} KiB, has a prebuilt addon`, native.length === 1);
const kernels = files.filter((f) => /^prebuilds\/.*\/throughtime_cuda\.so$/.test(f));
if (nvcc) check(`the tarball has ${kernels[0]}`, kernels.length === 1);
else console.log("\n*** THE TARBALL HAS NO CUDA KERNELS: there is no nvcc ***\n");
for (const file of needed) check(`the tarball has ${file}`, files.includes(file));
const strangers = files.filter((f) => !needed.includes(f) && !folders.test(f));
check("the tarball has nothing else in it", strangers.length === 0, strangers.join());
const floor = glibcFloor(native[0]);
check(`the addon needs glibc ${floor}`, Number(floor.split(".")[1]) <= 34);

mkdirSync(user);
mkdirSync(nothing);
writeFileSync(join(user, "package.json"), JSON.stringify({ private: true }));
sh(user, "npm", ["install", "--ignore-scripts", "--no-audit", "--no-fund", tarball]);
const installed = join(user, "node_modules", "throughtime");

works("from the prebuilt addon, without a compiler,", "cpu", noCompiler);
const help = sh(user, process.execPath, [join(user, "node_modules", ".bin", "throughtime"), "--help"], noCompiler);
check("throughtime --help names its commands", /train/.test(help) && /sample/.test(help), help);

rmSync(join(installed, "prebuilds"), { recursive: true });
works("without prebuilt addon and compiler", "reference", noCompiler);

// With a CMake that fails, the compiler is driven by node-gyp and binding.gyp; prebuildify above took CMake.
mkdirSync(broken);
writeFileSync(join(broken, "cmake"), "#!/bin/sh\nexit 1\n", { mode: 0o755 });
sh(user, "npm", ["rebuild", "throughtime"], { PATH: `${broken}:${process.env.PATH}` });
check("npm rebuild compiled the addon by node-gyp", existsSync(join(installed, "build", "config.gypi")));
works("compiled on the spot", "cpu", {});
