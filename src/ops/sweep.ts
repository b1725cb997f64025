import { applyFused } from "../tensor/apply.js";
import { zeros } from "../tensor/create.js";
import {
  defineFused,
  sameShape,
  showShape,
  type Case,
  type CaseInput,
  type Fused,
  type MaybeSpec,
  type MaybeTensor,
} from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { add, affine, mul } from "./elementwise.js";
import { linear } from "./matmul.js";
import { split, stack, unstack } from "./movement.js";
import { reverseSequence, sequenceMask } from "./sequence.js";

/**
 * What a recurrent cell h_t = f(W x_t, U h_{t-1}) means: gates, states and one step, written in ops.
 * A cell knows no loop. State `h` is the output and what the recurrent product reads.
 */
export interface CellSpec<G extends string, S extends string> {
  /** The native kernels of the cell are `sweep.<name>`. */
  readonly name: string;
  /** Rows of the weights, in order: weight_ih is [gates * H, I], weight_hh [gates * H, H]. */
  readonly gates: readonly G[];
  readonly states: readonly S[];
  /** The last gates, if their recurrent product is taken of `of(...)` instead of h; `rh` there holds the others only. */
  readonly inner?: {
    readonly gates: readonly G[];
    of(wx: Record<G, Tensor>, rh: Record<G, Tensor>, state: Record<S, Tensor>): Tensor;
  };
  /**
   * One step: `wx` = W x + b_ih and `rh` = U h + b_hh by gate, kept apart so that a cell may gate the recurrent
   * product, and the previous states, all [N, H].
   */
  step(wx: Record<G, Tensor>, rh: Record<G, Tensor>, state: Record<S, Tensor>): Record<S, Tensor>;
}

export interface SweepAttrs {
  /** From the last valid step to the first. */
  readonly reverse: boolean;
}

/** A cell together with its sweep through time. */
export interface Cell<G extends string = string, S extends string = string> extends CellSpec<G, S> {
  readonly sweep: Fused<SweepAttrs>;
}

/** Makes the sweep of a cell: the fused op `sweep.<name>`, whose composition is the loop over `step`. */
export function defineCell<G extends string, S extends string>(cell: CellSpec<G, S>): Cell<G, S> {
  const name = `sweep.${cell.name}`;
  const sweep = defineFused<SweepAttrs>({
    name,
    shape(inputs, { reverse }) {
      const { n, steps, features, hidden } = checkSweep(name, cell, inputs);
      const dtype = inputs[0]!.dtype;
      return {
        outputs: [{ shape: [n, steps, hidden], dtype }, ...cell.states.map(() => ({ shape: [n, hidden], dtype }))],
        ints: [n, steps, features, hidden, +reverse],
      };
    },
    compose: (inputs, { reverse }) => loop(cell, inputs, reverse),
    saved(inputs, _, info) {
      const { n, steps, hidden } = checkSweep(name, cell, inputs);
      return [{ shape: [n, steps, info, hidden], dtype: inputs[0]!.dtype }];
    },
    cases: () => sweepCases(cell),
  });
  return { ...cell, sweep };
}

function checkSweep(name: string, cell: CellSpec<string, string>, inputs: readonly MaybeSpec[]) {
  const [x, weightIh, weightHh, biasIh, biasHh, lengths, ...states] = inputs;
  const expect = (what: string, spec: MaybeSpec, shape: readonly number[]) => {
    if (spec && !sameShape(spec.shape, shape))
      throw new RangeError(`${name}: ${what} must be ${showShape(shape)} but is ${showShape(spec.shape)}`);
  };
  if (!x || x.shape.length !== 3) throw new RangeError(`${name}: x must be [N, T, I] but is ${showShape(x?.shape ?? [])}`);
  const [n, steps, features] = x.shape;
  const hidden = weightHh!.shape[1];
  const rows = cell.gates.length * hidden;
  if (x.dtype === "int32") throw new TypeError(`${name}: x must be float32 or float64 but is int32`);
  const floating = [weightIh, weightHh, biasIh, biasHh, ...states].filter((spec) => spec !== null);
  if (floating.some((spec) => spec.dtype !== x.dtype))
    throw new TypeError(`${name}: weights and states must be ${x.dtype} as x but are ${floating.map((spec) => spec.dtype).join(", ")}`);
  expect("weightIh", weightIh, [rows, features]);
  expect("weightHh", weightHh, [rows, hidden]);
  expect("biasIh", biasIh, [rows]);
  expect("biasHh", biasHh, [rows]);
  expect("lengths", lengths, [n]);
  cell.states.forEach((state, i) => expect(`state ${state}`, states[i] ?? null, [n, hidden]));
  return { n, steps, features, hidden };
}

/** The meaning of a sweep: every step spelt out in ops. */
function loop<G extends string, S extends string>(cell: CellSpec<G, S>, inputs: readonly MaybeTensor[], reverse: boolean): Tensor[] {
  const [x, weightIh, weightHh, biasIh, biasHh, lengths, ...initial] = inputs as [Tensor, Tensor, Tensor, ...MaybeTensor[]];
  const { n, steps, hidden } = checkSweep(cell.name, cell, inputs);
  const { device } = x;
  const dtype = x.dtype as "float32" | "float64";
  const flip = (t: Tensor) => (reverse ? reverseSequence(t, lengths) : t);
  const wx = unstack(flip(linear(x, weightIh, biasIh)), 1);
  const product = recurrentProduct(cell, weightHh, biasHh);
  const valid = lengths && split(sequenceMask(lengths, steps, dtype), new Array<number>(steps).fill(1), 1);
  let state = byName(cell.states, (_, i) => initial[i] ?? zeros([n, hidden], { dtype, device }));
  const outputs = wx.map((wxt, t) => {
    const next = product(gatesOf(cell.gates, wxt), state);
    const held = valid ? byName(cell.states, (s) => add(mul(valid[t], next[s]), mul(affine(valid[t], -1, 1), state[s]))) : next;
    state = held;
    return valid ? mul(valid[t], next["h" as S]) : next["h" as S];
  });
  const output = steps > 0 ? flip(stack(outputs, 1)) : zeros([n, 0, hidden], { dtype, device });
  return [output, ...cell.states.map((s) => state[s])];
}

