import type { Embedding } from "../nn/embedding.js";
import { Linear } from "../nn/linear.js";
import { Module } from "../nn/module.js";
import { LayerNorm } from "../nn/norm.js";
import { RWKV4ChannelMix, RWKV4TimeMix } from "../nn/rwkv4.js";
import type { ScanState } from "../nn/scanLayer.js";
import type { StateTree } from "../nn/stream.js";
import { add, scale } from "../ops/elementwise.js";
import type { Shape } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import {
  CausalLM,
  checkDepth,
  outputHead,
  placementOf,
  table,
  type Body,
  type CausalLMForwardOptions,
  type CausalLMOptions,
} from "./causalLM.js";
import { completeConfig, count, flag, floatsOf, ids, maybe, number, type ConfigOf } from "./config.js";

const fields = {
  vocab_size: count(50277),
  hidden_size: count(4096),
  num_hidden_layers: count(32),
  attention_hidden_size: maybe(count(4096)),
  intermediate_size: maybe(count(16384)),
  layer_norm_epsilon: number(1e-5, 0),
  rescale_every: count(6, -Infinity),
  tie_word_embeddings: flag(false),
  eos_token_id: ids(0),
} as const;

/** The configuration of RWKV-4 in Transformers. */
export type RwkvConfig = ConfigOf<typeof fields> & { readonly attention_hidden_size: number; readonly intermediate_size: number };

type BlockState = { readonly attention: ScanState<"x" | "wkv">; readonly feed_forward: ScanState<"x"> };

class Block extends Module {
  readonly pre_ln: LayerNorm | null;
  readonly ln1: LayerNorm;
  readonly ln2: LayerNorm;
  readonly attention: RWKV4TimeMix;
  readonly feed_forward: RWKV4ChannelMix;

  constructor(c: RwkvConfig, layer: number, { generator, ...placement }: CausalLMOptions) {
    super();
    const norm = () => new LayerNorm(c.hidden_size, { eps: c.layer_norm_epsilon, ...placement });
    const settings = { layer, layers: c.num_hidden_layers, generator, ...placement };
    this.pre_ln = layer === 0 ? norm() : null;
    this.ln1 = norm();
    this.ln2 = norm();
    this.attention = new RWKV4TimeMix(c.hidden_size, { hiddenSize: c.attention_hidden_size, ...settings });
    this.feed_forward = new RWKV4ChannelMix(c.hidden_size, { hiddenSize: c.intermediate_size, ...settings });
  }

  /** What is added to x is multiplied by `part`. */
  forward(x: Tensor, part: number, state: BlockState | undefined, lengths: CausalLMForwardOptions["lengths"]) {
    const scaled = (t: Tensor) => (part === 1 ? t : scale(t, part));
    const start = this.pre_ln ? this.pre_ln.forward(x) : x;
    const attention = this.attention.forward(this.ln1.forward(start), { state: state?.attention, lengths });
    const middle = add(start, scaled(attention.output));
    const feed = this.feed_forward.forward(this.ln2.forward(middle), { state: state?.feed_forward, lengths });
    return { x: add(middle, scaled(feed.output)), state: { attention: attention.state, feed_forward: feed.state } };
  }
}

class RwkvModel extends Module {
  readonly embeddings: Embedding;
  readonly blocks: readonly Block[];
  readonly ln_out: LayerNorm;

  constructor(config: RwkvConfig, options: CausalLMOptions) {
    super();
    const placement = placementOf(options);
    this.embeddings = table(config.vocab_size, config.hidden_size, 1e-2, options);
    this.blocks = Array.from({ length: config.num_hidden_layers }, (_, i) => new Block(config, i, options));
    this.ln_out = new LayerNorm(config.hidden_size, placement);
  }
}

