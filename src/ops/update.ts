import { defineReference } from "../backend/reference.js";
import { update } from "../tensor/apply.js";
import { full } from "../tensor/create.js";
import { sameShape, showShape } from "../tensor/op.js";
import { empty, type Tensor } from "../tensor/tensor.js";

// One kernel call changes all parameters of an optimizer where they lie. Inputs are the gradients; outputs are the
// parameters, then each kind of state, all lists of the same length and order. A parameter without a gradient is not
// in the lists. The formulas are those of torch.optim.

type Tensors = readonly Tensor[];

/** Parameters and their gradients, in the same order. */
export interface Updated {
  readonly params: Tensors;
  readonly grads: Tensors;
}

function check(name: string, params: Tensors, lists: Readonly<Record<string, Tensors>>): void {
  for (const [what, list] of Object.entries(lists)) {
    if (list.length !== params.length)
      throw new RangeError(`${name}: ${what} must have ${params.length} tensors, one for each parameter, but has ${list.length}`);
    list.forEach((t, i) => {
      const p = params[i];
      if (!sameShape(t.shape, p.shape) || t.dtype !== p.dtype)
        throw new RangeError(
          `${name}: ${what}[${i}] must be ${p.dtype} ${showShape(p.shape)} as its parameter but is ${t.dtype} ${showShape(t.shape)}`,
        );
    });
  }
  const ints = params.findIndex((p) => p.dtype === "int32");
  if (ints >= 0) throw new TypeError(`${name}: params[${ints}] must be floating but is int32`);
}

// A call takes a limited number of arguments.
const MOST = 256;

/** One call for the parameters, or a few where there are very many. `each` gives the ints or floats of one parameter. */
function run(
  name: string,
  { params, grads }: Updated,
  states: Readonly<Record<string, Tensors>>,
  ints: readonly number[],
  floats: readonly number[],
  each: { ints?: (k: number) => number; floats?: (k: number) => readonly number[] } = {},
): void {
  check(name, params, { grads, ...states });
  for (let from = 0; from < params.length; from += MOST) {
    const part = (list: Tensors) => list.slice(from, from + MOST);
    const of = params.slice(from, from + MOST).map((_, i) => from + i);
    const outputs = [params, ...Object.values(states)].flatMap(part);
    const { ints: int, floats: float } = each;
    update(name, part(grads), outputs, [of.length, ...ints, ...(int ? of.map(int) : [])], [...floats, ...(float ? of.flatMap(float) : [])]);
  }
}

export interface SgdUpdate extends Updated {
  /** Momentum buffers; not used when momentum is 0. */
  readonly velocity: Tensors;
  /** Parameters whose buffer is not yet set: it becomes the gradient, undamped. */
  readonly first: readonly boolean[];
  readonly lr: number;
  readonly momentum: number;
  readonly dampening: number;
  readonly nesterov: boolean;
  readonly weightDecay: number;
}

/** Stochastic gradient descent. Outputs [params, velocity if momentum], ints [count, nesterov, first...], floats [lr, momentum, dampening, weightDecay]. */
export function sgdUpdate({ velocity, first, lr, momentum, dampening, nesterov, weightDecay, ...lists }: SgdUpdate): void {
  run("sgd", lists, momentum === 0 ? {} : { velocity }, [+nesterov], [lr, momentum, dampening, weightDecay], { ints: (k) => +first[k] });
}

defineReference("sgd", (grads, outputs, [count, nesterov, ...first], [lr, momentum, dampening, weightDecay]) => {
  for (let k = 0; k < count; k++) {
    const [p, g, v] = [outputs[k], grads[k], outputs[count + k]];
    for (let i = 0; i < p.length; i++) {
      let d = g[i] + weightDecay * p[i];
      if (momentum !== 0) {
        const next = first[k] ? d : momentum * v[i] + (1 - dampening) * d;
        v[i] = next;
        d = nesterov ? d + momentum * next : next;
      }
      p[i] -= lr * d;
    }
  }
});

