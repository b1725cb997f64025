import { precisions, type Precision } from "../ops/precision.js";
import { isRecording } from "../tensor/graph.js";
import type { Tensor } from "../tensor/tensor.js";
import type { Module } from "./module.js";

/** A module whose products may be of reduced precision. */
type Reducible = Module & { precision: Precision };

/** What each quantised module was before. */
const before = new WeakMap<Module, Precision>();

/** The module and all below it that have a precision. */
function reducible(module: Module): Reducible[] {
  const below = module.children().flatMap(([, child]) => reducible(child));
  return precisions.includes((module as unknown as Partial<Reducible>).precision!) ? [module as Reducible, ...below] : below;
}

/**
 * From now on every recurrent layer and every Linear of a model multiplies bytes in inference ("dynamic quantisation"):
 * weights as int8 with one scale for each output, inputs and h as they come with one scale for each row, sums exact in
 * int32; biases, gates and states stay float32. Weights and state dict stay as they are, the bytes are made from them on
 * first use and again whenever they change. Streams that have taken a step go on in the precision they began with.
 *
 * Embeddings, convolutions, normalisation and whatever else multiplies in another way are left alone. A module of your own
 * takes part if it has a property `precision`, `"float32"` at first, and does what it says.
 *
 * @returns the model itself, in inference mode.
 * @throws if there is nothing in it to quantise. A quantised layer called in training throws; what it gives has no gradient.
 */
export function quantize<M extends Module>(model: M): M {
  const found = reducible(model);
  if (found.length === 0) throw new TypeError(`quantize: ${model.constructor.name} has neither a recurrent layer nor a Linear`);
  for (const module of found) {
    if (module.precision === "int8") continue;
    before.set(module, module.precision);
    module.precision = "int8";
  }
  return model.eval();
}

/** Undoes `quantize`: every module has the precision it had before, to the bit. Leaves the mode alone. @returns the model itself. */
export function dequantize<M extends Module>(model: M): M {
  for (const module of reducible(model)) if (module.precision === "int8") module.precision = before.get(module) ?? "float32";
  return model;
}

/** @throws Error if a gradient through bytes is asked for: in training, or of x. */
export function checkTrains(where: string, { precision, training }: Reducible, x: Tensor): void {
  if (precision === "int8" && isRecording() && (training || x.requiresGrad))
    throw new Error(`${where}: a quantised module has no gradient; dequantize it to train, or call it in eval() or noGrad`);
}
