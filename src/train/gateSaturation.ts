import { gru, gruBefore } from "../cells/gru.js";
import { lstm } from "../cells/lstm.js";
import type { Module } from "../nn/module.js";
import { add, sigmoid } from "../ops/elementwise.js";
import { linear } from "../ops/matmul.js";
import { stack } from "../ops/movement.js";
import { inputsOf, isPlain } from "../ops/sweepInputs.js";
import type { Cell } from "../ops/sweep.js";
import { checkNumber, checkOptions } from "../tensor/check.js";
import { noGrad } from "../tensor/graph.js";
import type { Tensor } from "../tensor/tensor.js";
import { probed, type NamedSweep, type Probe, type ProbeOptions } from "./probe.js";

/** Cells whose gates are logistic functions of W x + b + U h, and those gates. */
const gated: readonly { readonly cell: Pick<Cell, "sweep" | "gates" | "states">; readonly open: readonly string[] }[] = [
  { cell: lstm, open: ["i", "f", "o"] },
  { cell: gru, open: ["r", "z"] },
  { cell: gruBefore, open: ["r", "z"] },
];

export interface SaturationOptions<R> extends ProbeOptions<R> {
  /** A gate below this counts as closed. Default 0.1. */
  readonly low?: number;
  /** A gate above this counts as open. Default 0.9. */
  readonly high?: number;
}

/** Shares of a gate's activations over units, rows and valid steps. */
export interface Saturation {
  /** Closed: below the lower bound. */
  readonly low: number;
  /** Open: above the upper bound. */
  readonly high: number;
}

/**
 * How much of the gates of the LSTM and GRU layers in a model is shut or wide open (Karpathy, Johnson & Li 2015): by layer
 * and gate, the share of activations below `low` and above `high`. A saturated gate passes on no gradient of its own; a
 * forget gate that is wide open is what remembers. The model is run as by `gradientFlow`.
 *
 * @throws if the model runs no LSTM or GRU layer, or only ones with options that change what a gate hears.
 */
export async function gateSaturation<R>(
  model: Module,
  probe: Probe,
  options: SaturationOptions<R> = {},
): Promise<{ readonly name: string; readonly gates: Readonly<Record<string, Saturation>> }[]> {
  const where = "gateSaturation";
  checkOptions(where, options, ["low", "high", "loss", "forward"]);
  const { low = 0.1, high = 0.9, ...how } = options;
  checkNumber(where, "low", low, 0, 1);
  checkNumber(where, "high", high, low, 1);
  const found = probed(where, model, probe, how, (_, sweeps) => {
    const layers = sweeps.flatMap((sweep) => activations(sweep));
    if (layers.length === 0) throw new Error(`${where}: the model ran no LSTM or GRU layer whose gates are plain`);
    return layers;
  });
  try {
    return await Promise.all(
      found.map(async ({ name, names, open, lengths, all }) => {
        const values = await all.data();
        const of = (gate: string) => share(values, all.shape, lengths, [names.indexOf(gate), names.length], [low, high]);
        return { name, gates: Object.fromEntries(open.map((gate) => [gate, of(gate)])) };
      }),
    );
  } finally {
    for (const { all } of found) all.dispose();
  }
}

/** Logistic function of all gates, [T, N, gates * H]. */
function activations({ name, op, inputs, attrs, steps, initial, lengths }: NamedSweep) {
  const kind = gated.find(({ cell }) => cell.sweep === op);
  if (!kind) return [];
  const { x, weightIh, weightHh, biasIh, biasHh, ...rest } = inputsOf<Tensor>(kind.cell, inputs);
  if (!isPlain({ x, weightIh, weightHh, biasIh, biasHh, ...rest }, attrs)) return [];
  return noGrad(() => {
    const shift = attrs.reverse ? 1 : -1;
    const first = initial[0] ?? steps[0].states[0].like(0);
    const before = stack(steps.map((_, t) => steps[t + shift]?.states[0] ?? first), 1); // prettier-ignore
    const all = sigmoid(add(linear(x!, weightIh!, biasIh), linear(before, weightHh!, biasHh)));
    return [{ name, names: kind.cell.gates, open: kind.open, lengths, all }];
  });
}

/** Counts in [N, T, gates * H]. */
function share(
  values: ArrayLike<number>,
  [, steps, width]: readonly number[],
  lengths: Int32Array | null,
  [gate, gates]: readonly [number, number],
  [low, high]: readonly [number, number],
): Saturation {
  const hidden = width / gates;
  const count = { low: 0, high: 0, all: 0 };
  for (let row = 0; row * width < values.length; row++) {
    if (lengths && row % steps >= lengths[Math.floor(row / steps)]) continue;
    for (let k = row * width + gate * hidden, end = k + hidden; k < end; k++) {
      count.low += +(values[k] < low);
      count.high += +(values[k] > high);
      count.all++;
    }
  }
  return { low: count.low / (count.all || 1), high: count.high / (count.all || 1) };
}
