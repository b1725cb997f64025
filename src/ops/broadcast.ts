import { showShape, size, type Shape } from "../tensor/op.js";

/** Shape two operands broadcast to, as NumPy does: aligned at the right, 1 stretches. @throws if they do not fit. */
export function broadcastShape(name: string, a: Shape, b: Shape): Shape {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const p = a[i - rank + a.length] ?? 1;
    const q = b[i - rank + b.length] ?? 1;
    if (p !== q && p !== 1 && q !== 1)
      throw new RangeError(`${name}: shapes ${showShape(a)} and ${showShape(b)} do not broadcast: axis ${i} is ${p} and ${q}`);
    return p === 1 ? q : p;
  });
}

/**
 * A loop nest over `dims` in which every operand moves by strides of its own, with neighbouring axes merged where all
 * operands step evenly: [rank, dims..., strides of operand 0..., strides of operand 1..., ...].
 */
export function loopNest(out: Shape, strides: readonly (readonly number[])[]): number[] {
  const dims: number[] = [];
  const steps: number[][] = strides.map(() => []);
  for (let i = 0; i < out.length; i++) {
    if (out[i] === 1) continue;
    const last = dims.length - 1;
    const merges = last >= 0 && steps.every((s, k) => s[last] === strides[k][i] * out[i]);
    if (merges) dims[last] *= out[i];
    else dims.push(out[i]);
    const at = dims.length - 1;
    steps.forEach((s, k) => (s[at] = strides[k][i]));
  }
  return [dims.length, ...dims, ...steps.flat()];
}

/** The loopNest of contiguous operands broadcast to `out`: an axis that stretches has stride 0. */
export function broadcastPlan(out: Shape, operands: readonly Shape[]): number[] {
  const strides = operands.map((shape) => {
    const missing = new Array<number>(out.length - shape.length).fill(0);
    return [...missing, ...stridesOf(shape).map((s, i) => (shape[i] === 1 ? 0 : s))];
  });
  return loopNest(out, strides);
}

/** Strides of a contiguous array. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length).fill(1);
  for (let i = shape.length - 2; i >= 0; i--) strides[i] = strides[i + 1] * shape[i + 1];
  return strides;
}

/** Walks a loopNest: calls `visit(index in result, offset in operand 0, offset in operand 1, ...)`. */
export function walk(ints: readonly number[], operands: number, visit: (i: number, offsets: readonly number[]) => void): void {
  const rank = ints[0];
  const dims = ints.slice(1, 1 + rank);
  const strides = Array.from({ length: operands }, (_, k) => ints.slice(1 + rank * (k + 1), 1 + rank * (k + 2)));
  const total = size(dims);
  const index = new Array<number>(rank).fill(0);
  const offsets = new Array<number>(operands).fill(0);
  for (let i = 0; i < total; i++) {
    visit(i, offsets);
    for (let d = rank - 1; d >= 0; d--) {
      index[d]++;
      for (let k = 0; k < operands; k++) offsets[k] += strides[k][d];
      if (index[d] < dims[d]) break;
      for (let k = 0; k < operands; k++) offsets[k] -= strides[k][d] * dims[d];
      index[d] = 0;
    }
  }
}
