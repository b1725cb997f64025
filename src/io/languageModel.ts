import type { Vocabulary } from "../data/vocabulary.js";
import {
  cellNames,
  LanguageModel,
  languageModelShapes,
  type LanguageModelConfig,
  type LanguageModelOptions,
} from "../models/languageModel.js";
import type { Placement } from "../nn/module.js";
import { checkCount, checkNumber, checkOptions } from "../tensor/check.js";
import { sameShape, showShape } from "../tensor/op.js";
import { readCheckpoint, type Checkpoint } from "./checkpoint.js";
import type { Json } from "./metadata.js";

const KIND = "LanguageModel";

/** What a checkpoint says of a language model, as its `config`. */
export function describeLanguageModel(model: LanguageModel): Json {
  return { model: KIND, ...model.config };
}

/** A language model out of a checkpoint, on its way back into training if `checkpoint.restore` is given its parts. */
export interface LoadedLanguageModel {
  readonly model: LanguageModel;
  readonly vocabulary: Vocabulary;
  readonly checkpoint: Checkpoint;
}

/**
 * Reads a checkpoint of a language model over characters, and makes the model with its weights. The file is believed in
 * nothing: the sizes it claims must be those of the tensors it holds before anything is made.
 *
 * @throws naming the file, if it is cut or forged or holds another model or no vocabulary.
 */
export async function loadLanguageModel(
  path: string,
  options: Placement & Pick<LanguageModelOptions, "generator"> = {},
): Promise<LoadedLanguageModel> {
  const checkpoint = await readCheckpoint(path);
  const { vocabulary } = checkpoint;
  if (!vocabulary) throw new Error(`${path}: it holds no vocabulary`);
  const config = checkConfig(path, checkpoint.config);
  for (const [name, shape] of languageModelShapes(vocabulary.size, config)) {
    const held = checkpoint.shape(name);
    if (!held || !sameShape(held, shape))
      throw new Error(`${path}: ${name} must be ${showShape(shape)} for its configuration but is ${held ? showShape(held) : "absent"}`);
  }
  const model = new LanguageModel(vocabulary.size, { ...config, ...options });
  checkpoint.restore({ model });
  return { model, vocabulary, checkpoint };
}

function checkConfig(path: string, config: Json | undefined): Required<LanguageModelConfig> {
  const { model, ...rest } = (config ?? {}) as Record<string, unknown>;
  if (model !== KIND)
    throw new Error(`${path}: the checkpoint must be of a ${KIND} but is of ${typeof model === "string" ? model.slice(0, 40) : "none"}`);
  const { cell, hidden, layers, embed, dropout, tie } = rest as Required<LanguageModelConfig>;
  try {
    checkOptions("configuration", rest, ["cell", "hidden", "layers", "embed", "dropout", "tie"]);
    for (const [name, value] of Object.entries({ hidden, layers, embed })) checkCount("configuration", name, value);
    checkNumber("configuration", "dropout", dropout, 0, 1);
    if (!cellNames.includes(cell))
      throw new RangeError(`configuration: cell must be one of ${cellNames.join(", ")} but is ${JSON.stringify(cell)?.slice(0, 40)}`);
    if (typeof tie !== "boolean") throw new TypeError("configuration: tie must be true or false");
  } catch (error) {
    throw new Error(`${path}: ${(error as Error).message}`, { cause: error });
  }
  return { cell, hidden, layers, embed, dropout, tie };
}
