/**
 * In what precision the operands of a product are multiplied; state, sums and everything else stay float32.
 *
 * - `"bf16"`: both operands as bfloat16, the nearest, ties to even: 8 bits of mantissa. So are those of the products that
 *   its gradients are made of.
 * - `"int8"`: both operands as bytes, x = q * s with s = max |x| / 127 over a row of the input, or over the weights of one
 *   output; sums are exact integers. The rows of the input are measured as they come ("dynamic" quantisation).
 */
export type Precision = "float32" | "bf16" | "int8";

/** In the order in which kernels number them; see native/cpu/reduced.h. */
export const precisions: readonly Precision[] = ["float32", "bf16", "int8"];

const number = new Float32Array(1);
const word = new Uint32Array(number.buffer);

/** The nearest bfloat16 of a float32. */
export function bfloat16(x: number): number {
  number[0] = x;
  if (Number.isNaN(x)) return x;
  word[0] += 0x7fff + ((word[0] >>> 16) & 1);
  word[0] &= 0xffff0000;
  return number[0];
}

/** The nearest whole number, of two the even one. */
function nearest(x: number): number {
  const below = Math.floor(x);
  const rest = x - below;
  return rest < 0.5 || (rest === 0.5 && below % 2 === 0) ? below : below + 1;
}

/** What products of that precision make of the rows of a matrix, [rows, columns]. */
export function rounded(values: ArrayLike<number>, columns: number, precision: Precision): Float64Array {
  const result = Float64Array.from(values);
  if (precision === "bf16") return result.map(bfloat16);
  if (precision === "float32") return result;
  for (let start = 0; start < result.length; start += columns) {
    const row = result.subarray(start, start + columns);
    const largest = Math.fround(row.reduce((most, x) => (Number.isNaN(x) ? x : Math.max(most, Math.abs(x))), 0));
    const step = Math.fround(largest / 127);
    const inverse = largest === 0 ? 0 : Math.fround(127 / largest);
    row.forEach((x, i) => (row[i] = nearest(Math.fround(Math.fround(x) * inverse)) * step));
  }
  return result;
}
