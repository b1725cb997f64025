import { device, type DeviceName } from "../../src/backend/devices.js";
import type { Adapter, Computed } from "./adapter.js";
import * as all from "./adapters/index.js";
import { familyOf, GoldenCase, type Found, type Place, type Values } from "./case.js";

const adapters = new Map(Object.values(all).flatMap((adapter) => adapter.families.map((family) => [family, adapter] as const)));

/** What became of one case on one device. */
export interface Result {
  readonly id: string;
  readonly device: DeviceName;
  readonly outcome: "ok" | "FAIL" | "unsupported";
  /** The tensor nearest to, or furthest beyond, its tolerance. */
  readonly worst?: Comparison;
  /** Why it failed or is unsupported. */
  readonly reason?: string;
}

/** How far one tensor is from what was expected. */
export interface Comparison {
  readonly tensor: string;
  readonly error: number;
  readonly tolerance: number;
}

const placeOf = (name: DeviceName): Place => ({ device: device(name), dtype: name === "reference" ? "float64" : "float32" });

/** Largest |got - wanted|; infinite where one of the two is not finite and the other differs. */
function largestError(got: ArrayLike<number>, wanted: ArrayLike<number>): number {
  let largest = 0;
  for (let i = 0; i < wanted.length; i++) {
    if (Object.is(got[i], wanted[i])) continue;
    const error = Math.abs(got[i] - wanted[i]);
    largest = Number.isFinite(error) ? Math.max(largest, error) : Infinity;
  }
  return largest;
}

function largestFinite(wanted: ArrayLike<number>): number {
  let largest = 0;
  for (let i = 0; i < wanted.length; i++) if (Number.isFinite(wanted[i])) largest = Math.max(largest, Math.abs(wanted[i]));
  return largest;
}

const sameShape = (a: Values, b: Values) => a.shape.length === b.shape.length && a.shape.every((d, i) => d === b.shape[i]);

/** Compares every tensor the case promises; one that was not computed is an error. */
function compare(c: GoldenCase, adapter: Adapter, computed: Computed, dtype: Place["dtype"]): Comparison[] {
  const expected = c.expected();
  if (expected.length === 0) throw new Error("the case has nothing to compare with");
  return expected.map((tensor) => {
    const wanted = c.values(adapter.wanted?.(c, tensor) ?? tensor);
    const got = computed[tensor] as Values | undefined;
    if (!got) throw new Error(`nobody computed ${tensor}`);
    if (!sameShape(got, wanted)) throw new Error(`${tensor} must be [${wanted.shape.join(", ")}] but is [${got.shape.join(", ")}]`);
    const tolerance = c.tolerance(adapter.sameAs?.(tensor) ?? tensor, dtype, largestFinite(wanted.data));
    return { tensor, error: largestError(got.data, wanted.data), tolerance };
  });
}

const ratio = ({ error, tolerance }: Comparison) => (error === 0 ? 0 : error / tolerance);

/** Runs one case on one device. */
async function runCase(found: Found, family: string, name: DeviceName): Promise<Result> {
  const base = { id: found.id, device: name };
  const adapter = adapters.get(family);
  if (!adapter) return { ...base, outcome: "unsupported", reason: `no layer for ${family} yet` };
  try {
    const c = await GoldenCase.read(found);
    const reason = adapter.unsupported?.(c) ?? null;
    if (reason !== null) return { ...base, outcome: "unsupported", reason };
    const place = placeOf(name);
    const compared = compare(c, adapter, await adapter.run(c, place), place.dtype);
    const worst = compared.reduce((a, b) => (ratio(b) > ratio(a) ? b : a));
    return { ...base, outcome: ratio(worst) <= 1 ? "ok" : "FAIL", worst };
  } catch (error) {
    return { ...base, outcome: "FAIL", reason: error instanceof Error ? error.message : String(error) };
  }
}

/** Why a device cannot be used; null if it can. */
export function unavailable(name: DeviceName): string | null {
  try {
    device(name);
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

export interface RunOptions {
  readonly devices: readonly DeviceName[];
  /** Only the cases of this family. */
  readonly family?: string;
}

/** Runs the cases one after the other on each device. A device that does not load leaves its cases unsupported. */
export async function* runCases(cases: readonly Found[], { devices, family: only }: RunOptions): AsyncGenerator<Result> {
  const missing = new Map(devices.map((name) => [name, unavailable(name)]));
  for (const found of cases) {
    let family: string;
    try {
      family = familyOf(found);
    } catch (error) {
      const reason = (error as Error).message;
      for (const name of devices) yield { id: found.id, device: name, outcome: "FAIL", reason };
      continue;
    }
    if (only !== undefined && family !== only) continue;
    for (const name of devices) {
      yield missing.get(name)
        ? { id: found.id, device: name, outcome: "unsupported", reason: "the device is not available" }
        : await runCase(found, family, name);
    }
  }
}

const digits = (x: number) => (x === 0 ? "0" : x.toExponential(1));

/** One line for a result. */
export function show({ outcome, id, device, worst, reason }: Result): string {
  const detail = worst ? `${worst.tensor} ${digits(worst.error)} (tolerance ${digits(worst.tolerance)})` : (reason ?? "");
  return `${outcome.padEnd(11)} ${id} ${device} ${detail}`;
}
