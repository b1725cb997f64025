import { dirname } from "node:path";
import type { TypedArray } from "../backend/backend.js";
import type { TextPosition } from "../data/characters.js";
import { Vocabulary } from "../data/vocabulary.js";
import type { Module } from "../nn/module.js";
import { sameShape, showShape } from "../tensor/op.js";
import { defaultGenerator, Generator } from "../tensor/random.js";
import type { Tensor } from "../tensor/tensor.js";
import type { CarriedState } from "../train/carried.js";
import type { Optimizer } from "../train/optimizer.js";
import { makeFolder } from "./folder.js";
import { readMetadata, VERSION, type Json, type Metadata } from "./metadata.js";
import { readSafetensors, toNumbers, writeSafetensors, type SafeTensor, type TensorToWrite } from "./safetensors.js";

// One safetensors file: the model's tensors under their own names, the optimizer's under `optimizer.`, the carried
// state under `state.`, everything else as JSON in the metadata.
const OPTIMIZER = "optimizer.";
const STATE = "state.";

/** Generators by name; the process's own by default. */
export type Generators = Readonly<Record<string, Generator>>;

/** What a checkpoint may hold beside the model. */
export interface CheckpointParts {
  readonly model: Module;
  readonly optimizer?: Optimizer;
  /** The state that training carries from batch to batch. */
  readonly carried?: CarriedState;
  /** Default: the process's generator, as `default`. */
  readonly generators?: Generators;
}

/** What a checkpoint may say about itself; handed back as it was given. */
export interface CheckpointNotes {
  /** How to build the model again. */
  readonly config?: Json;
  readonly vocabulary?: Vocabulary;
  readonly position?: TextPosition;
  /** Anything else, such as the state of a plateau. */
  readonly extra?: Json;
}

async function read(tensors: Readonly<Record<string, Tensor>>, prefix = ""): Promise<[string, TensorToWrite][]> {
  return Promise.all(
    Object.entries(tensors).map(async ([name, t]): Promise<[string, TensorToWrite]> => [
      prefix + name,
      { shape: t.shape, data: await t.data() },
    ]),
  );
}

async function write(path: string, tensors: [string, TensorToWrite][], metadata: Readonly<Record<string, string>>): Promise<void> {
  await makeFolder(dirname(path));
  await writeSafetensors(path, new Map(tensors), metadata);
}

/**
 * Writes a checkpoint, all of the same moment: what is queued after the call does not enter it. The folder is made if
 * need be, and the file replaced in one go: whatever fails, the one before stays whole.
 *
 * @throws if a parameter is named like a part of a checkpoint, or the file cannot be written (saying why).
 */
export async function saveCheckpoint(path: string, parts: CheckpointParts & CheckpointNotes): Promise<void> {
  const { model, optimizer, carried, generators = { default: defaultGenerator }, config, vocabulary, position, extra } = parts;
  const weights = model.stateDict();
  const taken = Object.keys(weights).find((name) => name.startsWith(OPTIMIZER) || name.startsWith(STATE));
  if (taken !== undefined)
    throw new RangeError(`saveCheckpoint: a parameter may not be called ${taken}: ${OPTIMIZER} and ${STATE} are parts of a checkpoint`);
  const learned = optimizer?.stateDict();
  const metadata: Metadata = {
    config,
    vocabulary: vocabulary && { characters: vocabulary.characters, unknown: vocabulary.unknown },
    position,
    extra,
    optimizer: learned && { kind: learned.kind, steps: learned.steps, lr: learned.lr, counts: learned.counts },
    carried: carried && { rows: carried.rows },
    generators: Object.fromEntries(Object.entries(generators).map(([name, g]) => [name, g.state()])),
  };
  const notes = Object.entries(metadata).flatMap(([key, value]) => (value === undefined ? [] : [[key, JSON.stringify(value)]]));
  const tensors = await Promise.all([read(weights), read(learned?.tensors ?? {}, OPTIMIZER), read(carried?.stateDict() ?? {}, STATE)]);
  await write(path, tensors.flat(), { throughtime: VERSION, ...(Object.fromEntries(notes) as Record<string, string>) });
}

/** A tensor of a file as values to load. @throws if it does not hold floating numbers, unless it is one count. */
function floating(path: string, name: string, found: SafeTensor): { shape: readonly number[]; data: TypedArray } {
  const { dtype, shape, data } = found;
  // PyTorch's num_batches_tracked.
  if (dtype === "I64" && shape.length === 0) return { shape, data: Float64Array.from(toNumbers(found)) };
  if (!(data instanceof Float32Array || data instanceof Float64Array))
    throw new Error(`${path}: tensor ${name} must hold floating numbers but is ${dtype}`);
  return { shape, data };
}

function under(path: string, tensors: ReadonlyMap<string, SafeTensor>, prefix: string) {
  const found = [...tensors].filter(([name]) => name.startsWith(prefix));
  return Object.fromEntries(found.map(([name, t]) => [name.slice(prefix.length), floating(path, name, t)]));
}

type Loaded = ReturnType<typeof under>;

