import { setImmediate } from "node:timers/promises";
import type { Batch } from "../data/batch.js";
import type { Module } from "../nn/module.js";
import { inference } from "../nn/mode.js";
import { mapTree, type StateTree } from "../nn/stream.js";
import { checkCount, checkNumber, checkOptions } from "../tensor/check.js";
import { noGrad } from "../tensor/graph.js";
import { scope } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import { CarriedState } from "./carried.js";
import { clipGradNorm, clipGradValue } from "./clip.js";
import { sequenceLoss } from "./loss.js";
import type { Optimizer } from "./optimizer.js";
import type { Schedule } from "./schedules.js";
import { close, countTokens, cut, open, segments, until, type TensorBatch } from "./source.js";

/** What a model is called with beside its inputs. */
export interface ForwardArguments {
  readonly state?: StateTree;
  readonly lengths?: Int32Array;
}

/** A model that `train` can call: inputs, and an options object of which it takes what it knows. */
export interface Trainable<R> extends Module {
  forward(inputs: Tensor, options: { readonly state?: never; readonly lengths?: never }): R;
}

export interface LossOptions<R> {
  /** The mean loss of a batch. Default: cross entropy of the result's `logits` against the targets, over the valid steps. */
  readonly loss?: (result: R, batch: TensorBatch) => Tensor;
  /** How the model is called. Default: `model.forward(inputs, { state, lengths })`, absent ones left out. */
  readonly forward?: (inputs: Tensor, options: ForwardArguments) => R;
  /** Stops before the next batch; no error. */
  readonly signal?: AbortSignal;
}

export interface TrainOptions<R> extends LossOptions<R> {
  readonly optimizer: Optimizer;
  /** Scale the gradients so that their common norm is at most this. */
  readonly clipNorm?: number;
  /** Limit every element of the gradients to plus and minus this. */
  readonly clipValue?: number;
  /** Truncated backpropagation through time: cut a batch into segments of this many steps, a step of the optimizer each. */
  readonly truncate?: number;
  /** Let the final state of a batch be the initial state of the next. A `CarriedState` does, and can be saved. Default false. */
  readonly carryState?: boolean | CarriedState;
  /** Becomes the optimizer's schedule. */
  readonly schedule?: Schedule;
}

/** What one step of the optimizer did. */
export interface TrainStep {
  /** The optimizer's count of steps, this one included. */
  readonly step: number;
  /** Mean loss before the update; not finite when training has diverged. */
  readonly loss: number;
  /** 2-norm of all gradients before clipping. */
  readonly gradNorm: number;
  readonly lr: number;
  /** Valid steps of all rows that this step saw. */
  readonly tokens: number;
  readonly tokensPerSecond: number;
  readonly seconds: number;
}

const lossOptions = ["loss", "forward", "signal"] as const;
/** @internal */
export type Caller<R> = Required<Pick<LossOptions<R>, "loss" | "forward">>;
type Batches = Iterable<Batch> | AsyncIterable<Batch>;
/** Options with which any module will do. */
type Called<O extends { readonly forward?: unknown }> = O & { readonly forward: NonNullable<O["forward"]> };

/** @internal */
export function caller<R>(where: string, model: Module, { loss, forward }: LossOptions<R>): Caller<R> {
  return {
    loss: loss ?? ((result, batch) => sequenceLoss(where, result, batch)),
    forward: forward ?? ((inputs, options) => (model as Trainable<R>).forward(inputs, options as never)),
  };
}

/** @internal */
export function call<R>({ forward }: Caller<R>, { inputs, lengths }: TensorBatch, state: StateTree | null): R {
  return forward(inputs, { ...(state && { state }), ...(lengths && { lengths }) });
}

function stateOf(where: string, result: unknown): StateTree {
  const state = (result as { state?: StateTree } | null | undefined)?.state;
  if (!state || typeof state !== "object")
    throw new TypeError(`${where}: to carry a state, the model's forward must return it as { state }`);
  return mapTree(state, (t) => t.detach());
}

/**
 * Trains a model, one step of the optimizer after another, and yields after each; leave the loop to stop. While the
 * device works the event loop is free. Memory stays flat: of a step only the carried state survives.
 *
 * Batches may come from anything that can be iterated; a carried state starts anew where a batch says `reset` or has
 * another number of rows. A segment without a valid step is passed over. Tensors in a batch stay the caller's.
 *
 * @throws on an unknown option, a batch that does not fit, a model that gives no logits (without `loss`) or no state
 * (with `truncate` or `carryState`), and whatever the model throws.
 */
