import type { Backend, DType, TypedArray } from "../backend/backend.js";
import { isRecording, nextOrder, propagate, withRecording, type Node } from "./graph.js";
import "./kernels.js";
import { sameShape, showShape, size, type MaybeTensor, type Shape } from "./op.js";
import { release, run } from "./program.js";
import { keep, scope, track } from "./scope.js";

/** A buffer on a backend, shared by the tensors that view it and freed when the last one goes. */
export class Storage {
  private holders = 1;
  constructor(
    readonly backend: Backend,
    readonly buffer: number,
  ) {}

  share(): this {
    this.holders++;
    return this;
  }

  release(): void {
    if (--this.holders === 0) release(this.backend, this.buffer);
  }

  get shared(): boolean {
    return this.holders > 1;
  }
}

// The safety net only: tensors that were neither disposed of, nor left a scope, nor were passed by a backward.
const collected = new FinalizationRegistry<Storage>((storage) => storage.release());

/** Options of `backward`. */
export interface BackwardOptions {
  /** Gradient of the quantity of interest with respect to this tensor, same shape; required unless this is one element. */
  readonly gradient?: Tensor;
  /** Keep the tape, to go back through it again. */
  readonly retainGraph?: boolean;
  /** Record the backward pass itself, so that gradients can be differentiated. Implies `retainGraph`. */
  readonly createGraph?: boolean;
}

/**
 * A dense array on a device: `shape`, `dtype`, and a buffer that kernels read and write in queue order.
 * Operations return at once; `data()` waits for the result.
 */
export class Tensor {
  /** Accumulated gradient of a leaf that requires one. */
  grad: Tensor | null = null;
  /** @internal The application that made this tensor, if it was recorded. */
  node: Node | null = null;
  private leafRequires = false;
  private holds = 1;
  private dropped = false;

  /** @internal Used by the library; make tensors with `tensor`, `zeros`, `ones`, `full`, `uniform`. */
  constructor(
    private store: Storage,
    readonly shape: Shape,
    private type: DType,
  ) {
    collected.register(this, store, this);
    track(this);
  }

  /** @internal */
  get storage(): Storage {
    return this.store;
  }

  get dtype(): DType {
    return this.type;
  }

  get device(): Backend {
    return this.storage.backend;
  }

  get size(): number {
    return size(this.shape);
  }

  /** Whether gradients flow to or through this tensor. */
  get requiresGrad(): boolean {
    return this.leafRequires || this.node !== null;
  }

  /** Marks a leaf as something to differentiate by. @throws on an int32 tensor or on a result of recorded ops. */
  set requiresGrad(on: boolean) {
    if (on && this.dtype === "int32") throw new TypeError("requiresGrad: an int32 tensor has no gradient");
    if (this.node) throw new Error("requiresGrad: only a leaf can be marked; detach() the tensor first");
    this.leafRequires = on;
  }

  /** Copies the elements out, in row-major order, when everything queued so far is done. Rejects with a kernel's error. */
  data(): Promise<TypedArray> {
    return this.device.read(this.buffer());
  }

  /** The same, blocking the event loop until the device is done. */
  dataSync(): TypedArray {
    return this.device.readSync(this.buffer());
  }

  /** The single element of a one-element tensor. @throws if there are more. */
  async item(): Promise<number> {
    if (this.size !== 1) throw new RangeError(`item: the tensor must have one element but is ${showShape(this.shape)}`);
    return (await this.data())[0];
  }

  /** The handle kernels take. @throws if the tensor was freed. */
  buffer(): number {
    if (this.holds === 0)
      throw new Error(
        `Tensor ${showShape(this.shape)} was freed: by dispose(), by the scope it was made in, or as an intermediate result by backward()`,
      );
    return this.storage.buffer;
  }

  /** Whether the owner let go of this tensor; the tape may still hold its values. */
  get disposed(): boolean {
    return this.dropped;
  }

  /** A tensor of the same values outside the tape: no gradient flows through it. Shares the buffer. */
  detach(): Tensor {
    this.buffer();
    return new Tensor(this.storage.share(), this.shape, this.dtype);
  }

