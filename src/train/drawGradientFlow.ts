import { checkCount, checkOptions } from "../tensor/check.js";
import type { GradientFlow } from "./gradientFlow.js";

/** Options of `drawGradientFlow`. */
export interface FlowDrawingOptions {
  /** Columns of the picture, at least 30. Default 72. */
  readonly width?: number;
  /** Rows of the plot, at least 3. Default 12. */
  readonly height?: number;
}

const marks = "ox+*#@%&=abcdefghijklmnpqrstuvwyz";

/** Powers of ten that a plot shows at most: below lies what float32 cannot hold. */
const MOST = 45;

/**
 * Draws a gradient flow as plain text, without a line break at the end: against the step, from the first on the left to the
 * last on the right, the norm of the gradient by each state of each layer, on a logarithmic scale. Where curves meet the
 * later one in the legend is seen. A norm of zero is not drawn.
 */
export function drawGradientFlow(flow: GradientFlow, options: FlowDrawingOptions = {}): string {
  checkOptions("drawGradientFlow", options, ["width", "height"]);
  const { width = 72, height = 12 } = options;
  checkCount("drawGradientFlow", "width", width, 30);
  checkCount("drawGradientFlow", "height", height, 3);
  const curves = flow.layers.flatMap(({ name, norms }) =>
    Object.entries(norms).map(([state, values]) => ({ label: `dL/d${state} of ${name}`, values, logs: values.map((v) => Math.log10(v)) })),
  );
  const { top, bottom } = decades(curves.flatMap(({ logs }) => logs.filter(Number.isFinite)));
  const rowOf = (log: number) => Math.round(((top - log) / (top - bottom)) * (height - 1));
  const gutter = Math.max(...[top, bottom].map((power) => `1e${power}`.length), 4);
  const columns = width - gutter - 2;
  const rows = Array.from({ length: height }, () => new Array<string>(columns).fill(" "));
  curves.forEach(({ logs }, i) => {
    for (let column = 0; column < columns; column++) {
      const log = logs[Math.round((column * (logs.length - 1)) / (columns - 1))];
      const row = rowOf(log);
      if (row >= 0 && row < height) rows[row][column] = marks[i % marks.length];
    }
  });
  const ticks = new Array<string>(height).fill("");
  for (let power = bottom; power <= top; power++) ticks[rowOf(power)] ||= `1e${power}`;
  const last = String(Math.max(...curves.map(({ logs }) => logs.length)) - 1);
  return [
    ...rows.map((row, i) => `${ticks[i].padStart(gutter)} |${row.join("")}`.trimEnd()),
    `${" ".repeat(gutter)} +${"-".repeat(columns)}`,
    `${" ".repeat(gutter + 2)}t = 0${last.padStart(columns - 5)}`,
    ...curves.map(({ label, values }, i) => `${" ".repeat(gutter + 2)}${marks[i % marks.length]} ${label}: ${ends(values)}`),
  ].join("\n");
}

const ends = (values: readonly number[]): string => `${values[0].toExponential(1)} to ${values.at(-1)!.toExponential(1)}`;

/** Whole powers of ten around all values. */
function decades(logs: readonly number[]): { top: number; bottom: number } {
  if (logs.length === 0) return { top: 0, bottom: -1 };
  const top = Math.ceil(logs.reduce((a, b) => Math.max(a, b)));
  const bottom = Math.floor(logs.reduce((a, b) => Math.min(a, b)));
  return { top, bottom: Math.max(top - MOST, Math.min(bottom, top - 1)) };
}
