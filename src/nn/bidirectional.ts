import { add, mul, scale } from "../ops/elementwise.js";
import { concat } from "../ops/movement.js";
import { reverseSequence } from "../ops/sequence.js";
import { checkChoice, checkOptions } from "../tensor/check.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { Module } from "./module.js";
import { checkLengths } from "./lengths.js";
import {
  checkCausal,
  checkLayer,
  checkSequence,
  checkStreams,
  type RecurrentLayer,
  type SequenceOptions,
  type StateOf,
} from "./recurrentLayer.js";
import type { Stream } from "./stream.js";
import type { Streams, StreamsOptions } from "./streams.js";

export interface BidirectionalOptions {
  /** How the outputs of the two layers become one. All but `concat` need layers of one width. Default `concat`. */
  readonly merge?: "concat" | "sum" | "mul" | "average";
}

const merges = {
  concat: (a: Tensor, b: Tensor) => concat([a, b], 2),
  sum: add,
  mul,
  average: (a: Tensor, b: Tensor) => scale(add(a, b), 0.5),
};

/** Runs a layer over the valid steps of each row from the last to the first; output t still belongs to input t. */
function backwards<L extends RecurrentLayer>(layer: L, x: Tensor, lengths: Tensor | null, options: SequenceOptions<StateOf<L>>) {
  const { output, state } = layer.forward(reverseSequence(x, lengths), options);
  return { output: reverseSequence(output, lengths), state: state as StateOf<L> };
}

/**
 * A causal layer run from each row's last valid step to its first (Schuster & Paliwal 1997, the second half of it); output
 * t belongs to input t. The state is that of the layer, frozen at the first step.
 */
export class Reversed<L extends RecurrentLayer = RecurrentLayer> extends Module {
  readonly reverse = true;

  /** @throws on a layer that is not causal. */
  constructor(readonly layer: L) {
    super();
    checkLayer("Reversed", "layer", layer);
    checkCausal("Reversed", "layer", layer, "turn a layer round once");
  }

  get inputSize(): number {
    return this.layer.inputSize;
  }

  get outputSize(): number {
    return this.layer.outputSize;
  }

  /** x [N, T, inputSize] -> `output` [N, T, outputSize], `state`. @throws as the layer does. */
  forward(x: Tensor, options: SequenceOptions<StateOf<L>> = {}): { output: Tensor; state: StateOf<L> } {
    checkOptions("Reversed.forward", options, ["state", "lengths"]);
    checkSequence("Reversed.forward", x, this.inputSize);
    const { lengths } = options;
    return scope(() => backwards(this.layer, x, lengths ? checkLengths("Reversed.forward", x, lengths) : null, options));
  }

  /** @throws always: the last step comes first. */
  override stream(): Stream {
    checkStreams(this);
    return super.stream({ shape: [1, 1, this.inputSize] });
  }

  /** @throws always, like `stream`. */
  override streams(options: StreamsOptions = {}): Streams {
    checkStreams(this, "streams");
    return super.streams({ ...options, shape: [1, 1, this.inputSize] });
  }
}

/**
 * Two layers of any kind, the second from the end to the start (Schuster & Paliwal 1997), whose outputs are merged:
 *
 *     y_t = merge(forward(x)_t, reverse(backward(reverse(x)))_t)
 *
 * Only the valid steps of each row are reversed. State `{ forward, backward }`. With two layers of one kind and `concat`
 * it is what the `bidirectional` option of that layer gives. Parameters are those of `forwardLayer` and `backwardLayer`.
 */
export class Bidirectional<F extends RecurrentLayer = RecurrentLayer, B extends RecurrentLayer = F> extends Module {
  readonly directions = 2;
  readonly merge: NonNullable<BidirectionalOptions["merge"]>;

  /** @throws on a layer that is not causal, inputs of two sizes, or outputs of two sizes unless they are concatenated. */
  constructor(
    readonly forwardLayer: F,
    readonly backwardLayer: B,
    options: BidirectionalOptions = {},
  ) {
    super();
    checkOptions("Bidirectional", options, ["merge"]);
    const { merge = "concat" } = options;
    checkChoice("Bidirectional", "merge", merge, Object.keys(merges));
    for (const [name, layer] of Object.entries({ forwardLayer, backwardLayer })) {
      checkLayer("Bidirectional", name, layer);
      checkCausal("Bidirectional", name, layer, "the backward layer is given forwards and is reversed here");
    }
    if (forwardLayer.inputSize !== backwardLayer.inputSize)
      throw new RangeError(
        `Bidirectional: both layers must have one inputSize but have ${forwardLayer.inputSize} and ${backwardLayer.inputSize}`,
      );
    if (merge !== "concat" && forwardLayer.outputSize !== backwardLayer.outputSize)
      throw new RangeError(
        `Bidirectional: merge "${merge}" needs outputs of one size but they have ${forwardLayer.outputSize} and ${backwardLayer.outputSize}; use "concat"`,
      );
    this.merge = merge;
  }

  get inputSize(): number {
    return this.forwardLayer.inputSize;
  }

  get outputSize(): number {
    return this.forwardLayer.outputSize + (this.merge === "concat" ? this.backwardLayer.outputSize : 0);
  }

  /** x [N, T, inputSize] -> `output` [N, T, outputSize], `state`. @throws on a wrong shape or length, and as the layers do. */
  forward(
    x: Tensor,
    options: SequenceOptions<{ readonly forward: StateOf<F>; readonly backward: StateOf<B> }> = {},
  ): { output: Tensor; state: { forward: StateOf<F>; backward: StateOf<B> } } {
    const where = "Bidirectional.forward";
    checkOptions(where, options, ["state", "lengths"]);
    checkSequence(where, x, this.inputSize);
    const { state, lengths } = options;
    if (state) checkOptions(`${where}: state`, state, ["forward", "backward"]);
    return scope(() => {
      const valid = lengths ? checkLengths(where, x, lengths) : null;
      const there = this.forwardLayer.forward(x, { state: state?.forward, lengths });
      const back = backwards(this.backwardLayer, x, valid, { state: state?.backward, lengths });
      const output = merges[this.merge](there.output, back.output);
      return { output, state: { forward: there.state, backward: back.state } };
    });
  }

  /** @throws always: the second direction needs the whole sequence. */
  override stream(): Stream {
    checkStreams(this);
    return super.stream({ shape: [1, 1, this.inputSize] });
  }

  /** @throws always, like `stream`. */
  override streams(options: StreamsOptions = {}): Streams {
    checkStreams(this, "streams");
    return super.streams({ ...options, shape: [1, 1, this.inputSize] });
  }
}
