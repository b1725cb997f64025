/**
 * The discrete Fourier transform of complex numbers where they lie, their count a power of two: sum over t of
 * z_t e^(-2 pi i k t / n), or with `inverse` its inverse.
 */
export function fft(re: Float64Array, im: Float64Array, inverse = false): void {
  const n = re.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [re[i], re[j]] = [re[j], re[i]];
      [im[i], im[j]] = [im[j], im[i]];
    }
  }
  for (let half = 1; half < n; half *= 2) {
    for (let k = 0; k < half; k++) {
      const angle = ((inverse ? Math.PI : -Math.PI) * k) / half;
      const [c, s] = [Math.cos(angle), Math.sin(angle)];
      for (let a = k; a < n; a += 2 * half) {
        const b = a + half;
        const x = re[b] * c - im[b] * s;
        const y = re[b] * s + im[b] * c;
        [re[b], im[b]] = [re[a] - x, im[a] - y];
        re[a] += x;
        im[a] += y;
      }
    }
  }
  if (!inverse) return;
  for (let i = 0; i < n; i++) {
    re[i] /= n;
    im[i] /= n;
  }
}

/** The circular convolution of two sequences, of a power of two, or with `correlate` the sum over t of x_t y_{t - j}. */
export function circular(x: Float64Array, y: Float64Array, correlate = false): Float64Array {
  const [a, b] = [new Float64Array(x.length), new Float64Array(y.length)];
  fft(x, a);
  fft(y, b);
  for (let i = 0; i < x.length; i++) {
    const im = correlate ? -b[i] : b[i];
    [x[i], a[i]] = [x[i] * y[i] - a[i] * im, x[i] * im + a[i] * y[i]];
  }
  fft(x, a, true);
  return x;
}
