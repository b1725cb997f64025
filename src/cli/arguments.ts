import { InvalidArgumentError } from "commander";
import { device, type DeviceName } from "../backend/devices.js";
import { NativeBackend } from "../backend/native.js";

function number(text: string, ok: (v: number) => boolean, what: string): number {
  const value = text.trim() === "" ? NaN : Number(text);
  if (!ok(value)) throw new InvalidArgumentError(`It must be ${what}.`);
  return value;
}

/** A parser of integers of at least `least`. */
export const integer =
  (least: number) =>
  (text: string): number =>
    number(text, (v) => Number.isSafeInteger(v) && v >= least, `an integer of at least ${least}`);

// Parsers of numbers.
export const positive = (text: string): number => number(text, (v) => Number.isFinite(v) && v > 0, "a number above 0");
export const notNegative = (text: string): number => number(text, (v) => Number.isFinite(v) && v >= 0, "a number of at least 0");
export const fraction = (text: string): number => number(text, (v) => v >= 0 && v < 1, "a number from 0 to below 1");

/** Makes a device the default one, with as many threads as asked. @throws if it cannot be used. */
export function useDevice(name: DeviceName | undefined, threads?: number): string {
  const chosen = name === undefined ? device.use(device().name as DeviceName) : device.use(name);
  if (threads !== undefined && chosen instanceof NativeBackend) chosen.setThreads(threads);
  const info = chosen.info();
  const detail = [info.gpu, info.isa, info.threads !== undefined && `${info.threads} thread${info.threads === 1 ? "" : "s"}`].filter(
    Boolean,
  );
  return `${info.name} (${detail.join(", ")})`;
}
