import { applyFused } from "../tensor/apply.js";
import { zeros } from "../tensor/create.js";
import {
  defineFused,
  expecting,
  showShape,
  type Case,
  type CaseInput,
  type Fused,
  type MaybeSpec,
  type MaybeTensor,
} from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { add, exp, mul, silu, softplus } from "./elementwise.js";
import { expand, reshape } from "./movement.js";
import { sum } from "./reduce.js";
import { same, scanLoop, type Scanned, type ScanOptions } from "./scan.js";
import { zeroPadding } from "./sequence.js";

/** What a selective scan reads: D channels of G groups, S states a channel. */
export interface SelectiveScanInputs {
  /** [N, T, D] */
  readonly u: Tensor;
  /** [N, T, D], the step sizes, before the bias and the softplus. */
  readonly delta: Tensor;
  /** [D, S], the continuous transition, negative where the state decays. */
  readonly A: Tensor;
  /** [N, T, S], [N, T, G, S], or constant in time [D, S]. */
  readonly B: Tensor;
  /** As B. */
  readonly C: Tensor;
  /** [D], what of u is added to the output. */
  readonly D?: MaybeTensor;
  /** [N, T, D], the output is multiplied by silu(z). */
  readonly z?: MaybeTensor;
  /** [D], added to delta. */
  readonly deltaBias?: MaybeTensor;
}

/** `initial` is [N, D, S] here. */
export interface SelectiveScanOptions extends ScanOptions {
  /** Whether the step sizes are the softplus of what is given. Default true. */
  readonly softplus?: boolean;
}

interface Attrs {
  readonly reverse: boolean;
  readonly softplus: boolean;
}

const CHUNK = 32;

/**
 * Inputs u, delta, A, B, C, D, z, deltaBias, initial, lengths, with B and C [N, T, G, S], or [D, S] in the composition.
 * The kernels read ints [N, T, D, reverse, G, S, softplus]; saved are the states before every 32 steps, [N, chunks, S, D].
 */
const selectiveScanOp: Fused<Attrs> = defineFused({
  name: "selectiveScan",
  shape(inputs, { reverse, softplus }) {
    const { n, steps, width, groups, states, dtype } = check(inputs);
    const outputs = [
      { shape: [n, steps, width], dtype },
      { shape: [n, width, states], dtype },
    ];
    return { outputs, ints: [n, steps, width, +reverse, groups, states, +softplus] };
  },
  compose([u, delta, A, B, C, D, z, deltaBias, initial, lengths], attrs) {
    const { n, steps, width, groups, states } = check([u, delta, A, B, C, D, z, deltaBias, initial, lengths]);
    const { device } = u!;
    const dtype = u!.dtype as "float32" | "float64";
    const x = zeroPadding(u!, lengths);
    const given = zeroPadding(deltaBias ? add(delta!, deltaBias) : delta!, lengths);
    const dt = attrs.softplus ? softplus(given) : given;
    const apart = [groups, width / groups];
    // [N, T, G, D / G, 1] of a channel, [N, T, G, 1, S] of a group; [G, D / G, S] of what does not change.
    const channels = (t: Tensor) => reshape(t, [n, steps, ...apart, 1]);
    const matrix = (t: Tensor) =>
      t.shape.length === 2
        ? expand(reshape(t, [1, 1, ...apart, states]), [n, steps, ...apart, states])
        : reshape(t, [n, steps, groups, 1, states]);
    const transition = reshape(A!, [...apart, states]);
    const before = initial ? reshape(initial, [n, ...apart, states]) : zeros([n, ...apart, states], { dtype, device });
    const streams = [channels(dt), channels(mul(dt, x)), matrix(B!)];
    const [h, last] = scanLoop(streams, before, lengths, attrs.reverse, ([step, input, b], state) =>
      same(add(mul(exp(mul(step, transition)), state), mul(input, b))),
    );
    const read = reshape(sum(mul(h, zeroPadding(matrix(C!), lengths)), { axis: -1 }), [n, steps, width]);
    const skipped = D ? add(read, mul(x, D)) : read;
    return [z ? mul(skipped, silu(zeroPadding(z, lengths))) : skipped, reshape(last, [n, width, states])];
  },
  kernel: ([, , , B, C]) => B!.shape.length === 4 && C!.shape.length === 4,
  saved: (inputs) => {
    const { n, steps, width, states, dtype } = check(inputs);
    return [{ shape: [n, Math.ceil(steps / CHUNK), states, width], dtype }];
  },
  cases,
});

