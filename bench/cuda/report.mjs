// The results of bench:cuda as Markdown.

const us = (v) => (v === undefined ? "" : v.toFixed(v < 10 ? 2 : 1));
const ratio = (theirs, mine) => (theirs === undefined || mine === undefined ? "" : `x${(theirs / mine).toFixed(2)}`);
const share = (floor, mine) => (mine === undefined ? "" : `${((100 * floor) / mine).toFixed(0)} %`);

function form({ layers, bidirectional, ragged }) {
  return [layers > 1 && `${layers} layers`, bidirectional && "both directions", ragged && "ragged"].filter(Boolean).join(", ");
}

function line({ case: c, floor, mine, theirs }) {
  const start = [c.cell, c.hidden, c.batch, c.precision === "fp16" ? "fp16, ours bf16" : c.precision, form(c)];
  const columns = ["forward", "train"].flatMap((mode) => {
    const [own, other] = [mine?.error ? undefined : mine?.[mode], theirs?.error ? undefined : theirs?.[mode]];
    return [us(own), us(other), ratio(other, own), share(floor[mode], own)];
  });
  const errors = [mine?.error && `ours: ${mine.error}`, theirs?.error && `cuDNN: ${theirs.error}`].filter(Boolean).join("; ");
  return `| ${[...start, ...columns, errors.replaceAll("|", "/")].join(" | ")} |`;
}

function ahead(rows) {
  const ratios = ["forward", "train"].map((mode) =>
    rows.flatMap(({ mine, theirs }) => (mine?.[mode] && theirs?.[mode] && !mine.error && !theirs.error ? [theirs[mode] / mine[mode]] : [])),
  );
  if (ratios[0].length === 0) return "";
  const mean = (list) => Math.exp(list.reduce((sum, r) => sum + Math.log(r), 0) / list.length);
  const words = ratios.map(
    (list, i) => `${["forward", "training"][i]} x${mean(list).toFixed(2)}, ahead in ${list.filter((r) => r >= 1).length} of ${list.length}`,
  );
  return `\nAgainst cuDNN in the geometric mean: ${words.join("; ")}.\n`;
}

export function report({ info, date, node, peer, rounds }, rows, all) {
  const head = ["cell", "H", "B", "precision", "form", "forward", "cuDNN", "ratio", "of floor", "train", "cuDNN", "ratio", "of floor", ""];
  return `# Recurrent layers on ${info.gpu}, ${date}

- driver: CUDA ${info.driver}; kernels: CUDA ${info.runtime}; products: ${info.blas}; Node ${node}
- peer: ${peer ? `PyTorch ${peer.torch}, cuDNN ${peer.cudnn}` : "none"}

Microseconds a step and layer, 256 steps, input as wide as the layer; forward, and forward with all gradients. The clock of the host around
whole calls, ${rounds} rounds in turns, the median. Ratio: above x1 ours is faster. Of floor: the share that the floor of bench/cuda/floor.mjs,
which is arithmetic, has of our time. ${rows.length} of ${all} cases.
${ahead(rows)}
| ${head.join(" | ")} |
|---|---:|---:|---|---|${"---:|".repeat(8)}---|
${rows.map(line).join("\n")}
`;
}
