import type { Backend, DType } from "../backend/backend.js";
import { allocate, type TypedArray } from "../backend/backend.js";
import { device as devices, type DeviceName } from "../backend/devices.js";
import { sameShape, showShape, size, type Shape } from "../tensor/op.js";
import { empty, Tensor } from "../tensor/tensor.js";
import { streamModel, type Stream, type Streamable, type StreamInput } from "./stream.js";
import { streamsModel, type Streams, type StreamsOptions } from "./streams.js";

/** Values to load: a tensor, or plain data with a shape. */
export type StateValue = Tensor | { readonly shape: Shape; readonly data: ArrayLike<number> };

/** Where and in which type parameters live. */
export interface Placement {
  readonly device?: Backend | DeviceName;
  readonly dtype?: Exclude<DType, "int32">;
}

/** Tensor options of a placement. @throws if the device cannot be used. */
export function place({ device, dtype = "float32" }: Placement): { device: Backend | undefined; dtype: DType } {
  return { device: typeof device === "string" ? devices(device) : device, dtype };
}

/**
 * Something with parameters. Tensors that require a gradient and modules held in properties (or in arrays of modules)
 * are found by themselves; their names are the property names joined by dots, as in a PyTorch state dict. Tensors that
 * belong to the state without being learned are registered as buffers.
 */
export abstract class Module {
  /** Whether dropout and its like are active. Set by `train()` and `eval()`. */
  training = true;
  private readonly bufferNames = new Set<string>();

  /** Switches this module and all below to training behaviour. */
  train(on = true): this {
    this.training = on;
    for (const [, child] of this.children()) child.train(on);
    return this;
  }

  /** Switches this module and all below to inference behaviour: no dropout. */
  eval(): this {
    return this.train(false);
  }

  /** Child modules by property name. */
  children(): [string, Module][] {
    return Object.entries(this).flatMap(([name, value]): [string, Module][] => {
      if (value instanceof Module) return [[name, value]];
      if (!Array.isArray(value)) return [];
      return value.flatMap((item, i): [string, Module][] => (item instanceof Module ? [[`${name}.${i}`, item]] : []));
    });
  }

  /** Every parameter once, by its dotted name, in order of definition. */
  namedParameters(): Map<string, Tensor> {
    return this.namedTensors((t) => t.requiresGrad);
  }

  /** What was registered as a buffer, by its dotted name, in order of definition. */
  namedBuffers(): Map<string, Tensor> {
    return this.namedTensors((_, isBuffer) => isBuffer);
  }

  parameters(): Tensor[] {
    return [...this.namedParameters().values()];
  }

  /** Lets go of all gradients. */
  zeroGrad(): void {
    for (const p of this.parameters()) {
      p.grad?.dispose();
      p.grad = null;
    }
  }

  /** The parameters and buffers by name; live tensors, not copies. */
  stateDict(): Record<string, Tensor> {
    return Object.fromEntries(this.namedTensors((t, isBuffer) => isBuffer || t.requiresGrad));
  }

  /**
   * Whether `loadStateDict` would take these values.
   *
   * @throws RangeError naming what is missing, what is unknown, or which shape differs.
   */
  checkStateDict(values: Readonly<Record<string, StateValue>>): void {
    const own = this.stateDict();
    const missing = Object.keys(own).filter((name) => !(name in values));
    const unknown = Object.keys(values).filter((name) => !Object.hasOwn(own, name));
    if (missing.length > 0 || unknown.length > 0) {
      const list = (what: string, names: string[]) => (names.length > 0 ? [`${what} ${names.join(", ")}`] : []);
      throw new RangeError(`loadStateDict: ${[...list("missing", missing), ...list("unknown", unknown)].join("; ")}`);
    }
    for (const [name, p] of Object.entries(own)) {
      const value = values[name];
      const length = value instanceof Tensor ? value.size : value.data.length;
      if (!sameShape(value.shape, p.shape))
        throw new RangeError(`loadStateDict: ${name} must be ${showShape(p.shape)} but is ${showShape(value.shape)}`);
      if (length !== p.size) throw new RangeError(`loadStateDict: ${name} must have ${p.size} values but has ${length}`);
    }
  }

  /**
   * Copies values into the parameters and buffers. Nothing is changed unless every name and shape fits.
   *
   * @throws RangeError as `checkStateDict` does.
   */
  loadStateDict(values: Readonly<Record<string, StateValue>>): void {
    this.checkStateDict(values);
    for (const [name, p] of Object.entries(this.stateDict())) {
      const value = values[name];
      write(p, value instanceof Tensor ? value.dataSync() : value.data);
    }
  }

  /** Moves the parameters and buffers to a device, to a dtype, or both. The tensors stay the same objects. */
  to(placement: Backend | DeviceName | Placement): this {
    const { device: to, dtype }: Placement = typeof placement === "string" || "alloc" in placement ? { device: placement } : placement;
    const target = typeof to === "string" ? devices(to) : to;
    for (const p of Object.values(this.stateDict())) {
      const device = target ?? p.device;
      const type = dtype ?? p.dtype;
      if (device === p.device && type === p.dtype) continue;
      const data = p.dataSync();
      const moved = empty(device, p.shape, type);
      write(moved, data);
      p.adopt(moved);
      p.grad?.dispose();
      p.grad = null;
    }
    return this;
  }

  /**
   * A stream over one sequence, fed inputs of the shape of `input` (one row, one step: [1, 1] ids or [1, 1, C] features);
   * `dtype` defaults to that of the parameters. For modules whose forward(x, { state }) returns { output | logits, state }.
   *
   * @throws if forward returns neither `output` nor `logits`, or no `state`.
   */
  stream(input: StreamInput): Stream {
    return streamModel(this as unknown as Streamable, input);
  }

  /**
   * Many sequences, each fed inputs of the shape of `input` as `stream` describes it, stepped together: see `Streams`.
   *
   * @throws as `stream` does, on an unknown option, or if a state has no axis of rows.
   */
  streams(input: StreamInput & StreamsOptions): Streams {
    return streamsModel(this as unknown as Streamable, input);
  }

  /** Adds a parameter under a name that is not a property of the class, such as `weight_ih_l0`. */
  protected register(name: string, parameter: Tensor): Tensor {
    Object.defineProperty(this, name, { value: parameter, enumerable: true, writable: true, configurable: true });
    return parameter;
  }

  /** Adds a tensor that is saved, loaded and moved with the parameters but not learned, such as a running mean. */
  protected registerBuffer(name: string, buffer: Tensor): Tensor {
    this.bufferNames.add(name);
    return this.register(name, buffer);
  }

  /** A registered parameter, or null if there is none of that name. */
  protected parameter(name: string): Tensor | null {
    return ((this as unknown as Record<string, unknown>)[name] as Tensor | undefined) ?? null;
  }

  private namedTensors(wanted: (t: Tensor, isBuffer: boolean) => boolean): Map<string, Tensor> {
    const found = new Map<string, Tensor>();
    const seen = new Set<Tensor>();
    const visit = (module: Module, prefix: string) => {
      for (const [name, value] of Object.entries(module)) {
        if (!(value instanceof Tensor) || seen.has(value) || !wanted(value, module.bufferNames.has(name))) continue;
        seen.add(value);
        found.set(prefix + name, value);
      }
      for (const [name, child] of module.children()) visit(child, `${prefix}${name}.`);
    };
    visit(this, "");
    return found;
  }
}

function write(t: Tensor, values: ArrayLike<number>): void {
  const data: TypedArray = allocate(t.dtype, size(t.shape));
  data.set(values);
  t.device.write(t.buffer(), data);
}
