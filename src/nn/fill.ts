import { checkCount, checkNumber, checkOptions } from "../tensor/check.js";
import { tensor } from "../tensor/create.js";
import { showShape, size } from "../tensor/op.js";
import { run } from "../tensor/program.js";
import { normal as drawNormal, uniform as drawUniform, type Generator } from "../tensor/random.js";
import type { Tensor } from "../tensor/tensor.js";
import { draw } from "./draw.js";
import { orthonormalRows } from "./orthonormal.js";

// Each function fills a parameter where it lies and gives it back. What was recorded of the values before must not be
// differentiated any more.

/** Options of everything that draws. */
export interface DrawOptions {
  /** Default: the process's generator. */
  readonly generator?: Generator;
}

/** Options of matrices that may hold the weights of several gates on top of each other, [gates * H, in]. */
export interface GateOptions {
  /** Fill the blocks of this many gates one by one. Default 1: the matrix as a whole. */
  readonly gates?: number;
}

/** @internal Overwrites a parameter with a tensor of its shape, type and device, which is disposed of. */
export function fill(parameter: Tensor, source: Tensor): Tensor {
  const call = { kernel: "accumulate", inputs: [source.buffer(), 0], outputs: [parameter.buffer()], ints: [], floats: [] };
  run(parameter.device, call);
  source.dispose();
  return parameter;
}

const placeOf = ({ dtype, device }: Tensor) => ({ dtype, device });

function check(where: string, { dtype }: Tensor, options: object = {}, known: readonly string[] = []): void {
  checkOptions(`init.${where}`, options, known);
  if (dtype === "int32") throw new TypeError(`init.${where}: parameter must be float32 or float64 but is int32`);
}

/** Sizes of the block of one gate: rows, and all the rest as columns. @throws unless there are blocks of equal size. */
function blockOf(where: string, { shape }: Tensor, gates = 1): { rows: number; columns: number } {
  checkCount(`init.${where}`, "gates", gates);
  if (shape.length < 2) throw new RangeError(`init.${where}: parameter must have at least two axes but is ${showShape(shape)}`);
  if (shape[0] % gates !== 0)
    throw new RangeError(`init.${where}: axis 0 must be a multiple of gates = ${gates} but the parameter is ${showShape(shape)}`);
  return { rows: shape[0] / gates, columns: size(shape.slice(1)) };
}

/** Elements uniform in [low, high), by default [0, 1). */
export function uniform(parameter: Tensor, options: DrawOptions & { readonly low?: number; readonly high?: number } = {}): Tensor {
  check("uniform", parameter, options, ["low", "high", "generator"]);
  return fill(parameter, drawUniform(parameter.shape, { ...options, ...placeOf(parameter) }));
}

/** Elements normally distributed, by default with mean 0 and standard deviation 1. */
export function normal(parameter: Tensor, options: DrawOptions & { readonly mean?: number; readonly std?: number } = {}): Tensor {
  check("normal", parameter, options, ["mean", "std", "generator"]);
  return fill(parameter, drawNormal(parameter.shape, { ...options, ...placeOf(parameter) }));
}

/** Every element `value`. */
export function constant(parameter: Tensor, value: number): Tensor {
  check("constant", parameter);
  checkNumber("init.constant", "value", value);
  run(parameter.device, { kernel: "fill", inputs: [], outputs: [parameter.buffer()], ints: [], floats: [value] });
  return parameter;
}

/** Every element 0. */
export const zeros = (parameter: Tensor): Tensor => constant(parameter, 0);

/**
 * `gain` times a random matrix with orthonormal rows, or columns where there are more rows (Saxe, McClelland & Ganguli
 * 2013): what passes through it keeps its norm. Axes after the first count as one. With `gates`, each gate's block is a
 * matrix of its own; without, a recurrent [G * H, H] has orthonormal columns as a whole, as Keras draws it.
 */
export function orthogonal(parameter: Tensor, options: DrawOptions & GateOptions & { readonly gain?: number } = {}): Tensor {
  check("orthogonal", parameter, options, ["gain", "gates", "generator"]);
  const { gain = 1, gates = 1, generator } = options;
  checkNumber("init.orthogonal", "gain", gain);
  const { rows, columns } = blockOf("orthogonal", parameter, gates);
  const values = new Float64Array(parameter.size);
  const [few, many] = [Math.min(rows, columns), Math.max(rows, columns)];
  for (let g = 0; g < gates; g++) {
    const block = drawBlock(few, many, generator);
    const at = g * rows * columns;
    for (let i = 0; i < few; i++)
      for (let j = 0; j < many; j++) values[at + (rows <= columns ? i * columns + j : j * columns + i)] = gain * block[i * many + j];
  }
  return fill(parameter, like(parameter, values));
}

function drawBlock(rows: number, columns: number, generator: Generator | undefined): Float64Array {
  return orthonormalRows(draw(drawNormal, rows * columns, { generator }), rows, columns);
}

