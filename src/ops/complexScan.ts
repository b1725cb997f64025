import { applyFused } from "../tensor/apply.js";
import { zeros } from "../tensor/create.js";
import { defineFused, expecting, showShape, type Case, type Fused, type MaybeSpec } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { addComplex, complex, mulComplex, packed } from "./complex.js";
import { same, scanLoop, type Scanned, type ScanOptions } from "./scan.js";

/** Inputs a, b, initial, lengths. The kernels read ints [N, T, D, reverse]. */
const complexScanOp: Fused<{ reverse: boolean }> = defineFused({
  name: "complexScan",
  shape([a, b, initial, lengths], { reverse }) {
    const { n, steps, width, dtype } = check([a, b, initial, lengths]);
    const outputs = [
      { shape: [n, steps, width, 2], dtype },
      { shape: [n, width, 2], dtype },
    ];
    return { outputs, ints: [n, steps, width, +reverse] };
  },
  compose([a, b, initial, lengths], { reverse }) {
    const [n, , width] = b!.shape;
    const before = initial ?? zeros([n, width, 2], { dtype: b!.dtype as "float32", device: b!.device });
    const factor = complex(a!);
    return scanLoop([b!], before, lengths, reverse, ([now], x) => same(packed(addComplex(mulComplex(factor, complex(x)), complex(now)))));
  },
  cases(): Case<{ reverse: boolean }>[] {
    const example = (n: number, steps: number, width: number, reverse: boolean, state: boolean, values?: readonly number[]) => ({
      inputs: [
        { shape: [width, 2], low: -0.65, high: 0.65 },
        { shape: [n, steps, width, 2] },
        state ? { shape: [n, width, 2] } : null,
        values ? { shape: [n], dtype: "int32" as const, values } : null,
      ],
      attrs: { reverse },
      // The gradient of a sums some hundred products.
      tolerance: 1e-5,
    });
    return [
      example(1, 1, 1, false, true),
      example(2, 5, 3, false, false),
      example(3, 4, 13, true, true, [4, 0, 2]),
      example(2, 70, 20, false, true),
      example(3, 67, 5, true, true, [64, 67, 65]),
      example(1, 12, 700, false, true),
    ];
  },
});

/** The sizes. @throws naming the input that does not fit. */
function check([a, b, initial, lengths]: readonly MaybeSpec[]) {
  const where = "complexScan";
  if (b?.shape.length !== 4 || b.shape[3] !== 2)
    throw new RangeError(`${where}: b must be [N, T, D, 2] but is ${showShape(b?.shape ?? [])}`);
  if (b.dtype === "int32") throw new TypeError(`${where}: b must be float32 or float64 but is int32`);
  const [n, steps, width] = b.shape;
  const expect = expecting(where, b.dtype);
  expect("a", a, [width, 2]);
  expect("initial", initial, [n, width, 2]);
  expect("lengths", lengths, [n], "int32");
  return { n, steps, width, dtype: b.dtype };
}

/**
 * The complex linear recurrence of each channel by itself, with a factor that does not change in time:
 *
 *     x_t = a * x_{t-1} + b_t,   x_0 = initial, or zero
 *
 * a is [D, 2], b [N, T, D, 2], real and imaginary parts on the last axis. `output` is x [N, T, D, 2], zero behind each row's
 * end, `state` the last x, [N, D, 2].
 *
 * @throws on a shape or dtype that does not fit.
 */
export function complexScan(a: Tensor, b: Tensor, options: ScanOptions = {}): Scanned {
  const { initial = null, lengths = null, reverse = false } = options;
  const [output, state] = applyFused(complexScanOp, [a, b, initial, lengths], { reverse });
  return { output, state };
}
