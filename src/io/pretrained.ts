import { randomBytes } from "node:crypto";
import { mkdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import type { Architecture, CausalLM } from "../models/causalLM.js";
import { RWKV7ForCausalLM } from "../models/rwkv7.js";
import type { Placement } from "../nn/module.js";
import { typed } from "../nn/stream.js";
import { checkChoice, checkOptions } from "../tensor/check.js";
import { architectureOf } from "./architectures.js";
import { fileError, writeFileAtomic } from "./files.js";
import { makeFolder } from "./folder.js";
import { configText, readConfig } from "./pretrainedConfig.js";
import { PretrainedTensors } from "./pretrainedTensors.js";
import { toNumbers, writeSafetensors, type SafeDType, type TensorToWrite } from "./safetensors.js";
import { readTokenizer, type FileTokenizer } from "./tokenizerFile.js";

export interface FromPretrainedOptions extends Placement {
  /** Read `tokenizer.json` where there is one. Default true. */
  readonly tokenizer?: boolean;
}

/**
 * Reads a model as Transformers saves it: `config.json`, and the weights of `model.safetensors` or of the shards that
 * `model.safetensors.index.json` names, in any mix of F32, F16, BF16 and F64; and the tokenizer of a `tokenizer.json`,
 * through the package @huggingface/tokenizers. Known are Mamba, Mamba-2, RWKV-4, xLSTM and RWKV-7, this also without
 * a `config.json`, by the names of BlinkDL's checkpoints. The model is ready for inference; `train` turns it to training.
 *
 * The files are believed in nothing: everything is checked before the model is made.
 *
 * @throws naming the file and the tensor or entry that is missing, not known, of another shape, cut or contradictory.
 */
export async function fromPretrained(folder: string, options: FromPretrainedOptions = {}): Promise<CausalLM> {
  checkOptions("fromPretrained", options, ["device", "dtype", "tokenizer"]);
  const { tokenizer: wanted = true, ...placement } = options;
  checkChoice("fromPretrained", "tokenizer", wanted, [true, false]);
  const found = await readConfig(folder);
  const tensors = await PretrainedTensors.open(folder);
  try {
    const { architecture, config } = found ?? recognise(folder, tensors);
    const copy = tiedCopy(architecture, config, tensors);
    tensors.check(architecture, config, copy ? [copy.name] : []);
    if (copy) await checkCopy(tensors, copy);
    const { vocab_size } = config as { readonly vocab_size: number };
    const tokenizer = wanted ? await readTokenizer(folder, vocab_size) : null;
    const model = new architecture(config, placement);
    for (const [name, p] of Object.entries(model.stateDict())) {
      const values = toNumbers(await tensors.read(name));
      p.device.write(p.buffer(), typed(p, values));
    }
    model.tokenizer = tokenizer;
    return model.eval();
  } finally {
    await tensors.close();
  }
}

function recognise(folder: string, tensors: PretrainedTensors): { architecture: Architecture; config: object } {
  const config = RWKV7ForCausalLM.recognise(tensors.shapes);
  if (!config) throw new Error(`${join(folder, "config.json")}: there is no such file, and the tensors are not those of RWKV-7`);
  return { architecture: RWKV7ForCausalLM, config };
}

/** A head that is saved although it is the table of the embedding. */
interface TiedCopy {
  readonly name: string;
  readonly of: string;
}

function tiedCopy({ tied }: Architecture, config: object, tensors: PretrainedTensors): TiedCopy | null {
  if (!tied || !(config as { tie_word_embeddings?: boolean }).tie_word_embeddings) return null;
  const [name, of] = tied;
  return tensors.has(name) && tensors.has(of) ? { name, of } : null;
}

async function checkCopy(tensors: PretrainedTensors, { name, of }: TiedCopy): Promise<void> {
  const [{ data }, { data: same }] = [await tensors.read(name), await tensors.read(of)];
  if (data.length === same.length && data.every((v: number | bigint, i: number) => v === same[i])) return;
  throw new Error(
    `${tensors.pathOf(name)}: tensor ${JSON.stringify(name)} must be that of ${JSON.stringify(of)}, as tie_word_embeddings says`,
  );
}

export interface SavePretrainedOptions {
  /** What weights are rounded to. Default `"float32"`. */
  readonly dtype?: "float32" | "bfloat16" | "float16";
}

const dtypes = { float32: "F32", bfloat16: "BF16", float16: "F16" } as const satisfies Record<string, SafeDType>;

/**
 * Writes `config.json` and `model.safetensors` as Transformers reads them, and the tokenizer's files if the model was loaded
 * with one. A new folder appears whole or not at all; in one that is there, each file is replaced as a whole.
 *
 * @throws TypeError on another model than `fromPretrained` gives; Error if a file cannot be written.
 */
export async function savePretrained(model: CausalLM, folder: string, options: SavePretrainedOptions = {}): Promise<void> {
  checkOptions("savePretrained", options, ["dtype"]);
  const { dtype = "float32" } = options;
  checkChoice("savePretrained", "dtype", dtype, Object.keys(dtypes));
  const { architecture, modelType, floats } = architectureOf("savePretrained", model);
  const described = { ...model.config, architectures: [architecture], model_type: modelType, dtype, torch_dtype: undefined };
  const text = configText(described, (name) => floats.includes(name));
  const tensors = new Map<string, TensorToWrite>();
  for (const [name, t] of Object.entries(model.stateDict()))
    tensors.set(name, { dtype: dtypes[dtype], shape: t.shape, data: Float32Array.from(await t.data()) });
  const files = (model.tokenizer as FileTokenizer | null)?.files ?? new Map<string, Uint8Array>();
  await replaceFolder(folder, async (into) => {
    await writeSafetensors(join(into, "model.safetensors"), tensors, { format: "pt" });
    await writeFileAtomic(join(into, "config.json"), [Buffer.from(text)]);
    for (const [name, bytes] of files) await writeFileAtomic(join(into, name), [bytes]);
  });
}

/** Fills a folder: one that is there file by file, a new one under another name first. */
async function replaceFolder(folder: string, fill: (into: string) => Promise<void>): Promise<void> {
  const there = await stat(folder).then(
    () => true,
    () => false,
  );
  if (there) {
    await makeFolder(folder);
    return fill(folder);
  }
  const target = resolve(folder);
  const temporary = join(dirname(target), `.${basename(target)}.${randomBytes(6).toString("hex")}.tmp`);
  await makeFolder(dirname(target));
  try {
    await mkdir(temporary);
    await fill(temporary);
    await rename(temporary, target);
  } catch (cause) {
    await rm(temporary, { recursive: true, force: true });
    throw cause instanceof Error && !("code" in cause) ? cause : fileError("cannot write", folder, cause);
  }
}
