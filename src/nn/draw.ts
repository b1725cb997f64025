import { device } from "../backend/devices.js";
import type { Generator, normal, uniform } from "../tensor/random.js";

type Draw = typeof normal | typeof uniform;

/** @internal `count` numbers in double precision, for parameters that are computed of them. */
export function draw<D extends Draw>(
  by: D,
  count: number,
  options: Omit<NonNullable<Parameters<D>[1]>, "dtype" | "device"> & { readonly generator: Generator | undefined },
): Float64Array {
  using values = by([count], { ...options, dtype: "float64", device: device("reference") });
  return values.dataSync() as Float64Array;
}
