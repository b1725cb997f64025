import { GRU, keep, LSTM, noGrad, RNN, scope, tensor, zeros, type Precision, type Recurrent, type RecurrentOptions } from "../src/index.js";
import type { Backend } from "../src/backend/backend.js";
import type { Tensor } from "../src/tensor/tensor.js";
import type { BenchCase, CellName } from "./cases.js";

/** Where a workload runs. */
export interface Place {
  readonly device: Backend;
  readonly dtype: "float32" | "float64";
  /** Of the products; float32 unless given. Bytes are for inference and streams. */
  readonly precision?: Precision;
}

export type Numbers = ArrayLike<number>;

/** One case on one device, through the public API. */
export interface Workload {
  readonly layer: Recurrent<string>;
  /** One whole call; returns when the device is done. */
  step(): void;
  /** What a call computes: the outputs and, when training, every gradient. */
  results(): Record<string, Numbers>;
  dispose(): void;
}

function build(
  { cell, I, H, layers, bidirectional, checkpoint, mode }: BenchCase,
  { precision = "float32", ...place }: Place,
): Recurrent<string> {
  if (precision === "int8" && mode === "train") throw new RangeError("bytes are for inference: there is no training step to time");
  const made = make(cell, I, H, { layers, bidirectional, ...(checkpoint && { checkpoint }), ...place });
  made.precision = precision;
  return made;
}

function make(cell: CellName, I: number, H: number, options: RecurrentOptions): Recurrent<string> {
  if (cell === "lstm") return new LSTM(I, H, options);
  return cell === "gru" ? new GRU(I, H, options) : new RNN(I, H, options);
}

/** The same pseudo-random numbers in [-1, 1) on every call (xorshift32). */
export function noise(length: number, seed: number): Float32Array {
  const values = new Float32Array(length);
  let s = seed;
  for (let i = 0; i < length; i++) {
    s ^= s << 13;
    s ^= s >>> 17;
    s ^= s << 5;
    values[i] = s / 2 ** 31;
  }
  return values;
}

function input(shape: readonly number[], seed: number, { device, dtype }: Place, requiresGrad = false): Tensor {
  const values = noise(shape.reduce((a, b) => a * b), seed); // prettier-ignore
  return tensor(dtype === "float64" ? Float64Array.from(values) : values, { shape, device, requiresGrad });
}

function training(c: BenchCase, place: Place): Workload {
  const layer = build(c, place);
  const x = input([c.B, c.T, c.I], 1, place, true);
  const gradient = input([c.B, c.T, layer.outputSize], 2, place);
  const done = zeros([1], place);
  const clear = () => {
    layer.zeroGrad();
    x.grad?.dispose();
    x.grad = null;
  };
  const call = () => {
    const { output } = layer.forward(x);
    output.backward({ gradient });
    return output;
  };
  return {
    layer,
    step() {
      clear();
      scope(() => void call());
      done.dataSync();
    },
    results() {
      clear();
      const output = scope(() => ({ output: call().dataSync() }));
      const gradients = Object.entries({ x, ...layer.stateDict() }).map(([name, t]) => [`grad ${name}`, t.grad!.dataSync()]);
      clear();
      return { ...output, ...(Object.fromEntries(gradients) as Record<string, Numbers>) };
    },
    dispose() {
      clear();
      for (const t of [x, gradient, done, ...layer.parameters()]) t.dispose();
    },
  };
}

function inference(c: BenchCase, place: Place): Workload {
  const layer = build(c, place).eval();
  const x = input([c.B, c.T, c.I], 1, place);
  const done = zeros([1], place);
  return {
    layer,
    step() {
      noGrad(() => scope(() => void layer.forward(x)));
      done.dataSync();
    },
    results() {
      return noGrad(() =>
        scope(() => {
          const { output, state } = layer.forward(x);
          return Object.fromEntries(Object.entries({ output, ...state }).map(([name, t]) => [name, t.dataSync()]));
        }),
      );
    },
    dispose() {
      for (const t of [x, done, ...layer.parameters()]) t.dispose();
    },
  };
}

function streaming(c: BenchCase, place: Place): Workload {
  const layer = build(c, place).eval();
  const stream = layer.stream();
  const x = noise(c.I, 1);
  const y = new Float32Array(layer.outputSize);
  return {
    layer,
    step: () => void stream.step(x, y),
    results() {
      stream.reset();
      const outputs = [1, 2, 3].map((seed) => [`output ${seed}`, Float32Array.from(stream.step(noise(c.I, seed)))]);
      return { ...(Object.fromEntries(outputs) as Record<string, Numbers>), ...stream.snapshot() };
    },
    dispose() {
      stream.dispose();
      for (const t of layer.parameters()) t.dispose();
    },
  };
}

const kinds = { train: training, infer: inference, stream: streaming };

export const workload = (c: BenchCase, place: Place): Workload => keep(kinds[c.mode](c, place));
