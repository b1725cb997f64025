import { applyFused } from "../tensor/apply.js";
import { zeros } from "../tensor/create.js";
import { defineFused, expecting, showShape, type Case, type Fused, type MaybeSpec, type MaybeTensor } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { add, mul, silu } from "./elementwise.js";
import { concat, reshape, slice, unstack } from "./movement.js";
import { same, scanLoop, type Scanned } from "./scan.js";
import { zeroPadding } from "./sequence.js";

export interface CausalConvOptions {
  /** [D] */
  readonly bias?: MaybeTensor;
  /** [N, K - 1, D], what came before x; zero by default. */
  readonly initial?: MaybeTensor;
  /** int32 [N]: valid steps of each row, 0 to T; all by default. */
  readonly lengths?: MaybeTensor;
  /** Whether the result goes through silu. Default false. */
  readonly silu?: boolean;
}

/** Inputs x [N, T, D], weight [D, K], bias, initial, lengths. The kernels read ints [N, T, D, K, silu]. */
const causalConvOp: Fused<{ silu: boolean }> = defineFused({
  name: "causalConv",
  shape(inputs, attrs) {
    const { n, steps, width, taps, dtype } = check(inputs);
    const outputs = [
      [n, steps, width],
      [n, taps - 1, width],
    ].map((shape) => ({ shape, dtype }));
    return { outputs, ints: [n, steps, width, taps, +attrs.silu] };
  },
  compose([x, weight, bias, initial, lengths], attrs) {
    const { n, steps, width, taps } = check([x, weight, bias, initial, lengths]);
    const { device } = x!;
    const dtype = x!.dtype as "float32" | "float64";
    const clean = zeroPadding(x!, lengths);
    const before = initial ?? zeros([n, taps - 1, width], { dtype, device });
    const seen = concat([before, clean], 1);
    const parts = unstack(weight!, 1).map((w, k) => mul(slice(seen, 1, k, k + steps), w));
    const total = parts.reduce(add);
    const p = bias ? add(total, bias) : total;
    const shift = ([now]: readonly Tensor[], state: Tensor) => same(concat([slice(state, 1, 1), reshape(now, [n, 1, width])], 1));
    const last = !lengths ? slice(seen, 1, steps) : taps > 1 ? scanLoop([clean], before, lengths, false, shift)[1] : before;
    return [zeroPadding(attrs.silu ? silu(p) : p, lengths), last];
  },
  cases(): Case<{ silu: boolean }>[] {
    const example = (n: number, steps: number, width: number, taps: number, silu: boolean, extra: boolean, values?: readonly number[]) => ({
      inputs: [
        { shape: [n, steps, width] },
        { shape: [width, taps] },
        extra ? { shape: [width] } : null,
        extra && taps > 1 ? { shape: [n, taps - 1, width] } : null,
        values ? { shape: [n], dtype: "int32" as const, values } : null,
      ],
      attrs: { silu },
      // Gradients of the weights sum some hundred products of order one.
      tolerance: 4e-6,
    });
    return [
      example(1, 1, 1, 2, false, true),
      example(2, 1, 5, 4, true, true),
      example(2, 5, 3, 4, true, false),
      example(3, 7, 13, 3, false, true, [7, 0, 1]),
      example(4, 6, 33, 4, true, true, [1, 6, 0, 2]),
      example(2, 3, 4, 1, true, true, [2, 3]),
      example(1, 2, 7, 6, false, true),
      example(2, 150, 40, 4, true, true, [150, 70]),
    ];
  },
});

/** The sizes. @throws naming the input that does not fit. */
function check([x, weight, bias, initial, lengths]: readonly MaybeSpec[]) {
  const where = "causalConv";
  if (x?.shape.length !== 3) throw new RangeError(`${where}: x must be [N, T, D] but is ${showShape(x?.shape ?? [])}`);
  if (x.dtype === "int32") throw new TypeError(`${where}: x must be float32 or float64 but is int32`);
  const [n, steps, width] = x.shape;
  if (weight?.shape.length !== 2 || weight.shape[0] !== width || weight.shape[1] < 1 || weight.dtype !== x.dtype)
    throw new RangeError(`${where}: weight must be ${x.dtype} [${width}, K] but is ${weight?.dtype} ${showShape(weight?.shape ?? [])}`);
  const taps = weight.shape[1];
  const expect = expecting(where, x.dtype);
  expect("bias", bias, [width]);
  expect("initial", initial, [n, taps - 1, width]);
  expect("lengths", lengths, [n], "int32");
  return { n, steps, width, taps, dtype: x.dtype };
}

/**
 * A short convolution of each channel by itself, over the past only:
 *
 *     y_t = bias + sum over k < K of weight[k] * x_{t - K + 1 + k},   then silu(y_t) if it is asked for
 *
 * x is [N, T, D], weight [D, K], as the depthwise convolutions in front of Mamba, RWKV (K = 2) and xLSTM. `output` is
 * [N, T, D], zero behind each row's end; `state` [N, K - 1, D], the last K - 1 steps, is the `initial` of what follows.
 *
 * @throws on a shape or dtype that does not fit.
 */
export function causalConv(x: Tensor, weight: Tensor, options: CausalConvOptions = {}): Scanned {
  const { bias = null, initial = null, lengths = null, silu = false } = options;
  const [output, state] = applyFused(causalConvOp, [x, weight, bias, initial, lengths], { silu });
  return { output, state };
}