export interface AdamUpdate extends Updated {
  /** Running mean of the gradient. */
  readonly m: Tensors;
  /** Running mean of the squared gradient. */
  readonly v: Tensors;
  /** AMSGrad (Reddi et al. 2018): the largest v so far, used in place of v. */
  readonly vMax?: Tensors;
  /** Updates of each parameter, this one included: 1 at the first. */
  readonly steps: readonly number[];
  readonly lr: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly weightDecay: number;
  /** Weight decay apart from the gradient: AdamW (Loshchilov & Hutter 2019). */
  readonly decoupled: boolean;
}

/**
 * Adam (Kingma & Ba 2015) and AdamW. Outputs [params, m, v, vMax if given], ints [count, decoupled, amsgrad], floats
 * [lr, beta1, beta2, eps, weightDecay, then for each parameter lr / (1 - beta1^step) and sqrt(1 - beta2^step)].
 */
export function adamUpdate({ m, v, vMax, steps, lr, beta1, beta2, eps, weightDecay, decoupled, ...lists }: AdamUpdate): void {
  const corrections = (k: number) => [lr / (1 - beta1 ** steps[k]), Math.sqrt(1 - beta2 ** steps[k])];
  run("adam", lists, { m, v, ...(vMax && { vMax }) }, [+decoupled, +(vMax !== undefined)], [lr, beta1, beta2, eps, weightDecay], {
    floats: corrections,
  });
}

defineReference("adam", (grads, outputs, [count, decoupled, amsgrad], [lr, beta1, beta2, eps, weightDecay, ...corrections]) => {
  for (let k = 0; k < count; k++) {
    const [p, m, v, vMax] = [0, 1, 2, 3].map((part) => outputs[part * count + k]);
    const [size, root] = [corrections[2 * k], corrections[2 * k + 1]];
    for (let i = 0; i < p.length; i++) {
      const start = decoupled ? p[i] * (1 - lr * weightDecay) : p[i];
      const g = decoupled ? grads[k][i] : grads[k][i] + weightDecay * p[i];
      const mean = m[i] + (1 - beta1) * (g - m[i]);
      let second = beta2 * v[i] + (1 - beta2) * g * g;
      m[i] = mean;
      v[i] = second;
      if (amsgrad) vMax[i] = second = Math.max(vMax[i], second);
      p[i] = start - (size * mean) / (Math.sqrt(second) / root + eps);
    }
  }
});

export interface RmspropUpdate extends Updated {
  /** Running mean of the squared gradient. */
  readonly square: Tensors;
  /** Momentum buffers; not used when momentum is 0. */
  readonly velocity: Tensors;
  /** Running mean of the gradient; not used unless centered. */
  readonly mean: Tensors;
  readonly lr: number;
  readonly alpha: number;
  readonly eps: number;
  readonly momentum: number;
  readonly centered: boolean;
  readonly weightDecay: number;
}

/**
 * RMSprop (Hinton 2012; centered: Graves 2013). Outputs [params, square, velocity if momentum, mean if centered], ints
 * [count, centered], floats [lr, alpha, eps, momentum, weightDecay].
 */
export function rmspropUpdate({ square, velocity, mean, lr, alpha, eps, momentum, centered, weightDecay, ...lists }: RmspropUpdate): void {
  run(
    "rmsprop",
    lists,
    { square, ...(momentum !== 0 && { velocity }), ...(centered && { mean }) },
    [+centered],
    [lr, alpha, eps, momentum, weightDecay],
  );
}

defineReference("rmsprop", (grads, outputs, [count, centered], [lr, alpha, eps, momentum, weightDecay]) => {
  for (let k = 0; k < count; k++) {
    const [p, square, velocity] = [0, 1, 2].map((part) => outputs[part * count + k]);
    const mean = outputs[(momentum !== 0 ? 3 : 2) * count + k];
    for (let i = 0; i < p.length; i++) {
      const g = grads[k][i] + weightDecay * p[i];
      const second = alpha * square[i] + (1 - alpha) * g * g;
      square[i] = second;
      let spread = second;
      if (centered) {
        const first = mean[i] + (1 - alpha) * (g - mean[i]);
        mean[i] = first;
        spread -= first * first;
      }
      let d = g / (Math.sqrt(spread) + eps);
      if (momentum !== 0) velocity[i] = d = momentum * velocity[i] + d;
      p[i] -= lr * d;
    }
  }
});

