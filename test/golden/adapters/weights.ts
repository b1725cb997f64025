import type { Module } from "../../../src/nn/module.js";
import type { Recurrent } from "../../../src/nn/recurrent.js";
import type { Masks } from "../../../src/nn/masks.js";
import { concat, reshape, slice, split, stack, transpose } from "../../../src/ops/movement.js";
import type { Tensor } from "../../../src/tensor/tensor.js";
import type { GoldenCase, Place } from "../case.js";

/** Every input of a loss by its name in the file: sequences, initial states, parameters, all marked for a gradient. */
export function leavesOf(c: GoldenCase, place: Place, ...inputs: readonly string[]): Record<string, Tensor> {
  const names = ["state0.", "param."].flatMap((prefix) => Object.keys(c.under(prefix)).map((name) => prefix + name));
  return Object.fromEntries([...inputs, ...names].map((key) => [key, c.leaf(key, place)]));
}

/**
 * Puts tensors in the place of a layer's parameters: what is made of the leaves of a file sends its gradient there.
 *
 * @throws unless every parameter is given, in its shape.
 */
export function assign<M extends Module>(layer: M, parameters: Readonly<Record<string, Tensor>>): M {
  for (const [name, { shape }] of layer.namedParameters()) {
    const given = parameters[name] as Tensor | undefined;
    if (given?.shape.join() !== shape.join()) throw new Error(`${name} must be [${shape.join(", ")}] but is [${given?.shape.join(", ")}]`);
  }
  return Object.assign(layer, parameters);
}

/** Reorders the blocks of `count` gates along an axis: block k of the result is block order[k], or absent. */
export function blocks(t: Tensor, axis: number, count: number, order: readonly number[]): Tensor {
  const parts = split(t, new Array<number>(count).fill(t.shape[axis] / count), axis);
  return concat(
    order.map((k) => parts[k]),
    axis,
  );
}

/** [I, O] -> [O, I] */
export const turned = (t: Tensor): Tensor => transpose(t, [1, 0]);

/** A state of one layer: [N, H] -> [1, N, H], and back. */
export const layered = (t: Tensor): Tensor => reshape(t, [1, ...t.shape]);
export const single = (t: Tensor): Tensor => reshape(t, t.shape.slice(1));

/** The cell state after every step, [T, N, H]: one step after the other, step t with the masks that `masksAt` gives. */
export function cellStates(
  layer: Recurrent<string>,
  x: Tensor,
  start: Readonly<Record<string, Tensor>> | undefined,
  masksAt: (t: number) => Masks | undefined = () => undefined,
): Tensor {
  const all: Tensor[] = [];
  let state = start;
  for (let t = 0; t < x.shape[1]; t++) {
    state = layer.forward(slice(x, 1, t, t + 1), { state, masks: masksAt(t) }).state;
    all.push(single(state.c));
  }
  return stack(all, 0);
}
