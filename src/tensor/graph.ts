import type { MaybeTensor } from "./op.js";
import type { Tensor } from "./tensor.js";

/** One recorded application. It holds its inputs and outputs until `backward` has passed it. */
export interface Node {
  readonly name: string;
  /** Nodes are numbered as they are made, so descending order is a topological order of the backward pass. */
  readonly order: number;
  readonly inputs: readonly MaybeTensor[];
  readonly outputs: readonly Tensor[];
  readonly needs: readonly boolean[];
  /** How many outputs someone else holds: their owner, or a later node. At 0 nothing can reach this node any more. */
  live: number;
  released: boolean;
  backward(grads: readonly MaybeTensor[], createGraph: boolean): readonly MaybeTensor[];
}

let recording = true;
let composing = false;
let created = 0;

export const isRecording = (): boolean => recording;
export const isComposing = (): boolean => composing;
export const nextOrder = (): number => ++created;

/** Runs `body` with recording switched on or off. */
export function withRecording<T>(on: boolean, body: () => T): T {
  const before = recording;
  recording = on;
  try {
    return body();
  } finally {
    recording = before;
  }
}

/** Runs `body` without recording what is computed: nothing in it can be differentiated. `body` must be synchronous. */
export function noGrad<T>(body: () => T): T {
  return withRecording(false, body);
}

/** Runs `body` with every fused op taken apart into primitives, as the reference backend always does. */
export function composed<T>(body: () => T): T {
  const before = composing;
  composing = true;
  try {
    return body();
  } finally {
    composing = before;
  }
}

export interface Root {
  readonly tensor: Tensor;
  readonly grad: Tensor;
}

export interface PropagateOptions {
  readonly createGraph: boolean;
  /** Do not look upstream of the targets. */
  readonly bounded?: boolean;
  readonly accumulate: (a: Tensor, b: Tensor) => Tensor;
}

/** Everything upstream of the roots and not behind `boundary`, latest first. */
function reachable(roots: readonly Root[], boundary: ReadonlySet<Tensor>): Node[] {
  const seen = new Set<Node>();
  const stack: Node[] = [];
  const visit = (t: MaybeTensor) => {
    const node = t?.node;
    if (!t || !node || seen.has(node) || boundary.has(t)) return;
    if (node.released)
      throw new Error(
        `backward: the graph through ${node.name} was already freed; detach() a carried state between backward passes, or pass { retainGraph: true } to the first`,
      );
    seen.add(node);
    stack.push(node);
  };
  for (const { tensor } of roots) visit(tensor);
  for (let node = stack.pop(); node; node = stack.pop()) node.inputs.forEach(visit);
  return [...seen].sort((a, b) => b.order - a.order);
}

/** Propagates gradients from the roots to everything upstream; returns the gradients of leaves and of `targets`. */
export function propagate(
  roots: readonly Root[],
  targets: ReadonlySet<Tensor>,
  { createGraph, bounded = false, accumulate }: PropagateOptions,
): { grads: Map<Tensor, Tensor>; nodes: Node[] } {
  const nodes = reachable(roots, bounded ? targets : new Set());
  const pending = new Map<Tensor, Tensor>();
  const add = (t: Tensor, grad: Tensor) => {
    const old = pending.get(t);
    pending.set(t, old ? accumulate(old, grad) : grad);
  };
  for (const { tensor, grad } of roots) add(tensor, grad);
  for (const node of nodes) {
    const grads = node.outputs.map((t) => pending.get(t) ?? null);
    for (const t of node.outputs) if (!targets.has(t)) pending.delete(t);
    if (grads.every((g) => g === null)) continue;
    const results = node.backward(grads, createGraph);
    node.inputs.forEach((t, i) => {
      const grad = results[i];
      if (t && grad && node.needs[i]) add(t, grad);
    });
  }
  return { grads: pending, nodes };
}
