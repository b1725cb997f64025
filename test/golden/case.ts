import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import type { Backend } from "../../src/backend/backend.js";
import { readSafetensors, toNumbers, type SafeTensor } from "../../src/io/safetensors.js";
import { tensor } from "../../src/tensor/create.js";
import type { Tensor } from "../../src/tensor/tensor.js";

/** A description beside the tensors of a case: what was computed, and how closely it is to be met. */
interface Description {
  readonly family: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly loss_over: readonly string[];
  /** No tolerance in float64 where what made the case computes in float32 only. */
  readonly tolerance: {
    readonly float64?: { readonly rtol: number; readonly atol: number } | number | null;
    /** Of the outputs of a whole model. */
    readonly float32_atol?: number;
  };
  readonly reference?: { readonly object?: string };
  /** Of an operator. */
  readonly attributes?: Readonly<Record<string, unknown>>;
  readonly tensors: Readonly<Record<string, { readonly f32_atol?: number }>>;
}

export interface Values {
  readonly shape: readonly number[];
  readonly data: ArrayLike<number>;
}

/** Where a case runs: float64 on the reference, float32 on native devices. */
export interface Place {
  readonly device: Backend;
  readonly dtype: "float32" | "float64";
}

/** A case by its path without extension, found but not read yet. */
export interface Found {
  readonly stem: string;
  readonly id: string;
}

/** One golden case: inputs, parameters, and what a reference made of them. */
export class GoldenCase {
  private constructor(
    readonly id: string,
    /** Path without extension. */
    readonly stem: string,
    private readonly description: Description,
    private readonly tensors: ReadonlyMap<string, SafeTensor>,
  ) {}

  static async read({ stem, id }: Found): Promise<GoldenCase> {
    return new GoldenCase(id, stem, describe(stem), (await readSafetensors(`${stem}.safetensors`)).tensors);
  }

  get config(): Readonly<Record<string, unknown>> {
    return this.description.config;
  }

  get family(): string {
    return this.description.family;
  }

  /** What was run, such as `torch.nn.LSTM`. */
  get reference(): string {
    return this.description.reference?.object ?? "";
  }

  /** The attributes of an operator, where the case is one of its own. */
  get attributes(): Readonly<Record<string, unknown>> | undefined {
    return this.description.attributes;
  }

  /** The outputs K in the loss, the sum over K of sum(output.K * gout.K); none if the case has no gradients. */
  get lossOver(): readonly string[] {
    return this.description.loss_over;
  }

  has(key: string): boolean {
    return this.tensors.has(key);
  }

  values(key: string): Values {
    const t = this.tensors.get(key);
    if (!t) throw new Error(`${this.id} has no tensor ${key}`);
    return { shape: t.shape, data: toNumbers(t) };
  }

  /** A tensor of the file, marked for a gradient unless `fixed`. */
  leaf(key: string, { device, dtype }: Place, fixed = false): Tensor {
    const { shape, data } = this.values(key);
    return tensor(dtype === "float64" ? Float64Array.from(data) : Float32Array.from(data), { shape, dtype, device, requiresGrad: !fixed });
  }

  /** int32 values of the file. */
  ints(key: string, { device }: Place): Tensor {
    const { shape, data } = this.values(key);
    return tensor(Int32Array.from(data), { shape, device });
  }

  /** Everything under a prefix, such as `param.`, by the name behind it. */
  under(prefix: string): Record<string, Values> {
    const names = [...this.tensors.keys()].filter((key) => key.startsWith(prefix));
    return Object.fromEntries(names.map((key) => [key.slice(prefix.length), this.values(key)]));
  }

  /** Every tensor that must be met, in the file or only promised by the description; not what was computed in float32. */
  expected(): string[] {
    const wanted = (key: string) => /^(output|grad)\./.test(key) && !key.endsWith("_float32");
    return [...new Set([...Object.keys(this.description.tensors), ...this.tensors.keys()])].filter(wanted);
  }

  /** Largest error allowed in a tensor whose largest finite value is `largest`. */
  tolerance(key: string, dtype: Place["dtype"], largest: number): number {
    const { float64, float32_atol: outputs } = this.description.tolerance;
    if (dtype === "float32" || !float64)
      return this.description.tensors[key]?.f32_atol ?? (key.startsWith("output.") ? outputs : undefined) ?? 2e-5 * (1 + largest);
    const { atol, rtol } = typeof float64 === "number" ? { atol: float64 / 10, rtol: float64 } : float64;
    return atol + rtol * largest;
  }
}

function describe(stem: string): Description {
  const json = JSON.parse(readFileSync(`${stem}.json`, "utf8")) as Partial<Description>;
  for (const key of ["family", "tolerance", "tensors"] as const) {
    if (json[key] === undefined) throw new Error(`${stem}.json: ${key} is missing`);
  }
  return { ...(json as Description), config: json.config ?? {}, loss_over: json.loss_over ?? [] };
}

/** The family of a case. @throws if its description cannot be read. */
export const familyOf = ({ stem }: Found): string => describe(stem).family;

/**
 * Every case under a folder: a `NAME.json` that describes a family beside `NAME.safetensors`. One of the two alone is
 * found too, and fails when it is read; a model folder's own config and weights are no cases.
 */
export function findCases(folder: string, prefix = ""): Found[] {
  const names = readdirSync(folder).sort();
  const found: Found[] = [];
  for (const name of names) {
    const path = join(folder, name);
    if (statSync(path).isDirectory()) found.push(...findCases(path, `${prefix}${name}/`));
    else if (name.endsWith(".safetensors") && !isModel(folder, name))
      found.push({ stem: path.slice(0, -".safetensors".length), id: prefix + basename(name, ".safetensors") });
    else if (name.endsWith(".json") && !existsSync(`${path.slice(0, -".json".length)}.safetensors`) && isDescription(path))
      found.push({ stem: path.slice(0, -".json".length), id: prefix + basename(name, ".json") });
  }
  return found;
}

const isModel = (folder: string, name: string) => name === "model.safetensors" && existsSync(join(folder, "config.json"));

function isDescription(path: string): boolean {
  try {
    const json = JSON.parse(readFileSync(path, "utf8")) as Partial<Description>;
    return json.family !== undefined && json.tensors !== undefined;
  } catch {
    return false;
  }
}
