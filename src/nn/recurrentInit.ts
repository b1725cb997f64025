import { reshape } from "../ops/movement.js";
import { checkCount, checkNumber, checkOptions } from "../tensor/check.js";
import { noGrad } from "../tensor/graph.js";
import { size } from "../tensor/op.js";
import { defaultGenerator, type Generator } from "../tensor/random.js";
import { Tensor } from "../tensor/tensor.js";
import { ConvLSTM1d, ConvLSTM2d } from "./convlstm.js";
import { fill, glorotUniform, like, orthogonal, zeros, type DrawOptions } from "./fill.js";
import type { Module } from "./module.js";
import { Recurrent } from "./recurrent.js";

/** Options of `keras`. */
export interface KerasOptions extends DrawOptions {
  /** What the bias of an LSTM's forget gate starts with (Jozefowicz et al. 2015). Default 1; 0 is `unit_forget_bias=False`. */
  readonly forgetBias?: number;
}

/**
 * Gives the recurrent layers in a module Keras' initial weights: `weight_ih_*` as `glorotUniform` and `weight_hh_*` as
 * `orthogonal`, both over all gates at once, `bias_*` zero but for the forget gates of LSTM and ConvLSTM. Of two biases it
 * is `bias_ih_*` that Keras has. Parameters under other names stay as they are, and so do recurrent weights of one axis.
 */
export function keras<M extends Module>(module: M, options: KerasOptions = {}): M {
  checkOptions("init.keras", options, ["forgetBias", "generator"]);
  const { forgetBias = 1, generator } = options;
  checkNumber("init.keras", "forgetBias", forgetBias);
  const gates = gatesOf(module);
  const forget = gates.indexOf("f");
  for (const [name, p] of Object.entries(module)) {
    if (!(p instanceof Tensor)) continue;
    if (name.startsWith("weight_ih_")) glorotUniform(matrixOf(p), { generator, gain: kernelGain(p) });
    else if (name.startsWith("weight_hh_") && p.shape.length > 1) orthogonal(matrixOf(p), { generator });
    else if (/^bias_(ih_)?l/.test(name) && forget >= 0) fillGate(p, gates.length, forget, forgetBias);
    else if (name.startsWith("bias_")) zeros(p);
  }
  for (const [, child] of module.children()) keras(child, options);
  return module;
}

/** The gates of a cell that keeps a state c. */
function gatesOf(module: Module): readonly string[] {
  if (module instanceof ConvLSTM1d || module instanceof ConvLSTM2d) return ["i", "f", "g", "o"];
  const cell = module instanceof Recurrent ? (module as Recurrent<string>)["cell"] : null;
  return cell?.states.includes("c") ? cell.gates : [];
}

/** The parameter as a matrix over the same buffer: of the kernel of a convolution, [kernel..., in, out], the last axis apart. */
function matrixOf(parameter: Tensor): Tensor {
  return parameter.shape.length === 2 ? parameter : noGrad(() => reshape(parameter, [-1, parameter.shape.at(-1)!]));
}

/** Keras counts the kernel to the fan out too, which the matrix [kernel * in, out] does not say. */
function kernelGain({ shape }: Tensor): number {
  if (shape.length === 2) return 1;
  const [input, output] = shape.slice(-2);
  const kernel = size(shape.slice(0, -2));
  return Math.sqrt((kernel * input + output) / (kernel * (input + output)));
}

/**
 * Chrono initialisation (Tallec & Ollivier 2018), for LSTM and GRU layers in a module that are to remember up to `steps`
 * steps: the gate that keeps the old state gets the bias log u, with u uniform in [1, steps - 1] for each unit, so that units
 * forget after about u steps; an LSTM's input gate gets -log u. Only the biases of these gates change, those of `bias_hh_*`
 * to zero.
 *
 * @throws on a layer without biases, and if there is no LSTM or GRU layer.
 */
export function chrono<M extends Module>(module: M, steps: number, options: DrawOptions = {}): M {
  checkOptions("init.chrono", options, ["generator"]);
  checkCount("init.chrono", "steps", steps, 2);
  if (!setTimes(module, steps, options.generator ?? defaultGenerator)) throw new RangeError("init.chrono: there is no LSTM or GRU layer");
  return module;
}

/** Sets the biases of a module and of those in it; says whether there were any. */
function setTimes(module: Module, steps: number, generator: Generator): boolean {
  let any = false;
  const signs = module instanceof Recurrent ? signsOf(module as Recurrent<string>) : {};
  const parameters = Object.entries(module).filter(([, value]) => value instanceof Tensor) as [string, Tensor][];
  if (Object.keys(signs).length > 0) {
    const { gates } = (module as Recurrent<string>)["cell"];
    const biases = parameters.filter(([name]) => name.startsWith("bias_ih_"));
    if (biases.length === 0) throw new RangeError("init.chrono: the layer must have biases");
    for (const [name, bias] of biases) {
      const times = Array.from({ length: bias.size / gates.length }, () => Math.log(1 + (steps - 2) * generator.next()));
      const set = (p: Tensor, factor: number) => rewrite(p, (values) => setGates(values, gates, signs, times, factor));
      set(bias, 1);
      const other = parameters.find(([n]) => n === name.replace("_ih_", "_hh_"));
      if (other) set(other[1], 0);
      any = true;
    }
  }
  for (const [, child] of module.children()) any = setTimes(child, steps, generator) || any;
  return any;
}

/** The gates whose biases set how long a unit remembers: 1 if open means to keep, -1 if open means to write. */
function signsOf(layer: Recurrent<string>): Readonly<Record<string, number>> {
  const { name, states, gates } = layer["cell"];
  if (states.includes("c")) return gates.includes("f") ? { f: 1, i: -1 } : { i: -1 };
  return name.startsWith("gru") ? { z: name.includes("write") ? -1 : 1 } : {};
}

function setGates(
  values: Float64Array,
  gates: readonly string[],
  signs: Readonly<Record<string, number>>,
  times: number[],
  factor: number,
) {
  gates.forEach((gate, g) =>
    times.forEach((time, k) => {
      if (gate in signs) values[g * times.length + k] = factor * signs[gate] * time;
    }),
  );
}

function rewrite(parameter: Tensor, change: (values: Float64Array) => void): void {
  const values = Float64Array.from(parameter.dataSync());
  change(values);
  fill(parameter, like(parameter, values));
}

/** Zero, but `value` for one of the gates that a bias [gates * H] holds. */
function fillGate(bias: Tensor, gates: number, gate: number, value: number): void {
  const width = bias.size / gates;
  fill(bias, like(bias, new Float64Array(bias.size).fill(value, gate * width, (gate + 1) * width)));
}
