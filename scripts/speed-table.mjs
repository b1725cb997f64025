// Draws the README's table of speeds from the file of measurements it names: node scripts/speed-table.mjs [--check]
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const place = /<!-- speed: (\S+) -->\n[\s\S]*?<!-- end of speed -->/;
const cells = ["lstm", "gru", "rnn_tanh"];
const modes = { train: "training", infer: "inference", stream: "stream" };

/** How far the fastest peer is behind, by shape, then cell and mode. */
function measurements(markdown) {
  const shapes = new Map();
  let mode = "";
  for (const line of markdown.split("\n")) {
    mode = /^## (\w+)/.exec(line)?.[1] ?? mode;
    const [, shape, cell, ahead] = /^\| ([\w-]+)\/(\w+) +\|[^|]*\| +x([\d.]+) \|/.exec(line) ?? [];
    if (!shape) continue;
    if (!shapes.has(shape)) shapes.set(shape, new Map());
    shapes.get(shape).set(`${cell} ${mode}`, Number(ahead));
  }
  return shapes;
}

function row(columns) {
  return `| ${columns.join(" | ")} |`;
}

/** A table for batches and one for streams. */
function draw(shapes) {
  const table = (wanted) => {
    const columns = wanted.flatMap((mode) =>
      cells.map((cell) => [`${cell} ${mode}`, `${cell.split("_")[0].toUpperCase()} ${modes[mode]}`]),
    );
    const rows = [...shapes].filter(([, found]) => columns.some(([key]) => found.has(key)));
    const lines = rows.map(([shape, found]) =>
      row([shape, ...columns.map(([key]) => (found.has(key) ? `${found.get(key).toFixed(2)}x` : ""))]),
    );
    return [row(["case", ...columns.map(([, title]) => title)]), row(["---", ...columns.map(() => "---:")]), ...lines].join("\n");
  };
  return `${table(["train", "infer"])}\n\n${table(["stream"])}`;
}

const path = join(root, "README.md");
const readme = readFileSync(path, "utf8");
const found = place.exec(readme);
if (!found) throw new Error("README.md has no place for the table of speeds");
const drawn = `<!-- speed: ${found[1]} -->\n\n${draw(measurements(readFileSync(join(root, found[1]), "utf8")))}\n\n<!-- end of speed -->`;
const squeezed = (text) => text.replace(/ +/g, " ").replace(/-+/g, "-"); // prettier aligns the columns
if (process.argv.includes("--check")) {
  if (squeezed(found[0]) !== squeezed(drawn))
    throw new Error("README.md's table of speeds is not that of its file: node scripts/speed-table.mjs");
} else
  writeFileSync(
    path,
    readme.replace(place, () => drawn),
  );