  /**
   * Adds the gradient of this tensor with respect to every leaf that requires one to the leaf's `grad`, then frees
   * the tape: every intermediate result on the way, but not this tensor nor results nothing here depends on.
   * Read an intermediate before, `keep` a `detach()` of it, or pass `retainGraph`.
   *
   * @throws if this tensor is not on the tape, or has more than one element and no `gradient` is given.
   */
  backward({ gradient, retainGraph = false, createGraph = false }: BackwardOptions = {}): void {
    if (!this.requiresGrad) throw new Error("backward: the tensor does not depend on anything that requires a gradient");
    if (gradient && !sameShape(gradient.shape, this.shape))
      throw new RangeError(`backward: gradient must be ${showShape(this.shape)} but is ${showShape(gradient.shape)}`);
    if (!gradient && this.size !== 1)
      throw new RangeError(`backward: gradient must be given for a tensor of shape ${showShape(this.shape)}`);
    withRecording(createGraph && isRecording(), () =>
      scope(() => {
        const seed = gradient ?? this.like(1);
        const passed = retainGraph || createGraph ? undefined : (node: Node) => pass(node, this);
        const grads = propagate([{ tensor: this, grad: seed }], new Set(), { createGraph, passed, accumulate });
        const given = new Set<Tensor>([seed]);
        for (const [leaf, grad] of grads) if (leaf.leafRequires) leaf.collect(grad, given);
      }),
    );
  }

