import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { flops, loadCases } from "../bench/cases.js";
import { median } from "../bench/measure.js";
import { checkCase, compareResults } from "../bench/parity.js";
import { tables, type Timing } from "../bench/tables.js";
import { selectCases, threadsOf } from "../bench/select.js";
import { workload } from "../bench/workload.js";
import { device } from "../src/index.js";
import { nativeAvailable } from "./helpers.js";

const root = join(import.meta.dirname, "..");
let folder: string;
let table: string;
const shape = { id: "tiny", T: 3, B: 2, I: 5, H: 7, layers: 2, bidirectional: true, modes: ["train", "infer"] };
const step = { id: "step", T: 1, B: 1, I: 5, H: 7, layers: 1, bidirectional: false, modes: ["stream"] };

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "bench-"));
  table = join(folder, "cases.json");
  writeFileSync(table, JSON.stringify({ cells: ["lstm", "gru", "rnn_tanh"], shapes: [shape, step] }));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe("cases", () => {
  test("every cell, shape and mode of the project's table", () => {
    const cases = loadCases(join(root, "bench/cases.json"));
    expect(cases).toHaveLength(3 * (7 * 2 + 4));
    expect(new Set(cases.map((c) => c.id)).size).toBe(cases.length);
  });

  test("operations of the matrix products", () => {
    const [train, infer] = loadCases(table);
    const forward = 2 * 3 * 2 * 28 * (5 + 7) * 2 + 2 * 3 * 2 * 28 * (14 + 7) * 2;
    expect([train.id, flops(train), infer.id, flops(infer)]).toEqual(["tiny/lstm/train", 3 * forward, "tiny/lstm/infer", forward]);
  });

  test.each([
    ["shape tiny: T must be a positive integer but is 0", { cells: ["gru"], shapes: [{ ...shape, T: 0 }] }],
    ["shape tiny: mode must be one of train, infer, stream but is both", { cells: ["gru"], shapes: [{ ...shape, modes: ["both"] }] }],
    ["cell must be one of lstm, gru, rnn_tanh but is qrnn", { cells: ["qrnn"], shapes: [shape] }],
    ["a table of cases has cells and shapes", {}],
  ])("%s", (message, json) => {
    const path = join(folder, "wrong.json");
    writeFileSync(path, JSON.stringify(json));
    expect(() => loadCases(path)).toThrow(message);
  });

  test("median", () => {
    expect([median([3, 1, 2]), median([4, 1, 2, 3])]).toEqual([2, 2.5]);
  });
});

describe("no case is timed without parity", () => {
  test("results that differ, lack or are not finite are named", () => {
    const wanted = { output: [0, 1, 2] };
    compareResults({ output: [0, 1, 2 + 2e-5] }, wanted);
    expect(() => compareResults({ output: [0, 1, 2 + 4e-5] }, wanted)).toThrow("parity: output is off by 4.0e-5, allowed 3.0e-5");
    expect(() => compareResults({ output: [0, NaN, 2] }, wanted)).toThrow("parity: output is off by Infinity");
    expect(() => compareResults({ output: [0, 1] }, wanted)).toThrow("parity: output must have 3 values but has 2");
    expect(() => compareResults({}, wanted)).toThrow("parity: output must have 3 values but has 0");
  });

  test("training compares every gradient, streaming every state", () => {
    const place = { device: device("reference"), dtype: "float64" } as const;
    const named = (id: string) =>
      Object.keys(
        workload(
          loadCases(table).find((c) => c.id === id)!,
          place,
        ).results(),
      );
    expect(named("step/lstm/stream")).toEqual(["output 1", "output 2", "output 3", "h", "c"]);
    expect(named("tiny/gru/infer")).toEqual(["output", "h"]);
    expect(named("tiny/gru/train")).toHaveLength(1 + 1 + 16);
  });

  test.skipIf(!nativeAvailable)("every kind of case agrees with the reference", () => {
    for (const c of loadCases(table)) checkCase(c, { device: device("cpu"), dtype: "float32" });
  });
});

test("tables of a comparison", () => {
  const [train, infer] = loadCases(table);
  const timings = (ours: Timing, peer: Timing) => new Map([["ours", ours], ["peer", peer]]); // prettier-ignore
  const results = new Map([
    [train, timings({ ms: 2, quiet: true, peak: (flops(train) / 2e6) * 4 }, { ms: 3, quiet: false })],
    [infer, timings({ ms: 4, quiet: true }, { error: "no" })],
  ]);
  const text = tables("ours", ["a machine"], results);
  expect(text).toContain("| tiny/lstm | 0.0 (25 %) | x1.50 | 2.00 | ~3.00 (x1.50) |");
  expect(text).toContain("ahead in 1 of 1, worst x1.50");
  expect(text).toContain("| tiny/lstm | 0.0 |  | 4.00 |  |");
});

