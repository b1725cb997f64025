import { concat, split } from "../ops/movement.js";
import type { Cell } from "../ops/sweep.js";
import type { SweepAttrs } from "../ops/sweep.js";
import { full, ones, zeros, type TensorOptions } from "../tensor/create.js";
import { noGrad } from "../tensor/graph.js";
import { uniform, type Generator } from "../tensor/random.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";

/** What a layer puts around its cell, beside weights and biases. */
export interface Structure {
  /** The names of the cell's states outside, in their order. Default: the cell's own. */
  readonly stateNames?: readonly string[];
  /** h is a projection to this many numbers. Default: none. */
  readonly projection?: { readonly size: number; readonly bias: boolean; readonly activation?: SweepAttrs["outputActivation"] };
  /** The parameter that holds the cell's vectors. Default `weight_unit`. */
  readonly vectors?: string;
  /** What is layer-normalised: W x, U h, the state that the cell names. */
  readonly norms?: readonly ("ih" | "hh" | "c")[];
  readonly carryNormalised?: boolean;
  readonly cellClip?: number;
  /** Units hear only those of their head: weight_hh is [gates * H, H / heads]. Default 1. */
  readonly heads?: number;
  /** The biases there are. Default both. */
  readonly biases?: readonly ("ih" | "hh")[];
  /** What the biases of the forget gate add up to at first. Default: drawn as the others. */
  readonly forgetBias?: number;
  /** Bounds between which recurrent weights are drawn. Default: those of the others. */
  readonly recurrentRange?: { readonly low: number; readonly high: number };
  /** Whether the cell has a candidate value that can be dropped. Default: if it has a gate g or n. */
  readonly candidate?: boolean;
}

interface Settings extends TensorOptions {
  readonly generator?: Generator;
}

/**
 * The parameters of one layer in one direction by name: weights and biases uniform in [-1/sqrt(H), 1/sqrt(H)], gains 1,
 * the shift of the normalised cell state 0.
 */
export function drawParameters(
  cell: Cell,
  { inputs, hidden, bias }: { readonly inputs: number; readonly hidden: number; readonly bias: boolean },
  { projection, vectors = "weight_unit", norms = [], biases = ["ih", "hh"], forgetBias, recurrentRange, heads = 1 }: Structure,
  settings: Settings,
): [string, Tensor][] {
  const rows = cell.gates.length * hidden;
  const width = projection?.size ?? hidden;
  const range = { low: -1 / Math.sqrt(hidden), high: 1 / Math.sqrt(hidden) };
  const draw = (shape: readonly number[], within = range) => uniform(shape, { ...settings, ...within, requiresGrad: true });
  const list: [string, Tensor][] = [
    ["weight_ih", draw([rows, inputs])],
    ["weight_hh", draw(cell.recurrent === "diagonal" ? [rows] : [rows, width / heads], recurrentRange)],
  ];
  const forget = cell.gates.indexOf("f");
  if (bias)
    biases.forEach((which, i) => {
      const drawn = draw([rows]);
      list.push([`bias_${which}`, forgetBias === undefined ? drawn : withGate(drawn, forget, hidden, i === 0 ? forgetBias : 0)]);
    });
  if (projection) list.push(["weight_hr", draw([width, hidden])]);
  if (projection?.bias) list.push(["bias_hr", draw([width])]);
  if (cell.vectors) list.push([vectors, draw([cell.vectors.length, hidden])]);
  const { dtype, device } = settings;
  for (const which of norms) list.push([`gain_${which}`, ones([which === "c" ? hidden : rows], { dtype, device, requiresGrad: true })]);
  if (norms.includes("c") && bias) list.push(["bias_c", zeros([hidden], { dtype, device, requiresGrad: true })]);
  return list;
}

/** A bias whose rows of one gate are `value`. */
function withGate(bias: Tensor, gate: number, hidden: number, value: number): Tensor {
  const { dtype, device } = bias;
  const changed = noGrad(() =>
    scope(() => {
      const parts = split(bias, new Array<number>(bias.size / hidden).fill(hidden), 0);
      parts[gate] = full([hidden], value, { dtype, device });
      return concat(parts, 0);
    }),
  );
  bias.dispose();
  changed.requiresGrad = true;
  return changed;
}
