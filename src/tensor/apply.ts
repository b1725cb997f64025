import type { Backend } from "../backend/backend.js";
import { composed, isComposing, isRecording, withRecording } from "./graph.js";
import type { Fused, MaybeTensor, Op, Plan, Spec } from "./op.js";
import { run } from "./program.js";
import { scope } from "./scope.js";
import { empty, gradsOfLeaves, localGrads, record, Tensor } from "./tensor.js";

/** The one device of all inputs. @throws if they are spread over several. */
function commonDevice(name: string, inputs: readonly MaybeTensor[]): Backend {
  let device: Backend | null = null;
  for (const t of inputs) {
    if (t === null) continue;
    if (device && t.device !== device)
      throw new TypeError(`${name}: all tensors must be on one device but are on ${device.name} and ${t.device.name}`);
    device = t.device;
  }
  if (!device) throw new Error(`${name}: no input names a device; use applyOn`);
  return device;
}

function launch(device: Backend, kernel: string, inputs: readonly MaybeTensor[], plan: Plan, saved: readonly Spec[] = []): Tensor[] {
  const outputs = [...plan.outputs, ...saved].map((spec) => empty(device, spec.shape, spec.dtype));
  run(device, {
    kernel,
    inputs: inputs.map((t) => t?.buffer() ?? 0),
    outputs: outputs.map((t) => t.buffer()),
    ints: plan.ints ?? [],
    floats: plan.floats ?? [],
  });
  return outputs;
}

/** Applies a primitive on the device of its inputs and records it if anything asks for gradients. */
export function apply<A>(op: Op<A>, inputs: readonly Tensor[], attrs: A): Tensor[] {
  return applyOn(commonDevice(op.name, inputs), op, inputs, attrs);
}

/** The same for an op without inputs. */
export function applyOn<A>(device: Backend, op: Op<A>, inputs: readonly Tensor[], attrs: A): Tensor[] {
  const outputs = launch(device, op.name, inputs, op.shape(inputs, attrs));
  const { backward } = op;
  if (backward)
    record(op.name, inputs, outputs, (needs) => (grads) => {
      const filled = grads.map((g, k) => g ?? outputs[k].like(0));
      return backward(filled, { inputs, outputs, attrs, needs });
    });
  return outputs;
}

/** A tensor of the same elements under another shape. Shares the buffer; differentiable. */
export function view(t: Tensor, shape: readonly number[]): Tensor {
  t.buffer();
  const result = new Tensor(t.storage.share(), shape, t.dtype);
  record("reshape", [t], [result], () => ([g]) => [g && view(g, t.shape)]);
  return result;
}

/** What may stand in for a fused op: its outputs, or null to leave it as it is. */
export type Substitute = (op: Fused, inputs: readonly MaybeTensor[], attrs: unknown) => readonly Tensor[] | null;

let substitute: Substitute | null = null;

/** @internal Runs `body` with `other` asked first whenever a fused op is applied, except by `other` itself. */
export function substituting<T>(other: Substitute | null, body: () => T): T {
  const before = substitute;
  substitute = other;
  try {
    return body();
  } finally {
    substitute = before;
  }
}

/** @internal Whether fused ops are looked into, one by one. */
export const isSubstituting = (): boolean => substitute !== null;

/**
 * Applies a fused op: as one kernel where the device has it, otherwise (or inside `composed`) as its composition.
 * Gradients of gradients go through the composition, whatever the forward ran.
 */