/** @throws if the tensors are not exactly those of the model. */
function checkWeights(path: string, model: Module, values: Loaded): void {
  const own = model.stateDict();
  const list = (what: string, names: string[]) =>
    names.length > 0 ? [`${what} ${names.slice(0, 8).join(", ")}${names.length > 8 ? ", ..." : ""}`] : [];
  const missing = Object.keys(own).filter((name) => !Object.hasOwn(values, name));
  const unknown = Object.keys(values).filter((name) => !Object.hasOwn(own, name));
  const wrong = [...list("is missing", missing), ...list("has the unknown", unknown)];
  if (wrong.length > 0) throw new Error(`${path}: it is not of this model: it ${wrong.join(" and ")}`);
  for (const [name, p] of Object.entries(own)) {
    if (!sameShape(values[name].shape, p.shape))
      throw new Error(`${path}: it is not of this model: ${name} must be ${showShape(p.shape)} but is ${showShape(values[name].shape)}`);
  }
}

/** A checkpoint that was read and checked; nothing is loaded until `restore`. */
export class Checkpoint implements CheckpointNotes {
  readonly config: Json | undefined;
  readonly vocabulary: Vocabulary | undefined;
  readonly position: TextPosition | undefined;
  readonly extra: Json | undefined;

  /** @internal Made by `readCheckpoint`. */
  constructor(
    readonly path: string,
    private readonly metadata: Metadata,
    private readonly tensors: ReadonlyMap<string, SafeTensor>,
  ) {
    this.config = metadata.config;
    this.position = metadata.position;
    this.extra = metadata.extra;
    const { characters, unknown } = metadata.vocabulary ?? {};
    this.vocabulary = characters && this.named(() => new Vocabulary(characters, unknown === undefined ? {} : { unknown }));
  }

  /** Steps of the optimizer when it was saved; 0 without one. */
  get step(): number {
    return this.metadata.optimizer?.steps ?? 0;
  }

  /** The shape of a tensor of the model, if there is one of that name. */
  shape(name: string): readonly number[] | undefined {
    return name.startsWith(OPTIMIZER) || name.startsWith(STATE) ? undefined : this.tensors.get(name)?.shape;
  }

  /**
   * Loads what is given, so that training goes on bit for bit. Everything is checked first: if anything is missing or
   * does not fit, nothing is changed.
   *
   * @throws naming the file and what does not fit.
   */
  restore({ model, optimizer, carried, generators = {} }: CheckpointParts): void {
    const { path, metadata, tensors } = this;
    const weights = weightsOf(path, tensors);
    checkWeights(path, model, weights);
    if (optimizer && !metadata.optimizer) throw new Error(`${path}: it holds no optimizer`);
    const learned = metadata.optimizer && { ...metadata.optimizer, tensors: under(path, tensors, OPTIMIZER) };
    if (optimizer) this.named(() => optimizer.checkState(learned!));
    if (carried && !metadata.carried) throw new Error(`${path}: it holds no carried state`);
    const states = Object.entries(generators).map(([name, generator]) => {
      const state = metadata.generators?.[name];
      if (!state) throw new Error(`${path}: it holds no generator ${name}`);
      this.named(() => new Generator().setState(state));
      return [generator, state] as const;
    });
    const going = under(path, tensors, STATE);
    const [{ device }] = model.parameters();
    model.loadStateDict(weights);
    optimizer?.loadStateDict(learned!);
    carried?.loadStateDict(going, metadata.carried!.rows, device);
    for (const [generator, state] of states) generator.setState(state);
  }

  /** Runs a check whose error is to name the file. */
  private named<T>(check: () => T): T {
    try {
      return check();
    } catch (error) {
      throw new Error(`${this.path}: ${(error as Error).message}`, { cause: error });
    }
  }
}

/**
 * Reads a checkpoint that `saveCheckpoint` wrote and checks all of it.
 *
 * @throws naming the file, if it cannot be read, is cut or forged, or is not a checkpoint of a version known here.
 */
export async function readCheckpoint(path: string): Promise<Checkpoint> {
  const { metadata, tensors } = await readSafetensors(path);
  return new Checkpoint(path, readMetadata(path, metadata), tensors);
}

function weightsOf(path: string, tensors: ReadonlyMap<string, SafeTensor>): Loaded {
  const own = [...tensors].filter(([name]) => !name.startsWith(OPTIMIZER) && !name.startsWith(STATE));
  return under(path, new Map(own), "");
}

/** Writes a model's parameters and buffers only, under the names and in the layout of PyTorch; replaces the file in one go. */
export async function saveWeights(path: string, model: Module): Promise<void> {
  await write(path, await read(model.stateDict()), { format: "pt" });
}

/**
 * Loads a model's parameters and buffers from a safetensors file: a checkpoint, what `saveWeights` wrote, or a PyTorch state dict.
 * Nothing is changed unless every name and shape fits.
 *
 * @throws naming the file and what does not fit.
 */
export async function loadWeights(path: string, model: Module): Promise<void> {
  const { metadata, tensors } = await readSafetensors(path);
  const values = "throughtime" in metadata ? weightsOf(path, tensors) : under(path, tensors, "");
  checkWeights(path, model, values);
  model.loadStateDict(values);
}
