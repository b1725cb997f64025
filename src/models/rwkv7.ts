import type { Embedding } from "../nn/embedding.js";
import { Linear } from "../nn/linear.js";
import { Module } from "../nn/module.js";
import { LayerNorm } from "../nn/norm.js";
import { RWKV7ChannelMix, RWKV7TimeMix } from "../nn/rwkv7.js";
import type { ScanState } from "../nn/scanLayer.js";
import type { StateTree } from "../nn/stream.js";
import { add } from "../ops/elementwise.js";
import type { Shape } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { CausalLM, checkDepth, table, type Body, type CausalLMForwardOptions, type CausalLMOptions } from "./causalLM.js";
import { completeConfig, count, flag, floatsOf, ids, maybe, type ConfigOf } from "./config.js";

const fields = {
  vocab_size: count(65536),
  n_embd: count(768),
  n_layer: count(12),
  head_size: count(64),
  dim_ffn: maybe(count(3072)),
  decay_lora: count(64),
  aaa_lora: count(64),
  mv_lora: count(32),
  gate_lora: count(128),
  /** Whether the file has, unused, `att.v0`, `v1` and `v2` in its first block, and `ln0` in those after it. */
  spare_value_mix: flag(false),
  spare_norms: flag(false),
  eos_token_id: ids(0),
} as const;

/** The configuration of RWKV-7: the sizes of BlinkDL's code, which keeps them in no file. */
export type RWKV7Config = ConfigOf<typeof fields> & { readonly dim_ffn: number };

type BlockState = { readonly att: ScanState<"x" | "S">; readonly ffn: ScanState<"x"> };

class Block extends Module {
  readonly ln0: LayerNorm | null;
  readonly ln1: LayerNorm;
  readonly ln2: LayerNorm;
  readonly att: RWKV7TimeMix;
  readonly ffn: RWKV7ChannelMix;

  constructor(
    c: RWKV7Config,
    readonly layer: number,
    { generator, ...placement }: CausalLMOptions,
  ) {
    super();
    const norm = () => new LayerNorm(c.n_embd, placement);
    const settings = { layer, layers: c.n_layer, generator, ...placement };
    this.ln0 = layer === 0 || c.spare_norms ? norm() : null;
    this.ln1 = norm();
    this.ln2 = norm();
    this.att = new RWKV7TimeMix(c.n_embd, {
      headSize: c.head_size,
      decayRank: c.decay_lora,
      rateRank: c.aaa_lora,
      valueRank: c.mv_lora,
      gateRank: c.gate_lora,
      valueMix: layer > 0 || c.spare_value_mix,
      ...settings,
    });
    this.ffn = new RWKV7ChannelMix(c.n_embd, { hiddenSize: c.dim_ffn, ...settings });
  }

  forward(x: Tensor, state: BlockState | undefined, lengths: CausalLMForwardOptions["lengths"], first: Tensor | undefined) {
    const start = this.layer === 0 ? this.ln0!.forward(x) : x;
    const att = this.att.forward(this.ln1.forward(start), { state: state?.att, lengths, first });
    const middle = add(start, att.output);
    const ffn = this.ffn.forward(this.ln2.forward(middle), { state: state?.ffn, lengths });
    return { x: add(middle, ffn.output), value: att.value, state: { att: att.state, ffn: ffn.state } };
  }
}

/** RWKV-7 (Peng et al. 2025) as a language model, its parameters named as in BlinkDL's checkpoints. */
export class RWKV7ForCausalLM extends CausalLM {
  static readonly architecture = "RWKV7ForCausalLM";
  static readonly modelType = "rwkv7";
  static readonly floats = floatsOf(fields);
  readonly config: RWKV7Config;
  readonly emb: Embedding;
  readonly blocks: readonly Block[];
  readonly ln_out: LayerNorm;
  readonly head: Linear;

  /** @throws on an entry of the configuration that is not known or cannot be. */
  constructor(config: Partial<RWKV7Config>, options: CausalLMOptions = {}) {
    super();
    this.config = RWKV7ForCausalLM.complete("RWKV7ForCausalLM", config);
    const { vocab_size, n_embd, n_layer } = this.config;
    const { generator, ...placement } = options;
    this.emb = table(vocab_size, n_embd, 1e-4, options);
    this.blocks = Array.from({ length: n_layer }, (_, i) => new Block(this.config, i, options));
    this.ln_out = new LayerNorm(n_embd, placement);
    this.head = new Linear(n_embd, vocab_size, { bias: false, generator, ...placement });
  }

