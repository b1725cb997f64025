import { checkCount, checkNumber } from "../tensor/check.js";

/** A factor on an optimizer's learning rate, by the number of steps made before: 0 at the first. */
export type Schedule = (step: number) => number;

/** The same factor always. */
export function constant(factor = 1): Schedule {
  checkNumber("constant", "factor", factor, 0);
  return () => factor;
}

/** Times `factor` every `every` steps. */
export function stepDecay(every: number, factor = 0.1): Schedule {
  checkCount("stepDecay", "every", every);
  checkNumber("stepDecay", "factor", factor, 0);
  return (step) => factor ** Math.floor(step / every);
}

/** gamma^step */
export function exponential(gamma: number): Schedule {
  checkNumber("exponential", "gamma", gamma, 0);
  return (step) => gamma ** step;
}

/** In a straight line from 1 to `floor` over `steps` steps, then `floor`. */
export function linear(steps: number, floor = 0): Schedule {
  checkCount("linear", "steps", steps);
  checkNumber("linear", "floor", floor, 0);
  return (step) => 1 + (floor - 1) * Math.min(1, step / steps);
}

/** Half a cosine from 1 to `floor` over `steps` steps, then `floor` (Loshchilov & Hutter 2017). */
export function cosine(steps: number, floor = 0): Schedule {
  checkCount("cosine", "steps", steps);
  checkNumber("cosine", "floor", floor, 0);
  return (step) => floor + ((1 - floor) * (1 + Math.cos(Math.PI * Math.min(1, step / steps)))) / 2;
}

/** In a straight line up to 1 over `steps` steps (1/steps at the first), then what `after` says, counted from there. */
export function linearWarmup(steps: number, after: Schedule = constant()): Schedule {
  checkCount("linearWarmup", "steps", steps);
  return (step) => (step < steps ? (step + 1) / steps : after(step - steps));
}
