import { applyFused } from "../tensor/apply.js";
import { full, zeros } from "../tensor/create.js";
import {
  defineFused,
  expecting,
  showShape,
  type Case,
  type Fused,
  type MaybeSpec,
  type MaybeTensor,
  type Shape,
  type Spec,
} from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { add, maximum, mul } from "./elementwise.js";
import { reshape, stack, unstack } from "./movement.js";
import { where } from "./select.js";
import { reverseSequence, sequenceMask, zeroPadding } from "./sequence.js";

/** What every scan may be given beside its inputs. */
export interface ScanOptions {
  /** [N, D], the state before the first step. */
  readonly initial?: MaybeTensor;
  /** int32 [N]: valid steps of each row, 0 to T; all by default. */
  readonly lengths?: MaybeTensor;
  /** From the last valid step to the first. Default false. */
  readonly reverse?: boolean;
}

export interface Scanned {
  /** [N, T, D], the state after each step, zero behind each row's last valid step. */
  readonly output: Tensor;
  /** [N, D], the state after the last valid step. */
  readonly state: Tensor;
}

interface ScanAttrs {
  readonly reverse: boolean;
}

/** @throws naming the input that does not fit. */
export function checkScan(name: string, streams: Readonly<Record<string, MaybeSpec>>, initial: MaybeSpec, lengths: MaybeSpec) {
  const [[first, x]] = Object.entries(streams);
  if (x?.shape.length !== 3) throw new RangeError(`${name}: ${first} must be [N, T, D] but is ${showShape(x?.shape ?? [])}`);
  if (x.dtype === "int32") throw new TypeError(`${name}: ${first} must be float32 or float64 but is int32`);
  const [n, steps, width] = x.shape;
  const expect = expecting(name, x.dtype);
  for (const [what, spec] of Object.entries(streams)) expect(what, spec, x.shape);
  expect("initial", initial, [n, width]);
  expect("lengths", lengths, [n], "int32");
  return { n, steps, width, dtype: x.dtype };
}

/**
 * The meaning of a scan: every step spelt out. `streams` are [N, T, ...], what lies behind a row's end is not looked at;
 * `step` makes the next state [N, ...] of their values at one moment and of the state before it, and what is given out if
 * that is not the state. Returns the outputs [N, T, ...], zero behind a row's end, and the last state.
 */
export function scanLoop(
  streams: readonly Tensor[],
  start: Tensor,
  lengths: MaybeTensor,
  reverse: boolean,
  step: (now: readonly Tensor[], before: Tensor) => { readonly state: Tensor; readonly output: Tensor },
  shape: Shape = start.shape.slice(1),
): Tensor[] {
  const [x] = streams;
  const [n, steps] = x.shape;
  const { device } = x;
  const dtype = x.dtype as "float32" | "float64";
  if (steps === 0) return [zeros([n, 0, ...shape], { dtype, device }), start];
  const flip = (t: Tensor) => (reverse ? reverseSequence(t, lengths) : t);
  const moments = streams.map((t) => unstack(flip(zeroPadding(t, lengths)), 1));
  const valid = lengths && unstack(sequenceMask(lengths, steps, dtype), 1);
  const column = (mask: Tensor, like: Tensor) => reshape(mask, [n, ...like.shape.slice(1).map(() => 1)]);
  const zero = zeros([], { dtype, device });
  let state = start;
  const outputs: Tensor[] = [];
  for (let t = 0; t < steps; t++) {
    const now = moments.map((parts) => parts[t]);
    const next = step(now, state);
    state = valid ? where(column(valid[t], state), next.state, state) : next.state;
    outputs.push(valid ? where(column(valid[t], next.output), next.output, zero) : next.output);
  }
  return [flip(stack(outputs, 1)), state];
}

/** A step that gives its state out. */
export const same = (state: Tensor) => ({ state, output: state });

/** A scan over two streams a and b. The kernels read ints [N, T, D, reverse]. */
function defineScan(name: string, start: number, step: (a: Tensor, b: Tensor, before: Tensor) => Tensor): Fused<ScanAttrs> {
  return defineFused({
    name,
    shape([a, b, initial, lengths], { reverse }) {
      const { n, steps, width, dtype } = checkScan(name, { a, b }, initial, lengths);
      const outputs: Spec[] = [
        { shape: [n, steps, width], dtype },
        { shape: [n, width], dtype },
      ];
      return { outputs, ints: [n, steps, width, +reverse] };
    },
    compose([a, b, initial, lengths], { reverse }) {
      const [n, , width] = a!.shape;
      const { dtype, device } = a!;
      const before = initial ?? full([n, width], start, { dtype, device });
      return scanLoop([a!, b!], before, lengths, reverse, ([at, bt], h) => same(step(at, bt, h)));
    },
    cases: () => scanCases(),
  });
}

function scanCases(): Case<ScanAttrs>[] {
  const example = (n: number, steps: number, width: number, reverse: boolean, state: boolean, values?: readonly number[]) => ({
    inputs: [
      { shape: [n, steps, width] },
      { shape: [n, steps, width] },
      state ? { shape: [n, width] } : null,
      values ? { shape: [n], dtype: "int32" as const, values } : null,
    ],
    attrs: { reverse },
    // Sums of up to 40 terms of order one.
    tolerance: 4e-6,
  });
  return [
    example(1, 1, 1, false, true),
    example(2, 5, 3, false, false),
    example(3, 4, 13, true, true),
    example(4, 6, 7, false, true, [6, 0, 3, 1]),
    example(5, 7, 16, true, true, [2, 7, 0, 5, 1]),
    example(3, 3, 33, false, false, [3, 1, 2]),
    example(2, 3, 37, true, false, [1, 3]),
    example(1, 40, 1300, false, true),
    example(7, 19, 90, true, false),
  ];
}

const scanOp = defineScan("scan", 0, (a, b, h) => add(mul(a, h), b));
const maxScanOp = defineScan("maxScan", -Infinity, (a, b, m) => maximum(add(a, m), b));

function run(op: Fused<ScanAttrs>, a: Tensor, b: Tensor, { initial = null, lengths = null, reverse = false }: ScanOptions): Scanned {
  const [output, state] = applyFused(op, [a, b, initial, lengths], { reverse });
  return { output, state };
}

/**
 * The linear recurrence of each channel by itself (Blelloch 1990; Martin & Cundy 2018):
 *
 *     h_t = a_t * h_{t-1} + b_t,   h_0 = initial, or zero
 *
 * a and b are [N, T, D]. Its gradient is the same recurrence backwards: g_t = dh_t + a_{t+1} g_{t+1}, db_t = g_t and
 * da_t = g_t h_{t-1}.
 *
 * @throws on a shape or dtype that does not fit.
 */
export const scan = (a: Tensor, b: Tensor, options: ScanOptions = {}): Scanned => run(scanOp, a, b, options);

/**
 * The running maximum that stabilises recurrences with exponential gates (Milakov & Gimelshein 2018; RWKV-4, xLSTM):
 *
 *     m_t = max(a_t + m_{t-1}, b_t),   m_0 = initial, or minus infinity
 *
 * Arguments as those of `scan`; a tie sends the gradient to b.
 *
 * @throws on a shape or dtype that does not fit.
 */
export const maxScan = (a: Tensor, b: Tensor, options: ScanOptions = {}): Scanned => run(maxScanOp, a, b, options);
