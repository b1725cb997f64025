import { open } from "node:fs/promises";
import { fileError } from "./files.js";
import { readHdf5, type Hdf5Content } from "./hdf5.js";
import type { KerasWeights } from "./keras.js";
import type { NumericArray } from "./layouts.js";
import { parseKerasConfig, type KerasConfig, type KerasModelConfig } from "./kerasConfig.js";
import { readZip } from "./zip.js";

/** One layer of a Keras file. */
export interface KerasLayer {
  /** As the model calls it. */
  readonly name: string;
  /** Where it is in the file, such as `layers/lstm_1`. */
  readonly path: string;
  /** Keras' class, such as `LSTM`; null where neither the configuration nor the file says it. */
  readonly className: string | null;
  /** Its configuration; null in a file of weights only. */
  readonly config: KerasConfig | null;
  /** Its arrays by Keras' names, for `fromKeras`. */
  readonly weights: KerasWeights;
}

export interface ReadKerasOptions {
  /** Bytes that the file, and its arrays as float64, may take. Default 2 GiB. */
  readonly maxBytes?: number;
}

const MAX_CONFIG = 2 ** 24;

/** Keras' own names, by class, of variables that the file only numbers. */
const variables: Readonly<Record<string, readonly string[]>> = {
  Dense: ["kernel", "bias"],
  Conv1D: ["kernel", "bias"],
  Conv2D: ["kernel", "bias"],
  Embedding: ["embeddings"],
  LayerNormalization: ["gamma", "beta"],
};
const recurrentVariables = ["kernel", "recurrent_kernel", "bias"];
const classes = [...Object.keys(variables), "SimpleRNN", "LSTM", "GRU", "Bidirectional", "ConvLSTM1D", "ConvLSTM2D"];

/** Keras' name of a class in a path. */
export function snakeCase(name: string): string {
  return name
    .replace(/\W+/g, "")
    .replace(/(.)([A-Z][a-z]+)/g, "$1_$2")
    .replace(/([a-z])([A-Z])/g, "$1_$2")
    .toLowerCase();
}

/** Configurations by the path of their layer: the class in snake case, numbered from the second on. */
function configPaths({ layers }: KerasModelConfig, prefix = "layers"): Map<string, KerasConfig> {
  const found = new Map<string, KerasConfig>();
  const used = new Map<string, number>();
  for (const layer of layers) {
    const stem = snakeCase(layer.className);
    const count = used.get(stem) ?? 0;
    used.set(stem, count + 1);
    const path = `${prefix}/${count === 0 ? stem : `${stem}_${count}`}`;
    found.set(path, layer);
    for (const entry of configPaths(layer, `${path}/layers`)) found.set(...entry);
  }
  return found;
}

/** What a layer's variables are called whose class is not known: by their shapes, else by their numbers. */
function guess(arrays: readonly NumericArray[]): readonly string[] {
  const ranks = arrays.map(({ shape }) => shape.length).join(" ");
  return ranks === "2 1" ? variables.Dense : ranks === "1 1" ? variables.LayerNormalization : [];
}

function classOf(path: string): string | null {
  const stem = path.slice(path.lastIndexOf("/") + 1).replace(/_\d+$/, "");
  return classes.find((name) => snakeCase(name) === stem) ?? null;
}

/** The layers of Keras 3 and of 2.13: `PATH/vars/0`, of a recurrent layer `PATH/cell/vars/0`. */
function numbered({ arrays, names }: Hdf5Content, configs: ReadonlyMap<string, KerasConfig>): KerasLayer[] {
  const owners = new Map<string, Map<string, NumericArray[]>>();
  for (const [path, array] of arrays) {
    const match = /^(?:(.*?)\/)??((?:(?:forward|backward)_layer\/)?(?:cell\/)?)vars\/(\d{1,3})$/.exec(path);
    if (!match) continue;
    const [, owner = "", part, index] = match;
    if (!owners.has(owner)) owners.set(owner, new Map());
    const parts = owners.get(owner)!;
    if (!parts.has(part)) parts.set(part, []);
    parts.get(part)![Number(index)] = array;
  }
  const places = new Map([...configs.keys()].map((path, i) => [path, i]));
  const placeOf = (path: string) => places.get(path) ?? -1;
  const inOrder = [...owners].sort(([a], [b]) => placeOf(a) - placeOf(b));
  const byName = new Map([...configs.values()].map((config) => [config.name, config]));
  return inOrder.map(([path, parts]) => {
    const called = names.get(`${path}/vars`);
    const here = configs.get(path);
    const config = called === undefined || here?.name === called ? here : byName.get(called);
    const className = config?.className ?? classOf(path);
    const weights: Record<string, NumericArray> = {};
    for (const [part, list] of parts) {
      const known = part.endsWith("cell/") ? recurrentVariables : (variables[className ?? ""] ?? guess(list));
      const side = /^(forward|backward)/.exec(part)?.[0];
      list.forEach((array, i) => (weights[`${side ? `${side}/` : ""}${known[i] ?? i}`] = array));
    }
    return { name: called ?? config?.name ?? path.slice(path.lastIndexOf("/") + 1), path, className, config: config ?? null, weights };
  });
}

