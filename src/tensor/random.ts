import { allocate } from "../backend/backend.js";
import { device as devices } from "../backend/devices.js";
import { applyOn } from "./apply.js";
import { tensor, type TensorOptions } from "./create.js";
import { defineOp, showShape, size, type DType, type Op, type Shape } from "./op.js";
import { halves, words } from "./philox.js";
import type { Tensor } from "./tensor.js";

/** Where a generator stands; plain numbers, so that a checkpoint can hold it. */
export interface GeneratorState {
  /** An integer from 0 to 2^53 - 1. */
  readonly seed: number;
  /** How many blocks of four 32-bit words were drawn so far. */
  readonly offset: number;
}

function checkWhole(what: string, value: number): number {
  if (!Number.isSafeInteger(value) || value < 0)
    throw new RangeError(`Generator: ${what} must be an integer from 0 to 2^53 - 1 but is ${value}`);
  return value;
}

/**
 * A source of random numbers: Philox4x32-10 with the seed as key and a block counter. A draw of n numbers takes the
 * blocks offset ... offset + ceil(n / 4) - 1 and moves the offset behind them; element i is made of word i % 4 of block
 * offset + floor(i / 4). So a draw depends on the state alone, not on the device nor on the number of threads.
 */
export class Generator {
  private seed: number;
  private offset = 0;

  constructor(seed = 0) {
    this.seed = checkWhole("seed", seed);
  }

  state(): GeneratorState {
    return { seed: this.seed, offset: this.offset };
  }

  /** Goes on from a state that `state()` gave. */
  setState({ seed, offset }: GeneratorState): void {
    checkWhole("seed", seed);
    this.offset = checkWhole("offset", offset);
    this.seed = seed;
  }

  /** One number uniform in [0, 1), with 53 bits, made on the host. */
  next(): number {
    let value = 0;
    words(2, this.take(2), (i, word) => (value += i === 0 ? (word >>> 5) * 2 ** -27 : (word >>> 6) * 2 ** -53));
    return value;
  }

  /** @internal Takes the blocks for `count` numbers: [seed low, seed high, offset low, offset high]. */
  take(count: number): readonly number[] {
    const where = [...halves(this.seed), ...halves(this.offset)];
    this.offset += Math.ceil(count / 4);
    return where;
  }
}

/** The generator of the process, used where none is given. Seed 0 until `manualSeed`. */
export const defaultGenerator = new Generator();

/** Restarts the process's generator from a seed. */
export function manualSeed(seed: number): void {
  defaultGenerator.setState({ seed, offset: 0 });
}

interface Draw {
  readonly shape: Shape;
  readonly dtype: DType;
  /** [seed low, seed high, offset low, offset high] */
  readonly where: readonly number[];
  readonly floats: readonly number[];
}

const drawShapes: readonly Shape[] = [[1], [7], [13, 33], [40_007]];
const drawCases = (floats: readonly number[]) => () =>
  drawShapes.map((shape, i) => ({ inputs: [], attrs: { shape, dtype: "float32" as const, where: [i - 2, 7 * i, -3 * i, i], floats } }));

function drawOp(name: string, value: (word: number, floats: readonly number[]) => number, floats: readonly number[]): Op<Draw> {
  return defineOp<Draw>({
    name,
    shape: (_, { shape, dtype, where, floats }) => ({ outputs: [{ shape, dtype }], ints: where, floats }),
    reference(_, [y], where, floats) {
      words(y.length, where, (i, word) => (y[i] = value(word, floats)));
    },
    cases: drawCases(floats),
  });
}

/** low + range * u with u the upper 24 bits of the word as a fraction; floats [low, range], both float32 values. */
const uniformOp = drawOp("uniform", (word, [low, range]) => low + range * ((word >>> 8) * 2 ** -24), [-0.25, 1.5]);

/** `value` where word < p * 2^32, else 0; floats [p, value]. */
const bernoulliOp = drawOp("bernoulli", (word, [p, value]) => (word < p * 4294967296 ? value : 0), [0.3, 1.25]);

/** Options of everything that draws a tensor. */
export interface RandomOptions extends TensorOptions {
  /** Default: the process's generator. */
  readonly generator?: Generator;
}

function draw(
  op: Op<Draw>,
  shape: Shape,
  floats: readonly number[],
  { dtype = "float32", device = devices(), requiresGrad = false, generator = defaultGenerator }: RandomOptions,
): Tensor {
  if (dtype === "int32") throw new TypeError(`${op.name}: dtype must be float32 or float64 but is int32`);
  if (shape.some((d) => !Number.isInteger(d) || d < 0))
    throw new RangeError(`${op.name}: shape must be non-negative integers but is ${showShape(shape)}`);
  const [t] = applyOn(device, op, [], { shape, dtype, where: generator.take(size(shape)), floats });
  t.requiresGrad = requiresGrad;
  return t;
}

/**
 * A tensor with elements uniform in [low, high), 2^24 different values: the same on every device.
 * Element i uses word i % 4 of block floor(i / 4) of the draw. @throws unless low <= high, both finite.
 */
export function uniform(
  shape: Shape,
  { low = 0, high = 1, ...options }: RandomOptions & { readonly low?: number; readonly high?: number } = {},
): Tensor {
  if (!Number.isFinite(high - low) || low > high)
    throw new RangeError(`uniform: low and high must be finite with low <= high but are ${low} and ${high}`);
  return draw(uniformOp, shape, [Math.fround(low), Math.fround(high - low)], options);
}

/**
 * A tensor that has `value` (default 1) with probability p and 0 otherwise.
 * Element i uses word i % 4 of block floor(i / 4) of the draw. @throws unless 0 <= p <= 1.
 */
export function bernoulli(shape: Shape, p: number, { value = 1, ...options }: RandomOptions & { readonly value?: number } = {}): Tensor {
  if (!(p >= 0 && p <= 1)) throw new RangeError(`bernoulli: p must be a number in [0, 1] but is ${p}`);
  return draw(bernoulliOp, shape, [p, Math.fround(value)], options);
}

/**
 * A tensor of normally distributed elements, made on the host by the Box-Muller transform in double precision.
 * Elements 2k and 2k + 1 are the cosine and sine branch of words 2k and 2k + 1. @throws unless std >= 0.
 */
export function normal(
  shape: Shape,
  { mean = 0, std = 1, generator = defaultGenerator, ...options }: RandomOptions & { readonly mean?: number; readonly std?: number } = {},
): Tensor {
  if (!Number.isFinite(mean) || !(std >= 0))
    throw new RangeError(`normal: mean must be finite and std at least 0 but are ${mean} and ${std}`);
  const { dtype = "float32" } = options;
  if (dtype === "int32") throw new TypeError("normal: dtype must be float32 or float64 but is int32");
  const count = size(shape);
  const data = allocate(dtype, count);
  let radius = 0;
  words(count + (count % 2), generator.take(count + (count % 2)), (i, word) => {
    if (i % 2 === 0) radius = std * Math.sqrt(-2 * Math.log((word + 1) / 4294967296));
    else {
      const angle = 2 * Math.PI * (word / 4294967296);
      data[i - 1] = mean + radius * Math.cos(angle);
      if (i < count) data[i] = mean + radius * Math.sin(angle);
    }
  });
  return tensor(data, { ...options, shape });
}
