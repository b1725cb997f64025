import { fork, spawnSync } from "node:child_process";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { afterAll, describe, expect, test, vi } from "vitest";
import { device, LSTM, ones, scope, setThreads } from "../src/index.js";
import { Generator, uniform } from "../src/tensor/random.js";
import { nativeAvailable } from "./helpers.js";
import { numbers } from "./threadsProgram.js";

vi.setConfig({ testTimeout: 180_000 });

const root = fileURLToPath(new URL("..", import.meta.url));
const program = fileURLToPath(new URL("threadsProgram.ts", import.meta.url));
const tsx = ["--import", import.meta.resolve("tsx")];

/** What a worker or a child sends first. */
const answer = <T extends NodeJS.EventEmitter>(from: T): Promise<number[]> =>
  new Promise((resolve, reject) => from.once("message", resolve).once("error", reject));
/** A worker that sends its numbers, and then ends or goes on. */
const worker = (then: "end" | "go on") =>
  new Worker(`import("${import.meta.resolve("tsx/esm/api")}").then(({ tsImport }) => tsImport("${program}", "${import.meta.url}"))`, {
    eval: true,
    workerData: then,
  });

/** Runs a program of its own and parses what it prints. */
function printed(text: string, env: Record<string, string> = {}): unknown {
  const imports = `import { device, LSTM, scope, setThreads, uniform } from ${JSON.stringify(`${root}src/index.ts`)};`;
  const { stdout, stderr, status } = spawnSync(process.execPath, [...tsx, "--input-type=module", "-e", imports + text], {
    cwd: root,
    encoding: "utf8",
    env: { ...process.env, ...env },
    timeout: 120_000,
  });
  expect([stderr, status]).toEqual(["", 0]);
  return JSON.parse(stdout);
}

describe.skipIf(!nativeAvailable)("threads", () => {
  const before = device.info().devices.find(({ name }) => name === "cpu")?.threads ?? 1;
  afterAll(() => setThreads(before));

  test("whatever their number, a model trains and streams to the same bits", () => {
    const results = [1, 2, 3, 8].map((threads) => {
      setThreads(threads);
      expect(device.info().devices.find(({ name }) => name === "cpu")!.threads).toBe(threads);
      return numbers();
    });
    for (const result of results) expect(result).toEqual(results[0]);
    setThreads(2);
  });

  test("they may be changed while work is queued", () => {
    const layer = new LSTM(64, 128, { generator: new Generator(1) });
    const run = (change: (i: number) => void) =>
      scope(() => {
        let x = uniform([16, 40, 64], { generator: new Generator(2) });
        const wide = new LSTM(128, 64, { generator: new Generator(3) });
        for (let i = 0; i < 8; i++) {
          x = wide.forward(layer.forward(x).output).output;
          change(i);
        }
        return x.dataSync();
      });
    const expected = run(() => undefined);
    expect(run((i) => setThreads(1 + (i % 4)))).toEqual(expected);
    layer.parameters().forEach((p) => p.dispose());
  });

  test("workers that train at once get what the main thread gets", async () => {
    setThreads(2);
    const expected = numbers();
    const workers = [1, 2].map(() => worker("end"));
    const answers = workers.map(answer);
    const mine = numbers();
    for (const got of await Promise.all(answers)) expect(got).toEqual(expected);
    expect(mine).toEqual(expected);
    await Promise.all(workers.map((w) => w.terminate()));
  });

  test("a worker ended in the middle of its training disturbs nobody", async () => {
    const expected = numbers();
    const workers = [1, 2].map(() => worker("go on"));
    await Promise.all(workers.map(answer));
    for (const [i, each] of workers.entries()) {
      await setTimeout(7 * i);
      await each.terminate();
      expect(numbers()).toEqual(expected);
    }
  });

  test("children made by fork get what their parent gets", async () => {
    const expected = numbers();
    const children = [1, 2].map(() => fork(program, ["numbers"], { execArgv: tsx }));
    const exits = children.map((child) => new Promise((resolve) => child.once("exit", resolve)));
    const answers = children.map(answer);
    const mine = numbers();
    for (const got of await Promise.all(answers)) expect(got).toEqual(expected);
    expect(mine).toEqual(expected);
    expect(await Promise.all(exits)).toEqual([0, 0]);
  });

  // Beyond the end of the spinning, 40 us after the last work, every thread sleeps. What is left is Node's own work in
  // that second, some milliseconds; one thread that went on spinning would take all of it.
  test("nothing spins while there is nothing to do", () => {
    const used = printed(`
      setThreads(2);
      const layer = new LSTM(64, 256);
      for (let i = 0; i < 5; i++) scope(() => layer.forward(uniform([16, 20, 64])).output.dataSync());
      setTimeout(() => {
        const before = process.cpuUsage();
        setTimeout(() => {
          const { user, system } = process.cpuUsage(before);
          console.log((user + system) / 1e6);
        }, 1000);
      }, 100);`);
    expect(used).toBeLessThan(0.3);
  });

  test("THROUGHTIME_THREADS may be more than there are cores", () => {
    const got = printed(
      `const values = scope(() => new LSTM(8, 8).forward(uniform([2, 3, 8])).output.dataSync());
       console.log(JSON.stringify([device.info().devices[0].threads, values.length]));`,
      { THROUGHTIME_THREADS: "200" },
    );
    expect(got).toEqual([200, 48]);
  });

  test.each([0, -1, 1.5, NaN])("setThreads(%s) is refused", (threads) => {
    expect(() => setThreads(threads)).toThrow(`setThreads: threads must be an integer of at least 1 but is ${threads}`);
    expect(scope(() => ones([2]).dataSync()[1])).toBe(1);
  });
});