  static complete(where: string, given: object): RWKV7Config {
    const config = completeConfig(where, fields, [], given);
    const { n_embd, head_size, dim_ffn } = config;
    if (n_embd % head_size !== 0)
      throw new RangeError(`${where}: n_embd must be a multiple of head_size but they are ${n_embd} and ${head_size}`);
    return Object.freeze({ ...config, dim_ffn: dim_ffn ?? 4 * n_embd });
  }

  /** The configuration that a checkpoint's shapes tell; null if they are not those of RWKV-7. */
  static recognise(shapes: ReadonlyMap<string, Shape>): RWKV7Config | null {
    const size = (name: string, axis: number) => shapes.get(name)?.[axis];
    const rank = (name: string) => size(`blocks.1.att.${name}`, 1) ?? size(`blocks.0.att.${name}`, 1);
    if (!shapes.has("blocks.0.att.x_r") || !shapes.has("blocks.0.att.r_k")) return null;
    const layers = [...shapes.keys()].map((name) => Number(/^blocks\.(\d+)\./.exec(name)?.[1] ?? -1));
    const known = {
      vocab_size: size("emb.weight", 0),
      n_embd: size("emb.weight", 1),
      n_layer: layers.reduce((most, i) => Math.max(most, i), 0) + 1,
      head_size: size("blocks.0.att.r_k", 1),
      dim_ffn: size("blocks.0.ffn.key.weight", 0),
      decay_lora: rank("w1"),
      aaa_lora: rank("a1"),
      mv_lora: rank("v1"),
      gate_lora: rank("g1"),
      spare_value_mix: shapes.has("blocks.0.att.v0"),
      spare_norms: shapes.has("blocks.1.ln0.weight"),
    };
    return RWKV7ForCausalLM.complete("RWKV7ForCausalLM", known);
  }

  static *shapes(config: RWKV7Config): Iterable<readonly [string, Shape]> {
    const { vocab_size, n_embd: C, n_layer, head_size, dim_ffn, spare_norms, spare_value_mix } = config;
    const norm = (name: string): [string, Shape][] => [
      [`${name}.weight`, [C]],
      [`${name}.bias`, [C]],
    ];
    yield ["emb.weight", [vocab_size, C]];
    for (let i = 0; i < n_layer; i++) {
      const block = `blocks.${i}`;
      if (i === 0 || spare_norms) yield* norm(`${block}.ln0`);
      yield* norm(`${block}.ln1`);
      yield* norm(`${block}.ln2`);
      const ranks = { w: config.decay_lora, a: config.aaa_lora, v: config.mv_lora, g: config.gate_lora };
      for (const [letter, rank] of Object.entries(ranks)) {
        if (letter === "v" && i === 0 && !spare_value_mix) continue;
        if (letter !== "g") yield [`${block}.att.${letter}0`, [1, 1, C]];
        yield [`${block}.att.${letter}1`, [C, rank]];
        yield [`${block}.att.${letter}2`, [rank, C]];
      }
      for (const name of ["x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "k_k", "k_a"]) yield [`${block}.att.${name}`, [1, 1, C]];
      yield [`${block}.att.r_k`, [C / head_size, head_size]];
      for (const name of ["receptance", "key", "value", "output"]) yield [`${block}.att.${name}.weight`, [C, C]];
      yield* norm(`${block}.att.ln_x`);
      yield [`${block}.ffn.x_k`, [1, 1, C]];
      yield [`${block}.ffn.key.weight`, [dim_ffn, C]];
      yield [`${block}.ffn.value.weight`, [C, dim_ffn]];
    }
    yield* norm("ln_out");
    yield ["head.weight", [vocab_size, C]];
  }

  protected body(ids: Tensor, { state, lengths }: CausalLMForwardOptions): Body {
    const before = checkDepth("RWKV7ForCausalLM.forward", state, this.blocks.length) as readonly BlockState[] | undefined;
    let x = this.emb.forward(ids);
    let first: Tensor | undefined;
    const layers: Tensor[] = [];
    const next: StateTree[] = [];
    for (const [i, block] of this.blocks.entries()) {
      const result = block.forward(x, before?.[i], lengths, first);
      first ??= result.value;
      x = result.x;
      layers.push(x);
      next.push(result.state);
    }
    return { hidden: this.ln_out.forward(x), state: next, layers };
  }

  protected logits(hidden: Tensor): Tensor {
    return this.head.forward(hidden);
  }
}
