import type { Batch } from "../data/batch.js";
import { Module } from "../nn/module.js";
import { Recurrent } from "../nn/recurrent.js";
import { checkOptions } from "../tensor/check.js";
import { scope } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import { close, open } from "./source.js";
import { traceSweeps, type TracedSweep } from "./trace.js";
import { call, caller, type LossOptions } from "./train.js";

/** What to look at a model with: a batch, or a function that runs the model and gives a loss, a tensor of one element. */
export type Probe = Batch | (() => Tensor);

/** How a batch becomes a loss, as for `train`. */
export type ProbeOptions<R> = Pick<LossOptions<R>, "loss" | "forward">;

/** A traced sweep, the name of its layer, such as `rnn.l0` or `rnn.l1_reverse`, and those of its states. */
export type NamedSweep = TracedSweep & { readonly name: string; readonly states: readonly string[] };

/**
 * Runs the model once, step by step, in the mode it is in, and gives `look` the loss and what was traced, in a scope.
 *
 * @throws on an unknown option, a loss of more than one element, or if no recurrent layer was run.
 */
export function probed<R, T>(
  where: string,
  model: Module,
  probe: Probe,
  options: ProbeOptions<R>,
  look: (loss: Tensor, sweeps: readonly NamedSweep[]) => T,
): T {
  checkOptions(where, options, ["loss", "forward"]);
  if (!(model instanceof Module)) throw new TypeError(`${where}: model must be a module`);
  const batch = typeof probe === "function" ? null : open(where, probe, model.parameters()[0]);
  try {
    return scope(() => {
      const how = caller(where, model, options);
      const { result, sweeps } = traceSweeps(typeof probe === "function" ? probe : () => how.loss(call(how, batch!, null), batch!));
      if (!(result instanceof Tensor) || result.size !== 1) throw new TypeError(`${where}: the loss must be a tensor of one element`);
      if (sweeps.length === 0) throw new Error(`${where}: the model ran no recurrent layer`);
      return look(result, named(model, sweeps));
    });
  } finally {
    if (batch) close(batch);
  }
}

function named(model: Module, sweeps: readonly TracedSweep[]): NamedSweep[] {
  const parameters = [...model.namedParameters()];
  const layers = layersOf(model);
  return sweeps.map((sweep, i) => {
    const own = parameters.flatMap(([name, p]) => (sweep.inputs.includes(p) ? [/^(.*)(?:weight|bias)_[ih]h_(.*)$/.exec(name)] : []));
    const match = own.find((m) => m !== null);
    const layer = layers.find((l) => Object.values(l).some((p) => p instanceof Tensor && sweep.inputs.includes(p)));
    const states = layer?.["stateNames"] ?? sweep.initial.map((_, k) => (k === 0 ? "h" : `state ${k}`));
    return { ...sweep, name: match ? match[1] + match[2] : `sweep ${i}`, states };
  });
}

function layersOf(module: Module): Recurrent<string>[] {
  const own = module instanceof Recurrent ? [module as Recurrent<string>] : [];
  return [...own, ...module.children().flatMap(([, child]) => layersOf(child))];
}