export function applyFused<A>(op: Fused<A>, inputs: readonly MaybeTensor[], attrs: A): Tensor[] {
  const device = commonDevice(op.name, inputs);
  const plan = op.shape(inputs, attrs);
  const other = substitute;
  const others = other && substituting(null, () => other(op as unknown as Fused, inputs, attrs));
  if (others) return [...others];
  const covered = device.has(op.name) && (op.kernel?.(inputs, attrs) ?? true);
  const wanted = isRecording() && inputs.some((t) => t?.requiresGrad);
  if (isComposing() || !covered) {
    const compose = () => scope(() => op.compose(inputs, attrs).map((t) => view(t, t.shape)));
    return wanted && op.again?.(inputs, attrs, null) ? composeAgain(op, inputs, attrs, compose) : compose();
  }
  const info = device.kernelInfo(op.name);
  const specs = (wanted && op.saved?.(inputs, attrs, info)) || [];
  const again = wanted && (op.again?.(inputs, attrs, info) ?? false);
  const all = launch(device, op.name, inputs, plan, again ? [] : specs);
  const outputs = all.slice(0, plan.outputs.length);
  // The same call again: it writes the same outputs once more, and what it saves.
  const repeat = () => {
    const saved = specs.map((spec) => empty(device, spec.shape, spec.dtype));
    const { ints = [], floats = [] } = plan;
    const handles = [...outputs, ...saved].map((t) => t.storage.buffer);
    run(device, { kernel: op.name, inputs: inputs.map((t) => t?.storage.buffer ?? 0), outputs: handles, ints, floats });
    return saved;
  };
  const saved = all.slice(plan.outputs.length);
  record(
    op.name,
    inputs,
    all,
    (needs) => (grads, createGraph) =>
      createGraph
        ? throughComposition(op, inputs, attrs, grads)
        : scope(() => launchBackward(op.name, device, inputs, outputs, again ? repeat() : saved, plan, needs, grads)),
  );
  for (const t of saved) t.dispose();
  return outputs;
}

/** A composition off the tape, repeated on a tape of its own when its gradients are asked for. */
function composeAgain<A>(op: Fused<A>, inputs: readonly MaybeTensor[], attrs: A, compose: () => Tensor[]): Tensor[] {
  const inside = isComposing() ? composed : <T>(body: () => T) => body();
  const outputs = withRecording(false, compose);
  record(
    op.name,
    inputs,
    outputs,
    (needs) => (grads, createGraph) =>
      createGraph
        ? throughComposition(op, inputs, attrs, grads)
        : scope(() => {
            const leaves = inputs.map((t) => t?.detach() ?? null);
            leaves.forEach((leaf, i) => leaf && (leaf.requiresGrad = needs[i]));
            const again = withRecording(true, () => inside(() => op.compose(leaves, attrs)));
            return gradsOfLeaves(again, grads, leaves);
          }),
  );
  return outputs;
}

function launchBackward(
  name: string,
  device: Backend,
  inputs: readonly MaybeTensor[],
  outputs: readonly Tensor[],
  saved: readonly Tensor[],
  plan: Plan,
  needs: readonly boolean[],
  grads: readonly MaybeTensor[],
): MaybeTensor[] {
  if (commonDevice(name, inputs) !== device) throw new Error(`${name}: an input was moved to another device between forward and backward`);
  const results = inputs.map((t, i) => (t && needs[i] ? empty(device, t.shape, t.dtype) : null));
  run(device, {
    kernel: `${name}.backward`,
    inputs: [...grads.slice(0, outputs.length), ...inputs, ...outputs, ...saved].map((t) => t?.storage.buffer ?? 0),
    outputs: results.map((t) => t?.buffer() ?? 0),
    ints: plan.ints ?? [],
    floats: plan.floats ?? [],
  });
  return results;
}

function throughComposition<A>(op: Fused<A>, inputs: readonly MaybeTensor[], attrs: A, grads: readonly MaybeTensor[]): MaybeTensor[] {
  const outputs = withRecording(true, () => composed(() => op.compose(inputs, attrs)));
  return localGrads(outputs, grads, inputs);
}

/**
 * Runs a kernel that changes its operands where they lie (optimizers, clipping). Not recorded; the caller lists as
 * outputs every tensor that changes.
 */
export function update(
  kernel: string,
  inputs: readonly MaybeTensor[],
  outputs: readonly Tensor[],
  ints: readonly number[] = [],
  floats: readonly number[] = [],
): void {
  const device = commonDevice(kernel, [...inputs, ...outputs]);
  run(device, { kernel, inputs: inputs.map((t) => t?.buffer() ?? 0), outputs: outputs.map((t) => t.buffer()), ints, floats });
}
