import { embedding } from "../ops/embedding.js";
import { concat, pad, reshape, slice, transpose } from "../ops/movement.js";
import { checkCount, checkOptions } from "../tensor/check.js";
import { tensor } from "../tensor/create.js";
import { showShape } from "../tensor/op.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { Module } from "./module.js";
import { checkLengths } from "./lengths.js";
import { checkCausal, checkLayer, checkSequence, type RecurrentLayer, type SequenceOptions, type StateOf } from "./recurrentLayer.js";
import { leaves, mapTree, streamModel, type Stream, type StateTree } from "./stream.js";
import { streamsModel, type Streams, type StreamsOptions } from "./streams.js";

export interface DilatedOptions {
  /** Steps that the recurrence skips: d in h_t = f(x_t, h_{t-d}). */
  readonly dilation: number;
}

/**
 * A causal layer whose recurrence reaches d steps back (Chang et al. 2017, "Dilated Recurrent Neural Networks"):
 *
 *     h_t = f(x_t, h_{t-d})
 *
 * The d interleaved sequences, steps 0, d, 2d, ..., steps 1, 1 + d, ... and so on, are run at once as rows of their own, so
 * that a sequence takes T / d steps in turn.
 *
 * The state is that of the layer with one axis more, [.., N, d, ..]: entry j is what step j from now goes on from. So it
 * does not need to know how many steps there were, and two parts of any length equal the whole.
 */
export class Dilated<L extends RecurrentLayer = RecurrentLayer> extends Module {
  readonly dilation: number;

  /** @throws on a layer that is not causal, or a dilation that is not an integer of at least 1. */
  constructor(
    readonly layer: L,
    options: DilatedOptions,
  ) {
    super();
    checkOptions("Dilated", options, ["dilation"]);
    checkLayer("Dilated", "layer", layer);
    checkCount("Dilated", "dilation", options.dilation);
    checkCausal("Dilated", "layer", layer, "put Reversed or Bidirectional around Dilated layers");
    this.dilation = options.dilation;
  }

  get inputSize(): number {
    return this.layer.inputSize;
  }

  get outputSize(): number {
    return this.layer.outputSize;
  }

  /** x [N, T, inputSize] -> `output` [N, T, outputSize], `state`. @throws on a wrong shape or length, and as the layer does. */
  forward(x: Tensor, options: SequenceOptions<StateOf<L>> = {}): { output: Tensor; state: StateOf<L> } {
    const where = "Dilated.forward";
    checkOptions(where, options, ["state", "lengths"]);
    checkSequence(where, x, this.inputSize);
    const { state, lengths } = options;
    const [rows, steps] = x.shape;
    if (state) this.checkState(where, state, rows);
    return scope(() => {
      if (lengths) checkLengths(where, x, lengths);
      const known = state;
      const { output, state: next } =
        known && !lengths && steps > 0 && steps < this.dilation
          ? this.few(x, known)
          : this.whole(x, known, lengths ?? new Array<number>(rows).fill(steps));
      return { output, state: next };
    });
  }

  /** A stream over one sequence: a step runs one of the d sequences. */
  override stream(): Stream {
    return streamModel(this, { shape: [1, 1, this.inputSize] });
  }

  /** Many sequences, stepped together: see `Streams`. */
  override streams(options: StreamsOptions = {}): Streams {
    return streamsModel(this, { ...options, shape: [1, 1, this.inputSize] });
  }

  /** Fewer steps than the dilation: one step of each of the first T sequences, which then are the last. */
  private few(x: Tensor, state: StateTree) {
    const [rows, steps, features] = x.shape;
    const now = mapTree(state, (t) => merged(slice(t, 2, 0, steps)));
    const result = this.layer.forward(reshape(x, [rows * steps, 1, features]), { state: now });
    const after = new Map(leaves(mapTree(result.state, (t) => parted(t, rows, steps))));
    const paths = leaves(state).map(([path]) => path);
    let at = 0;
    const next = mapTree(state, (t) => concat([slice(t, 2, steps), after.get(paths[at++])!], 2));
    return { output: reshape(result.output, [rows, steps, this.outputSize]), state: next };
  }

  private whole(x: Tensor, state: StateTree | undefined, lengths: ArrayLike<number>) {
    const d = this.dilation;
    const [rows, steps] = x.shape;
    const each = Math.ceil(steps / d);
    const apart = interleaved(pad(x, 1, 0, each * d - steps), [each, d]);
    const own = Array.from({ length: rows * d }, (_, i) => Math.max(0, Math.ceil((lengths[Math.floor(i / d)] - (i % d)) / d)));
    const result = this.layer.forward(apart, { state: state && mapTree(state, merged), lengths: own });
    const together = interleaved(reshape(result.output, [rows, d, each, this.outputSize]), [d, each]);
    const turned = Int32Array.from(own, (_, i) => i - (i % d) + (((i % d) + lengths[Math.floor(i / d)]) % d));
    const order = tensor(turned, { dtype: "int32", device: x.device });
    return {
      output: slice(reshape(together, [rows, each * d, this.outputSize]), 1, 0, steps),
      state: mapTree(result.state, (t) => parted(gatherRows(t, order), rows, d)),
    };
  }

  private checkState(where: string, state: StateTree, rows: number): void {
    for (const [path, { shape }] of leaves(state))
      if (shape[1] !== rows || shape[2] !== this.dilation)
        throw new RangeError(
          `${where}: state.${path} must be ${showShape(["..", rows, this.dilation, ".."])}, of a dilation of ${this.dilation}, but is ${showShape(shape)}`,
        );
  }
}

/** [N, a * b, C], of any split of these axes, -> [N * b, a, C]: every b-th entry becomes a row. */
function interleaved(x: Tensor, [a, b]: readonly [number, number]): Tensor {
  const rows = x.shape[0];
  const features = x.shape.at(-1)!;
  return reshape(transpose(reshape(x, [rows, a, b, features]), [0, 2, 1, 3]), [rows * b, a, features]);
}

/** [L, N, d, ..] -> [L, N * d, ..] */
const merged = (t: Tensor) => reshape(t, [t.shape[0], t.shape[1] * t.shape[2], ...t.shape.slice(3)]);

/** [L, N * d, ..] -> [L, N, d, ..] */
const parted = (t: Tensor, rows: number, d: number) => reshape(t, [t.shape[0], rows, d, ...t.shape.slice(2)]);

/** [L, M, ..] with row order[i] in place i of the second axis. */
function gatherRows(t: Tensor, order: Tensor): Tensor {
  const axes = t.shape.map((_, i) => (i < 2 ? 1 - i : i));
  const first = transpose(t, axes);
  const table = reshape(first, [first.shape[0], t.size / Math.max(1, first.shape[0])]);
  return transpose(reshape(embedding(order, table), first.shape), axes);
}
