import type { Backend, DType } from "../backend/backend.js";
import { apply } from "../tensor/apply.js";
import { tensor } from "../tensor/create.js";
import { noGrad } from "../tensor/graph.js";
import { defineOp, type Case, type Op } from "../tensor/op.js";
import { scope } from "../tensor/scope.js";
import { record, type Tensor } from "../tensor/tensor.js";

/** The same numbers as another dtype; towards int32 the fraction is cut off. */
const castOp: Op<{ dtype: DType }> = defineOp({
  name: "cast",
  shape: ([x], { dtype }) => ({ outputs: [{ shape: x.shape, dtype }] }),
  reference([x], [y]) {
    for (let i = 0; i < y.length; i++) y[i] = x[i];
  },
  backward: ([g], { inputs: [x] }) => [to(g, { dtype: x.dtype })],
  cases: () =>
    [[1], [7], [13, 33], [40_007]].flatMap((shape): Case<{ dtype: DType }>[] => [
      { inputs: [{ shape, low: -9, high: 9 }], attrs: { dtype: "int32" } },
      {
        inputs: [{ shape, dtype: "int32", values: Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => i * 5 - 9) }],
        attrs: { dtype: "float32" },
      },
      { inputs: [{ shape }], attrs: { dtype: "float64" } },
    ]),
});

/**
 * x as another dtype, on another device, or both; x itself if nothing changes. Differentiable between floating dtypes
 * and across devices. Towards int32 the fraction is cut off. Moving between devices waits for the values and blocks.
 */
export function to(x: Tensor, { dtype = x.dtype, device = x.device }: { readonly dtype?: DType; readonly device?: Backend }): Tensor {
  if (device === x.device) return dtype === x.dtype ? x : cast(x, dtype);
  // Cast where the other dtype exists: not every device has float64.
  return scope(() => (device.dtypes.includes(x.dtype) ? to(move(x, device), { dtype }) : move(cast(x, dtype), device)));
}

function cast(x: Tensor, dtype: DType): Tensor {
  const convert = () => apply(castOp, [x], { dtype })[0];
  return dtype === "int32" || x.dtype === "int32" ? noGrad(convert) : convert();
}

function move(x: Tensor, device: Backend): Tensor {
  const y = tensor(x.dataSync(), { dtype: x.dtype, shape: x.shape, device });
  record("to", [x], [y], () => ([g]) => [g && move(g, x.device)]);
  return y;
}
