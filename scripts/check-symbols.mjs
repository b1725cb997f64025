// Holds the kernels' object files to their rule: apart from functions that name its instruction set, a file defines
// nothing that the linker could merge with another instruction set's copy, and calls nothing but C and such functions.
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const objects = join(root, "build", "CMakeFiles");
const problems = [];
let count = 0;

for (const folder of readdirSync(objects).filter((name) => /^kernels_\w+\.dir$/.test(name))) {
  const isa = folder.slice("kernels_".length, -".dir".length);
  const place = join(objects, folder, "native", "cpu");
  for (const file of readdirSync(place).filter((name) => name.endsWith(".o"))) {
    count++;
    for (const line of execFileSync("nm", ["-P", join(place, file)], { encoding: "utf8" })
      .trim()
      .split("\n")) {
      const [name, type] = line.split(" ");
      const mine = new RegExp(`^_ZN11throughtime\\d+(kernels|multiply|row|panel)_[a-z_]+_${isa}E`).test(name);
      const shared = /[A-Za-z]/.test(type) && !/[a-z]/.test(type) ? type !== "U" && !mine : /[vwu]/.test(type);
      if (shared) problems.push(`${isa} ${file}: ${name} (${type}) is visible to other files`);
      else if (type === "U" && name.startsWith("_Z") && !mine) problems.push(`${isa} ${file}: ${name} is not C`);
    }
  }
}

for (const problem of problems) console.error(problem);
console.log(`check-symbols: ${count} object files, ${problems.length} problems`);
if (problems.length > 0 || count === 0) process.exitCode = 1;
