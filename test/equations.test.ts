import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compileFunction } from "node:vm";
import ts from "typescript";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import * as library from "../src/index.js";

// docs/equations.md is a program: its blocks of TypeScript, and between them each span of code, an expression of the
// library; but spans that name a file. A line in a block that ends in a comment prints what the comment says.
const root = join(import.meta.dirname, "..");
const page = readFileSync(join(root, "docs/equations.md"), "utf8");
const plain = page.replace(/^ *```text\n.*?^ *```$/gms, "");
const isFile = (span: string) => /^(test|examples|bench)\//.test(span);
const pieces = [...plain.matchAll(/```ts\n(?<block>.*?)```|`(?<span>[^`\n]+)`/gs)].map(
  ({ groups }) => groups as { block?: string; span?: string },
);
const spans = pieces.flatMap(({ span }) => (span !== undefined && !isFile(span) ? [span] : []));
const [covered] = plain.split(/^## Still to come$/m);

const program = pieces
  .filter(({ span }) => span === undefined || !isFile(span))
  .map(({ block, span }) => block ?? `await see(${JSON.stringify(span)}, () => (${span}));`)
  .join("\n");

const folder = mkdtempSync(join(tmpdir(), "throughtime-equations-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("what the page names is exported, with these arguments, by its types", () => {
  const file = join(folder, "page.mts");
  const names = [...Object.keys(library), "type LSTMState"];
  const start = `import { ${names.join(", ")} } from ${JSON.stringify(join(root, "src/index.ts"))};`;
  writeFileSync(file, `${start}\nconst see = async (_: string, value: () => unknown) => void (await value());\n${program}`);
  const { config } = ts.readConfigFile(join(root, "tsconfig.json"), ts.sys.readFile) as { config: object };
  const { options } = ts.parseJsonConfigFileContent({ ...config, include: [] }, ts.sys, root);
  const typeRoots = [join(root, "node_modules/@types")];
  const checked = ts.createProgram([file], { ...options, noUnusedLocals: false, allowImportingTsExtensions: true, typeRoots });
  const source = checked.getSourceFile(file);
  const errors = [...checked.getSyntacticDiagnostics(source), ...checked.getSemanticDiagnostics(source)];
  expect(errors.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n"))).toEqual([]);
});

test("what the page names is taken by the library, and prints what the page says", async () => {
  const broken: string[] = [];
  const see = async (span: string, value: () => unknown) => {
    try {
      let found = value();
      if (Object.prototype.toString.call(found) === "[object AsyncGenerator]") found = (await (found as AsyncGenerator).next()).value;
      if ((await found) === undefined && !span.endsWith(")")) broken.push(`${span}: nothing`);
    } catch (error) {
      broken.push(`${span}: ${String(error)}`);
    }
  };
  const printed: string[] = [];
  const console = { log: (...values: unknown[]) => printed.push(values.join(" ")) };
  const scope = { ...library, see, console };
  const { outputText } = ts.transpileModule(`const page = async () => {\n${program}\n};`, {
    compilerOptions: { target: ts.ScriptTarget.ES2022 },
  });
  const run = compileFunction(`${outputText}; return page;`, Object.keys(scope)) as (...values: unknown[]) => () => Promise<void>;
  await run(...Object.values(scope))();
  expect(broken).toEqual([]);
  expect(printed).toEqual([...program.matchAll(/console\.log\(.*\); \/\/ (.*)$/gm)].map(([, text]) => text));
  expect(spans.length).toBeGreaterThan(50);
});

describe("the proofs", () => {
  const cited = [...plain.matchAll(/`(test\/[^`]+)`((?:,? (?:and )?"[^"]+")*)/g)].map(([, file, names]) => ({
    file,
    names: [...names.matchAll(/"([^"]+)"/g)].map(([, name]) => name),
  }));
  const known = new Map<string, string[]>();

  beforeAll(() => {
    const files = [...new Set(cited.map(({ file }) => file))].filter((file) => existsSync(join(root, file)));
    const list = join(folder, "tests.json");
    const vitest = join(root, "node_modules/vitest/vitest.mjs");
    execFileSync(process.execPath, [vitest, "list", "--no-isolate", "--pool=threads", "--maxWorkers=1", `--json=${list}`, ...files], {
      cwd: root,
      stdio: "pipe",
    });
    for (const { file, name } of JSON.parse(readFileSync(list, "utf8")) as { file: string; name: string }[])
      known.set(file, [...(known.get(file) ?? []), name]);
  }, 120_000);

  test("are tests or groups of those names, in those files", () => {
    const isTest = (file: string, name: string) => known.get(join(root, file))?.some((one) => ` > ${one} > `.includes(` > ${name} > `));
    expect(cited.flatMap(({ file, names }) => (names.length > 0 ? [] : [`${file}: no test is named`]))).toEqual([]);
    expect(cited.flatMap(({ file, names }) => names.filter((name) => !isTest(file, name)).map((name) => `${file}: ${name}`))).toEqual([]);
  });

  test("are given for every row, with what carries it", () => {
    const rows = covered.split(/^(?=- \*\*|##)/m).filter((row) => row.startsWith("- "));
    expect(rows.length).toBeGreaterThan(40);
    const complete = (row: string) => /`(?!test\/)[^`]+`/.test(row) && /Proof: `test\//.test(row);
    expect(rows.filter((row) => !complete(row))).toEqual([]);
  });

  test("and other files are there", () => {
    const files = pieces.flatMap(({ span }) => (span !== undefined && isFile(span) ? [span] : []));
    expect(files.filter((file) => !existsSync(join(root, file)))).toEqual([]);
  });
});