/** The layers of Keras 2's HDF5 files, arrays under their own names: `LAYER/.../kernel:0`. */
function named({ arrays }: Hdf5Content): KerasLayer[] {
  const layers = new Map<string, Record<string, NumericArray>>();
  for (const [path, array] of arrays) {
    const [name, ...rest] = path.replace(/^model_weights\//, "").split("/");
    if (!layers.has(name)) layers.set(name, {});
    layers.get(name)![rest.join("/")] = array;
  }
  return [...layers].map(([name, weights]) => ({ name, path: name, className: classOf(name), config: null, weights }));
}

async function head(path: string, maxBytes: number): Promise<Uint8Array> {
  let handle;
  try {
    handle = await open(path, "r");
    const stat = await handle.stat();
    if (!stat.isFile()) throw new Error("not a regular file");
    if (stat.size > maxBytes) throw new Error(`it may have at most ${maxBytes} bytes but has ${stat.size}`);
    const bytes = new Uint8Array(8);
    return bytes.subarray(0, (await handle.read(bytes, 0, 8, 0)).bytesRead);
  } catch (cause) {
    throw fileError("cannot read", path, cause);
  } finally {
    await handle?.close();
  }
}

async function whole(path: string): Promise<Uint8Array> {
  const handle = await open(path, "r");
  try {
    return await handle.readFile();
  } finally {
    await handle.close();
  }
}

/** Weights and, of a .keras file, the text of the configuration. */
async function contents(path: string, maxBytes: number): Promise<{ weights: Uint8Array; config: Uint8Array | null }> {
  const start = await head(path, maxBytes);
  const begins = (...bytes: number[]) => bytes.every((byte, i) => start[i] === byte);
  if (begins(0x89, 0x48, 0x44, 0x46)) return { weights: await whole(path), config: null };
  if (!begins(0x50, 0x4b)) throw new Error(`${path}: it must be a .keras file (zip) or a .weights.h5 file (HDF5) but begins as neither`);
  const entries = await readZip(path, { "config.json": MAX_CONFIG, "model.weights.h5": maxBytes });
  for (const name of ["config.json", "model.weights.h5"])
    if (!entries.has(name)) throw new Error(`${path}: it is not a .keras file: ${name} is missing`);
  return { weights: entries.get("model.weights.h5")!, config: entries.get("config.json")! };
}

/**
 * The layers of a file that Keras wrote, by name, those of a .keras file in the order of the model: `.keras`,
 * `.weights.h5`, or Keras 2's `.h5`. HDF5 is read by the package h5wasm, which you install beside this one. Layers
 * without weights are left out; where two nested models have layers of the same name, the later ones go by their path.
 *
 * @throws naming the file, if h5wasm is not installed, or it is neither, is cut or damaged, or is larger than `maxBytes`.
 */
export async function readKeras(path: string, { maxBytes = 2 ** 31 }: ReadKerasOptions = {}): Promise<ReadonlyMap<string, KerasLayer>> {
  const { weights, config } = await contents(path, maxBytes);
  const configs = config ? configPaths(parseKerasConfig(path, config)) : new Map<string, KerasConfig>();
  const wanted = (name: string) => !/^optimizer(_weights)?(\/|$)/.test(name);
  const raw = await readHdf5(path, weights, wanted, maxBytes);
  const rename = <T>(from: ReadonlyMap<string, T>) =>
    new Map([...from].map(([name, item]) => [name.replaceAll("_layer_checkpoint_dependencies", "layers"), item]));
  const content = { arrays: rename(raw.arrays), names: rename(raw.names) };
  const numberedOnly = [...content.arrays.keys()].every((name) => /(^|\/)vars\/\d+$/.test(name));
  const found = new Map<string, KerasLayer>();
  for (const layer of numberedOnly ? numbered(content, configs) : named(content)) {
    found.set(found.has(layer.name) ? layer.path : layer.name, layer);
  }
  if (found.size === 0) throw new Error(`${path}: it holds no layers with weights`);
  return found;
}
