import { access, copyFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { characterBatches, type CharacterBatches } from "../data/characters.js";
import { Vocabulary } from "../data/vocabulary.js";
import { readCheckpoint, saveCheckpoint, type Checkpoint } from "../io/checkpoint.js";
import { fileError } from "../io/files.js";
import { makeFolder } from "../io/folder.js";
import { describeLanguageModel, loadLanguageModel } from "../io/languageModel.js";
import { LanguageModel, type CellName } from "../models/languageModel.js";
import { defaultGenerator, manualSeed } from "../tensor/random.js";
import { CarriedState } from "../train/carried.js";
import { Adam } from "../train/optimizers.js";
import type { Text } from "./text.js";

/** The name of the checkpoint within its folder. */
export const CHECKPOINT = "model.safetensors";
const PREVIOUS = "model.previous.safetensors";

/** What decides how a run goes on; kept in its checkpoint. */
export interface Settings {
  readonly cell: CellName;
  readonly hidden: number;
  readonly layers: number;
  readonly embed: number;
  readonly seq: number;
  readonly batch: number;
  readonly val: number;
  readonly seed: number;
  readonly lr: number;
  readonly clip: number;
}

/** Settings that a run cannot change on the way: the model's, and those that its place in the text depends on. */
const fixed = ["cell", "hidden", "layers", "embed", "seq", "batch", "val", "seed"] as const;

/** A training run: everything that a step changes. */
export interface Run {
  readonly settings: Settings;
  /** Of the whole text. */
  readonly characters: number;
  readonly vocabulary: Vocabulary;
  readonly model: LanguageModel;
  readonly optimizer: Adam;
  readonly carried: CarriedState;
  readonly batches: CharacterBatches;
  /** The last part of the text, for validation; empty without. */
  readonly validation: Int32Array;
  save(): Promise<void>;
}

/** Where the text is parted. @throws if what is left for training is shorter than one window. */
function part(path: string, ids: Int32Array, { seq, batch, val }: Settings): { training: Int32Array; validation: Int32Array } {
  const end = Math.ceil(ids.length * (1 - val));
  const window = batch * seq + 1;
  if (end < window) {
    const least = Math.ceil(window / (1 - val));
    throw new Error(
      `${path}: the text must have at least ${least} characters (--batch ${batch} rows of --seq ${seq}, --val ${val} set apart) but has ${ids.length}`,
    );
  }
  return { training: ids.subarray(0, end), validation: ids.subarray(end) };
}

/** Makes the folder and sees that a file can be written in it. @throws if not, saying why. */
async function probe(out: string): Promise<void> {
  const file = join(out, `.${process.pid}.tmp`);
  await makeFolder(out);
  try {
    await writeFile(file, "");
    await rm(file);
  } catch (error) {
    throw fileError("cannot write to", out, error);
  }
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

/** Keeps the checkpoint of an earlier run under another name. @throws if it cannot be copied; it stays where it is. */
async function setAside(path: string, aside: string): Promise<void> {
  try {
    await copyFile(path, aside);
  } catch (error) {
    await rm(aside, { force: true }).catch(() => undefined);
    throw fileError("cannot copy the earlier checkpoint to", aside, error);
  }
}

interface Parts {
  readonly settings: Settings;
  readonly text: Text;
  readonly vocabulary: Vocabulary;
  readonly ids: Int32Array;
  readonly model: LanguageModel;
  readonly checkpoint: Checkpoint | null;
}

function assemble(path: string, out: string, { settings, text, vocabulary, ids, model, checkpoint }: Parts): Run {
  const { training, validation } = part(path, ids, settings);
  const optimizer = new Adam(model, { lr: settings.lr });
  const carried = new CarriedState();
  checkpoint?.restore({ model, optimizer, carried, generators: { default: defaultGenerator } });
  optimizer.lr = settings.lr;
  const { batch, seq } = settings;
  const batches = characterBatches(training, { batch, seq, epochs: Infinity, position: checkpoint?.position });
  const target = join(out, CHECKPOINT);
  let earlier = checkpoint === null;
  const save = async () => {
    if (earlier && (await exists(target))) await setAside(target, join(out, PREVIOUS));
    earlier = false;
    const extra = { settings: { ...settings }, text: text.sha256 };
    await saveCheckpoint(target, {
      model,
      optimizer,
      carried,
      vocabulary,
      position: batches.position,
      config: describeLanguageModel(model),
      extra,
    });
  };
  return { settings, characters: ids.length, vocabulary, model, optimizer, carried, batches, validation, save };
}

/** A new run. @throws if the text is too short for it or the folder cannot be written. */
export async function startRun(path: string, text: Text, out: string, settings: Settings): Promise<Run> {
  const vocabulary = Vocabulary.fromText(text.text);
  const ids = vocabulary.encode(text.text);
  part(path, ids, settings);
  await probe(out);
  manualSeed(settings.seed);
  const { cell, hidden, layers, embed } = settings;
  const model = new LanguageModel(vocabulary.size, { cell, hidden, layers, embed });
  return assemble(path, out, { settings, text, vocabulary, ids, model, checkpoint: null });
}

/** The run whose checkpoint is in `out`, with the changes asked for. @throws if it does not go with the text or the changes. */
export async function resumeRun(path: string, text: Text, out: string, asked: Partial<Settings>): Promise<Run> {
  const target = join(out, CHECKPOINT);
  const { settings, sha256 } = readSettings(target, await readCheckpoint(target));
  for (const name of fixed) {
    if (asked[name] !== undefined && asked[name] !== settings[name]) {
      throw new Error(`${target}: the run to resume has --${name} ${settings[name]}, which cannot become ${asked[name]}`);
    }
  }
  if (sha256 !== text.sha256) throw new Error(`${target}: the run to resume learns another text than ${path}`);
  await probe(out);
  const { model, vocabulary, checkpoint } = await loadLanguageModel(target);
  return assemble(path, out, {
    settings: { ...settings, ...asked },
    text,
    vocabulary,
    ids: vocabulary.encode(text.text),
    model,
    checkpoint,
  });
}

/** What this command wrote into a checkpoint, if it did. */
function readSettings(path: string, { extra, config, position }: Checkpoint): { settings: Settings; sha256: string } {
  const { settings, text } = (extra ?? {}) as { settings?: Settings; text?: string };
  const sizes = ["hidden", "layers", "embed", "seq", "batch"] as const;
  const numbers = ["val", "seed", "lr", "clip"] as const;
  const described = (config ?? {}) as Partial<Settings>;
  const sound =
    typeof text === "string" &&
    position !== undefined &&
    settings !== null &&
    typeof settings === "object" &&
    sizes.every((name) => Number.isSafeInteger(settings[name]) && settings[name] > 0) &&
    numbers.every((name) => Number.isFinite(settings[name]) && settings[name] >= 0) &&
    settings.val < 1 &&
    (["cell", "hidden", "layers", "embed"] as const).every((name) => settings[name] === described[name]);
  if (!sound) throw new Error(`${path}: it is not of a run that this command can resume`);
  return { settings, sha256: text };
}
