import { applyFused } from "../tensor/apply.js";
import { defineFused, type Fused } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { precisions } from "./precision.js";
import { sweepCases } from "./sweepCases.js";
import { checkSweep, inputsOf, isPlain, listed, maskStrides, type SweepAttrs, type SweepInputs } from "./sweepInputs.js";
import { loop } from "./sweepLoop.js";

export type { SweepAttrs, SweepInputs } from "./sweepInputs.js";

/** What the stages around a cell do to the numbers in it; each leaves them alone where it is switched off. */
export interface Stages<V extends string> {
  /** The weights of each unit, [H]. */
  readonly vectors: Record<V, Tensor>;
  /** Dropout of a candidate value (Semeniuta et al. 2016). */
  drop(candidate: Tensor): Tensor;
  /** Bounds a cell state to [-clip, clip]. */
  clip(state: Tensor): Tensor;
  /** Layer normalisation of a cell state. */
  norm(state: Tensor): Tensor;
  /** Which of a state and its normalisation the next step is given. */
  carry(state: Tensor, normalised: Tensor): Tensor;
}

/**
 * What a recurrent cell h_t = f(W x_t, U h_{t-1}) means: gates, states and one step, written in ops.
 * A cell knows no loop. State `h` is the output and what the recurrent product reads.
 */
export interface CellSpec<G extends string, S extends string, V extends string = never> {
  /** The native kernels of the cell are `sweep.<name>`. */
  readonly name: string;
  /** Rows of the weights, in order: weight_ih is [gates * H, I], weight_hh [gates * H, H]. */
  readonly gates: readonly G[];
  readonly states: readonly S[];
  /** Weights of each unit alone, such as peepholes; together [vectors, H]. */
  readonly vectors?: readonly V[];
  /** U h is a product (`dense`, the default), or each unit hears itself only (`diagonal`): weight_hh is [gates * H]. */
  readonly recurrent?: "dense" | "diagonal";
  /** The state that layer normalisation may be asked for, beside that of the recurrent product. */
  readonly normed?: S;
  /** The last gates, if their recurrent product is taken of `of(...)` instead of h; `rh` there holds the others only. */
  readonly inner?: {
    readonly gates: readonly G[];
    of(wx: Record<G, Tensor>, rh: Record<G, Tensor>, state: Record<S, Tensor>): Tensor;
  };
  /** States that are never negative, such as normalisers: examples keep to that. */
  readonly positive?: readonly S[];
  /** False for a cell that is always composed of its ops: no kernels are looked for. */
  readonly fused?: boolean;
  /**
   * One step: `wx` = W x + b_ih and `rh` = U h + b_hh by gate, kept apart so that a cell may gate the recurrent
   * product, and the previous states, all [N, H].
   */
  step(wx: Record<G, Tensor>, rh: Record<G, Tensor>, state: Record<S, Tensor>, stages: Stages<V>): Record<S, Tensor>;
}

/** A cell together with its sweep through time. */
export interface Cell<G extends string = string, S extends string = string, V extends string = string> extends CellSpec<G, S, V> {
  readonly sweep: Fused<SweepAttrs>;
}

/** Makes the sweep of a cell: the fused op `sweep.<name>`, whose composition is the loop over `step`. */
export function defineCell<G extends string, S extends string, V extends string = never>(cell: CellSpec<G, S, V>): Cell<G, S, V> {
  const name = `sweep.${cell.name}`;
  const op: Fused<SweepAttrs> = {
    name,
    shape(specs, attrs) {
      const inputs = inputsOf(cell, specs);
      const { n, steps, features, hidden, width } = checkSweep(name, cell, inputs, attrs);
      const dtype = inputs.x!.dtype;
      const hiddenToo = inputs.weightHr ? [{ shape: [n, steps, hidden], dtype }] : [];
      return {
        outputs: [
          { shape: [n, steps, width], dtype },
          ...cell.states.map((s) => ({ shape: [n, s === "h" ? width : hidden], dtype })),
          ...hiddenToo,
        ],
        ints: [
          n,
          steps,
          features,
          hidden,
          +attrs.reverse,
          width,
          +(inputs.weightHr !== null),
          +(attrs.carryNormalised ?? false),
          ...maskStrides(inputs),
          +(attrs.checkpoint ?? false),
          precisions.indexOf(attrs.precision ?? "float32"),
        ],
        floats: [attrs.cellClip ?? 0],
      };
    },
    compose: (tensors, attrs) => loop(cell, inputsOf(cell, tensors), attrs),
    kernel(specs, { outputActivation = "linear" }) {
      const { gainHh, weightHr } = inputsOf(cell, specs);
      return outputActivation === "linear" && !(cell.inner && (gainHh ?? weightHr));
    },
    saved(specs, attrs, info) {
      const inputs = inputsOf(cell, specs);
      const { n, steps, hidden } = checkSweep(name, cell, inputs, attrs);
      const dtype = inputs.x!.dtype;
      if (info >= 0 && isPlain(inputs, attrs))
        return [{ shape: [n, steps, attrs.checkpoint ? cell.states.length - 1 : info, hidden], dtype }];
      const least = info >= 0 ? info : -1 - info;
      const normalised = (inputs.gainHh ? cell.gates.length : 0) + (inputs.gainC ? 1 : 0);
      const kept = { shape: [n, steps, least + cell.states.length + normalised, hidden], dtype };
      return normalised > 0 ? [kept, { shape: [n, steps, 2], dtype }] : [kept];
    },
    // The kernels of plain sweeps compute again what they need, chunk by chunk.
    again: (specs, attrs, info) => (attrs.checkpoint ?? false) && !(info !== null && info >= 0 && isPlain(inputsOf(cell, specs), attrs)),
    cases: () => sweepCases(cell),
  };
  return { ...cell, sweep: cell.fused === false ? op : defineFused(op) };
}

/**
 * Runs a cell through time. Returns the output [N, T, P], zero after each row's last valid step, the final states
 * ([N, P] of h, [N, H] of others), frozen there, and with a projection what was projected, `hidden` [N, T, H].
 * Absent initial states are zero.
 *
 * @throws on a shape that does not fit, and on an option that the cell does not have.
 */
export function sweep<G extends string, S extends string, V extends string>(
  cell: Cell<G, S, V>,
  inputs: SweepInputs,
  initial: Readonly<Partial<Record<S, Tensor>>>,
  attrs: SweepAttrs = { reverse: false },
): { output: Tensor; state: Record<S, Tensor>; hidden?: Tensor } {
  const { update = {} } = inputs;
  for (const mask of [inputs.dropHidden, inputs.dropCandidate, ...cell.states.map((s) => update[s])])
    if (mask?.requiresGrad) throw new TypeError(`sweep.${cell.name}: a mask gets no gradient, but one requires it`);
  const [output, ...rest] = applyFused(cell.sweep, listed<Tensor>(cell, inputs, update, initial), attrs);
  const state = {} as Record<S, Tensor>;
  cell.states.forEach((s, i) => (state[s] = rest[i]));
  return inputs.weightHr ? { output, state, hidden: rest[cell.states.length] } : { output, state };
}
