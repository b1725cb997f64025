import type { Module } from "../nn/module.js";
import { adagradUpdate, adamUpdate, rmspropUpdate, sgdUpdate } from "../ops/update.js";
import { checkNumber, checkOptions } from "../tensor/check.js";
import type { Tensor } from "../tensor/tensor.js";
import { columns, Optimizer, type Entry } from "./optimizer.js";

// The update rules, defaults and names of torch.optim.

type Parameters = Module | readonly Tensor[];

/** @throws TypeError unless `value` is a boolean. */
function checkFlag(where: string, name: string, value: unknown): void {
  if (typeof value !== "boolean") throw new TypeError(`${where}: ${name} must be true or false but is ${String(value)}`);
}

export interface SGDOptions {
  /** Default 1e-3. */
  readonly lr?: number;
  /** Default 0. */
  readonly momentum?: number;
  /** Of the gradient that enters the momentum. Default 0. */
  readonly dampening?: number;
  /** Look ahead along the momentum (Nesterov 1983); needs momentum and no dampening. Default false. */
  readonly nesterov?: boolean;
  /** L2 penalty, added to the gradient. Default 0. */
  readonly weightDecay?: number;
}

/** Stochastic gradient descent, with momentum if asked. */
export class SGD extends Optimizer {
  private readonly settings: Required<Omit<SGDOptions, "lr">>;

  constructor(parameters: Parameters, options: SGDOptions = {}) {
    checkOptions("SGD", options, ["lr", "momentum", "dampening", "nesterov", "weightDecay"]);
    const { lr = 1e-3, momentum = 0, dampening = 0, nesterov = false, weightDecay = 0 } = options;
    checkNumber("SGD", "momentum", momentum, 0);
    checkNumber("SGD", "dampening", dampening);
    checkFlag("SGD", "nesterov", nesterov);
    checkNumber("SGD", "weightDecay", weightDecay, 0);
    if (nesterov && (momentum === 0 || dampening !== 0))
      throw new RangeError(`SGD: nesterov needs momentum above 0 and dampening 0 but they are ${momentum} and ${dampening}`);
    super(parameters, lr, momentum === 0 ? {} : { momentum_buffer: 0 });
    this.settings = { momentum, dampening, nesterov, weightDecay };
  }

  protected override update(entries: readonly Entry[], lr: number): void {
    const { params, grads, steps, slot } = columns(entries);
    const { momentum } = this.settings;
    sgdUpdate({
      params,
      grads,
      velocity: momentum === 0 ? [] : slot("momentum_buffer"),
      first: steps.map((step) => step === 1),
      lr,
      ...this.settings,
    });
  }
}

export interface AdamOptions {
  /** Default 1e-3. */
  readonly lr?: number;
  /** Decay of the running means of the gradient and of its square. Default [0.9, 0.999]. */
  readonly betas?: readonly [number, number];
  /** Default 1e-8. */
  readonly eps?: number;
  /** Adam: L2 penalty, added to the gradient, default 0. AdamW: decay of the weights themselves, default 0.01. */
  readonly weightDecay?: number;
  /** Use the largest running mean of the square so far (Reddi et al. 2018). Default false. */
  readonly amsgrad?: boolean;
}

/** Adam (Kingma & Ba 2015). */
export class Adam extends Optimizer {
  private readonly settings: Required<Omit<AdamOptions, "lr">>;

  constructor(parameters: Parameters, options: AdamOptions = {}) {
    const where = new.target.name;
    checkOptions(where, options, ["lr", "betas", "eps", "weightDecay", "amsgrad"]);
    const { lr = 1e-3, betas = [0.9, 0.999], eps = 1e-8, weightDecay = 0, amsgrad = false } = options;
    if (!Array.isArray(betas) || betas.length !== 2)
      throw new TypeError(`${where}: betas must be two numbers but is ${JSON.stringify(betas)}`);
    betas.forEach((beta, i) => checkNumber(where, `betas[${i}]`, beta, 0, 1, true));
    checkNumber(where, "eps", eps, 0);
    checkNumber(where, "weightDecay", weightDecay, 0);
    checkFlag(where, "amsgrad", amsgrad);
    super(parameters, lr, { exp_avg: 0, exp_avg_sq: 0, ...(amsgrad && { max_exp_avg_sq: 0 }) });
    this.settings = { betas, eps, weightDecay, amsgrad };
  }

  protected get decoupled(): boolean {
    return false;
  }

