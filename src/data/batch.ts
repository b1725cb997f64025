import type { TypedArray } from "../backend/backend.js";
import type { Shape } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";

/** What a batch may carry its numbers in: a tensor, or a typed array (int32 ids, float features) with a shape. */
export type Values = Tensor | { readonly data: TypedArray; readonly shape: Shape };

/** One batch for `train` and `evaluate`. Axis 0 is the row, axis 1 the step. */
export interface Batch {
  /** [N, T] ids or [N, T, C] features */
  readonly inputs: Values;
  /** What the loss compares with: [N, T] ids, or anything a custom loss reads. */
  readonly targets: Values;
  /** Valid steps of each row; all by default. */
  readonly lengths?: readonly number[] | Int32Array;
  /** These rows do not go on from the rows of the batch before: a carried state starts anew. */
  readonly reset?: boolean;
}
