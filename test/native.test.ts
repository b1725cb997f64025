import { execFileSync, spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { afterAll, describe, expect, test } from "vitest";
import type { Backend, KernelCall, TypedArray } from "../src/backend/backend.js";
import { openNative } from "../src/backend/native.js";
import { add, affine, device, linear, ones, reshape, scope, sum, tensor } from "../src/index.js";
import { nativeAvailable } from "./helpers.js";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Calls in short: the kernel, its inputs and outputs, ints and floats. */
const call = (kernel: string, inputs: number[], outputs: number[], ints: number[] = [], floats: number[] = []): KernelCall => ({
  kernel,
  inputs,
  outputs,
  ints,
  floats,
});

describe.skipIf(!nativeAvailable)("the native engine", () => {
  const cpu = nativeAvailable ? openNative("", 2) : (null as never);
  const made: number[] = [];
  afterAll(() => made.forEach((buffer) => cpu?.free(buffer)));

  function buffer(values: TypedArray | number, on: Backend = cpu): number {
    const length = typeof values === "number" ? values : values.length;
    const id = on.alloc(length, values instanceof Int32Array ? "int32" : "float32");
    if (typeof values !== "number") on.write(id, values);
    if (on === cpu) made.push(id);
    return id;
  }

  /** Keeps the queue busy for some tens of milliseconds. */
  const large = nativeAvailable ? buffer(1 << 22) : 0;
  function occupy(times = 10): void {
    for (let i = 0; i < times; i++) cpu.run(call("fill", [], [large], [], [i]));
    for (let i = 0; i < times; i++) cpu.run(call("tanh", [large], [large]));
  }

  describe("queue", () => {
    test("runs in order, and a write takes the values of its moment", async () => {
      const x = buffer(Float32Array.of(1, 2, 3));
      const small = Float32Array.of(4, 5, 6);
      const y = buffer(3);
      const wide = buffer(5000);
      const values = new Float32Array(5000).fill(7);
      occupy();
      cpu.run(call("accumulate", [x, 0], [y]));
      cpu.write(x, small);
      cpu.write(wide, values);
      small.fill(0);
      values.fill(0);
      const first = cpu.read(y);
      cpu.run(call("accumulate", [y, x], [y]));
      expect([...(await first)]).toEqual([1, 2, 3]);
      expect([...(await cpu.read(y))]).toEqual([5, 7, 9]);
      expect([...cpu.readSync(x)]).toEqual([4, 5, 6]);
      expect(cpu.readSync(wide)[4999]).toBe(7);
    });

    test("takes more than it holds: the caller waits", () => {
      const x = buffer(new Float32Array(16));
      occupy(3);
      for (let i = 0; i < 30_000; i++) cpu.run(call("affine", [x], [x], [], [1, 1]));
      expect(cpu.readSync(x)[15]).toBe(30_000);
    });

    test("leaves the event loop free while it works", async () => {
      let done = false;
      let turns = 0;
      occupy(40);
      const read = cpu.read(large).then(() => (done = true));
      for (; !done && turns < 1000; turns++) await new Promise((resolve) => setImmediate(resolve));
      await read;
      expect(turns).toBeGreaterThan(100);
    });

    test("many reads at once resolve, each with its own values", async () => {
      const buffers = Array.from({ length: 200 }, (_, i) => buffer(Float32Array.of(i)));
      occupy(2);
      const results = await Promise.all(buffers.map((id) => cpu.read(id)));
      expect(results.map(([v]) => v)).toEqual(buffers.map((_, i) => i));
    });
  });

  describe("failures", () => {
    const table = () => buffer(Float32Array.of(1, 2, 3, 4));
    const lookUp = (ids: number, rows: number) => cpu.run(call("embedding", [ids, table()], [rows], [1, 2, 2]));

    test.each([
      ["queued", true],
      ["run at once", false],
    ])("of a kernel that was %s surface at the next read, once", async (_, queued) => {
      const ids = buffer(Int32Array.of(5));
      const rows = buffer(Float32Array.of(8, 8));
      if (queued) occupy(2);
      lookUp(ids, rows);
      cpu.run(call("affine", [rows], [rows], [], [2, 0]));
      await expect(cpu.read(large)).rejects.toThrow(/^embedding: ids must be in \[0, 1\] .* but ids\[0\] is 5$/);
      expect([...cpu.readSync(rows)], "nothing ran after the failure").toEqual([8, 8]);
      cpu.write(ids, Int32Array.of(1));
      lookUp(ids, rows);
      expect([...cpu.readSync(rows)]).toEqual([3, 4]);
    });

    test("surface at readSync too", () => {
      lookUp(buffer(Int32Array.of(-1)), buffer(2));
      expect(() => cpu.readSync(large)).toThrow("ids[0] is -1");
      expect(() => cpu.readSync(large)).not.toThrow();
    });

    test("of the caller are thrown at once", () => {
      const x = buffer(4);
      expect(() => cpu.run(call("nonsense", [x], [x]))).toThrow("cpu: there is no kernel nonsense");
      expect(() => cpu.write(x, new Float32Array(3))).toThrow("data must be 4 float32 elements but is 3");
      expect(() => cpu.write(x, new Int32Array(4))).toThrow("data must be 4 float32 elements but is 4 of another type");
      expect(() => cpu.alloc(4, "float64")).toThrow("there are no float64 buffers");
      expect(() => cpu.run(call("tanh", new Array<number>(20_000).fill(x), [x]))).toThrow("tanh: the call has too many arguments");
      expect(() => cpu.alloc(1e15, "float32")).toThrow("out of memory");
    });
  });

  describe("memory", () => {
    test("a freed buffer is gone, whoever has its place", () => {
      const before = cpu.memory();
      const x = cpu.alloc(1000, "float32");
      expect(cpu.memory()).toEqual({ buffers: before.buffers + 1, bytes: before.bytes + 4000 });
      cpu.free(x);
      const y = buffer(1000);
      for (const use of [
        () => cpu.free(x),
        () => cpu.readSync(x),
        () => cpu.run(call("fill", [], [x], [], [1])),
        () => cpu.write(x, new Float32Array(1000)),
      ])
        expect(use).toThrow(`buffer ${x} does not exist or was freed`);
      expect(() => cpu.readSync(y)).not.toThrow();
    });

    test("freeing while commands are queued takes nothing from them", () => {
      const x = buffer(1000);
      const total = buffer(new Float32Array(1000));
      for (let i = 1; i <= 500; i++) {
        if (i % 50 === 1) occupy(1);
        const part = cpu.alloc(1000, "float32");
        cpu.run(call("fill", [], [part], [], [i]));
        cpu.run(call("accumulate", [total, part], [total]));
        cpu.free(part);
      }
      cpu.run(call("accumulate", [total, 0], [x]));
      expect(new Set(cpu.readSync(x))).toEqual(new Set([(500 * 501) / 2]));
    });

    test("sizes that change all the time do not pile up", () => {
      const start = process.memoryUsage.rss();
      let state = 1;
      const live: number[] = [];
      for (let i = 0; i < 100_000; i++) {
        state = (state * 1103515245 + 12345) % 2147483648;
        live.push(cpu.alloc(1 + (state % (i % 100 === 0 ? 3_000_000 : 20_000)), i % 3 ? "float32" : "int32"));
        cpu.run(call("fill", [], [live.at(-1)!], [], [1]));
        if (live.length > 10) cpu.free(live.splice(state % 10, 1)[0]);
      }
      live.forEach((id) => cpu.free(id));
      cpu.readSync(large);
      expect(process.memoryUsage.rss() - start).toBeLessThan(700 * 2 ** 20);
    });

    test("a synchronous loop of 10,000 scopes holds memory flat", () => {
      device.use("cpu");
      const on = device("cpu");
      const x = tensor(new Float32Array(20_000).fill(0.5));
      const step = () => scope(() => sum(add(affine(x, 2), x)).dataSync()[0]);
      for (let i = 0; i < 500; i++) step();
      const before = { ...on.memory(), rss: process.memoryUsage.rss() };
      for (let i = 0; i < 10_000; i++) expect(step()).toBe(30_000);
      expect(on.memory()).toEqual({ buffers: before.buffers, bytes: before.bytes });
      expect(process.memoryUsage.rss() - before.rss).toBeLessThan(64 * 2 ** 20);
      x.dispose();
    });
  });

  describe("programs", () => {
    const program = () => {
      const [x, weight, y] = [buffer(2), buffer(Float32Array.of(10, 20)), buffer(2)];
      const calls = [call("mul", [x, weight], [y], [1, 2, 1, 1]), call("affine", [y], [y], [], [1, 0.5])];
      return { x, weight, y, id: cpu.compile(calls) };
    };

    test("replay what was compiled, after whatever is queued", () => {
      const { x, weight, y, id } = program();
      expect([...cpu.replay(id, x, Float32Array.of(1, 2), y)]).toEqual([10.5, 40.5]);
      occupy(2);
      cpu.write(weight, Float32Array.of(-1, -2));
      const into = new Float32Array(2);
      expect(cpu.replay(id, x, Float32Array.of(1, 2), y, into)).toBe(into);
      expect([...into]).toEqual([-0.5, -3.5]);
      cpu.release(id);
      expect(() => cpu.replay(id, x, into, y)).toThrow(`there is no program ${id}`);
      expect(() => cpu.release(id)).toThrow(`there is no program ${id}`);
    });

    test("keep the buffers they use until they are released", () => {
      const before = cpu.memory().buffers;
      const [x, weight, y] = [cpu.alloc(2, "float32"), cpu.alloc(2, "float32"), cpu.alloc(2, "float32")];
      cpu.write(weight, Float32Array.of(3, 3));
      const id = cpu.compile([call("mul", [x, weight], [y], [1, 2, 1, 1])]);
      cpu.free(weight);
      const other = buffer(Float32Array.of(-7, -7));
      expect([...cpu.replay(id, x, Float32Array.of(1, 2), y)]).toEqual([3, 6]);
      cpu.release(id);
      cpu.free(x);
      cpu.free(y);
      expect([...cpu.readSync(other)]).toEqual([-7, -7]);
      expect(cpu.memory().buffers).toBe(before + 1);
    });

    test("name the kernel that failed", () => {
      const [ids, rows, table] = [buffer(Int32Array.of(0)), buffer(2), buffer(Float32Array.of(1, 2, 3, 4))];
      const id = cpu.compile([call("embedding", [ids, table], [rows], [1, 2, 2])]);
      expect([...cpu.replay(id, ids, Int32Array.of(1), rows)]).toEqual([3, 4]);
      expect(() => cpu.replay(id, ids, Int32Array.of(2), rows)).toThrow("embedding: ids must be in [0, 1]");
      expect([...cpu.replay(id, ids, Int32Array.of(0), rows)]).toEqual([1, 2]);
      cpu.release(id);
    });
  });

  describe("threads", () => {
    test("their number changes no bit of a result", () => {
      const values = Float32Array.from({ length: 300_007 }, (_, i) => Math.sin(i));
      const [x, y, columns, row] = [buffer(values), buffer(values.length), buffer(13), buffer(1)];
      const results = [1, 2, 3, 7].map((threads) => {
        cpu.setThreads(threads);
        expect(cpu.info().threads).toBe(threads);
        cpu.run(call("exp", [x], [y]));
        cpu.run(call("sum", [y], [row], [1, values.length, 1]));
        cpu.run(call("sum", [y], [columns], [1, 23_077, 13]));
        return [...cpu.readSync(y).slice(-100), ...cpu.readSync(row), ...cpu.readSync(columns)];
      });
      for (const result of results) expect(result).toEqual(results[0]);
      cpu.setThreads(2);
    });

    test.each([0, -1, 1.5, NaN, 5000])("%s is refused", (threads) => {
      expect(() => cpu.setThreads(threads)).toThrow(`threads must be an integer in [1, 1024] but is ${threads}`);
    });

    test("two devices work side by side", async () => {
      const other = openNative("", 2);
      const [x, y] = [buffer(1 << 20), buffer(1 << 20, other)];
      const work = (on: Backend, id: number, value: number) => {
        on.run(call("fill", [], [id], [], [value]));
        for (let i = 0; i < 20; i++) on.run(call("affine", [id], [id], [], [1, 1]));
        return on.read(id);
      };
      const [a, b] = await Promise.all([work(cpu, x, 1), work(other, y, 100)]);
      expect([a[77], b[77]]).toEqual([21, 120]);
    });
  });

  describe("processes and workers", () => {
    const addon = createRequire(import.meta.url)("node-gyp-build") as { resolve(root: string): string };
    // The bare addon: a device with a buffer of 4 M elements, and some tenths of a second of work queued.
    const busy = `
      const cpu = require(${JSON.stringify(nativeAvailable ? addon.resolve(root) : "")}).open("", 2);
      cpu.floats[0] = 1 << 22; cpu.ints[0] = 0; cpu.alloc();
      const x = cpu.ints[0];
      const run = (kernel, inputs) => { cpu.ints.set([cpu.kernels[kernel].index, inputs.length, 1, 0, kernel === "fill" ? 1 : 0, ...inputs, x]); cpu.floats[0] = 0.5; cpu.run(); };
      run("fill", []);
      for (let i = 0; i < 60; i++) run("tanh", [x]);
      const into = new Float32Array(1 << 22);
    `;
    const node = (program: string, env: Record<string, string> = {}) =>
      spawnSync(process.execPath, ["-e", program], { encoding: "utf8", env: { ...process.env, ...env }, timeout: 60_000 });

    test("a process waits for the reads it asked for, and for nothing else", () => {
      const waiting = node(
        `${busy} cpu.read(x, into).then((a) => console.log(a === into && a[5] > 0 && a[5] < 0.5)); console.log("asked")`,
      );
      expect([waiting.stdout, waiting.stderr, waiting.status]).toEqual(["asked\ntrue\n", "", 0]);
      const careless = node(`${busy} process.on("exit", () => console.log("bye"))`);
      expect([careless.stdout, careless.stderr, careless.status]).toEqual(["bye\n", "", 0]);
    });

    test.each([
      ["process.exit", "cpu.read(x, into); setTimeout(() => process.exit(3), 20)"],
      ["an exception", "cpu.read(x, into); setTimeout(() => { process.exitCode = 3; process.exit(); }, 1)"],
    ])("%s ends it in the middle of its work", (_, ending) => {
      const { stdout, stderr, status } = node(`${busy} ${ending}`);
      expect([stdout, stderr, status]).toEqual(["", "", 3]);
    });

    test("a child process starts and ends while the engine works", () => {
      occupy(20);
      expect(execFileSync(process.execPath, ["-p", "6 * 7"], { encoding: "utf8" })).toBe("42\n");
      expect(() => cpu.readSync(large)).not.toThrow();
    });

    test("a worker has an engine of its own", async () => {
      const worker = new Worker(`${busy} cpu.read(x, into).then((a) => require("node:worker_threads").parentPort.postMessage(a[9]))`, {
        eval: true,
      });
      occupy(5);
      const [value] = await new Promise<[number]>((resolve, reject) => {
        worker.once("message", (v: number) => resolve([v]));
        worker.once("error", reject);
      });
      expect(value).toBeGreaterThan(0);
      expect(value).toBeLessThan(0.5);
      await worker.terminate();
    });

    test("workers that are terminated take nothing with them", async () => {
      for (let i = 0; i < 8; i++) {
        const worker = new Worker(`${busy} cpu.read(x, into); require("node:worker_threads").parentPort.postMessage(1);`, { eval: true });
        await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
        await worker.terminate();
      }
      const x = buffer(Float32Array.of(2));
      cpu.run(call("square", [x], [x]));
      expect([...cpu.readSync(x)]).toEqual([4]);
    });

    test.each([
      ["THROUGHTIME_ISA", "mmx", "THROUGHTIME_ISA: must be one of base"],
      ["THROUGHTIME_THREADS", "many", "THROUGHTIME_THREADS: must be an integer in [1, 1024] but is many"],
    ])("%s=%s makes the device unavailable, and info() says why", (name, value, reason) => {
      const program = `import("${root}src/index.ts").then(({ device }) => console.log(JSON.stringify(device.info())))`;
      const { stdout } = spawnSync(process.execPath, ["--import", "tsx", "-e", program], {
        cwd: root,
        encoding: "utf8",
        env: { ...process.env, [name]: value },
      });
      const info = JSON.parse(stdout) as ReturnType<typeof device.info>;
      expect(info.default).toBe("reference");
      expect(info.devices[0]).toMatchObject({ name: "cpu", available: false });
      expect(info.devices[0].reason).toContain(reason);
    });
  });

  test("NaN and infinity pass as JavaScript has them", () => {
    const special = [NaN, Infinity, -Infinity, -0, 0, 1, -1, 1e-40, 3e38, -3e38];
    const x = buffer(Float32Array.from([...special, ...special]));
    const y = buffer(20);
    const unary = (kernel: string, floats: number[] = []) => {
      cpu.run(call(kernel, [x], [y], [], floats));
      return [...cpu.readSync(y)].slice(0, special.length);
    };
    expect(unary("relu")).toEqual([NaN, Infinity, 0, -0, 0, 1, 0, Math.fround(1e-40), Math.fround(3e38), 0]);
    expect(unary("sign")).toEqual(special.map(Math.sign));
    expect(unary("abs")).toEqual(special.map((v) => Math.fround(Math.abs(v))));
    expect(unary("tanh").slice(0, 5)).toEqual([NaN, 1, -1, -0, 0]);
    expect(unary("exp").slice(0, 5)).toEqual([NaN, Infinity, 0, 1, 1]);
    expect(unary("log").slice(0, 6)).toEqual([NaN, Infinity, NaN, -Infinity, -Infinity, 0]);
    expect(unary("sigmoid").slice(0, 2)).toEqual([NaN, 1]);
    expect(unary("clamp", [-0.5, 0.5])).toEqual([NaN, 0.5, -0.5, -0, 0, 0.5, -0.5, Math.fround(1e-40), 0.5, -0.5]);
    const binary = (kernel: string, a: number[], b: number[]) => {
      cpu.run(call(kernel, [buffer(Float32Array.from(a)), buffer(Float32Array.from(b))], [y], [1, 20, 1, 1]));
      return [...cpu.readSync(y)];
    };
    const left = [NaN, 1, 2, 5, ...new Array<number>(16).fill(0)];
    const right = [1, NaN, 3, 4, ...new Array<number>(16).fill(0)];
    expect(binary("maximum", left, right).slice(0, 4)).toEqual([NaN, NaN, 3, 5]);
    expect(binary("minimum", left, right).slice(0, 4)).toEqual([NaN, NaN, 2, 4]);
    cpu.run(call("argmax", [x], [buffer(new Int32Array(1))], [1, 20, 1]));
    expect(cpu.readSync(made.at(-1)!)[0]).toBe(0);
  });

  test("a weight may be read under several shapes: its arrangements are kept apart", () => {
    const weight = tensor(Float32Array.from({ length: 24 }, (_, i) => i), { shape: [4, 6], device: cpu }); // prettier-ignore
    const wanted = (rows: number) =>
      Array.from({ length: rows }, (_, r) => (24 / rows) * r * (24 / rows) + ((24 / rows - 1) * 24) / rows / 2);
    for (const rows of [4, 6, 12, 4]) {
      const y = linear(ones([1, 24 / rows], { device: cpu }), reshape(weight, [rows, 24 / rows]));
      expect(Array.from(y.dataSync())).toEqual(wanted(rows));
      y.dispose();
    }
    weight.dispose();
  });

  test("a long sum is as exact as float32 can hold", () => {
    const n = 3_000_000;
    const values = Float32Array.from({ length: n }, (_, i) => 0.1 + Math.sin(i) / 50);
    const [x, y, columns] = [buffer(values), buffer(1), buffer(3)];
    cpu.run(call("sum", [x], [y], [1, n, 1]));
    cpu.run(call("sum", [x], [columns], [1, n / 3, 3]));
    // Three million terms one after another would be off by some 1e-3; blocks added pairwise by a few roundings.
    const expected = [0, 0, 0];
    values.forEach((v, i) => (expected[i % 3] += v));
    const total = expected[0] + expected[1] + expected[2];
    expect(Math.abs(cpu.readSync(y)[0] / total - 1)).toBeLessThan(3e-7);
    cpu.readSync(columns).forEach((v, i) => expect(Math.abs(v / expected[i] - 1)).toBeLessThan(3e-7));
  });

  describe.each(["base", "avx2", "avx512"])("vector math on %s", (isa) => {
    let on: Backend | null = null;
    try {
      on = nativeAvailable ? openNative(isa, 1) : null;
    } catch {
      // this processor has not got it
    }

    /** The largest error in units of the last place over float32 arguments spread by exponent, and the argument. */
    function worst(kernel: string, exact: (x: number) => number, accept: (x: number) => boolean): [number, number] {
      const count = 1 << 20;
      const bits = Int32Array.from({ length: count }, (_, i) => Math.imul(i, 4099) ^ (i << 31));
      const values = new Float32Array(bits.buffer).map((v) => (accept(v) ? v : 1));
      const [x, y] = [on!.alloc(count, "float32"), on!.alloc(count, "float32")];
      on!.write(x, values);
      on!.run(call(kernel, [x], [y]));
      const got = on!.readSync(y);
      on!.free(x);
      on!.free(y);
      let found: [number, number] = [0, 0];
      for (let i = 0; i < count; i++) {
        const want = exact(values[i]);
        if (Math.abs(want) < 2 ** -126 || !Number.isFinite(Math.fround(want))) continue;
        const error = Math.abs(got[i] - want) / 2 ** (Math.floor(Math.log2(Math.abs(want))) - 23);
        if (!(error <= found[0])) found = [error, values[i]];
      }
      return found;
    }

    test.skipIf(!on).each([
      ["exp", Math.exp, () => true, 1.1],
      ["log", Math.log, (x: number) => x > 0, 0.9],
      ["tanh", Math.tanh, () => true, 2.6],
      ["sigmoid", (x: number) => 1 / (1 + Math.exp(-x)), (x: number) => x > -87, 2.5],
    ] as const)("%s keeps its stated error", (kernel, exact, accept, ulp) => {
      const [error, at] = worst(kernel, exact, accept);
      expect(error, `at ${at}`).toBeLessThan(ulp);
    });
  });
});