  protected override update(entries: readonly Entry[], lr: number): void {
    const { params, grads, steps, slot } = columns(entries);
    const {
      betas: [beta1, beta2],
      eps,
      weightDecay,
      amsgrad,
    } = this.settings;
    const vMax = amsgrad ? slot("max_exp_avg_sq") : undefined;
    adamUpdate({
      params,
      grads,
      m: slot("exp_avg"),
      v: slot("exp_avg_sq"),
      vMax,
      steps,
      lr,
      beta1,
      beta2,
      eps,
      weightDecay,
      decoupled: this.decoupled,
    });
  }
}

/** Adam with the weight decay apart from the gradient (Loshchilov & Hutter 2019). */
export class AdamW extends Adam {
  constructor(parameters: Parameters, options: AdamOptions = {}) {
    super(parameters, { ...options, weightDecay: options.weightDecay ?? 1e-2 });
  }

  protected override get decoupled(): boolean {
    return true;
  }
}

export interface RMSpropOptions {
  /** Default 1e-2. */
  readonly lr?: number;
  /** Decay of the running mean of the squared gradient. Default 0.99. */
  readonly alpha?: number;
  /** Default 1e-8. */
  readonly eps?: number;
  /** L2 penalty, added to the gradient. Default 0. */
  readonly weightDecay?: number;
  /** Default 0. */
  readonly momentum?: number;
  /** Divide by the standard deviation of the gradient instead (Graves 2013). Default false. */
  readonly centered?: boolean;
}

/** RMSprop (Tieleman & Hinton 2012). */
export class RMSprop extends Optimizer {
  private readonly settings: Required<Omit<RMSpropOptions, "lr">>;

  constructor(parameters: Parameters, options: RMSpropOptions = {}) {
    checkOptions("RMSprop", options, ["lr", "alpha", "eps", "weightDecay", "momentum", "centered"]);
    const { lr = 1e-2, alpha = 0.99, eps = 1e-8, weightDecay = 0, momentum = 0, centered = false } = options;
    checkNumber("RMSprop", "alpha", alpha, 0);
    checkNumber("RMSprop", "eps", eps, 0);
    checkNumber("RMSprop", "weightDecay", weightDecay, 0);
    checkNumber("RMSprop", "momentum", momentum, 0);
    checkFlag("RMSprop", "centered", centered);
    super(parameters, lr, { square_avg: 0, ...(momentum !== 0 && { momentum_buffer: 0 }), ...(centered && { grad_avg: 0 }) });
    this.settings = { alpha, eps, weightDecay, momentum, centered };
  }

  protected override update(entries: readonly Entry[], lr: number): void {
    const { params, grads, slot } = columns(entries);
    const { momentum, centered } = this.settings;
    const velocity = momentum === 0 ? [] : slot("momentum_buffer");
    rmspropUpdate({ params, grads, square: slot("square_avg"), velocity, mean: centered ? slot("grad_avg") : [], lr, ...this.settings });
  }
}

export interface AdagradOptions {
  /** Default 1e-2. */
  readonly lr?: number;
  /** The learning rate is divided by 1 + (updates before) * lrDecay. Default 0. */
  readonly lrDecay?: number;
  /** L2 penalty, added to the gradient. Default 0. */
  readonly weightDecay?: number;
  /** What the sum of squared gradients starts with. Default 0. */
  readonly initialAccumulatorValue?: number;
  /** Default 1e-10. */
  readonly eps?: number;
}

/** Adagrad (Duchi et al. 2011). */
export class Adagrad extends Optimizer {
  private readonly settings: { readonly lrDecay: number; readonly weightDecay: number; readonly eps: number };

  constructor(parameters: Parameters, options: AdagradOptions = {}) {
    checkOptions("Adagrad", options, ["lr", "lrDecay", "weightDecay", "initialAccumulatorValue", "eps"]);
    const { lr = 1e-2, lrDecay = 0, weightDecay = 0, initialAccumulatorValue = 0, eps = 1e-10 } = options;
    for (const [name, value] of Object.entries({ lrDecay, weightDecay, initialAccumulatorValue, eps }))
      checkNumber("Adagrad", name, value, 0);
    super(parameters, lr, { sum: initialAccumulatorValue });
    this.settings = { lrDecay, weightDecay, eps };
  }

  protected override update(entries: readonly Entry[], lr: number): void {
    const { params, grads, steps, slot } = columns(entries);
    adagradUpdate({ params, grads, sum: slot("sum"), steps, lr, ...this.settings });
  }
}
