const bits = new Uint32Array(1);
const value = new Float32Array(bits.buffer);

/** Drops `shift` low bits of a positive integer, rounding to nearest, ties to even. */
function roundShift(v: number, shift: number): number {
  const half = 2 ** (shift - 1);
  const down = Math.floor(v / (2 * half));
  const rest = v - down * 2 * half;
  return rest > half || (rest === half && down % 2 === 1) ? down + 1 : down;
}

/** The nearest bfloat16 (ties to even) of a float32, as its 16 bits. */
export function toBfloat16(x: number): number {
  value[0] = x;
  if (x !== x) return (bits[0] >>> 16) | 0x40;
  return roundShift(bits[0], 16);
}

export function fromBfloat16(b: number): number {
  bits[0] = b << 16;
  return value[0];
}

/** The nearest IEEE half (ties to even) of a float32, as its 16 bits; beyond 65504 it becomes infinite. */
export function toHalf(x: number): number {
  value[0] = x;
  const sign = (bits[0] >>> 16) & 0x8000;
  const exponent = (bits[0] >>> 23) & 0xff;
  const fraction = bits[0] & 0x7fffff;
  if (exponent === 0xff) return sign | 0x7c00 | (fraction ? 0x200 | (fraction >>> 13) : 0);
  const e = exponent - 127 + 15;
  if (e >= 31) return sign | 0x7c00;
  // Rounding up may carry into the exponent, which is what is wanted, up to infinity.
  if (e > 0) return sign | roundShift((e << 23) | fraction, 13);
  return e < -10 ? sign : sign | roundShift(0x800000 | fraction, 14 - e);
}

export function fromHalf(h: number): number {
  const sign = h & 0x8000 ? -1 : 1;
  const exponent = (h >>> 10) & 0x1f;
  const fraction = h & 0x3ff;
  if (exponent === 0x1f) return fraction ? NaN : sign * Infinity;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
