import { applyFused } from "../tensor/apply.js";
import { zeros } from "../tensor/create.js";
import { defineFused, expecting, showShape, type Case, type Fused, type MaybeSpec, type MaybeTensor } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { add, mul, sigmoid, sub, tanh } from "./elementwise.js";
import { split, unstack } from "./movement.js";
import { scanLoop, type Scanned, type ScanOptions } from "./scan.js";

/** What the recurrence of an SRU reads; k blocks of D numbers a step. */
export interface SruInputs {
  /** [N, T, k * D], W x, blocks x~, f, r, and with k = 4 the skip. */
  readonly u: Tensor;
  /** [N, T, D], the skip, where k = 3. */
  readonly skip?: MaybeTensor;
  /** [2, D], v_f and v_r. */
  readonly v: Tensor;
  /** [2, D], b_f and b_r. */
  readonly bias: Tensor;
}

interface Attrs {
  readonly reverse: boolean;
  readonly activation: "tanh" | "identity";
}

/** Inputs u, skip, v, bias, initial, lengths. The kernels read ints [N, T, D, reverse, k, tanh] and save c [N, T, D]. */
const sruOp: Fused<Attrs> = defineFused({
  name: "sru",
  shape(inputs, { reverse, activation }) {
    const { n, steps, width, blocks, dtype } = check(inputs);
    const outputs = [
      { shape: [n, steps, width], dtype },
      { shape: [n, width], dtype },
    ];
    return { outputs, ints: [n, steps, width, +reverse, blocks, +(activation === "tanh")] };
  },
  compose([u, skip, v, bias, initial, lengths], { reverse, activation }) {
    const { n, width, blocks } = check([u, skip, v, bias, initial, lengths]);
    const { device } = u!;
    const before = initial ?? zeros([n, width], { dtype: u!.dtype as "float32", device });
    const parts = split(u!, new Array<number>(blocks).fill(width), 2);
    const [[vf, vr], [bf, br]] = [unstack(v!, 0), unstack(bias!, 0)];
    const step = ([x, f, r, past]: readonly Tensor[], c: Tensor) => {
      const forget = sigmoid(add(add(f, mul(vf, c)), bf));
      const reset = sigmoid(add(add(r, mul(vr, c)), br));
      const state = add(x, mul(forget, sub(c, x)));
      const value = activation === "tanh" ? tanh(state) : state;
      return { state, output: add(past, mul(reset, sub(value, past))) };
    };
    return scanLoop(blocks === 4 ? parts : [...parts, skip!], before, lengths, reverse, step);
  },
  saved: (inputs) => {
    const { n, steps, width, dtype } = check(inputs);
    return [{ shape: [n, steps, width], dtype }];
  },
  cases(): Case<Attrs>[] {
    const example = (
      n: number,
      steps: number,
      width: number,
      k: 3 | 4,
      tanh: boolean,
      reverse: boolean,
      state: boolean,
      values?: readonly number[],
    ) => ({
      inputs: [
        { shape: [n, steps, k * width], low: -2, high: 2 },
        k === 3 ? { shape: [n, steps, width] } : null,
        { shape: [2, width] },
        { shape: [2, width] },
        state ? { shape: [n, width] } : null,
        values ? { shape: [n], dtype: "int32" as const, values } : null,
      ],
      attrs: { reverse, activation: tanh ? ("tanh" as const) : ("identity" as const) },
      tolerance: 4e-6,
    });
    return [
      example(1, 1, 1, 3, true, false, true),
      example(2, 5, 3, 4, false, false, false),
      example(3, 4, 13, 3, true, true, true, [4, 0, 2]),
      example(4, 6, 33, 4, true, false, true, [1, 6, 0, 3]),
      example(2, 70, 20, 3, false, true, true),
      example(3, 67, 5, 4, true, false, true, [64, 67, 65]),
    ];
  },
});

/** The sizes. @throws naming the input that does not fit. */
function check([u, skip, v, bias, initial, lengths]: readonly MaybeSpec[]) {
  const where = "sru";
  if (v?.shape.length !== 2 || v.shape[0] !== 2) throw new RangeError(`${where}: v must be [2, D] but is ${showShape(v?.shape ?? [])}`);
  const width = v.shape[1];
  const blocks = skip ? 3 : 4;
  if (u?.shape.length !== 3 || u.shape[2] !== blocks * width)
    throw new RangeError(`${where}: u must be [N, T, ${blocks * width}]${skip ? "" : " without skip"} but is ${showShape(u?.shape ?? [])}`);
  if (u.dtype === "int32") throw new TypeError(`${where}: u must be float32 or float64 but is int32`);
  const [n, steps] = u.shape;
  const expect = expecting(where, u.dtype);
  expect("skip", skip, [n, steps, width]);
  expect("v", v, [2, width]);
  expect("bias", bias, [2, width]);
  expect("initial", initial, [n, width]);
  expect("lengths", lengths, [n], "int32");
  return { n, steps, width, blocks, dtype: u.dtype };
}

/**
 * The recurrence of the simple recurrent unit (Lei, Zhang, Wang, Dai & Artzi 2018): its gates hear the state through a
 * number a channel only, so that nothing but this is done step by step.
 *
 *     f_t = sigmoid(U_f + v_f * c_{t-1} + b_f)      c_t = x~_t + f_t * (c_{t-1} - x~_t)
 *     r_t = sigmoid(U_r + v_r * c_{t-1} + b_r)      h_t = skip_t + r_t * (g(c_t) - skip_t)
 *
 * g is tanh or nothing. `output` is h [N, T, D], `state` the last c [N, D].
 *
 * @throws on a shape or dtype that does not fit.
 */
export function sru(inputs: SruInputs, options: ScanOptions & { readonly activation?: "tanh" | "identity" } = {}): Scanned {
  const { u, skip = null, v, bias } = inputs;
  const { initial = null, lengths = null, reverse = false, activation = "tanh" } = options;
  const [output, state] = applyFused(sruOp, [u, skip, v, bias, initial, lengths], { reverse, activation });
  return { output, state };
}
