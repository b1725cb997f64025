import { flops, type BenchCase } from "./cases.js";

/**
 * Median of the calls of one case by one peer, whether any round was quiet, and the multiply-adds (GFLOP/s) that the
 * machine could do meanwhile, if known; or why there is none.
 */
export type Timing = { readonly ms: number; readonly quiet: boolean; readonly peak?: number } | { readonly error: string };

const digits = (x: number) => (x >= 100 ? x.toFixed(0) : x.toPrecision(3));

function cell(timing: Timing | undefined, ours: Timing | undefined, isOurs: boolean): string {
  if (!timing || "error" in timing) return "";
  const mark = timing.quiet ? "" : "~";
  const ratio = isOurs || !ours || "error" in ours ? "" : ` (x${(timing.ms / ours.ms).toFixed(2)})`;
  return `${mark}${digits(timing.ms)}${ratio}`;
}

/** Geometric mean over the cases of (fastest peer / ours). */
function summary(ours: string, mode: string, rows: readonly (readonly [BenchCase, ReadonlyMap<string, Timing>])[]): string {
  const ratios = rows.flatMap(([, timings]) => {
    const own = timings.get(ours);
    const peers = [...timings].flatMap(([name, t]) => (name !== ours && "ms" in t ? [t.ms] : []));
    return own && "ms" in own && peers.length > 0 ? [Math.min(...peers) / own.ms] : [];
  });
  if (ratios.length === 0) return "";
  const mean = Math.exp(ratios.reduce((sum, r) => sum + Math.log(r), 0) / ratios.length);
  const ahead = ratios.filter((r) => r >= 1).length;
  return `\nAgainst the fastest peer of each ${mode} case: x${mean.toFixed(2)} in the geometric mean, ahead in ${ahead} of ${ratios.length}, worst x${Math.min(...ratios).toFixed(2)}.\n`;
}

/** Results as Markdown, a table for each mode: milliseconds, and in brackets how many times longer than ours a peer took. */
export function tables(ours: string, about: readonly string[], results: ReadonlyMap<BenchCase, ReadonlyMap<string, Timing>>): string {
  const names = [...new Set([...results.values()].flatMap((timings) => [...timings.keys()]))];
  const parts = [
    `# ${ours} and its peers\n\n${about.map((line) => `- ${line}`).join("\n")}\n\nMilliseconds a call; in brackets, how many times longer than ${ours}; ahead: the same of the fastest. A ~ marks a figure without a quiet round.\n`,
  ];
  for (const mode of ["train", "infer", "stream"]) {
    const rows = [...results].filter(([c]) => c.mode === mode);
    if (rows.length === 0) continue;
    const lines = rows.map(([c, timings]) => {
      const own = timings.get(ours);
      const speed = own && "ms" in own ? flops(c) / own.ms / 1e6 : 0;
      const share = own && "ms" in own && own.peak ? ` (${((speed / own.peak) * 100).toFixed(0)} %)` : "";
      const fastest = Math.min(...[...timings].flatMap(([name, t]) => (name !== ours && "ms" in t ? t.ms : [])));
      const ahead = own && "ms" in own && fastest < Infinity ? `x${(fastest / own.ms).toFixed(2)}` : "";
      return `| ${c.shape}/${c.cell} | ${speed.toFixed(1)}${share} | ${ahead} | ${names.map((name) => cell(timings.get(name), own, name === ours)).join(" | ")} |`;
    });
    const head = `| case | GFLOP/s (of peak) | ahead | ${names.join(" | ")} |\n|---|---:|---:|${"---:|".repeat(names.length)}`;
    parts.push(`\n## ${mode}\n\n${head}\n${lines.join("\n")}\n${summary(ours, mode, rows)}`);
  }
  return parts.join("");
}
