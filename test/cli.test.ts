import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CHECKPOINT } from "../src/cli/run.js";
import { device, Linear, saveCheckpoint } from "../src/index.js";
import { nativeAvailable } from "./helpers.js";

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

const main = new URL("../src/cli/main.ts", import.meta.url).pathname;

function start(args: readonly string[]): {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  seen(text: string): Promise<void>;
} {
  const child = spawn(process.execPath, ["--import", "tsx", main, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let [out, err] = ["", ""];
  child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
  child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
  return {
    child,
    ended: new Promise((resolve) => child.on("close", (code) => resolve({ code, out, err }))),
    seen: (text) =>
      new Promise((resolve) => {
        const look = () => (out.includes(text) ? resolve() : undefined);
        child.stdout.on("data", look);
        look();
      }),
  };
}
const run = (...args: string[]): Promise<Ended> => start(args).ended;

let folder: string;
let text: string;
const small = ["--hidden", "12", "--embed", "6", "--batch", "4", "--seq", "20", "--device", nativeAvailable ? "cpu" : "reference"];
const at = (name: string) => join(folder, name);
const trainOn = (out: string, ...more: string[]) => ["train", "--text", text, "--out", at(out), ...small, ...more];

interface Line {
  readonly step: number;
  readonly loss: number;
  readonly bitsPerChar: number;
  readonly charsPerSecond: number;
  readonly valLoss?: number;
}
const parsed = (out: string) =>
  out
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);

/** One line on stderr, nothing of a stack, nothing on stdout, and the code 1. */
function expectError({ code, out, err }: Ended, message: string | RegExp): void {
  expect(err).toMatch(message);
  expect(err.trimEnd().split("\n")).toHaveLength(1);
  expect(err).not.toMatch(/^\s+at /m);
  expect(out).toBe("");
  expect(code).toBe(1);
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "throughtime-cli-"));
  text = at("text.txt");
  await writeFile(text, "She sells sea shells by the sea shore; the shells she sells are surely seashells.\n".repeat(30));
  const { code, err } = await run(...trainOn("model", "--steps", "4", "--json"));
  expect(err).toContain("saved to");
  expect(code).toBe(0);
});
afterAll(() => rm(folder, { recursive: true }));

