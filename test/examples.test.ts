import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";

// Every program in examples/, over the sources, with budgets that say that it runs and not that it learns.
const source = join(import.meta.dirname, "../examples");
const programs = readdirSync(source).filter((name) => name.endsWith(".mjs"));
/** What programs share. */
const parts = ["attention.mjs", "draw.mjs", "familyModels.mjs", "memory.mjs"];
const folder = mkdtempSync(join(tmpdir(), "throughtime-examples-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

beforeAll(() => {
  const index = JSON.stringify(pathToFileURL(join(import.meta.dirname, "../src/index.ts")).href);
  for (const name of programs) {
    const program = readFileSync(join(source, name), "utf8");
    if (!parts.includes(name)) expect(program, name).toContain('from "throughtime"');
    writeFileSync(join(folder, name), program.replaceAll('from "throughtime"', `from ${index}`));
  }
  writeFileSync(join(folder, "text.txt"), "The whale is a fish, the whale is no fish. ".repeat(60));
});

const cells = ["rnn", "lstm", "gru", "indrnn", "irnn", "orthogonal"];
const race = ["--cell", cells.join(","), "--length", "8", "--steps", "2", "--hidden", "4", "--draw"];
const finished = cells.map((cell) => new RegExp(`^${cell} +2 +\\d+\\.\\d{4} +(solved|failed) +dL/dh( +\\d\\.\\de[+-]\\d+){3}$`, "m"));

const runs: Readonly<Record<string, { readonly args: readonly string[]; readonly prints: readonly RegExp[] }>> = {
  "adding.mjs": { args: race, prints: finished },
  "anomaly.mjs": { args: ["--steps", "2"], prints: [/^step 2: mean squared error \d+\.\d{4}$/m, /^t = \d+: read -?\d\.\d\d, expected/m] },
  "charModel.mjs": {
    args: ["text.txt", "--steps", "2", "--length", "9"],
    prints: [/^step 2: \d\.\d\d bits\/char/m, /^[The waltisfno,.]{9}$/m],
  },
  "copy.mjs": { args: [...race, "--items", "2"], prints: finished },
  "families.mjs": {
    args: ["text.txt", "--steps", "2", "--budget", "20000", "--contexts", "8,16"],
    prints: ["lstm", "mingru", "mamba", "rwkv7", "xlstm", "transformer"].map(
      (name) => new RegExp(`^${name} +\\d+ +\\d\\.\\d{3} +\\d+( +\\d+\\.\\d\\d){2}( +\\d+){2}$`, "m"),
    ),
  },
  "hopfield.mjs": { args: [], prints: [/: a fixed point after \d+ sweeps$/m, /^dots that differ from the letter that was stored: 0$/m] },
  "mechanisms.mjs": {
    args: ["--steps", "1", "--families", "lstm,slstm,mlstm,mamba,transformer"],
    prints: ["lstm", "slstm", "mlstm", "mamba", "transformer"].map((name) => new RegExp(`^${name}( +\\d+\\.\\d %[ solved]*){3}$`, "m")),
  },
  "precision.mjs": {
    args: ["text.txt", "--steps", "2", "--hidden", "8", "--batch", "8"],
    prints: ["float32", "bf16", "int8"].map(
      (name) => new RegExp(`^${name} +\\d\\.\\d{4} bits/char \\([+-]0\\.\\d{4}\\), \\d+k chars/s$`, "m"),
    ),
  },
};

test("every program is run here, or is a part of those that are", () => {
  expect(programs.filter((name) => !parts.includes(name))).toEqual(Object.keys(runs));
});

test.each(Object.entries(runs))("%s", async (name, { args, prints }) => {
  const program = ["--import", import.meta.resolve("tsx"), join(folder, name), ...args];
  const { stdout } = await promisify(execFile)(process.execPath, program, { cwd: folder, encoding: "utf8" });
  for (const line of prints) expect(stdout).toMatch(line);
});