/**
 * RWKV-4 (Peng et al. 2023) as a language model: `RwkvForCausalLM` of Transformers, whose names its parameters have. As
 * there, hidden values are halved after every `rescale_every` layers in inference, so that float16 would not overflow;
 * through the epsilon of the norms it shows in the fifth digit.
 */
export class RwkvForCausalLM extends CausalLM {
  static readonly architecture = "RwkvForCausalLM";
  static readonly modelType = "rwkv";
  static readonly tied = ["head.weight", "rwkv.embeddings.weight"] as const;
  static readonly floats = floatsOf(fields);
  readonly config: RwkvConfig;
  readonly rwkv: RwkvModel;
  readonly head: Linear;

  /** @throws on an entry of the configuration that is not known or cannot be. */
  constructor(config: Partial<RwkvConfig>, options: CausalLMOptions = {}) {
    super();
    this.config = RwkvForCausalLM.complete("RwkvForCausalLM", config);
    this.rwkv = new RwkvModel(this.config, options);
    this.head = outputHead(this.rwkv.embeddings, this.config.tie_word_embeddings, options);
  }

  static complete(where: string, given: object): RwkvConfig {
    const config = completeConfig(where, fields, ["context_length"], given);
    const { hidden_size, attention_hidden_size, intermediate_size } = config;
    return Object.freeze({
      ...config,
      attention_hidden_size: attention_hidden_size ?? hidden_size,
      intermediate_size: intermediate_size ?? 4 * hidden_size,
    });
  }

  static *shapes(config: RwkvConfig): Iterable<readonly [string, Shape]> {
    const { vocab_size, hidden_size: C, num_hidden_layers, attention_hidden_size: A, intermediate_size: F } = config;
    const norm = (name: string): [string, Shape][] => [
      [`${name}.weight`, [C]],
      [`${name}.bias`, [C]],
    ];
    yield ["rwkv.embeddings.weight", [vocab_size, C]];
    for (let i = 0; i < num_hidden_layers; i++) {
      const block = `rwkv.blocks.${i}`;
      for (const name of i === 0 ? ["pre_ln", "ln1", "ln2"] : ["ln1", "ln2"]) yield* norm(`${block}.${name}`);
      for (const name of ["time_decay", "time_first"]) yield [`${block}.attention.${name}`, [A]];
      for (const name of ["key", "value", "receptance"]) {
        yield [`${block}.attention.time_mix_${name}`, [1, 1, C]];
        yield [`${block}.attention.${name}.weight`, [A, C]];
      }
      yield [`${block}.attention.output.weight`, [C, A]];
      for (const name of ["key", "receptance"]) yield [`${block}.feed_forward.time_mix_${name}`, [1, 1, C]];
      yield [`${block}.feed_forward.key.weight`, [F, C]];
      yield [`${block}.feed_forward.receptance.weight`, [C, C]];
      yield [`${block}.feed_forward.value.weight`, [C, F]];
    }
    yield* norm("rwkv.ln_out");
    if (!config.tie_word_embeddings) yield ["head.weight", [vocab_size, C]];
  }

  protected body(ids: Tensor, { state, lengths }: CausalLMForwardOptions): Body {
    const { embeddings, blocks, ln_out } = this.rwkv;
    const before = checkDepth("RwkvForCausalLM.forward", state, blocks.length) as readonly BlockState[] | undefined;
    const every = this.training ? 0 : this.config.rescale_every;
    let x = embeddings.forward(ids);
    const layers: Tensor[] = [];
    const next: StateTree[] = [];
    for (const [i, block] of blocks.entries()) {
      const result = block.forward(x, every > 0 ? 2 ** -Math.floor(i / every) : 1, before?.[i], lengths);
      x = every > 0 && (i + 1) % every === 0 ? scale(result.x, 0.5) : result.x;
      layers.push(x);
      next.push(result.state);
    }
    return { hidden: ln_out.forward(x), state: next, layers };
  }

  protected logits(hidden: Tensor): Tensor {
    return this.head.forward(hidden);
  }
}
