import { applyFused } from "../tensor/apply.js";
import { full, zeros } from "../tensor/create.js";
import { defineFused, expecting, showShape, type Case, type Fused, type MaybeSpec, type MaybeTensor } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { add, div, exp, maximum, mul, sub } from "./elementwise.js";
import { concat, stack, unstack } from "./movement.js";
import { scanLoop, type Scanned } from "./scan.js";

/** What the attention of RWKV-4 reads. */
export interface Wkv4Inputs {
  /** [D], the logarithm of the decay, below zero; -exp(time_decay) of the published parameters. */
  readonly w: Tensor;
  /** [D], what is added to the key of the present step, time_first. */
  readonly u: Tensor;
  /** [N, T, D] */
  readonly k: Tensor;
  /** [N, T, D] */
  readonly v: Tensor;
}

const CHUNK = 32;
/** The running maximum of no terms. */
const NOTHING = -1e38;

/** Inputs w, u, k, v, initial, lengths. The kernels read ints [N, T, D] and save the states before every 32 steps, [N, chunks, 3, D]. */
const wkv4Op: Fused = defineFused({
  name: "wkv4",
  shape(inputs) {
    const { n, steps, width, dtype } = check(inputs);
    const outputs = [
      { shape: [n, steps, width], dtype },
      { shape: [n, 3, width], dtype },
    ];
    return { outputs, ints: [n, steps, width] };
  },
  compose([w, u, k, v, initial, lengths]) {
    const { n, width } = check([w, u, k, v, initial, lengths]);
    const placed = { dtype: k!.dtype as "float32" | "float64", device: k!.device };
    const before = initial ?? concat([zeros([n, 2, width], placed), full([n, 1, width], NOTHING, placed)], 1);
    const step = ([key, value]: readonly Tensor[], state: Tensor) => {
      const [num, den, most] = unstack(state, 1);
      const ahead = add(key, u!);
      const top = maximum(most, ahead);
      const [past, now] = [exp(sub(most, top)), exp(sub(ahead, top))];
      const shifted = add(most, w!);
      const next = maximum(shifted, key);
      const [kept, taken] = [exp(sub(shifted, next)), exp(sub(key, next))];
      return {
        output: div(add(mul(past, num), mul(now, value)), add(mul(past, den), now)),
        state: stack([add(mul(kept, num), mul(taken, value)), add(mul(kept, den), taken), next], 1),
      };
    };
    return scanLoop([k!, v!], before, lengths, false, step, [width]);
  },
  saved: (inputs) => {
    const { n, steps, width, dtype } = check(inputs);
    return [{ shape: [n, Math.ceil(steps / CHUNK), 3, width], dtype }];
  },
  cases(): Case<undefined>[] {
    const example = (n: number, steps: number, width: number, state: boolean, high = 1, values?: readonly number[]) => ({
      inputs: [
        { shape: [width], low: -2, high: -0.01 },
        { shape: [width] },
        { shape: [n, steps, width], low: -high, high },
        { shape: [n, steps, width] },
        state ? { shape: [n, 3, width], low: 0.1, high: 1 } : null,
        values ? { shape: [n], dtype: "int32" as const, values } : null,
      ],
      attrs: undefined,
      // Gradients of w sum some hundred terms; keys of 30 lose 2e-6 of their exponential to rounding.
      tolerance: high > 1 ? 4e-5 : 1e-5,
    });
    return [
      example(1, 2, 1, true),
      example(2, 5, 3, false),
      example(3, 4, 13, true, 1, [4, 0, 2]),
      example(2, 70, 20, true),
      example(2, 33, 37, false, 30, [33, 32]),
    ];
  },
});

/** The sizes. @throws naming the input that does not fit. */
function check([w, u, k, v, initial, lengths]: readonly MaybeSpec[]) {
  const where = "wkv4";
  if (k?.shape.length !== 3) throw new RangeError(`${where}: k must be [N, T, D] but is ${showShape(k?.shape ?? [])}`);
  if (k.dtype === "int32") throw new TypeError(`${where}: k must be float32 or float64 but is int32`);
  const [n, steps, width] = k.shape;
  const expect = expecting(where, k.dtype);
  expect("w", w, [width]);
  expect("u", u, [width]);
  expect("v", v, k.shape);
  expect("initial", initial, [n, 3, width]);
  expect("lengths", lengths, [n], "int32");
  return { n, steps, width, dtype: k.dtype };
}

/**
 * The attention of RWKV-4 (Peng et al. 2023, "RWKV: Reinventing RNNs for the Transformer Era", equation 16): an average of
 * all values so far, weighted by their keys and by their age,
 *
 *     y_t = (n_{t-1} + e^{u + k_t} v_t) / (d_{t-1} + e^{u + k_t})
 *     n_t = e^w n_{t-1} + e^{k_t} v_t,     d_t = e^w d_{t-1} + e^{k_t}
 *
 * n and d are carried divided by e^m, with m_t = max(m_{t-1} + w, k_t), so that no key overflows. `output` is y [N, T, D],
 * `state` and `initial` are n, d and m, [N, 3, D]; without `initial` n and d are 0 and m is -1e38.
 *
 * @throws on a shape or dtype that does not fit.
 */
export function wkv4(
  { w, u, k, v }: Wkv4Inputs,
  { initial = null, lengths = null }: { readonly initial?: MaybeTensor; readonly lengths?: MaybeTensor } = {},
): Scanned {
  const [output, state] = applyFused(wkv4Op, [w, u, k, v, initial, lengths], undefined);
  return { output, state };
}
