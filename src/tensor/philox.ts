// Philox4x32-10: J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

/** Upper 32 bits of the product of two unsigned 32-bit integers, by 16-bit halves: each sum stays below 2^53. */
function mulHigh(a: number, b: number): number {
  const [a0, a1, b0, b1] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const middle = a1 * b0 + a0 * b1 + Math.floor((a0 * b0) / 65536);
  return a1 * b1 + Math.floor(middle / 65536);
}

/** Four random words for the 128-bit counter [x0, x1, x2, x3] under the key [k0, k1]; all unsigned 32-bit. */
export function philox(x0: number, x1: number, x2: number, x3: number, k0: number, k1: number, out: Uint32Array): void {
  for (let round = 0; round < 10; round++) {
    const [h0, l0] = [mulHigh(0xd2511f53, x0), Math.imul(0xd2511f53, x0)];
    const [h1, l1] = [mulHigh(0xcd9e8d57, x2), Math.imul(0xcd9e8d57, x2)];
    x0 = (h1 ^ x1 ^ k0) >>> 0;
    x1 = l1 >>> 0;
    x2 = (h0 ^ x3 ^ k1) >>> 0;
    x3 = l0 >>> 0;
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  out[0] = x0;
  out[1] = x1;
  out[2] = x2;
  out[3] = x3;
}

const HIGH = 4294967296;

/** Upper and lower half of an integer below 2^53, as kernels take them: signed 32-bit. */
export const halves = (n: number): readonly [number, number] => [n | 0, Math.floor(n / HIGH) | 0];

/**
 * Calls `each(i, word)` for i = 0 ... count - 1: word i % 4 of the block with counter offset + floor(i / 4), under
 * the seed as key. `where` is [seed low, seed high, offset low, offset high], each 32 bits.
 */
export function words(count: number, [seedLow, seedHigh, low, high]: readonly number[], each: (i: number, word: number) => void): void {
  const block = new Uint32Array(4);
  const first = (low >>> 0) + (high >>> 0) * HIGH;
  for (let i = 0; i < count; i += 4) {
    const counter = first + i / 4;
    philox(counter % HIGH, Math.floor(counter / HIGH), 0, 0, seedLow >>> 0, seedHigh >>> 0, block);
    for (let j = 0; j < 4 && i + j < count; j++) each(i + j, block[j]);
  }
}