/** One step from wx and the previous states: the recurrent products, then the cell. */
function recurrentProduct<G extends string, S extends string>(cell: CellSpec<G, S>, weightHh: Tensor, biasHh: MaybeTensor) {
  const { inner } = cell;
  const step = (wx: Record<G, Tensor>, rh: Record<G, Tensor>, state: Record<S, Tensor>) => cell.step(wx, rh, state);
  if (!inner)
    return (wx: Record<G, Tensor>, state: Record<S, Tensor>) =>
      step(wx, gatesOf(cell.gates, linear(state["h" as S], weightHh, biasHh)), state);
  const outer = cell.gates.slice(0, -inner.gates.length);
  const rows = [outer.length, inner.gates.length].map((gates) => gates * weightHh.shape[1]);
  const weights = split(weightHh, rows, 0);
  const biases = biasHh ? split(biasHh, rows, 0) : [null, null];
  return (wx: Record<G, Tensor>, state: Record<S, Tensor>) => {
    const rh = gatesOf(outer, linear(state["h" as S], weights[0], biases[0]));
    const second = gatesOf(inner.gates, linear(inner.of(wx, rh, state), weights[1], biases[1]));
    return step(wx, { ...rh, ...second }, state);
  };
}

function byName<K extends string, T>(names: readonly K[], make: (name: K, index: number) => T): Record<K, T> {
  return Object.fromEntries(names.map((name, i) => [name, make(name, i)])) as Record<K, T>;
}

/** [N, gates * H] -> [N, H] of each gate. */
function gatesOf<G extends string>(gates: readonly G[], t: Tensor): Record<G, Tensor> {
  const parts = split(t, new Array<number>(gates.length).fill(t.shape[1] / gates.length), 1);
  return byName(gates, (_, i) => parts[i]);
}

function sweepCases(cell: CellSpec<string, string>): Case<SweepAttrs>[] {
  const build = (
    n: number,
    steps: number,
    features: number,
    hidden: number,
    reverse: boolean,
    parts: { bias?: boolean; state?: boolean; lengths?: readonly number[] },
  ): Case<SweepAttrs> => {
    const rows = cell.gates.length * hidden;
    const bias = parts.bias ? { shape: [rows] } : null;
    const lengths: CaseInput = parts.lengths ? { shape: [n], dtype: "int32", values: parts.lengths } : null;
    return {
      inputs: [
        { shape: [n, steps, features] },
        { shape: [rows, features] },
        { shape: [rows, hidden] },
        bias,
        bias,
        lengths,
        ...cell.states.map(() => (parts.state ? { shape: [n, hidden] } : null)),
      ],
      attrs: { reverse },
      tolerance: 1e-5,
    };
  };
  return [
    build(1, 1, 1, 1, false, { bias: true, state: true }),
    build(2, 5, 3, 4, false, {}),
    build(3, 4, 7, 13, true, { bias: true, state: true }),
    build(4, 6, 5, 7, false, { bias: true, state: true, lengths: [6, 0, 3, 1] }),
    build(5, 7, 2, 16, true, { bias: true, state: true, lengths: [2, 7, 0, 5, 1] }),
    build(7, 3, 13, 33, false, { bias: true, lengths: [3, 3, 1, 2, 3, 3, 0] }),
    build(33, 2, 9, 40, true, { state: true }),
  ];
}

/** Inputs of one sweep of one layer in one direction. */
export interface SweepInputs {
  /** [N, T, I] */
  readonly x: Tensor;
  /** [gates * H, I] */
  readonly weightIh: Tensor;
  /** [gates * H, H] */
  readonly weightHh: Tensor;
  /** [gates * H] */
  readonly biasIh: MaybeTensor;
  /** [gates * H] */
  readonly biasHh: MaybeTensor;
  /** int32 [N]: valid steps of each row; all by default. */
  readonly lengths?: MaybeTensor;
}

/**
 * Runs a cell through time. Returns the output [N, T, H], zero after each row's last valid step, and the final
 * states [N, H], frozen there. Absent initial states are zero.
 */
export function sweep<G extends string, S extends string>(
  cell: Cell<G, S>,
  inputs: SweepInputs,
  initial: Partial<Record<S, Tensor>>,
  reverse = false,
): { output: Tensor; state: Record<S, Tensor> } {
  const { x, weightIh, weightHh, biasIh, biasHh, lengths = null } = inputs;
  const states = cell.states.map((s) => initial[s] ?? null);
  const [output, ...finals] = applyFused(cell.sweep, [x, weightIh, weightHh, biasIh, biasHh, lengths, ...states], { reverse });
  return { output, state: Object.fromEntries(cell.states.map((s, i) => [s, finals[i]])) as Record<S, Tensor> };
}
