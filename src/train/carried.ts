import type { Backend } from "../backend/backend.js";
import type { StateValue } from "../nn/module.js";
import { leaves, type StateTree } from "../nn/stream.js";
import { checkCount } from "../tensor/check.js";
import { tensor } from "../tensor/create.js";
import { keep } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";

/** The inverse of `leaves`. A level whose names are 0, 1, 2, ... is an array. */
function grow(parts: readonly (readonly [readonly string[], Tensor])[]): StateTree {
  if (parts.length === 1 && parts[0][0].length === 0) return parts[0][1];
  const groups = new Map<string, (readonly [readonly string[], Tensor])[]>();
  for (const [[name, ...rest], t] of parts) groups.set(name, [...(groups.get(name) ?? []), [rest, t]]);
  const grown = [...groups].map(([name, group]) => [name, grow(group)] as const);
  return grown.every(([name], i) => name === String(i)) ? grown.map(([, part]) => part) : Object.fromEntries(grown);
}

/**
 * The state that goes from one training step to the next. Made and owned by the caller, it survives the loop and can be
 * saved: pass it to `train` as `carryState`, and to a checkpoint as `carried`.
 */
export class CarriedState {
  private state: StateTree | null = null;
  private held = 0;

  /** The state to go on from; null at the start of a sequence. */
  get value(): StateTree | null {
    return this.state;
  }

  /** Rows of the batch the state belongs to; 0 if there is none. */
  get rows(): number {
    return this.held;
  }

  /** @internal Takes over a detached state and frees the one before. */
  replace(next: StateTree, rows: number): void {
    this.reset();
    this.state = keep(next);
    this.held = rows;
  }

  /** Lets go of the state. */
  reset(): void {
    if (this.state) for (const [, t] of leaves(this.state)) t.dispose();
    this.state = null;
    this.held = 0;
  }

  /** The tensors of the state by their paths, such as `h` or `encoder.c`; live, not copies. */
  stateDict(): Record<string, Tensor> {
    return this.state ? Object.fromEntries(leaves(this.state)) : {};
  }

  /** Goes on from a state of `rows` rows that `stateDict` gave; without tensors, from none. */
  loadStateDict(values: Readonly<Record<string, StateValue>>, rows: number, device: Backend): void {
    checkCount("CarriedState.loadStateDict", "rows", rows, 0);
    const parts = Object.entries(values).map(([path, v]) => [path === "" ? [] : path.split("."), copy(v, device)] as const);
    if (parts.length === 0) this.reset();
    else this.replace(grow(parts), rows);
  }
}

function copy(value: StateValue, device: Backend): Tensor {
  const data = value instanceof Tensor ? value.dataSync() : value.data;
  const dtype = value instanceof Tensor ? value.dtype : data instanceof Float64Array ? "float64" : "float32";
  return tensor(dtype === "float64" ? Float64Array.from(data) : Float32Array.from(data), { shape: value.shape, dtype, device });
}