/** @internal */
export const like = (parameter: Tensor, values: Float64Array): Tensor => tensor(values, { shape: parameter.shape, ...placeOf(parameter) });

/**
 * `scale` times the identity, ones on the diagonal of each gate's block and zeros elsewhere: with a rectifier the
 * recurrent weights of Le, Jaitly & Hinton 2015.
 */
export function identity(parameter: Tensor, options: GateOptions & { readonly scale?: number } = {}): Tensor {
  check("identity", parameter, options, ["scale", "gates"]);
  const { scale = 1, gates = 1 } = options;
  checkNumber("init.identity", "scale", scale);
  const { rows, columns } = blockOf("identity", parameter, gates);
  const values = new Float64Array(parameter.size);
  for (let g = 0; g < gates; g++) for (let i = 0; i < Math.min(rows, columns); i++) values[(g * rows + i) * columns + i] = scale;
  return fill(parameter, like(parameter, values));
}

/**
 * Numbers that enter and leave a unit: of [out, in, ...kernel], in and out times the size of the kernel. With `gates`
 * those of one gate; without, out counts all gates, as torch.nn.init and Keras (whose kernel is the transpose) do.
 */
function fans(where: string, parameter: Tensor, gates: number | undefined): { fanIn: number; fanOut: number } {
  const { rows, columns } = blockOf(where, parameter, gates);
  return { fanIn: columns, fanOut: rows * (columns / parameter.shape[1]) };
}

/** Options of Glorot's initialisations. */
export interface GlorotOptions extends DrawOptions, GateOptions {
  /** A factor on the standard deviation. Default 1. */
  readonly gain?: number;
}

function glorotStd(where: string, parameter: Tensor, options: GlorotOptions): number {
  check(where, parameter, options, ["gain", "gates", "generator"]);
  const { gain = 1, gates } = options;
  checkNumber(`init.${where}`, "gain", gain, 0);
  const { fanIn, fanOut } = fans(where, parameter, gates);
  return gain * Math.sqrt(2 / (fanIn + fanOut));
}

/**
 * Uniform with standard deviation gain * sqrt(2 / (fan in + fan out)) (Glorot & Bengio 2010, also called Xavier), that is
 * within plus and minus sqrt(3) times it. Of [G * H, in] without `gates`, fan out is G * H.
 */
export function glorotUniform(parameter: Tensor, options: GlorotOptions = {}): Tensor {
  const bound = Math.sqrt(3) * glorotStd("glorotUniform", parameter, options);
  return uniform(parameter, { low: -bound, high: bound, generator: options.generator });
}

/** Normal with standard deviation gain * sqrt(2 / (fan in + fan out)) (Glorot & Bengio 2010, also called Xavier). */
export function glorotNormal(parameter: Tensor, options: GlorotOptions = {}): Tensor {
  return normal(parameter, { std: glorotStd("glorotNormal", parameter, options), generator: options.generator });
}

/** Another name of `glorotUniform`. */
export const xavierUniform = glorotUniform;
/** Another name of `glorotNormal`. */
export const xavierNormal = glorotNormal;

/** Options of Kaiming He's initialisations. */
export interface KaimingOptions extends DrawOptions, GateOptions {
  /** Keep the variance forward (`"in"`, default) or backward (`"out"`). */
  readonly fan?: "in" | "out";
  /** Slope of the rectifier for negative numbers. Default 0. */
  readonly slope?: number;
}

function kaimingStd(where: string, parameter: Tensor, options: KaimingOptions): number {
  check(where, parameter, options, ["fan", "slope", "gates", "generator"]);
  const { fan = "in", slope = 0, gates } = options;
  checkNumber(`init.${where}`, "slope", slope);
  if (fan !== "in" && fan !== "out") throw new RangeError(`init.${where}: fan must be "in" or "out" but is ${JSON.stringify(fan)}`);
  const { fanIn, fanOut } = fans(where, parameter, gates);
  return Math.sqrt(2 / (1 + slope ** 2) / (fan === "in" ? fanIn : fanOut));
}

/** Uniform with standard deviation sqrt(2 / (1 + slope^2) / fan), for what passes through a rectifier (He et al. 2015). */
export function kaimingUniform(parameter: Tensor, options: KaimingOptions = {}): Tensor {
  const bound = Math.sqrt(3) * kaimingStd("kaimingUniform", parameter, options);
  return uniform(parameter, { low: -bound, high: bound, generator: options.generator });
}

/** Normal with standard deviation sqrt(2 / (1 + slope^2) / fan), for what passes through a rectifier (He et al. 2015). */
export function kaimingNormal(parameter: Tensor, options: KaimingOptions = {}): Tensor {
  return normal(parameter, { std: kaimingStd("kaimingNormal", parameter, options), generator: options.generator });
}
