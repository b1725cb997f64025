import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Architecture } from "../models/causalLM.js";
import { architectures } from "./architectures.js";
import { fileError } from "./files.js";

type JsonObject = Record<string, unknown>;
export const isObject = (v: unknown): v is JsonObject => v !== null && typeof v === "object" && !Array.isArray(v);

/** A JSON object out of a file; null if there is no such file. @throws naming the file, if it cannot be read or is no object. */
export async function readJson(path: string): Promise<JsonObject | null> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw fileError("cannot read", path, cause);
  }
  let json: unknown;
  try {
    json = JSON.parse(standard(text));
  } catch (cause) {
    throw new Error(`${path}: it is not JSON: ${(cause as Error).message}`, { cause });
  }
  if (!isObject(json)) throw new Error(`${path}: it must hold a JSON object`);
  return json;
}

/** Python writes numbers that JSON has not; here they become objects, as newer versions of Transformers write them. */
const standard = (text: string) =>
  text.replace(/"(?:[^"\\]|\\.)*"|-?\bInfinity\b|\bNaN\b/g, (part) => (part.startsWith('"') ? part : `{"__float__":"${part}"}`));

const floats: Readonly<Record<string, number>> = { Infinity: Infinity, "-Infinity": -Infinity, NaN };

/** `{ "__float__": "Infinity" }` as a number, at any depth. */
export function fromFloats(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(fromFloats);
  if (!isObject(value)) return value;
  const { __float__: name, ...rest } = value;
  if (typeof name === "string" && Object.keys(rest).length === 0 && Object.hasOwn(floats, name)) return floats[name];
  return Object.fromEntries(Object.entries(value).map(([key, v]) => [key, fromFloats(v)]));
}

/** A configuration as Transformers writes it: sorted, and with 1.0 for entries that are floating-point numbers. */
export function configText(config: object, isFloat: (name: string) => boolean): string {
  const lines = (value: unknown, float: boolean, indent: string): string => {
    if (typeof value === "number" && !Number.isFinite(value)) return lines({ __float__: String(value) }, false, indent);
    if (typeof value === "number" && float && Number.isInteger(value)) return value.toFixed(1);
    const list = Array.isArray(value);
    if (!list && !isObject(value)) return JSON.stringify(value);
    const inner = `${indent}  `;
    const parts = list
      ? value.map((v) => lines(v, float, inner))
      : Object.keys(value)
          .sort()
          .filter((key) => value[key] !== undefined)
          .map((key) => `${JSON.stringify(key)}: ${lines(value[key], indent === "" && isFloat(key), inner)}`);
    const [open, close] = list ? "[]" : "{}";
    return parts.length === 0 ? open + close : `${open}\n${inner}${parts.join(`,\n${inner}`)}\n${indent}${close}`;
  };
  return `${lines(config, false, "")}\n`;
}

/** What a folder's `config.json` describes. */
export interface PretrainedConfig {
  readonly path: string;
  readonly architecture: Architecture;
  readonly config: object;
}

/** Reads `config.json`; null if the folder has none. @throws naming the file, on a kind of model or an entry that is not known. */
export async function readConfig(folder: string): Promise<PretrainedConfig | null> {
  const path = join(folder, "config.json");
  const json = await readJson(path);
  if (!json) return null;
  const architecture = find(path, json);
  try {
    return { path, architecture, config: architecture.complete("configuration", fromFloats(json) as JsonObject) };
  } catch (error) {
    throw new Error(`${path}: ${(error as Error).message}`, { cause: error });
  }
}

function find(path: string, { architectures: names, model_type: type }: JsonObject): Architecture {
  const known = architectures.map((a) => a.architecture).join(", ");
  const given = Array.isArray(names) ? (names as readonly unknown[]) : [];
  const byName = architectures.find((a) => a.architecture === given[0]);
  const byType = architectures.find((a) => a.modelType === type);
  if (given.length > 0 && !byName)
    throw new Error(`${path}: architectures must be one of ${known} but is ${JSON.stringify(names).slice(0, 80)}`);
  const found = byName ?? byType;
  if (!found) throw new Error(`${path}: architectures must be one of ${known} but is absent, and model_type is ${JSON.stringify(type)}`);
  if (type !== undefined && found !== byType)
    throw new Error(
      `${path}: model_type must be ${JSON.stringify(found.modelType)} for ${found.architecture} but is ${JSON.stringify(type)}`,
    );
  return found;
}
