import { allocate } from "../backend/backend.js";
import { Module, type StateValue } from "../nn/module.js";
import { checkCount, checkNumber } from "../tensor/check.js";
import { full } from "../tensor/create.js";
import { noGrad } from "../tensor/graph.js";
import { sameShape, showShape } from "../tensor/op.js";
import { keep, scope } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import type { Schedule } from "./schedules.js";

/** A parameter to update, with what the optimizer remembers of it. */
export interface Entry {
  readonly param: Tensor;
  readonly grad: Tensor;
  /** Updates of this parameter, this one included: 1 at the first. */
  readonly step: number;
  /** Its state, by the names of PyTorch. */
  readonly slots: Readonly<Record<string, Tensor>>;
}

/** Everything an optimizer needs to go on: plain numbers, and live tensors named `parameter.slot`. */
export interface OptimizerState<T = Tensor> {
  /** The class, such as `Adam`. */
  readonly kind: string;
  readonly steps: number;
  readonly lr: number;
  /** Updates of each parameter that was updated at all. */
  readonly counts: Readonly<Record<string, number>>;
  readonly tensors: Readonly<Record<string, T>>;
}

/**
 * Changes parameters by their gradients. A parameter without a gradient is passed over, and its count of updates stays.
 */
export abstract class Optimizer {
  /** A factor on `lr` by the number of steps made; null for none. */
  schedule: Schedule | null = null;
  protected readonly named: ReadonlyMap<string, Tensor>;
  private readonly counts = new Map<string, number>();
  private readonly memory = new Map<string, Record<string, Tensor>>();
  private made = 0;
  private base = 0;

  /** `slots` gives each tensor remembered per parameter, and the value it starts with. */
  protected constructor(
    of: Module | readonly Tensor[],
    lr: number,
    private readonly slots: Readonly<Record<string, number>>,
  ) {
    this.named = of instanceof Module ? of.namedParameters() : new Map(of.map((p, i) => [String(i), p]));
    if (this.named.size === 0) throw new RangeError(`${this.kind}: there must be at least one parameter`);
    if (new Set(this.named.values()).size !== this.named.size) throw new RangeError(`${this.kind}: a parameter is in the list twice`);
    for (const [name, p] of this.named) {
      if (!(p instanceof Tensor) || !p.requiresGrad || p.node)
        throw new TypeError(`${this.kind}: parameter ${name} must be a leaf tensor that requires a gradient`);
    }
    this.lr = lr;
  }

  private get kind(): string {
    return this.constructor.name;
  }

  /** The learning rate before the schedule. @throws when set to anything but a finite number of at least 0. */
  get lr(): number {
    return this.base;
  }

  set lr(value: number) {
    checkNumber(this.kind, "lr", value, 0);
    this.base = value;
  }

  /** The learning rate of the next step: `lr` times the schedule's factor. */
  get rate(): number {
    const factor = this.schedule ? this.schedule(this.made) : 1;
    if (!Number.isFinite(factor))
      throw new RangeError(`${this.kind}: schedule must give a finite factor but gives ${factor} at step ${this.made}`);
    return this.base * factor;
  }

  /** Steps made so far. */
  get steps(): number {
    return this.made;
  }

  /** The parameters, in order. */
  parameters(): Tensor[] {
    return [...this.named.values()];
  }

  /** Updates every parameter that has a gradient. */
  step(): void {
    const rate = this.rate;
    const active = [...this.named].filter(([, p]) => p.grad);
    const entries = active.map(([name, param]): Entry => ({
      param,
      grad: param.grad!,
      step: (this.counts.get(name) ?? 0) + 1,
      slots: this.remembered(name, param),
    }));
    if (entries.length > 0) noGrad(() => scope(() => this.update(entries, rate)));
    active.forEach(([name], i) => this.counts.set(name, entries[i].step));
    this.made++;
  }

