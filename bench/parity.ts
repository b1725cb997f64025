import { device } from "../src/index.js";
import type { BenchCase } from "./cases.js";
import { workload, type Numbers, type Place } from "./workload.js";

/**
 * Largest error allowed per unit of 1 + max |reference|. A float32 sum of up to a few thousand products of order one
 * is off by some 1e-6; a wrong kernel by 1e-2 and more. In reduced precision a state that float32 has a little to the
 * other side of a tie is rounded the other way, and its share of a sum is off by half of 2^-7, or by 1/127 of the largest.
 */
const TOLERANCE = { float32: 1e-5, bf16: 2e-3, int8: 5e-3 };

const largest = (values: Numbers) => Array.from(values).reduce((m, v) => (Number.isFinite(v) ? Math.max(m, Math.abs(v)) : Infinity), 0);

/** @throws naming the result that differs from the reference, is missing, or is not finite. */
export function compareResults(got: Record<string, Numbers>, wanted: Record<string, Numbers>, tolerance = TOLERANCE.float32): void {
  for (const [name, reference] of Object.entries(wanted)) {
    const values = got[name] as Numbers | undefined;
    if (values?.length !== reference.length)
      throw new Error(`parity: ${name} must have ${reference.length} values but has ${values?.length ?? 0}`);
    const error = largest(Float64Array.from(reference, (v, i) => v - values[i]));
    const allowed = tolerance * (1 + largest(reference));
    if (!(error <= allowed)) throw new Error(`parity: ${name} is off by ${error.toExponential(1)}, allowed ${allowed.toExponential(1)}`);
  }
}

/** The case with few steps and rows, which the reference can compute in a moment. */
const shortened = (c: BenchCase): BenchCase => ({ ...c, T: Math.min(c.T, 3), B: Math.min(c.B, 2) });

/** Compares a shortened case on a device with the same on the reference in float64, weights and inputs equal. */
function checkParity(c: BenchCase, place: Place): void {
  const short = shortened(c);
  const ours = workload(short, place);
  const reference = workload(short, { ...place, device: device("reference"), dtype: "float64" });
  try {
    reference.layer.loadStateDict(ours.layer.stateDict());
    compareResults(ours.results(), reference.results(), TOLERANCE[place.precision ?? "float32"]);
  } finally {
    ours.dispose();
    reference.dispose();
  }
}

/** @throws unless the shortened case agrees with the reference, and everything the whole case computes is finite. */
export function checkCase(c: BenchCase, place: Place): void {
  checkParity(c, place);
  const whole = workload(c, place);
  try {
    for (const [name, values] of Object.entries(whole.results())) {
      if (!Number.isFinite(largest(values))) throw new Error(`parity: ${name} of the whole case is not finite`);
    }
  } finally {
    whole.dispose();
  }
}