/** The sizes. @throws naming the input that does not fit. */
function check([u, delta, A, B, C, D, z, deltaBias, initial, lengths]: readonly MaybeSpec[]) {
  const where = "selectiveScan";
  if (u?.shape.length !== 3) throw new RangeError(`${where}: u must be [N, T, D] but is ${showShape(u?.shape ?? [])}`);
  if (u.dtype === "int32") throw new TypeError(`${where}: u must be float32 or float64 but is int32`);
  const [n, steps, width] = u.shape;
  if (A?.shape.length !== 2 || A.shape[0] !== width)
    throw new RangeError(`${where}: A must be [${width}, S] but is ${showShape(A?.shape ?? [])}`);
  const states = A.shape[1];
  const groups = [B, C].find((spec) => spec?.shape.length === 4)?.shape[2] ?? 1;
  if (groups < 1 || width % groups !== 0)
    throw new RangeError(`${where}: the channels of u, ${width}, must be a multiple of the groups of B and C, ${groups}`);
  const expect = expecting(where, u.dtype);
  expect("delta", delta, u.shape);
  expect("A", A, A.shape);
  for (const [what, spec] of [["B", B] as const, ["C", C] as const])
    expect(what, spec, spec?.shape.length === 2 ? [width, states] : [n, steps, groups, states]);
  expect("D", D, [width]);
  expect("z", z, u.shape);
  expect("deltaBias", deltaBias, [width]);
  expect("initial", initial, [n, width, states]);
  expect("lengths", lengths, [n], "int32");
  return { n, steps, width, groups, states, dtype: u.dtype };
}

function cases(): Case<Attrs>[] {
  interface Parts {
    readonly n: number;
    readonly steps: number;
    readonly width: number;
    readonly states: number;
    readonly groups?: number;
    readonly bare?: boolean;
    readonly state?: boolean;
    readonly reverse?: boolean;
    readonly softplus?: boolean;
    readonly lengths?: readonly number[];
  }
  const example = ({ n, steps, width, states, groups = 1, bare, state, reverse = false, softplus = true, lengths }: Parts): Case<Attrs> => {
    const sequence: CaseInput = { shape: [n, steps, width] };
    const matrix: CaseInput = { shape: [n, steps, groups, states] };
    const perChannel: CaseInput = bare ? null : { shape: [width] };
    return {
      inputs: [
        sequence,
        { shape: [n, steps, width], low: softplus ? -3 : 0.1, high: 2 },
        { shape: [width, states], low: -2, high: -0.1 },
        matrix,
        matrix,
        perChannel,
        bare ? null : sequence,
        perChannel,
        state ? { shape: [n, width, states] } : null,
        lengths ? { shape: [n], dtype: "int32", values: lengths } : null,
      ],
      attrs: { reverse, softplus },
      // Gradients of A, B and C sum some hundred terms of products of four factors.
      tolerance: 1e-5,
    };
  };
  return [
    example({ n: 1, steps: 1, width: 1, states: 1, state: true }),
    example({ n: 2, steps: 5, width: 3, states: 2, bare: true }),
    example({ n: 2, steps: 4, width: 6, states: 3, groups: 2, state: true, reverse: true }),
    example({ n: 3, steps: 6, width: 5, states: 4, softplus: false, state: true, lengths: [6, 0, 2] }),
    example({ n: 3, steps: 4, width: 17, states: 2, groups: 1, bare: true, reverse: true, state: true, lengths: [1, 4, 3] }),
    example({ n: 1, steps: 70, width: 20, states: 16, state: true }),
    example({ n: 2, steps: 33, width: 600, states: 3, groups: 2, lengths: [33, 20] }),
  ];
}

/**
 * The selective scan of Mamba (Gu & Dao 2023, section 3): a diagonal state space of S states a channel, whose step size,
 * input and output weights change with the input,
 *
 *     dt_t = softplus(delta_t + deltaBias)
 *     h_t = exp(dt_t A) * h_{t-1} + dt_t u_t B_t        y_t = (C_t . h_t + D u_t) * silu(z_t)
 *
 * The transition is exact (zero-order hold), the input's term its first order. `output` is y [N, T, D], zero behind each
 * row's end, `state` the last h, [N, D, S].
 *
 * @throws on a shape or dtype that does not fit.
 */
export function selectiveScan(inputs: SelectiveScanInputs, options: SelectiveScanOptions = {}): Scanned {
  const { u, delta, A, B, C, D = null, z = null, deltaBias = null } = inputs;
  const { initial = null, lengths = null, reverse = false, softplus = true } = options;
  const grouped = (t: Tensor) => (t.shape.length === 3 ? reshape(t, [t.shape[0], t.shape[1], 1, t.shape[2]]) : t);
  const all = [u, delta, A, grouped(B), grouped(C), D, z, deltaBias, initial, lengths];
  const [output, state] = applyFused(selectiveScanOp, all, { reverse, softplus });
  return { output, state };
}