describe("the command", () => {
  const command = (args: string[], input = "") => {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      ["--import", "tsx", join(root, "bench/run.ts"), "--cases", table, ...args],
      { encoding: "utf8", input },
    );
    return { status, stdout, stderr };
  };

  test.skipIf(!nativeAvailable)("prints one object a case with --json", { timeout: 60_000 }, () => {
    const { status, stdout } = command(["--json", "--budget", "0.01", "--cells", "lstm", "--threads", "1"]);
    const lines = stdout.trim().split("\n").map((line) => JSON.parse(line) as { case: string; ms: number; gflops: number }); // prettier-ignore
    expect(status).toBe(0);
    expect(lines.map((line) => line.case)).toEqual(["tiny/lstm/train", "tiny/lstm/infer", "step/lstm/stream"]);
    for (const line of lines) expect(line.ms).toBeGreaterThan(0);
  });

  test.skipIf(!nativeAvailable)("answers line by line with --serve, an unknown case and nonsense included", { timeout: 60_000 }, () => {
    const asked = [...["tiny/gru/train", "none", "tiny/gru/train"].map((id) => JSON.stringify({ case: id, budget: 0.01 })), "nonsense"];
    const { status, stdout } = command(["--serve", "--serve"], `${asked.join("\n")}\n`);
    expect(status).toBe(0);
    expect(stdout.trim().split("\n").map((line) => JSON.parse(line) as unknown)).toMatchObject([
      { peer: "throughtime", ready: true, versions: { node: process.version } },
      { peer: "throughtime", case: "tiny/gru/train", times: expect.any(Array) as [], wall_s: expect.any(Number) as number, own_cores: expect.any(Number) as number, other_cores: expect.any(Number) as number },
      { case: "none", error: "there is no case none" },
      { case: "tiny/gru/train", times: expect.any(Array) as [] },
      { error: expect.stringContaining("JSON") as string },
    ]); // prettier-ignore
  });

  test("chooses cases and threads, or says what is wrong", () => {
    const ids = (flags: object) => selectCases({ cases: table, ...flags }).map((c) => c.id);
    expect(ids({ shapes: "tiny,other", cells: "gru", modes: "infer,stream" })).toEqual(["tiny/gru/infer"]);
    expect(ids({})).toHaveLength(9);
    expect(() => ids({ cells: "none" })).toThrow("no case has such a shape, cell and mode");
    expect(() => ids({ cases: "/none.json" })).toThrow("no such file");
    expect([threadsOf({}), threadsOf({ threads: "3" })]).toEqual([undefined, 3]);
    for (const threads of ["0", "none", "1.5", "-2"])
      expect(() => threadsOf({ threads })).toThrow(`--threads must be a positive integer but is ${threads}`);
  });

  test("ends with status 2 and one line on what it cannot do", { timeout: 60_000 }, () => {
    expect(command(["--budget", "0"])).toMatchObject({
      status: 2,
      stdout: "",
      stderr: expect.stringMatching(/^bench: --budget must be a positive number of seconds but is 0\n$/m) as string,
    });
  });
});

describe("end to end", () => {
  const run = (program: string, args: string[]) =>
    spawnSync(process.execPath, ["--import", "tsx", join(root, "bench", program), ...args], { encoding: "utf8" });

  test.skipIf(!nativeAvailable)("takes turns with the programs it is given and compares them", { timeout: 120_000 }, () => {
    const peer = ["--peer", 'sample:other=echo starting; echo "{\\"chars_per_s\\": $THREADS, \\"s\\": $SECONDS}"'];
    const flags = ["--tasks", "sample", "--rounds", "2", "--seconds", "0.01", "--threads", "1", "--patience", "0"];
    const { status, stdout, stderr } = run("e2e.ts", [...flags, ...peer]);
    expect(stderr.trim().split("\n").map((line) => line.split(" {")[0])).toEqual([
      "sample, round 1: throughtime",
      "sample, round 1: other",
      "sample, round 2: throughtime",
      "sample, round 2: other",
    ]); // prettier-ignore
    expect(status).toBe(0);
    const [, ours] = /^\| throughtime \| (\d+) \|  \| \d+, \d+ \|$/m.exec(stdout)!;
    const [, ahead] = /^\| other \| 1 \| x([\d.]+) \| 1, 1 \|$/m.exec(stdout)!;
    expect(Math.abs(Number(ahead) - Number(ours))).toBeLessThanOrEqual(0.5); // `ours` is rounded to a whole number
  });

  test("says what is wrong with its flags and with a peer's answer", { timeout: 60_000 }, () => {
    const says = (...args: string[]) => run("e2e.ts", args).stderr;
    expect(says("--peer", "train=x")).toBe("bench: --peer must be TASK:NAME=COMMAND but is train=x\n");
    expect(says("--tasks", "sing")).toBe("bench: a task must be one of train, sample but is sing\n");
    expect(run("profile.ts", ["--task", "sing"]).stderr).toBe("bench: --task must be train or sample but is sing\n");
  });

  test.skipIf(!nativeAvailable)("a profile of a training step", { timeout: 60_000 }, () => {
    const { status, stdout } = run("profile.ts", ["--steps", "2", "--hidden", "8", "--batch", "2", "--length", "5"]);
    expect(status).toBe(0);
    for (const kernel of ["sweep.lstm.backward", "crossEntropy", "adam", "embeddingGradient"])
      expect(stdout).toMatch(new RegExp(`^${kernel.replace(".", "\\.")} +[12] `, "m"));
  });
});
