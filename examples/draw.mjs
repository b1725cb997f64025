// Curves and tables as text.

const marks = "*o+x#@%&";

/** Curves by name over one axis, the mean of a few steps at a time, from the lowest value to the highest. */
export function drawCurves(curves, unit, { width = 72, height = 16 } = {}) {
  const smoothed = Object.entries(curves).map(([name, values]) => {
    const share = Math.max(1, Math.ceil(values.length / width));
    const count = Math.ceil(values.length / share);
    const mean = (part) => part.reduce((a, b) => a + b, 0) / part.length;
    return [name, Array.from({ length: count }, (_, i) => mean(values.slice(i * share, (i + 1) * share)))];
  });
  const all = smoothed.flatMap(([, values]) => values).filter(Number.isFinite);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const grid = Array.from({ length: height }, () => new Array(width).fill(" "));
  smoothed.forEach(([, values], k) =>
    values.forEach((value, x) => {
      const y = Math.round(((high - value) / (high - low || 1)) * (height - 1));
      grid[y][x] = marks[k % marks.length];
    }),
  );
  const label = (y) => (high - (y * (high - low)) / (height - 1)).toFixed(2).padStart(8);
  const lines = grid.map((line, y) => `${y % 5 === 0 || y === height - 1 ? label(y) : " ".repeat(8)} |${line.join("").trimEnd()}`);
  const steps = Math.max(...Object.values(curves).map((values) => values.length));
  const legend = smoothed.map(([name], k) => `${marks[k % marks.length]} ${name}`).join("   ");
  return [`${unit} over ${steps} steps`, ...lines, `${" ".repeat(9)}+${"-".repeat(width)}`, `${" ".repeat(10)}${legend}`].join("\n");
}

/** A table whose first row is its head. */
export function rows(table) {
  const widths = table[0].map((_, j) => Math.max(...table.map((row) => String(row[j]).length)));
  return table
    .map((row) => row.map((cell, j) => (j === 0 ? String(cell).padEnd(widths[j]) : String(cell).padStart(widths[j]))).join("  "))
    .join("\n");
}
