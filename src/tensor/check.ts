import { showShape, type Shape } from "./op.js";

/** Edit distance, for naming the option that was probably meant. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    row = next;
  }
  return row[b.length];
}

/** @throws TypeError if `given` is not an object or has a key that is not known, naming the nearest one that is. */
export function checkOptions(where: string, given: object, known: readonly string[]): void {
  if (given === null || typeof given !== "object") throw new TypeError(`${where}: options must be an object but is ${String(given)}`);
  for (const key of Object.keys(given)) {
    if (known.includes(key)) continue;
    const near = known.toSorted((a, b) => distance(key, a) - distance(key, b))[0];
    throw new TypeError(`${where}: unknown option ${key}${near === undefined ? "" : `; did you mean ${near}?`}`);
  }
}

/** @throws RangeError unless `value` is an integer of at least `least`. */
export function checkCount(where: string, name: string, value: unknown, least = 1): void {
  if (!Number.isSafeInteger(value) || (value as number) < least)
    throw new RangeError(`${where}: ${name} must be an integer of at least ${least} but is ${String(value)}`);
}

/** @throws RangeError unless `value` is a finite number in `[low, high]` (`[low, high)` if `open`). */
export function checkNumber(where: string, name: string, value: unknown, low = -Infinity, high = Infinity, open = false): void {
  const ok = typeof value === "number" && Number.isFinite(value) && value >= low && (open ? value < high : value <= high);
  if (!ok) throw new RangeError(`${where}: ${name} must be a number in [${low}, ${high}${open ? ")" : "]"} but is ${String(value)}`);
}

/** An axis counted from the front. @throws unless -rank <= axis < rank. */
export function checkAxis(name: string, { shape }: { readonly shape: Shape }, axis: number): number {
  const rank = shape.length;
  if (!Number.isInteger(axis) || axis < -rank || axis >= rank)
    throw new RangeError(`${name}: axis must be an integer in [${-rank}, ${rank - 1}] for ${showShape(shape)} but is ${axis}`);
  return axis < 0 ? axis + rank : axis;
}

/** @throws RangeError unless `value` is one of the choices. */
export function checkChoice(where: string, name: string, value: unknown, choices: readonly unknown[]): void {
  if (choices.includes(value)) return;
  const shown = choices.map((choice) => JSON.stringify(choice));
  const list = shown.length > 1 ? `${shown.slice(0, -1).join(", ")} or ${shown.at(-1)!}` : shown[0];
  throw new RangeError(`${where}: ${name} must be ${list} but is ${JSON.stringify(value)}`);
}
