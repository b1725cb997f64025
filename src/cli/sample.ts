import { once } from "node:events";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { DeviceName } from "../backend/devices.js";
import type { Vocabulary } from "../data/vocabulary.js";
import { fileError } from "../io/files.js";
import { loadLanguageModel } from "../io/languageModel.js";
import { Generator } from "../tensor/random.js";
import { useDevice } from "./arguments.js";
import { CHECKPOINT } from "./run.js";

export interface SampleArguments {
  readonly model: string;
  readonly prompt?: string;
  readonly length: number;
  readonly temperature: number;
  readonly topK?: number;
  readonly seed?: number;
  readonly device?: DeviceName;
}

async function checkpointIn(path: string): Promise<string> {
  try {
    return (await stat(path)).isDirectory() ? join(path, CHECKPOINT) : path;
  } catch (error) {
    throw fileError("cannot read", path, error);
  }
}

/** The ids of a prompt. Without one the model starts as after the end of a line. @throws naming an unknown character. */
function start(vocabulary: Vocabulary, prompt: string): Int32Array {
  if (prompt === "") return Int32Array.of(vocabulary.has("\n") ? vocabulary.encode("\n")[0] : 0);
  try {
    return vocabulary.encode(prompt);
  } catch (error) {
    throw new Error(`--prompt: ${(error as Error).message.replace("Vocabulary.encode: ", "")}`, { cause: error });
  }
}

/** The command `sample`: writes the prompt and what the model makes of it, a character at a time. */
export async function sampleCommand({ model: path, prompt = "", length, temperature, topK, seed, device }: SampleArguments): Promise<void> {
  useDevice(device);
  const { model, vocabulary } = await loadLanguageModel(await checkpointIn(path));
  const ids = start(vocabulary, prompt);
  const closed = new AbortController();
  process.stdout.on("error", () => closed.abort());
  const write = async (text: string) => {
    if (!process.stdout.write(text) && !closed.signal.aborted)
      await once(process.stdout, "drain", { signal: closed.signal }).catch(() => undefined);
  };
  const generator = new Generator(seed ?? Math.floor(Math.random() * 2 ** 32));
  await write(prompt);
  for await (const id of model.sample(ids, { length, temperature, topK, generator, signal: closed.signal }))
    await write(vocabulary.characters[id]);
  await write("\n");
}
