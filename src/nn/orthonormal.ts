/**
 * Makes the rows of a matrix of at least as many columns orthonormal where they lie, each row turned only against those
 * before it: modified Gram-Schmidt, done twice, which is enough for double precision (Giraud et al. 2005). For normally
 * distributed rows it is the QR decomposition with a positive diagonal, so the result is uniform over all such matrices
 * (Mezzadri 2007).
 */
export function orthonormalRows(matrix: Float64Array, rows: number, columns: number): Float64Array {
  const row = Array.from({ length: rows }, (_, i) => matrix.subarray(i * columns, (i + 1) * columns));
  for (let i = 0; i < rows; i++) {
    for (let pass = 0; pass < 2; pass++) {
      for (let j = 0; j < i; j++) subtract(row[i], row[j], dot(row[i], row[j]));
      const norm = Math.sqrt(dot(row[i], row[i]));
      for (let k = 0; k < columns; k++) row[i][k] /= norm;
    }
  }
  return matrix;
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let k = 0; k < a.length; k++) sum += a[k] * b[k];
  return sum;
}

function subtract(from: Float64Array, what: Float64Array, factor: number): void {
  for (let k = 0; k < from.length; k++) from[k] -= factor * what[k];
}