describe("throughtime train", { timeout: 120_000 }, () => {
  it("writes a JSON object a step, with the validation at the end, and the run resumed is the run not stopped", async () => {
    const [whole, half] = await Promise.all([
      run(...trainOn("whole", "--steps", "8", "--json")),
      run(...trainOn("half", "--steps", "5", "--json")),
    ]);
    const rest = await run("train", "--text", text, "--out", at("half"), "--steps", "8", "--resume", "--json");
    expect([whole.code, half.code, rest.code]).toEqual([0, 0, 0]);
    const lines = parsed(whole.out);
    expect(lines.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    for (const { loss, bitsPerChar, charsPerSecond } of lines) {
      expect(bitsPerChar).toBeCloseTo(loss / Math.LN2, 10);
      expect(charsPerSecond).toBeGreaterThan(0);
    }
    expect(lines.map(({ valLoss }) => typeof valLoss)).toEqual([...new Array<string>(7).fill("undefined"), "number"]);
    const results = (all: Line[]) => all.map(({ step, loss, valLoss }) => ({ step, loss, valLoss }));
    expect(results(parsed(rest.out))).toEqual(results(lines.slice(5)));
    expect(results(parsed(half.out).slice(0, 4))).toEqual(results(lines.slice(0, 4)));
    expect(await readFile(join(at("half"), CHECKPOINT))).toEqual(await readFile(join(at("whole"), CHECKPOINT)));
  });

  it("writes plain lines when piped, says what it does, and learns with every cell", async () => {
    const [gru, elman] = await Promise.all([
      run(...trainOn("gru", "--cell", "gru", "--steps", "3", "--lr", "0.01", "--clip", "0.5", "--seed", "7", "--threads", "1")),
      run(...trainOn("elman", "--cell", "elman", "--layers", "1", "--steps", "3", "--val", "0")),
    ]);
    expect(gru.out).toMatch(/^.*text\.txt: 2,460 characters, 16 different; gru of 2 x 12, [\d,]+ weights; \w+ \(.*\)\n/);
    expect(gru.out).toMatch(
      /\nstep 3\/3  loss \d\.\d{4}  \d\.\d{3} bits\/char  [\d,]+ chars\/s  validation \d\.\d{4} \(\d\.\d{3} bits\/char\)\nsaved to .*\n$/,
    );
    expect(elman.out).toContain("elman of 1 x 12");
    expect(elman.out).not.toContain("validation");
    expect([gru.code, elman.code, gru.err, elman.err]).toEqual([0, 0, "", ""]);
  });

  // util-linux's `script` gives a command a terminal.
  it.skipIf(process.platform !== "linux" || spawnSync("script", ["--version"]).status !== 0)("draws a bar on a terminal", () => {
    const command = [process.execPath, "--import", "tsx", main, ...trainOn("bar", "--steps", "5")].join(" ");
    const { status, stdout } = spawnSync("script", ["-qec", command, "/dev/null"], { encoding: "utf8" });
    expect(stdout).toMatch(/\u2588{14} 5\/5 loss \d\.\d{3} \d\.\d\d bits\/char [\d,]+ chars\/s 0s left, validation \d\.\d{3} bits\/char/);
    expect(stdout.trimEnd()).toMatch(/saved to .*$/);
    expect(status).toBe(0);
  });

  it.each(["SIGINT", "SIGTERM"] as const)("saves and ends well at %s", async (signal) => {
    const { child, ended, seen } = start(trainOn(signal, "--steps", "1000000", "--json"));
    await seen('"step":2,');
    child.kill(signal);
    const { code, err, out } = await ended;
    const last = parsed(out).at(-1)!.step;
    expect(err).toMatch(new RegExp(`stopped at step ${last} of 1000000, to go on with --resume; saved to .*${signal}`));
    expect(code).toBe(0);
    const more = parsed((await run("train", "--text", text, "--out", at(signal), "--resume", "--json", "--steps", String(last + 1))).out);
    expect(more.map(({ step }) => step)).toEqual([last + 1]);
  });

  it("saves and ends when nobody reads any more", async () => {
    const { child, ended, seen } = start(trainOn("unread", "--steps", "1000000", "--json"));
    await seen('"step":2,');
    child.stdout!.destroy();
    const { code, err } = await ended;
    expect(err).toContain("stopped at step");
    expect(code).toBe(0);
    expect(await readdir(at("unread"))).toEqual([CHECKPOINT]);
  });

  it("keeps the checkpoint of an earlier run", async () => {
    await mkdir(at("again"));
    await copyFile(join(at("model"), CHECKPOINT), join(at("again"), CHECKPOINT));
    const { code } = await run(...trainOn("again", "--steps", "1", "--seed", "9"));
    expect(code).toBe(0);
    expect((await readdir(at("again"))).sort()).toEqual(["model.previous.safetensors", CHECKPOINT]);
    expect(await readFile(join(at("again"), "model.previous.safetensors"))).toEqual(await readFile(join(at("model"), CHECKPOINT)));
  });

  it("has nothing left to do when the steps are made", async () => {
    const before = await readFile(join(at("model"), CHECKPOINT));
    const { code, out } = await run("train", "--text", text, "--out", at("model"), "--resume", "--steps", "4");
    expect(out).toContain("has made 4 steps already; --steps above that goes on");
    expect(code).toBe(0);
    expect(await readFile(join(at("model"), CHECKPOINT))).toEqual(before);
  });

  it("stops when training diverges, and keeps what was saved", async () => {
    await mkdir(at("diverged"));
    await copyFile(join(at("model"), CHECKPOINT), join(at("diverged"), CHECKPOINT));
    const result = await run(
      "train",
      "--text",
      text,
      "--out",
      at("diverged"),
      "--resume",
      "--steps",
      "400",
      "--lr",
      "1e38",
      "--clip",
      "1e38",
      "--json",
    );
    expect(result.err).toMatch(/throughtime: the (loss|gradient) is not finite at step \d+: .*\(the checkpoint of step 4 is kept\)/);
    expect(result.code).toBe(1);
    expect(await readFile(join(at("diverged"), CHECKPOINT))).toEqual(await readFile(join(at("model"), CHECKPOINT)));
  });

  it.skipIf(process.platform === "win32")("loses nothing when the checkpoint finds no room", async () => {
    await mkdir(at("full"));
    await copyFile(join(at("model"), CHECKPOINT), join(at("full"), CHECKPOINT));
    const command = [
      process.execPath,
      "--import",
      "tsx",
      main,
      "train",
      "--text",
      text,
      "--out",
      at("full"),
      "--resume",
      "--steps",
      "5",
      "--json",
    ];
    // No file may grow beyond 16 or 32 kB, by the shell: less than the checkpoint.
    const child = spawn("sh", ["-c", 'ulimit -f 32; exec "$@"', "sh", ...command], { stdio: ["ignore", "ignore", "pipe"] });
    let err = "";
    child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
    const code = await new Promise((resolve) => child.on("close", resolve));
    expect(err).toMatch(/\nthroughtime: cannot write .*full\/model\.safetensors: .*EFBIG.*\n$/);
    expect(code).toBe(1);
    expect(await readdir(at("full"))).toEqual([CHECKPOINT]);
    expect(await readFile(join(at("full"), CHECKPOINT))).toEqual(await readFile(join(at("model"), CHECKPOINT)));
  });

  it("says in one line what is wrong with the arguments", async () => {
    const cases: [string[], string | RegExp][] = [
      [[], "required option '--text <file>' not specified"],
      [["--text", text, "--lr", "NaN"], "option '--lr <x>' argument 'NaN' is invalid. It must be a number above 0."],
      [["--text", text, "--steps", "-5"], "option '--steps <n>' argument '-5' is invalid. It must be an integer of at least 1."],
      [["--text", text, "--hidden", "1.5"], "'1.5' is invalid"],
      [["--text", text, "--val", "1"], "It must be a number from 0 to below 1."],
      [["--text", text, "--hiden", "3"], "unknown option '--hiden' (Did you mean --hidden?)"],
      [["--txt", text], "unknown option '--txt' (Did you mean --text?)"],
      [[text], /unexpected argument '.*text\.txt'; the train command reads --text <file>/],
      [["--text"], "option '--text <file>' argument missing"],
      [["--text", text, "--cell", "lstn"], "Allowed choices are lstm, gru, elman."],
      [["--text", text, "--device", "tpu"], "Allowed choices are cpu, cuda, reference."],
    ];
    const ended = await Promise.all(cases.map(([args]) => run("train", ...args)));
    ended.forEach((result, i) => expectError(result, cases[i][1]));
    const help = await run("train", "--help");
    expect([help.code, help.err]).toEqual([0, ""]);
    for (const flag of [
      "text",
      "cell",
      "hidden",
      "layers",
      "embed",
      "seq",
      "batch",
      "steps",
      "lr",
      "clip",
      "val",
      "seed",
      "device",
      "threads",
      "out",
      "resume",
      "json",
    ]) {
      expect(help.out).toContain(`--${flag}`);
    }
    expectError(await run("trian"), "unknown command 'trian' (Did you mean train?)");
    expectError(await run("--foo"), "unknown option '--foo'");
  });

  it("says in one line what is wrong with the text, the folder or the checkpoint", async () => {
    await Promise.all([
      writeFile(at("empty"), ""),
      writeFile(at("short"), "a few words"),
      writeFile(at("binary"), Uint8Array.of(0x61, 0xff, 0xfe)),
      writeFile(at("zeros"), new Uint8Array(9000)),
      writeFile(at("other"), "Another text. ".repeat(60)),
    ]);
    await mkdir(at("cut"));
    await copyFile(join(at("model"), CHECKPOINT), join(at("cut"), CHECKPOINT));
    await truncate(join(at("cut"), CHECKPOINT), 3000);
    await saveCheckpoint(join(at("linear"), CHECKPOINT), { model: new Linear(1, 1, { device: device("reference") }) });
    const resume = (out: string, ...more: string[]) => ["train", "--text", text, "--resume", "--out", at(out), ...more];
    const cases: [string[], string | RegExp][] = [
      [["train", "--text", at("nothing")], "nothing: no such file or folder (ENOENT)"],
      [["train", "--text", folder], "it is a folder (EISDIR)"],
      [["train", "--text", at("empty")], "empty: the text is empty"],
      [["train", "--text", at("binary")], "binary: the text must be UTF-8"],
      [["train", "--text", at("zeros")], "zeros: the text must be UTF-8 but is binary: byte 0 is 0"],
      [
        ["train", "--text", at("short")],
        "short: the text must have at least 3557 characters (--batch 32 rows of --seq 100, --val 0.1 set apart) but has 11",
      ],
      [["train", "--text", text, ...small, "--out", text], /cannot make the folder .*: there is a file of that name/],
      [["train", "--text", text, ...small, "--out", "/proc/no/where"], "cannot make the folder /proc/no/where"],
      [resume("nothing"), "model.safetensors: no such file or folder (ENOENT)"],
      [resume("cut"), /cut.*model\.safetensors: /],
      [resume("linear"), "it is not of a run that this command can resume"],
      [resume("model", "--hidden", "13"), "the run to resume has --hidden 12, which cannot become 13"],
      [resume("model", "--batch", "5"), "the run to resume has --batch 4, which cannot become 5"],
      [["train", "--text", at("other"), "--resume", "--out", at("model")], /learns another text than .*other/],
    ];
    const before = await readFile(join(at("model"), CHECKPOINT));
    const ended = await Promise.all(cases.map(([args]) => run(...args)));
    ended.forEach((result, i) => expectError(result, cases[i][1]));
    expect(await readFile(join(at("model"), CHECKPOINT))).toEqual(before);
  });
});

describe("throughtime sample", { timeout: 120_000 }, () => {
  const sample = (...more: string[]) => run("sample", "--model", at("model"), ...more);

  it("writes the prompt and as many characters as asked, the same from the same seed", async () => {
    const [a, b, c, file] = await Promise.all([
      sample("--prompt", "She ", "--length", "50", "--seed", "1"),
      sample("--prompt", "She ", "--length", "50", "--seed", "1"),
      sample("--prompt", "She ", "--length", "50", "--seed", "2", "--temperature", "1.5", "--top-k", "9"),
      run("sample", "--model", join(at("model"), CHECKPOINT), "--length", "7", "--temperature", "0", "--device", "reference"),
    ]);
    expect(a.out.startsWith("She ")).toBe(true);
    expect(a.out).toHaveLength(4 + 50 + 1);
    expect(b.out).toBe(a.out);
    expect(c.out).not.toBe(a.out);
    expect(file.out).toHaveLength(7 + 1);
    expect([a, b, c, file].map(({ code, err }) => [code, err])).toEqual(new Array(4).fill([0, ""]));
  });

  it("writes as it goes, and ends quietly when nobody reads any more", async () => {
    const { child, ended } = start(["sample", "--model", at("model"), "--length", "100000000"]);
    await new Promise((resolve) => child.stdout!.once("data", resolve));
    child.stdout!.destroy();
    const { code, err } = await ended;
    expect([code, err]).toEqual([0, ""]);
  });

  it("says in one line what is wrong", async () => {
    await mkdir(at("bare"));
    await writeFile(at("nonsense"), "not a checkpoint at all");
    const model = ["--model", at("model")];
    const cases: [string[], string | RegExp][] = [
      [[], "required option '--model <dir>' not specified"],
      [["--modle", at("model")], "unknown option '--modle' (Did you mean --model?)"],
      [[at("model")], /unexpected argument '.*model'; the sample command reads --model <dir>/],
      [[...model, "--length", "x"], "'x' is invalid"],
      [[...model, "--temperature", "-1"], "It must be a number of at least 0."],
      [[...model, "--top-k", "0"], "It must be an integer of at least 1."],
      [[...model, "--prompt", "Sh€"], 'unknown character "€" at position 2'],
      [["--model", at("nowhere")], "nowhere: no such file or folder (ENOENT)"],
      [["--model", at("bare")], "model.safetensors: no such file or folder (ENOENT)"],
      [["--model", at("nonsense")], /nonsense: /],
      [["--model", text], /text\.txt: /],
    ];
    const ended = await Promise.all(cases.map(([args]) => run("sample", ...args)));
    ended.forEach((result, i) => expectError(result, cases[i][1]));
  });
});
