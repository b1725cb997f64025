import { stat } from "node:fs/promises";
import { basename, join } from "node:path";
import type { Architecture } from "../models/causalLM.js";
import { sameShape, showShape, type Shape } from "../tensor/op.js";
import { isObject, readJson } from "./pretrainedConfig.js";
import type { TensorEntry } from "./safetensors-header.js";
import { openSafetensors, type OpenSafetensors, type SafeTensor } from "./safetensors.js";

const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";

interface Located {
  readonly file: OpenSafetensors;
  readonly entry: TensorEntry;
}

/** The tensors of a folder, in one file or in the shards of an index: headers read and checked, values not read yet. */
export class PretrainedTensors {
  private constructor(
    private readonly files: readonly OpenSafetensors[],
    private readonly located: ReadonlyMap<string, Located>,
    private readonly source: string,
  ) {}

  /** @throws naming the file and the tensor, if a file is absent, cut or forged, or the index is not true. */
  static async open(folder: string): Promise<PretrainedTensors> {
    const [single, index] = [join(folder, SINGLE), join(folder, INDEX)];
    if (await exists(single)) return PretrainedTensors.of([await openSafetensors(single)], single);
    const json = await readJson(index);
    if (!json) throw new Error(`${folder}: there is neither ${SINGLE} nor ${INDEX}`);
    const map = weightMap(index, json);
    const files: OpenSafetensors[] = [];
    try {
      for (const name of new Set(map.values())) files.push(await openSafetensors(join(folder, name)));
      const tensors = PretrainedTensors.of(files, index);
      tensors.checkIndex(map);
      return tensors;
    } catch (error) {
      for (const file of files) await file.close();
      throw error;
    }
  }

  private static of(files: readonly OpenSafetensors[], source: string): PretrainedTensors {
    const located = new Map<string, Located>();
    for (const file of files)
      for (const entry of file.entries) {
        const before = located.get(entry.name);
        if (before) throw new Error(`${file.path}: tensor ${quoted(entry.name)} is in ${basename(before.file.path)} too`);
        located.set(entry.name, { file, entry });
      }
    return new PretrainedTensors(files, located, source);
  }

  get shapes(): ReadonlyMap<string, Shape> {
    return new Map([...this.located].map(([name, { entry }]) => [name, entry.shape]));
  }

  has(name: string): boolean {
    return this.located.has(name);
  }

  /** @throws naming the file and the tensor, unless there are exactly the tensors of such a model, but for those `allowed`. */
  check(architecture: Architecture, config: object, allowed: readonly string[]): void {
    const missing: string[] = [];
    const known = new Set(allowed);
    for (const [name, shape] of architecture.shapes(config)) {
      const found = this.located.get(name);
      known.add(name);
      if (!found) missing.push(`${quoted(name)} ${showShape(shape)}`);
      else if (!sameShape(found.entry.shape, shape))
        throw new Error(
          `${found.file.path}: tensor ${quoted(name)} must be ${showShape(shape)} by the configuration but is ${showShape(found.entry.shape)}`,
        );
      if (missing.length === SHOWN) break;
    }
    const kind = architecture.architecture;
    if (missing.length > 0) throw new Error(`${this.source}: of ${kind} these tensors are missing: ${listed(missing)}`);
    for (const [name, { file, entry }] of this.located) {
      if (!known.has(name)) throw new Error(`${file.path}: tensor ${quoted(name)} is not one of ${kind} with this configuration`);
      if (!["F32", "F16", "BF16", "F64"].includes(entry.dtype))
        throw new Error(`${file.path}: tensor ${quoted(name)} must be F32, F16, BF16 or F64 but is ${entry.dtype}`);
    }
  }

  async read(name: string): Promise<SafeTensor> {
    const { file, entry } = this.located.get(name)!;
    return file.read(entry);
  }

  /** The file that holds a tensor. */
  pathOf(name: string): string {
    return this.located.get(name)!.file.path;
  }

  async close(): Promise<void> {
    for (const file of this.files) await file.close();
  }

  private checkIndex(map: ReadonlyMap<string, string>): void {
    for (const [name, file] of map) {
      const found = this.located.get(name);
      if (!found) throw new Error(`${this.source}: tensor ${quoted(name)} should be in ${file} but is not there`);
      const actual = basename(found.file.path);
      if (actual !== file) throw new Error(`${this.source}: tensor ${quoted(name)} should be in ${file} but is in ${actual}`);
    }
    for (const [name, { file }] of this.located)
      if (!map.has(name)) throw new Error(`${this.source}: tensor ${quoted(name)} of ${basename(file.path)} is not in the index`);
  }
}

/** Tensors that an error names at most. */
const SHOWN = 5;

const quoted = (name: string) => JSON.stringify(name.length > 80 ? `${name.slice(0, 77)}...` : name);
const listed = (names: readonly string[]) => names.join(", ") + (names.length === SHOWN ? ", ..." : "");

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** The file of each tensor. @throws naming the index, unless it says so for each, with names of files of its own folder. */
function weightMap(path: string, { weight_map: map }: Record<string, unknown>): ReadonlyMap<string, string> {
  if (!isObject(map)) throw new Error(`${path}: weight_map must be an object`);
  for (const [name, file] of Object.entries(map))
    if (typeof file !== "string" || !/^[^/\\]+\.safetensors$/.test(file))
      throw new Error(
        `${path}: tensor ${quoted(name)} must be in a safetensors file of this folder but is in ${String(JSON.stringify(file)).slice(0, 80)}`,
      );
  return new Map(Object.entries(map) as [string, string][]);
}