  /** Lets go of the values now. The tape keeps what it still needs. */
  dispose(): void {
    if (this.dropped) return;
    this.dropped = true;
    this.unhold();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** @internal A node holds its inputs, and its outputs, until it is released. */
  hold(): void {
    if (++this.holds === 2 && this.node && !this.node.released) this.node.live++;
  }

  /** @internal */
  unhold(): void {
    this.holds--;
    if (this.holds === 0) {
      collected.unregister(this);
      this.store.release();
    } else if (this.holds === 1 && this.node && !this.node.released && --this.node.live === 0) {
      releaseNodes([this.node]);
    }
  }

  /** @internal A new tensor of this shape, type and device with every element `value`. */
  like(value: number): Tensor {
    const result = empty(this.device, this.shape, this.dtype);
    run(this.device, { kernel: "fill", inputs: [], outputs: [result.buffer()], ints: [], floats: [value] });
    return result;
  }

  toString(): string {
    return `Tensor(${showShape(this.shape)}, ${this.dtype}, ${this.device.name})`;
  }

  // A leaf owns its gradient alone: clipping and optimizers change it in place.
  private collect(grad: Tensor, given: Set<Tensor>): void {
    const old = this.grad;
    if (old) {
      this.grad = keep(accumulate(old, grad));
      old.dispose();
    } else {
      this.grad = keep(given.has(grad) || grad.storage.shared || grad.node ? grad.copy() : grad);
    }
    given.add(this.grad);
  }

  /** @internal Takes over the buffer of another tensor, which is disposed of. A backward recorded before must not follow. */
  adopt(other: Tensor): void {
    collected.unregister(this);
    this.store.release();
    this.store = other.store.share();
    this.type = other.type;
    other.dispose();
    collected.register(this, this.store, this);
  }

  /** @internal A copy with a buffer of its own, on the tape if this tensor is. */
  copy(): Tensor {
    return accumulate(this, null);
  }
}

/** A new tensor with undefined content. */
export function empty(device: Backend, shape: Shape, dtype: DType): Tensor {
  if (!device.dtypes.includes(dtype))
    throw new TypeError(`the ${device.name} device has no ${dtype} tensors (it has ${device.dtypes.join(", ")}); use the reference device`);
  return new Tensor(new Storage(device, device.alloc(size(shape), dtype)), shape, dtype);
}

/** Puts an application on the tape if recording is on and any input asks for gradients. */
export function record(
  name: string,
  inputs: readonly MaybeTensor[],
  outputs: readonly Tensor[],
  backward: (needs: readonly boolean[]) => Node["backward"],
): void {
  if (!isRecording() || !inputs.some((t) => t?.requiresGrad)) return;
  const needs = inputs.map((t) => t?.requiresGrad ?? false);
  const node: Node = { name, order: nextOrder(), inputs, outputs, needs, live: 0, released: false, backward: backward(needs) };
  for (const t of outputs) t.node = node;
  for (const t of [...inputs, ...outputs]) t?.hold();
}

/** a + b for equal shapes, or a copy of a: how gradients that meet are added. */
function accumulate(a: Tensor, b: Tensor | null): Tensor {
  const sum = empty(a.device, a.shape, a.dtype);
  run(a.device, { kernel: "accumulate", inputs: [a.buffer(), b ? b.buffer() : 0], outputs: [sum.buffer()], ints: [], floats: [] });
  record("accumulate", [a, b], [sum], () => ([grad]) => [grad, b && grad]);
  return sum;
}

/** Ends nodes, and with them every node that nothing else can reach. A list and not a recursion: sequences are long. */
function releaseNodes(nodes: readonly Node[]): void {
  const outermost = ending.length === 0;
  for (const node of nodes) node.released = true;
  ending.push(...nodes);
  if (!outermost) return;
  for (let i = 0; i < ending.length; i++) for (const t of [...ending[i].inputs, ...ending[i].outputs]) t?.unhold();
  ending.length = 0;
}
const ending: Node[] = [];

/** Releases a node that a backward pass is done with, and frees the intermediate results that it was given. */
function pass(node: Node, root?: Tensor): void {
  for (const t of node.inputs) if (t?.node && t !== root) t.dispose();
  if (!node.released) releaseNodes([node]);
}

/**
 * Gradients of `output` with respect to `inputs`, without touching any `grad`. An input that `output` does not
 * depend on gives null. Options as for `Tensor.backward`; `createGraph` makes the results differentiable.
 *
 * @throws as `Tensor.backward` does.
 */
export function grad(
  output: Tensor,
  inputs: readonly Tensor[],
  { gradient, retainGraph = false, createGraph = false }: BackwardOptions = {},
): MaybeTensor[] {
  if (!gradient && output.size !== 1)
    throw new RangeError(`grad: gradient must be given for an output of shape ${showShape(output.shape)}`);
  return withRecording(createGraph && isRecording(), () =>
    scope(() => {
      const root = { tensor: output, grad: gradient ?? output.like(1) };
      const passed = retainGraph || createGraph ? undefined : (node: Node) => pass(node, output);
      const grads = propagate([root], new Set(inputs), { createGraph, passed, accumulate });
      return inputs.map((t) => grads.get(t) ?? null);
    }),
  );
}

/** @internal Gradients of several outputs with respect to leaves that are all their tape begins with; frees the tape. */
export function gradsOfLeaves(
  outputs: readonly Tensor[],
  gradients: readonly MaybeTensor[],
  leaves: readonly MaybeTensor[],
): MaybeTensor[] {
  const roots = outputs.flatMap((tensor, k) => (gradients[k] && tensor.requiresGrad ? [{ tensor, grad: gradients[k] }] : []));
  const grads = withRecording(false, () => propagate(roots, new Set(), { createGraph: false, passed: (node) => pass(node), accumulate }));
  return leaves.map((t) => (t && grads.get(t)) ?? null);
}

/** @internal Differentiable gradients of several outputs, looking no further upstream than the inputs. */
export function localGrads(outputs: readonly Tensor[], gradients: readonly MaybeTensor[], inputs: readonly MaybeTensor[]): MaybeTensor[] {
  const roots = outputs.flatMap((tensor, k) => (gradients[k] && tensor.requiresGrad ? [{ tensor, grad: gradients[k] }] : []));
  const targets = new Set(inputs.filter((t) => t !== null));
  const grads = propagate(roots, targets, { createGraph: true, bounded: true, accumulate });
  return inputs.map((t) => (t && grads.get(t)) ?? null);
}