export function train<R>(model: Trainable<R>, batches: Batches, options: TrainOptions<R>): AsyncGenerator<TrainStep, void, undefined>;
export function train<R>(model: Module, batches: Batches, options: Called<TrainOptions<R>>): AsyncGenerator<TrainStep, void, undefined>;
export async function* train<R>(model: Module, batches: Batches, options: TrainOptions<R>): AsyncGenerator<TrainStep, void, undefined> {
  checkOptions("train", options, [...lossOptions, "optimizer", "clipNorm", "clipValue", "truncate", "carryState", "schedule"]);
  const { optimizer, clipNorm, clipValue, truncate, carryState = false, schedule, signal } = options;
  if (clipNorm !== undefined) checkNumber("train", "clipNorm", clipNorm, 0);
  if (clipValue !== undefined) checkNumber("train", "clipValue", clipValue, 0);
  if (truncate !== undefined) checkCount("train", "truncate", truncate);
  if (schedule) optimizer.schedule = schedule;
  const [like] = model.parameters();
  const how = caller("train", model, options);
  const carried = carryState instanceof CarriedState ? carryState : new CarriedState();

  const advance = (part: TensorBatch, goesOn: boolean) =>
    scope(() => {
      model.train();
      model.zeroGrad();
      const result = call(how, part, carried.value);
      const loss = how.loss(result, part);
      if (goesOn) carried.replace(stateOf("train", result), part.inputs.shape[0]);
      loss.backward();
      const norm = clipGradNorm(model, clipNorm ?? Infinity);
      if (clipValue !== undefined) clipGradValue(model, clipValue);
      optimizer.step();
      return [loss, norm] as const;
    });

  async function step(part: TensorBatch, goesOn: boolean): Promise<TrainStep> {
    const start = performance.now();
    const lr = optimizer.rate;
    const tensors = advance(part, goesOn);
    try {
      const [loss, gradNorm] = await Promise.all(tensors.map((t) => t.item()));
      const seconds = (performance.now() - start) / 1000;
      const tokens = countTokens(part);
      return { step: optimizer.steps, loss, gradNorm, lr, tokens, tokensPerSecond: tokens / seconds, seconds };
    } finally {
      for (const t of tensors) t.dispose();
    }
  }

  try {
    for await (const given of until(batches, signal)) {
      const batch = open("train", given, like);
      try {
        if (!carryState || given.reset || carried.rows !== batch.inputs.shape[0]) carried.reset();
        const cuts = segments("train", batch, truncate ?? Infinity);
        for (const [start, end] of cuts) {
          if (start > 0 && signal?.aborted) return;
          const part = scope(() => cut(batch, start, end));
          try {
            if (countTokens(part) > 0) yield await step(part, carryState !== false || end < batch.inputs.shape[1]);
          } finally {
            if (part.inputs !== batch.inputs) close(part);
          }
          await setImmediate();
        }
      } finally {
        close(batch);
      }
    }
  } catch (error) {
    model.zeroGrad();
    throw error;
  } finally {
    if (carried !== carryState) carried.reset();
  }
}

export interface EvaluateOptions<R> extends LossOptions<R> {
  /** As for `train`: consecutive batches are one sequence. Default false. */
  readonly carryState?: boolean;
}

/**
 * Mean loss per valid step, without dropout and without gradients. The model is left in the mode it had.
 *
 * @throws as `train` does, and if there is nothing to evaluate.
 */
export function evaluate<R>(model: Trainable<R>, batches: Batches, options?: EvaluateOptions<R>): Promise<number>;
export function evaluate<R>(model: Module, batches: Batches, options: Called<EvaluateOptions<R>>): Promise<number>;
export async function evaluate<R>(model: Module, batches: Batches, options: EvaluateOptions<R> = {}): Promise<number> {
  checkOptions("evaluate", options, [...lossOptions, "carryState"]);
  const { carryState = false, signal } = options;
  const [like] = model.parameters();
  const how = caller("evaluate", model, options);
  const carried = new CarriedState();
  let total = 0;
  let tokens = 0;
  try {
    for await (const given of until(batches, signal)) {
      const batch = open("evaluate", given, like);
      try {
        const count = countTokens(batch);
        if (count === 0) continue;
        if (!carryState || given.reset || carried.rows !== batch.inputs.shape[0]) carried.reset();
        const run = () => {
          const result = call(how, batch, carried.value);
          const loss = how.loss(result, batch);
          if (carryState) carried.replace(stateOf("evaluate", result), batch.inputs.shape[0]);
          return loss;
        };
        using loss = noGrad(() => scope(() => inference(model, run)));
        total += (await loss.item()) * count;
        tokens += count;
      } finally {
        close(batch);
      }
      await setImmediate();
    }
  } finally {
    carried.reset();
  }
  if (tokens === 0) throw new RangeError("evaluate: there must be at least one batch with a valid step");
  return total / tokens;
}
