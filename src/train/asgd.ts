import type { Module } from "../nn/module.js";
import { neg } from "../ops/elementwise.js";
import { sgdUpdate } from "../ops/update.js";
import { update } from "../tensor/apply.js";
import { checkNumber, checkOptions } from "../tensor/check.js";
import { noGrad } from "../tensor/graph.js";
import { keep } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { columns, Optimizer, type Entry } from "./optimizer.js";

export interface ASGDOptions {
  /** Default 1e-2. */
  readonly lr?: number;
  /** Decay: weights shrink by 1 - lambd * eta a step, and the rate is eta = lr / (1 + lambd * lr * t)^alpha. Default 1e-4. */
  readonly lambd?: number;
  /** Power of the decay of the rate. Default 0.75. */
  readonly alpha?: number;
  /** Updates before averaging begins. Default 1e6. */
  readonly t0?: number;
  /** L2 penalty, added to the gradient. Default 0. */
  readonly weightDecay?: number;
}

/**
 * Stochastic gradient descent that averages the parameters it passes through (Polyak & Juditsky 1992), with the rule of
 * torch.optim.ASGD: with t updates made before, the average `ax` becomes ax + (p - ax) / max(1, t - t0), which until t0 is
 * p itself. `withAverages` puts the averages in the parameters' place, as for evaluation. AWD-LSTM (Merity et al. 2017)
 * goes from `SGD` to `new ASGD(model, { lr, lambd: 0, t0: 0 })` when its `NonMonotonicTrigger` says so.
 */
export class ASGD extends Optimizer {
  private readonly settings: Required<Omit<ASGDOptions, "lr">>;

  constructor(parameters: Module | readonly Tensor[], options: ASGDOptions = {}) {
    checkOptions("ASGD", options, ["lr", "lambd", "alpha", "t0", "weightDecay"]);
    const { lr = 1e-2, lambd = 1e-4, alpha = 0.75, t0 = 1e6, weightDecay = 0 } = options;
    for (const [name, value] of Object.entries({ lambd, alpha, t0, weightDecay })) checkNumber("ASGD", name, value, 0);
    super(parameters, lr, { ax: 0 });
    this.settings = { lambd, alpha, t0, weightDecay };
  }

  protected override update(entries: readonly Entry[], lr: number): void {
    const { lambd, alpha, t0, weightDecay } = this.settings;
    const plain = { momentum: 0, dampening: 0, nesterov: false, velocity: [] };
    for (const step of new Set(entries.map((e) => e.step))) {
      const { params, grads, steps, slot } = columns(entries.filter((e) => e.step === step));
      const averages = slot("ax");
      const first = steps.map(() => true);
      const eta = lr / (1 + lambd * lr * (step - 1)) ** alpha;
      const mu = 1 / Math.max(1, step - 1 - t0);
      sgdUpdate({ ...plain, params, grads, first, lr: eta, weightDecay: weightDecay + lambd });
      if (mu === 1) averages.forEach((average, i) => copy(average, params[i]));
      else sgdUpdate({ ...plain, params: averages, grads: params.map(neg), first, lr: mu, weightDecay: 1 });
    }
  }

  /**
   * Runs `body` with the averages in place of the parameters, then puts the parameters back, whatever happens. Parameters
   * that were not updated yet stay as they are. The body must not train.
   */
  async withAverages<T>(body: () => T | Promise<T>): Promise<T> {
    const { tensors } = this.stateDict();
    const swapped = [...this.named].flatMap(([name, param]) => {
      const average = (tensors as Partial<typeof tensors>)[`${name}.ax`];
      return average ? [{ param, average, before: noGrad(() => keep(param.copy())) }] : [];
    });
    for (const { param, average } of swapped) copy(param, average);
    try {
      return await body();
    } finally {
      for (const { param, before } of swapped) {
        copy(param, before);
        before.dispose();
      }
    }
  }
}

/** Overwrites one tensor with the values of another of its shape. */
function copy(to: Tensor, from: Tensor): void {
  update("accumulate", [from, null], [to]);
}
