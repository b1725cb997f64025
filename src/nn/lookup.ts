import { embedding } from "../ops/embedding.js";
import { linear } from "../ops/matmul.js";
import type { Precision } from "../ops/precision.js";
import { isSubstituting } from "../tensor/apply.js";
import { size } from "../tensor/op.js";
import { Tensor } from "../tensor/tensor.js";

/** Rows of a table, not yet looked up: ids int32 [N, T] of a table [count, features]. See `Embedding.lookup`. */
export interface Lookup {
  readonly ids: Tensor;
  readonly table: Tensor;
}

const origins = new WeakMap<Tensor, Lookup>();

/** @internal Looks up the rows, and remembers where they are from; a tensor stays as it is. */
export function lookedUp(x: Tensor | Lookup): Tensor {
  if (x instanceof Tensor) return x;
  const rows = embedding(x.ids, x.table);
  origins.set(rows, x);
  return rows;
}

/** Below this a product with every row costs less than reading the products of a table. */
const FEATURES = 16;

/**
 * @internal W x for rows that were looked up: the table's own product with W, of which the ids name the rows, where that is
 * less work than half of a product for each step; null elsewhere.
 */
export function productTable(x: Tensor, weight: Tensor, precision: Precision): Lookup | null {
  const origin = origins.get(x);
  if (!origin || isSubstituting()) return null;
  const { ids, table } = origin;
  const [count, features] = table.shape;
  if (features < FEATURES || 2 * count > size(ids.shape)) return null;
  return { ids, table: linear(table, weight, null, precision) };
}
