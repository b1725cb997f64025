import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { DeviceName } from "../src/backend/devices.js";
import { readSafetensors, writeSafetensors, type SafeTensor } from "../src/io/safetensors.js";
import { findCases } from "./golden/case.js";
import { runCases, show, unavailable, type Result } from "./golden/runner.js";
import { devicesUnderTest } from "./helpers.js";

const cases = join(import.meta.dirname, "golden/cases");

async function run(folder: string, device: DeviceName = "reference"): Promise<Result[]> {
  const results: Result[] = [];
  for await (const result of runCases(findCases(folder), { devices: [device] })) results.push(result);
  return results;
}

describe.each(devicesUnderTest())("golden cases on %s", (device) => {
  test.skipIf(unavailable(device) !== null)("all are met", { timeout: 60_000 }, async () => {
    const results = await run(cases, device);
    expect(results.filter((r) => r.outcome !== "ok").map(show)).toEqual([]);
    expect(results.length).toBeGreaterThan(25);
  });
});

describe("what is wrong is found", () => {
  let folder: string;
  const path = (ext: string) => join(folder, `lstm_odd.${ext}`);

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "golden-"));
    for (const ext of ["json", "safetensors"]) copyFileSync(join(cases, `torch_lstm/lstm_odd.${ext}`), path(ext));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  async function rewrite(change: (tensors: Map<string, SafeTensor>) => void) {
    const tensors = new Map((await readSafetensors(path("safetensors"))).tensors);
    change(tensors);
    await writeSafetensors(path("safetensors"), tensors);
  }

  test("the untouched copy passes", async () => {
    expect((await run(folder)).map((r) => r.outcome)).toEqual(["ok"]);
  });

  const compared = ["output.y", "output.h_n", "output.c_n", "grad.input.x", "grad.state0.h0", "grad.state0.c0"];
  const parameters = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"].map((name) => `grad.param.${name}`);
  test.each([...compared, ...parameters])("one element of %s off by a millionth", async (key) => {
    await rewrite((tensors) => {
      const data = tensors.get(key)!.data as Float64Array;
      data[data.length - 1] += 1e-6;
    });
    const [result] = await run(folder);
    expect(result).toMatchObject({ outcome: "FAIL", worst: { tensor: key } });
    expect(result.worst!.error).toBeCloseTo(1e-6, 9);
  });

  test.each([NaN, Infinity])("%s where a number was computed", async (value) => {
    await rewrite((tensors) => tensors.get("output.y")!.data.fill(value as never));
    expect(await run(folder)).toMatchObject([{ outcome: "FAIL", worst: { tensor: "output.y", error: Infinity } }]);
  });

  test("a parameter that differs", async () => {
    await rewrite((tensors) => void (tensors.get("param.bias_hh_l0")!.data[0] = 9));
    expect(await run(folder)).toMatchObject([{ outcome: "FAIL" }]);
  });

  test("a tensor that nobody computes", async () => {
    await rewrite((tensors) => tensors.set("grad.param.other", tensors.get("grad.param.bias_ih_l0")!));
    expect(await run(folder)).toMatchObject([{ outcome: "FAIL", reason: "nobody computed grad.param.other" }]);
  });

  test("a tensor that the description promises but the file has not", async () => {
    await rewrite((tensors) => tensors.delete("grad.input.x"));
    expect(await run(folder)).toMatchObject([{ outcome: "FAIL", reason: expect.stringContaining("has no tensor grad.input.x") as string }]);
  });

  test("another shape", async () => {
    await rewrite((tensors) => {
      const { data, dtype } = tensors.get("output.h_n")!;
      tensors.set("output.h_n", { dtype, data, shape: [data.length] });
    });
    expect(await run(folder)).toMatchObject([{ outcome: "FAIL", reason: "output.h_n must be [13] but is [1, 1, 13]" }]);
  });

  test("a cut file, a file alone, a description that is not JSON", async () => {
    truncateSync(path("safetensors"), 5000);
    expect(await run(folder)).toMatchObject([{ outcome: "FAIL", reason: expect.stringContaining("lstm_odd.safetensors") as string }]);
    rmSync(path("safetensors"));
    expect(await run(folder)).toMatchObject([{ outcome: "FAIL", reason: expect.stringContaining("no such file") as string }]);
    for (const [ext, text] of [["json", "{"], ["safetensors", ""]]) writeFileSync(path(ext), text); // prettier-ignore
    expect(await run(folder)).toMatchObject([{ outcome: "FAIL" }]);
    rmSync(path("json"));
    expect(await run(folder)).toMatchObject([{ outcome: "FAIL" }]);
  });

  test("a family nobody knows is unsupported, a model folder is no case", async () => {
    const json = readFileSync(path("json"), "utf8");
    writeFileSync(path("json"), json.replace('"torch_lstm"', '"reservoir"'));
    mkdirSync(join(folder, "model"));
    for (const name of ["config.json", "model.safetensors"]) writeFileSync(join(folder, "model", name), "{}");
    expect(await run(folder)).toMatchObject([{ outcome: "unsupported", reason: "no layer for reservoir yet" }]);
  });

  describe("the command", () => {
    const command = (...args: string[]) => {
      const script = join(import.meta.dirname, "golden/run.ts");
      const { status, stdout, stderr } = spawnSync(process.execPath, ["--import", "tsx", script, ...args], { encoding: "utf8" });
      return { status, stdout, stderr };
    };

    test("exits 0 with a count, 1 on a failure", { timeout: 60_000 }, async () => {
      const good = command(folder, "--device", "reference");
      expect(good).toMatchObject({
        status: 0,
        stdout: expect.stringMatching(/^ok +lstm_odd reference \S+ \S+ \(tolerance \S+\)\n1 passed, 0 failed, 0 unsupported\n$/) as string,
      });
      await rewrite((tensors) => tensors.get("output.y")!.data.fill(2 as never));
      const bad = command(folder, "--device", "reference");
      expect(bad).toMatchObject({
        status: 1,
        stdout: expect.stringMatching(/^FAIL +lstm_odd reference output\.y .*\n0 passed, 1 failed, 0 unsupported\n$/) as string,
      });
    });

    test("exits 2 when there is nothing to run", { timeout: 60_000 }, () => {
      const empty = mkdtempSync(join(tmpdir(), "golden-"));
      expect(command(empty)).toMatchObject({ status: 2, stderr: expect.stringContaining("there are no cases") as string });
      expect(command(join(empty, "none"))).toMatchObject({
        status: 2,
        stderr: expect.stringContaining("cannot read the folder") as string,
      });
      expect(command(folder, "--family", "none")).toMatchObject({
        status: 2,
        stderr: expect.stringContaining("no cases of the family none") as string,
      });
      expect(command(folder, "--device", "gpu")).toMatchObject({
        status: 2,
        stderr: expect.stringContaining("--device must be reference, cpu or cuda but is gpu") as string,
      });
      expect(command()).toMatchObject({ status: 2, stderr: expect.stringContaining("usage") as string });
      rmSync(empty, { recursive: true });
    });
  });
});