  /** Lets go of the gradients of the parameters. */
  zeroGrad(): void {
    for (const p of this.named.values()) {
      p.grad?.dispose();
      p.grad = null;
    }
  }

  /** The state; its tensors are live, not copies. */
  stateDict(): OptimizerState {
    const tensors = [...this.memory].flatMap(([name, slots]) => Object.entries(slots).map(([slot, t]) => [`${name}.${slot}`, t] as const));
    return {
      kind: this.kind,
      steps: this.made,
      lr: this.base,
      counts: Object.fromEntries(this.counts),
      tensors: Object.fromEntries(tensors),
    };
  }

  /** Goes on from a state. Nothing is changed unless all of it fits. @throws naming what does not fit. */
  loadStateDict(state: OptimizerState<StateValue>): void {
    this.checkState(state);
    for (const slots of this.memory.values()) for (const t of Object.values(slots)) t.dispose();
    this.memory.clear();
    this.counts.clear();
    for (const [name, count] of Object.entries(state.counts)) {
      this.counts.set(name, count);
      for (const [slot, t] of Object.entries(this.remembered(name, this.named.get(name)!))) {
        const value = state.tensors[`${name}.${slot}`];
        const data = allocate(t.dtype, t.size);
        data.set(value instanceof Tensor ? value.dataSync() : value.data);
        t.device.write(t.buffer(), data);
      }
    }
    this.made = state.steps;
    this.lr = state.lr;
  }

  /** @internal @throws as `loadStateDict` would, without changing anything. */
  checkState({ kind, steps, lr, counts, tensors }: OptimizerState<StateValue>): void {
    const where = `${this.kind}.loadStateDict`;
    if (kind !== this.kind) throw new RangeError(`${where}: the state must be of ${this.kind} but is of ${kind}`);
    checkCount(where, "steps", steps, 0);
    checkNumber(where, "lr", lr, 0);
    const expected = new Set<string>();
    for (const [name, count] of Object.entries(counts)) {
      const p = this.named.get(name);
      if (!p) throw new RangeError(`${where}: there is no parameter ${name}`);
      checkCount(where, `counts.${name}`, count);
      for (const slot of Object.keys(this.slots)) {
        const key = `${name}.${slot}`;
        expected.add(key);
        const value = tensors[key] as StateValue | undefined;
        if (!value) throw new RangeError(`${where}: missing ${key}`);
        const length = value instanceof Tensor ? value.size : value.data.length;
        if (!sameShape(value.shape, p.shape) || length !== p.size)
          throw new RangeError(`${where}: ${key} must be ${showShape(p.shape)} but is ${showShape(value.shape)} with ${length} values`);
      }
    }
    const unknown = Object.keys(tensors).find((key) => !expected.has(key));
    if (unknown !== undefined) throw new RangeError(`${where}: unknown ${unknown}`);
  }

  /** Frees what is remembered of the parameters, not the parameters. */
  dispose(): void {
    for (const slots of this.memory.values()) for (const t of Object.values(slots)) t.dispose();
    this.memory.clear();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Updates the parameters where they lie. */
  protected abstract update(entries: readonly Entry[], lr: number): void;

  private remembered(name: string, param: Tensor): Record<string, Tensor> {
    let slots = this.memory.get(name);
    if (!slots) {
      const { device, dtype } = param;
      const make = ([slot, value]: [string, number]) => [slot, keep(full(param.shape, value, { device, dtype }))];
      slots = Object.fromEntries(Object.entries(this.slots).map(make)) as Record<string, Tensor>;
      this.memory.set(name, slots);
    }
    return slots;
  }
}

/** The lists the update kernels take. */
export const columns = (entries: readonly Entry[]) => ({
  params: entries.map((e) => e.param),
  grads: entries.map((e) => e.grad),
  steps: entries.map((e) => e.step),
  slot: (name: string): Tensor[] => entries.map((e) => e.slots[name]),
});
