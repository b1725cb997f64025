import { add, mul } from "../../src/ops/elementwise.js";
import { transpose } from "../../src/ops/movement.js";
import { sum } from "../../src/ops/reduce.js";
import type { Tensor } from "../../src/tensor/tensor.js";
import type { GoldenCase, Place, Values } from "./case.js";

/** What was computed, by the names of the file: `output.K` and `grad.X`. */
export type Computed = Record<string, Values>;

/** How the cases of some families are run on the library's layers. */
export interface Adapter {
  readonly families: readonly string[];
  /** Why this case cannot be run yet; null if it can. */
  unsupported?(c: GoldenCase): string | null;
  /** The tensor of the file that a computed one is held to, where a reference is known to have got it wrong. */
  wanted?(c: GoldenCase, tensor: string): string;
  /** The tensor whose tolerance this one has: the same result, of which alone the reference was run in float32 too. */
  sameAs?(tensor: string): string;
  /** Every output and every gradient of the case, in the shapes of the file. */
  run(c: GoldenCase, place: Place): Computed | Promise<Computed>;
}

export function values(t: Tensor): Values {
  return { shape: t.shape, data: t.dataSync() };
}

/** Puts `prefix` before every name. */
export function prefixed<T>(prefix: string, items: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(Object.entries(items).map(([name, item]) => [prefix + name, item]));
}

/** A sequence of the file to [N, T, C] or back; files are [T, N, C] unless they say batch first. */
export const swapBatch = (t: Tensor, batchFirst: boolean): Tensor => (batchFirst ? t : transpose(t, [1, 0, 2]));

/**
 * The outputs, and the gradient of the case's loss with respect to each leaf. The leaves have the names and layouts of
 * the file; a leaf that the loss does not depend on is left out.
 */
export function differentiate(
  c: GoldenCase,
  place: Place,
  outputs: Readonly<Record<string, Tensor>>,
  leaves: Readonly<Record<string, Tensor>>,
): Computed {
  const computed: Computed = Object.fromEntries(Object.entries(outputs).map(([name, t]) => [`output.${name}`, values(t)]));
  if (c.lossOver.length === 0) return computed;
  const terms = c.lossOver.map((k) => sum(mul(outputs[k], c.leaf(`gout.${k}`, place, true))));
  terms.reduce((a, b) => add(a, b)).backward();
  for (const [name, leaf] of Object.entries(leaves)) if (leaf.grad) computed[`grad.${name}`] = values(leaf.grad);
  return computed;
}
