import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Tokenizer } from "../models/tokenizer.js";
import { readJson } from "./pretrainedConfig.js";

/** What is used of the package, whose own declarations cannot be resolved from modules. */
interface Library {
  readonly Tokenizer: new (
    json: object,
    settings: object,
  ) => {
    encode(text: string): { readonly ids: number[] };
    decode(ids: number[], options: { readonly skip_special_tokens: boolean; readonly clean_up_tokenization_spaces: boolean }): string;
    get_vocab(withAdded: boolean): ReadonlyMap<string, number>;
    id_to_token(id: number): string | undefined;
  };
}

/** A tokenizer and the files it was made of, as they were. */
export interface FileTokenizer extends Tokenizer {
  readonly files: ReadonlyMap<string, Uint8Array>;
}

const names = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"] as const;

/** The library that reads tokenizers; null if it is not installed. */
async function library(): Promise<Library | null> {
  try {
    return await import("@huggingface/tokenizers");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ERR_MODULE_NOT_FOUND") throw cause;
    return null;
  }
}

/**
 * The tokenizer of a folder with a `tokenizer.json`, else null. Where the package that reads it is not installed, what is
 * given says so when it is used: ids need no tokenizer.
 *
 * @throws naming the file, if it is not one, or has ids beyond the model's vocabulary.
 */
export async function readTokenizer(folder: string, vocabSize: number): Promise<FileTokenizer | null> {
  const path = join(folder, "tokenizer.json");
  const json = await readJson(path);
  if (!json) return null;
  const settings = (await readJson(join(folder, "tokenizer_config.json"))) ?? {};
  const files = new Map<string, Uint8Array>();
  for (const name of names) {
    const bytes = await readFile(join(folder, name)).catch(() => null);
    if (bytes) files.set(name, bytes);
  }
  const found = await library();
  if (!found) return absent(path, vocabSize, files);
  const made = make(path, found, json, settings);
  const ids = [...made.get_vocab(true).values()];
  const largest = ids.reduce((most, id) => Math.max(most, id), -1);
  if (ids.length === 0 || !ids.every((id) => Number.isInteger(id) && id >= 0))
    throw new Error(`${path}: it must have a vocabulary whose ids are integers`);
  if (largest >= vocabSize)
    throw new Error(
      `${path}: its ids must be below the model's vocab_size, ${vocabSize}, but ${JSON.stringify(made.id_to_token(largest))} has ${largest}`,
    );
  const known = new Set(ids);
  return {
    size: largest + 1,
    files,
    encode: (text) => made.encode(text).ids,
    decode: (list) =>
      made.decode(
        list.filter((id) => known.has(id)),
        { skip_special_tokens: true, clean_up_tokenization_spaces: false },
      ),
  };
}

function make(path: string, { Tokenizer: Made }: Library, json: object, settings: object) {
  try {
    return new Made(json, settings);
  } catch (cause) {
    throw new Error(`${path}: not a tokenizer that can be read: ${(cause as Error).message}`, { cause });
  }
}

function absent(path: string, size: number, files: ReadonlyMap<string, Uint8Array>): FileTokenizer {
  const fail = (): never => {
    throw new Error(
      `${path}: it is read by the package @huggingface/tokenizers, which is not installed: npm install @huggingface/tokenizers`,
    );
  };
  return { size, files, encode: fail, decode: fail };
}
