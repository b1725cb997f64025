import type { MaybeTensor } from "./op.js";
import { drop, scope } from "./scope.js";
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
  /** Called when a node has been passed, and will not be asked again. */
  readonly passed?: (node: Node) => void;
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

/** Gradients on their way. One that nothing waits for any more is freed at once, unless it may be differentiated itself. */
class Pending {
  readonly grads = new Map<Tensor, Tensor>();
  private readonly uses = new Map<Tensor, number>();
  constructor(private readonly options: PropagateOptions) {}

  add(t: Tensor, grad: Tensor): void {
    const old = this.grads.get(t);
    const sum = old ? this.options.accumulate(old, grad) : grad;
    this.grads.set(t, sum);
    this.uses.set(sum, (this.uses.get(sum) ?? 0) + 1);
    if (!old) return;
    this.leave(old);
    if (!this.uses.has(grad)) this.free(grad);
  }

  delete(t: Tensor): void {
    const grad = this.grads.get(t);
    this.grads.delete(t);
    if (grad) this.leave(grad);
  }

  private leave(grad: Tensor): void {
    const uses = this.uses.get(grad)! - 1;
    if (uses > 0) return void this.uses.set(grad, uses);
    this.uses.delete(grad);
    this.free(grad);
  }

  private free(grad: Tensor): void {
    if (!this.options.createGraph) drop(grad);
  }
}

/**
 * Propagates gradients from the roots to everything upstream; returns the gradients of leaves and of `targets`. To be called
 * in a scope, which owns what is returned.
 */
export function propagate(roots: readonly Root[], targets: ReadonlySet<Tensor>, options: PropagateOptions): Map<Tensor, Tensor> {
  const { createGraph, bounded = false, passed } = options;
  const nodes = reachable(roots, bounded ? targets : new Set());
  const pending = new Pending(options);
  for (const { tensor, grad } of roots) pending.add(tensor, grad);
  // What is passed lets go of its inputs, which must not end the nodes that are still to come.
  if (passed) for (const node of nodes) node.live++;
  let next = 0;
  try {
    for (; next < nodes.length; next++) {
      const node = nodes[next];
      const grads = node.outputs.map((t) => pending.grads.get(t) ?? null);
      if (grads.some((g) => g !== null)) {
        const results = scope(() => node.backward(grads, createGraph));
        node.inputs.forEach((t, i) => {
          const grad = results[i];
          if (t && grad && node.needs[i]) pending.add(t, grad);
        });
      }
      for (const t of node.outputs) if (!targets.has(t)) pending.delete(t);
      passed?.(node);
    }
  } finally {
    if (passed) for (const node of nodes.slice(next)) node.live--;
  }
  return pending.grads;
}
