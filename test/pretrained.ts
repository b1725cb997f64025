import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach } from "vitest";
import {
  device,
  Generator,
  Mamba2ForCausalLM,
  MambaForCausalLM,
  noGrad,
  RWKV7ForCausalLM,
  RwkvForCausalLM,
  scope,
  tensor,
  xLSTMForCausalLM,
  type CausalLM,
  type GenerateOptions,
  type Tensor,
} from "../src/index.js";
import { nativeAvailable } from "./helpers.js";

export const on = nativeAvailable ? ("cpu" as const) : ("reference" as const);
export const V = 19;

/** A small model of each kind, with each option that changes what its checkpoint holds. */
export const models: Readonly<Record<string, (generator: Generator) => CausalLM>> = {
  mamba: (generator) =>
    new MambaForCausalLM({ vocab_size: V, hidden_size: 6, num_hidden_layers: 2, state_size: 3, conv_kernel: 3 }, { device: on, generator }),
  "mamba, untied, biases": (generator) =>
    new MambaForCausalLM(
      {
        vocab_size: V,
        hidden_size: 6,
        num_hidden_layers: 1,
        use_bias: true,
        use_conv_bias: false,
        tie_word_embeddings: false,
        time_step_rank: 2,
      },
      { device: on, generator },
    ),
  "mamba-2": (generator) =>
    new Mamba2ForCausalLM(
      { vocab_size: V, hidden_size: 6, num_hidden_layers: 2, num_heads: 4, head_dim: 3, n_groups: 2, state_size: 5 },
      { device: on, generator },
    ),
  "mamba-2, tied, biases": (generator) =>
    new Mamba2ForCausalLM(
      {
        vocab_size: V,
        hidden_size: 6,
        num_hidden_layers: 2,
        num_heads: 3,
        head_dim: 4,
        n_groups: 1,
        state_size: 5,
        use_bias: true,
        use_conv_bias: false,
        tie_word_embeddings: true,
        time_step_limit: [0.01, 0.05],
      },
      { device: on, generator },
    ),
  "rwkv-4": (generator) =>
    new RwkvForCausalLM(
      { vocab_size: V, hidden_size: 6, num_hidden_layers: 3, attention_hidden_size: 5, intermediate_size: 7, rescale_every: 2 },
      { device: on, generator },
    ),
  "rwkv-4, tied": (generator) =>
    new RwkvForCausalLM({ vocab_size: V, hidden_size: 6, num_hidden_layers: 1, tie_word_embeddings: true }, { device: on, generator }),
  "rwkv-7": (generator) => new RWKV7ForCausalLM(rwkv7, { device: on, generator }),
  "rwkv-7, spare tensors": (generator) =>
    new RWKV7ForCausalLM({ ...rwkv7, spare_norms: true, spare_value_mix: true, dim_ffn: 9 }, { device: on, generator }),
  xlstm: (generator) =>
    new xLSTMForCausalLM(
      { vocab_size: V, hidden_size: 8, num_hidden_layers: 2, num_heads: 2, ffn_round_up_to_multiple_of: 4 },
      { device: on, generator },
    ),
  "xlstm, fused, biases": (generator) =>
    new xLSTMForCausalLM(
      { vocab_size: V, hidden_size: 8, num_hidden_layers: 1, num_heads: 2, use_bias: true, weight_mode: "fused", gate_soft_cap: null },
      { device: on, generator },
    ),
};
const ranks = { decay_lora: 2, aaa_lora: 3, mv_lora: 2, gate_lora: 4 };
const rwkv7 = { vocab_size: V, n_embd: 6, n_layer: 2, head_size: 3, ...ranks };

export const make = (kind: string) => models[kind](new Generator(5)).eval();
export const idsOf = (rows: number[][]) =>
  tensor(Int32Array.from(rows.flat()), { shape: [rows.length, rows[0].length], device: device(on) });
export const read = (t: Tensor) => Array.from(t.dataSync());
export const logitsOf = (model: CausalLM, rows: number[][]) => scope(() => noGrad(() => read(model.forward(idsOf(rows)).logits)));

export const prompt = [3, 1, 4, 1, 5, 9, 2];
/** What a model generates. */
export async function all(model: CausalLM, options: GenerateOptions, from: number[] = prompt): Promise<number[]> {
  const made: number[] = [];
  for await (const id of model.generate(from, options)) made.push(id);
  return made;
}

/** A folder of its own for each test: the path of a name in it, or its own. */
export function testFolder(): (name?: string) => string {
  let folder: string;
  beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), "pretrained-"))));
  afterEach(() => rmSync(folder, { recursive: true }));
  return (name = "") => join(folder, name);
}
