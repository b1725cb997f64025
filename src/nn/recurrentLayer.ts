import { showShape } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { Module } from "./module.js";
import type { StateTree } from "./stream.js";

/** What every recurrent layer may be given beside x. */
export interface SequenceOptions<S> {
  /** The state to go on from; that of the start by default. */
  readonly state?: S;
  /** Valid steps of each row, 0 to T; all by default. */
  readonly lengths?: readonly number[] | Int32Array;
}

/**
 * What can be composed by Bidirectional, Reversed, Stacked and Dilated: every recurrent layer here, what they make, and a
 * module of your own with a forward like this. It takes x [N, T, inputSize] and gives `output` [N, T, outputSize], zero
 * after each row's valid steps, and the `state` to go on from, whose tensors have the rows of the batch on their second axis.
 */
export interface RecurrentLayer<S extends StateTree = StateTree> extends Module {
  readonly inputSize: number;
  readonly outputSize: number;
  /** 2 of a layer that runs both ways. */
  readonly directions?: 1 | 2;
  /** Whether it runs from the end to the start. */
  readonly reverse?: boolean;
  forward(x: Tensor, options?: SequenceOptions<S>): { readonly output: Tensor; readonly state: S };
}

/** The state of a layer. */
export type StateOf<L extends RecurrentLayer> = ReturnType<L["forward"]>["state"];

/** @throws TypeError unless the layer can be composed. */
export function checkLayer(where: string, name: string, layer: unknown): void {
  const { forward, inputSize, outputSize } = (layer ?? {}) as Partial<RecurrentLayer>;
  if (!(layer instanceof Module) || typeof forward !== "function" || inputSize === undefined || outputSize === undefined)
    throw new TypeError(`${where}: ${name} must be a recurrent layer, a module with forward, inputSize and outputSize`);
}

/** @throws RangeError unless x is [N, T, inputSize]. */
export function checkSequence(where: string, { shape }: Tensor, inputSize: number): void {
  if (shape.length !== 3 || shape[2] !== inputSize)
    throw new RangeError(`${where}: x must be [N, T, ${inputSize}] but is ${showShape(shape)}`);
}

/** Why a layer needs the whole sequence, it or one below it: "bidirectional" or "reverse"; null if it is causal. */
export function acausal(layer: Module): "bidirectional" | "reverse" | null {
  const { directions, reverse } = layer as unknown as Partial<RecurrentLayer>;
  if (directions === 2) return "bidirectional";
  if (reverse === true) return "reverse";
  return layer.children().reduce<ReturnType<typeof acausal>>((found, [, child]) => found ?? acausal(child), null);
}

/** @throws RangeError unless the layer, and all below it, run from the start to the end. */
export function checkCausal(where: string, name: string, layer: Module, instead: string): void {
  const kind = acausal(layer);
  if (kind) throw new RangeError(`${where}: ${name} must run from the start to the end but is ${kind}; ${instead}`);
}

/** @throws Error if the layer cannot be fed step by step. */
export function checkStreams(layer: Module, method: "stream" | "streams" = "stream"): void {
  const kind = acausal(layer);
  if (kind) throw new Error(`${layer.constructor.name}.${method}: a ${kind} layer needs the whole sequence and cannot be streamed`);
}
