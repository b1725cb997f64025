import { checkCount } from "../tensor/check.js";

/** Options of layers that start as their place in a stack asks. */
export interface DepthOptions {
  /** Which layer this is, counted from 0, and of how many: the start of its parameters depends on it. Default 0 of 1. */
  readonly layer?: number;
  readonly layers?: number;
}

/** @internal The layer, of how many, and how far up it lies: from 0 to 1, and from 1 down. @throws on a layer that cannot be. */
export function depth(where: string, { layer = 0, layers = layer + 1 }: DepthOptions) {
  checkCount(where, "layer", layer, 0);
  checkCount(where, "layers", layers, layer + 1);
  return { layer, layers, rising: layers > 1 ? layer / (layers - 1) : 0, falling: 1 - layer / layers } as const;
}
