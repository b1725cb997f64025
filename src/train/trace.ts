import type { Backend } from "../backend/backend.js";
import { add } from "../ops/elementwise.js";
import { concat, reshape, slice } from "../ops/movement.js";
import type { SweepAttrs } from "../ops/sweep.js";
import { withoutTable } from "../ops/sweepInputs.js";
import { applyFused, substituting } from "../tensor/apply.js";
import { tensor } from "../tensor/create.js";
import type { Fused, MaybeTensor } from "../tensor/op.js";
import { grad, type Tensor } from "../tensor/tensor.js";

/** A sweep of one layer in one direction, taken step by step. */
export interface TracedSweep {
  readonly op: Fused<SweepAttrs>;
  readonly inputs: readonly MaybeTensor[];
  readonly attrs: SweepAttrs;
  /** Valid steps of each row; null for all. */
  readonly lengths: Int32Array | null;
  /** The initial states, h first, [N, P] and [N, H]; null for zero. */
  readonly initial: readonly MaybeTensor[];
  /** At [t], in either direction: what is read off, [N, 1, P], and the states that the next step is given, h first. */
  readonly steps: readonly { readonly output: Tensor; readonly states: readonly Tensor[] }[];
}

/**
 * Runs `body` with every sweep in it cut into sweeps of a single step, so that the states between the steps are tensors of
 * their own on the tape. The numbers are those of the whole sweep but for rounding. Call it in a scope.
 */
export function traceSweeps<T>(body: () => T): { readonly result: T; readonly sweeps: readonly TracedSweep[] } {
  const sweeps: TracedSweep[] = [];
  const result = substituting((any, inputs, attrs) => {
    const op = any as unknown as Fused<SweepAttrs>;
    if (!op.name.startsWith("sweep.")) return null;
    const named = withoutTable(inputs);
    if (named[0]?.shape[1] === 0) return null;
    const { sweep, outputs } = stepByStep(op, named, attrs as SweepAttrs);
    sweeps.push(sweep);
    return outputs;
  }, body);
  return { result, sweeps };
}

function stepByStep(op: Fused<SweepAttrs>, inputs: readonly MaybeTensor[], attrs: SweepAttrs) {
  const { shape: [, count], device } = inputs[0]!; // prettier-ignore
  const lengthsAt = inputs.findIndex((t) => t?.dtype === "int32");
  const lengths = lengthsAt < 0 ? null : (inputs[lengthsAt]!.dataSync() as Int32Array);
  // Of the results a sequence has three axes and a final state two; of the inputs the initial states are the last.
  const shapes = op.shape(inputs, attrs).outputs.map(({ shape }) => shape);
  const statesAt = shapes.flatMap((shape, i) => (shape.length === 2 ? [i] : []));
  const fixed = inputs.slice(0, inputs.length - statesAt.length);
  const initial = inputs.slice(fixed.length);
  const moment = (input: MaybeTensor, i: number, t: number) => {
    if (i === lengthsAt) return validAt(lengths!, t, device);
    return input?.shape.length === 3 && input.shape[1] === count ? slice(input, 1, t, t + 1) : input;
  };
  const results: Tensor[][] = [];
  let states = initial;
  for (let i = 0; i < count; i++) {
    const t = attrs.reverse ? count - 1 - i : i;
    results[t] = applyFused(op, [...fixed.map((input, k) => moment(input, k, t)), ...states], attrs);
    states = statesAt.map((k) => results[t][k]);
  }
  const last = results[attrs.reverse ? 0 : count - 1];
  const outputs = shapes.map((shape, k) => (shape.length === 2 ? last[k] : concat(results.map((r) => r[k]), 1))); // prettier-ignore
  const steps = results.map((r) => ({ output: r[0], states: statesAt.map((k) => r[k]) }));
  const sweep: TracedSweep = { op, inputs, attrs, lengths, initial, steps };
  return { sweep, outputs };
}

const validAt = (lengths: Int32Array, t: number, device: Backend) => tensor(lengths.map((length) => +(t < length)), { device }); // prettier-ignore

/**
 * dL/dh_t, dL/dc_t, ... of traced sweeps, at [sweep][t][state], [N, P] and [N, H]: the derivative of the loss by each state
 * that step t hands on, by h also through what is read off it at step t. After a row's last valid step they mean nothing.
 * The tape is kept.
 */
export function stateGradients(loss: Tensor, sweeps: readonly TracedSweep[]): Tensor[][][] {
  const wanted = sweeps.flatMap(({ steps }) => steps.flatMap(({ output, states }) => [output, ...states]));
  const found = grad(loss, wanted, { retainGraph: true });
  const of = new Map(wanted.map((t, i) => [t, found[i]] as const));
  return sweeps.map(({ steps }) =>
    steps.map(({ output, states }) =>
      states.map((state, k) => {
        const onward = of.get(state) ?? state.like(0);
        const read = k === 0 ? of.get(output) : null;
        return read ? add(onward, reshape(read, state.shape)) : onward;
      }),
    ),
  );
}
