import type { TextPosition } from "../data/characters.js";
import type { GeneratorState } from "../tensor/random.js";

/** A value that JSON can hold. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** The version of the checkpoint's layout, under the key `throughtime`. */
export const VERSION = "1";

/** The metadata of a checkpoint, each part a JSON text of its own. */
export interface Metadata {
  readonly config?: Json;
  readonly vocabulary?: { readonly characters: readonly string[]; readonly unknown?: string };
  readonly position?: TextPosition;
  readonly extra?: Json;
  readonly optimizer?: {
    readonly kind: string;
    readonly steps: number;
    readonly lr: number;
    readonly counts: Readonly<Record<string, number>>;
  };
  readonly carried?: { readonly rows: number };
  readonly generators?: Readonly<Record<string, GeneratorState>>;
}

type Check = (value: unknown) => boolean;

const isObject = (v: unknown): v is Record<string, unknown> => v !== null && typeof v === "object" && !Array.isArray(v);
const isCount: Check = (v) => Number.isSafeInteger(v) && (v as number) >= 0;
const isText: Check = (v) => typeof v === "string";
const isNumber: Check = (v) => Number.isFinite(v);
const list =
  (each: Check): Check =>
  (v) =>
    Array.isArray(v) && v.every(each);
const table =
  (each: Check): Check =>
  (v) =>
    isObject(v) && Object.values(v).every(each);
const fields =
  (checks: Readonly<Record<string, Check>>): Check =>
  (v) =>
    isObject(v) && Object.entries(checks).every(([key, check]) => check(v[key]));

const checks: Readonly<Record<keyof Metadata, Check>> = {
  config: () => true,
  vocabulary: fields({ characters: list(isText), unknown: (v) => v === undefined || isText(v) }),
  position: fields({ epoch: isCount, window: isCount }),
  extra: () => true,
  optimizer: fields({ kind: isText, steps: isCount, lr: isNumber, counts: table(isCount) }),
  carried: fields({ rows: isCount }),
  generators: table(fields({ seed: isCount, offset: isCount })),
};

/** The metadata of an untrusted file. @throws if it is not that of a checkpoint, or a part of it is not what it should be. */
export function readMetadata(path: string, strings: Readonly<Record<string, string>>): Metadata {
  const version = strings["throughtime"] as string | undefined;
  if (version === undefined) throw new Error(`${path}: it is not a checkpoint of throughtime; loadWeights reads plain weights`);
  if (version !== VERSION)
    throw new Error(`${path}: the checkpoint's version must be ${VERSION} but is ${JSON.stringify(version.slice(0, 20))}`);
  const found: Record<string, unknown> = {};
  for (const [key, check] of Object.entries(checks)) {
    if (!Object.hasOwn(strings, key)) continue;
    let value: unknown;
    try {
      value = JSON.parse(strings[key]);
    } catch {
      throw new Error(`${path}: metadata ${key} is not JSON`);
    }
    if (!check(value)) throw new Error(`${path}: metadata ${key} is not as a checkpoint has it: ${strings[key].slice(0, 60)}`);
    found[key] = value;
  }
  return found;
}