export interface AdagradUpdate extends Updated {
  /** Sum of the squared gradients; the optimizer fills it with its initial value. */
  readonly sum: Tensors;
  /** Updates of each parameter, this one included: 1 at the first. */
  readonly steps: readonly number[];
  readonly lr: number;
  readonly lrDecay: number;
  readonly eps: number;
  readonly weightDecay: number;
}

/** Adagrad (Duchi et al. 2011). Outputs [params, sum], ints [count], floats [eps, weightDecay, then each parameter's lr / (1 + (step - 1) * lrDecay)]. */
export function adagradUpdate({ sum, steps, lr, lrDecay, eps, weightDecay, ...lists }: AdagradUpdate): void {
  run("adagrad", lists, { sum }, [], [eps, weightDecay], { floats: (k) => [lr / (1 + (steps[k] - 1) * lrDecay)] });
}

defineReference("adagrad", (grads, outputs, [count], [eps, weightDecay, ...rates]) => {
  for (let k = 0; k < count; k++) {
    const [p, sum] = [outputs[k], outputs[count + k]];
    for (let i = 0; i < p.length; i++) {
      const g = grads[k][i] + weightDecay * p[i];
      const total = sum[i] + g * g;
      sum[i] = total;
      p[i] -= (rates[k] * g) / (Math.sqrt(total) + eps);
    }
  }
});

/**
 * Scales all gradients together by min(1, maxNorm / (norm + 1e-6)), where norm is the 2-norm of all their elements,
 * and gives that norm, a tensor of shape []. Outputs [grads, norm], ints [count], floats [maxNorm].
 */
export function clipNorm(grads: Tensors, maxNorm: number): Tensor {
  if (!(maxNorm >= 0)) throw new RangeError(`clipNorm: maxNorm must be a number of at least 0 but is ${maxNorm}`);
  if (grads.length === 0) return full([], 0);
  checkOneDtype("clipNorm", grads);
  const norm = empty(grads[0].device, [], grads[0].dtype);
  update("clipNorm", [], [...grads, norm], [grads.length], [maxNorm]);
  return norm;
}

defineReference("clipNorm", (_, outputs, [count], [maxNorm]) => {
  const grads = outputs.slice(0, count);
  let total = 0;
  for (const g of grads) for (let i = 0; i < g.length; i++) total += g[i] * g[i];
  const norm = Math.sqrt(total);
  const factor = Math.min(1, maxNorm / (norm + 1e-6));
  for (const g of grads) for (let i = 0; i < g.length; i++) g[i] *= factor;
  outputs[count][0] = norm;
});

/** Limits every element of the gradients to [-limit, limit]; NaN stays. Outputs [grads], ints [count], floats [limit]. */
export function clipValue(grads: Tensors, limit: number): void {
  if (!(limit >= 0)) throw new RangeError(`clipValue: limit must be a number of at least 0 but is ${limit}`);
  checkOneDtype("clipValue", grads);
  if (grads.length > 0) update("clipValue", [], grads, [grads.length], [limit]);
}

defineReference("clipValue", (_, grads, __, [limit]) => {
  for (const g of grads) for (let i = 0; i < g.length; i++) g[i] = g[i] < -limit ? -limit : g[i] > limit ? limit : g[i];
});

function checkOneDtype(name: string, grads: Tensors): void {
  grads.forEach((g, i) => {
    if (g.dtype === "int32" || g.dtype !== grads[0].dtype)
      throw new TypeError(`${name}: grads must be all float32 or all float64 but grads[${i}] is ${g.dtype}`);
  });
}
