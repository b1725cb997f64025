import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { device, embedding, LSTM, noGrad, scope, SGD, sum, tensor, zeros } from "../src/index.js";
import { cudaUnderTest, nativeAvailable } from "./helpers.js";

const root = fileURLToPath(new URL("../", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "throughtime-cuda-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Told {
  readonly info: ReturnType<typeof device.info>;
  /** What asking for the device by name says. */
  readonly asked: string;
}

/** What a process with such an environment is told of the GPU. */
function told(env: Record<string, string>): Told {
  const program = `import("${root}src/index.ts").then(({ device }) => {
    let asked = "";
    try { device("cuda"); } catch (error) { asked = error.message; }
    console.log(JSON.stringify({ info: device.info(), asked }));
  })`;
  const { stdout, stderr } = spawnSync(process.execPath, ["--import", "tsx", "-e", program], {
    cwd: root,
    encoding: "utf8",
    env: { ...process.env, ...env },
  });
  expect(stderr).toBe("");
  return JSON.parse(stdout) as Told;
}

const gpuOf = ({ info }: Told) => info.devices.find(({ name }) => name === "cuda")!;

describe.skipIf(!nativeAvailable)("a GPU that cannot be used", () => {
  const missing = join(folder, "missing.so");
  const text = join(folder, "text.so");
  writeFileSync(text, "not a library");

  test.each([
    [{ THROUGHTIME_CUDA: missing }, `THROUGHTIME_CUDA: there is no file ${missing}`],
    [{ THROUGHTIME_CUDA: text }, "the CUDA kernels cannot be loaded: "],
    [{ THROUGHTIME_GPU: "first" }, /THROUGHTIME_GPU: must be the number of a GPU, from 0, but is first|the CUDA kernels were not built/],
  ])("%o: info() says why, asking for it by name throws, and the processor is the default", (env, reason) => {
    const it = told(env);
    expect(gpuOf(it)).toMatchObject({ name: "cuda", available: false });
    if (typeof reason === "string") expect(gpuOf(it).reason).toContain(reason);
    else expect(gpuOf(it).reason).toMatch(reason);
    expect(it.asked).toContain(`the cuda device cannot be used: ${gpuOf(it).reason!.slice(0, 30)}`);
    expect(it.info.default).toBe("cpu");
  });
});

describe.skipIf(!cudaUnderTest)("the device", () => {
  const emulated = process.env.THROUGHTIME_CUDA?.includes("emulated") ?? false;

  test.skipIf(!emulated).each([
    ["none", "there is no NVIDIA GPU, or CUDA_VISIBLE_DEVICES hides it"],
    ["driverless", "there is no NVIDIA driver"],
    ["old", "the NVIDIA driver is too old: it knows CUDA 11.4, and CUDA"],
    ["volta", "the GPU is too old: its compute capability is 7.0, and 8.0 is needed"],
  ])("a machine with %s: a clear line", (mode, reason) => {
    const it = told({ THROUGHTIME_EMULATED: mode });
    expect(gpuOf(it)).toMatchObject({ available: false });
    expect(gpuOf(it).reason).toContain(reason);
    expect(it.asked).toContain(reason);
    expect(it.info.default).toBe("cpu");
  });

  test.skipIf(!emulated)("a GPU that is not there", () => {
    expect(gpuOf(told({ THROUGHTIME_GPU: "7" })).reason).toBe("there is no GPU 7: there is 1, numbered from 0");
  });

  test("says what it is", () => {
    const info = device.info().devices.find(({ name }) => name === "cuda")!;
    expect(info).toMatchObject({ available: true, tf32: process.env.THROUGHTIME_TF32 === "1" });
    expect(info.capability).toMatch(/^\d+\.\d$/);
    expect(info.memory).toBeGreaterThan(0);
  });

  test("out of memory is an error that leaves the device usable", () => {
    const on = device("cuda");
    expect(() => zeros([1 << 30, 1 << 12], { device: on })).toThrow(/cuda: out of memory: \d+ of \d+ MiB are free/);
    expect(sum(zeros([3], { device: on })).dataSync()).toEqual(new Float32Array([0]));
  });

  test("a step that fails changes no weights, and the next one is right", () => {
    const on = device("cuda");
    const table = tensor([1, 2, 3, 4], { shape: [2, 2], device: on, requiresGrad: true });
    const optimizer = new SGD([table], { lr: 1 });
    const step = (id: number) =>
      scope(() => {
        sum(embedding(tensor([id], { dtype: "int32", device: on }), table)).backward();
        optimizer.step();
        optimizer.zeroGrad();
      });
    step(5);
    expect(() => table.dataSync()).toThrow("embedding: ids must be in [0, 1] for a table of 2 rows, but ids[0] is 5");
    expect([...table.dataSync()]).toEqual([1, 2, 3, 4]);
    step(1);
    expect([...table.dataSync()]).toEqual([1, 2, 2, 3]);
  });

  test("a layer moves there and back without loss", () => {
    const layer = new LSTM(3, 5, { device: "reference", dtype: "float32" });
    const before = Object.fromEntries([...layer.namedParameters()].map(([name, p]) => [name, p.dataSync()]));
    layer.to(device("cuda"));
    noGrad(() => layer.forward(zeros([1, 2, 3], { device: device("cuda") })));
    layer.to(device("reference"));
    for (const [name, p] of layer.namedParameters()) expect(p.dataSync(), name).toEqual(before[name]);
  });
});
