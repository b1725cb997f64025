import type { Linear } from "../nn/linear.js";
import { Mamba2 } from "../nn/mamba2.js";
import type { Shape } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { CausalLM, outputHead, type CausalLMForwardOptions, type CausalLMOptions } from "./causalLM.js";
import { choice, completeConfig, count, flag, floatsOf, ids, number, range, type ConfigOf } from "./config.js";
import { MambaBackbone, mambaShapes } from "./mambaBackbone.js";

const fields = {
  vocab_size: count(32768),
  hidden_size: count(4096),
  num_hidden_layers: count(64),
  num_heads: count(128),
  head_dim: count(64),
  state_size: count(128),
  n_groups: count(8),
  conv_kernel: count(4),
  expand: count(2),
  use_bias: flag(false),
  use_conv_bias: flag(true),
  hidden_act: choice("silu", ["silu", "swish"]),
  layer_norm_epsilon: number(1e-5, 0),
  initializer_range: number(0.1, 0),
  time_step_min: number(0.001, Number.MIN_VALUE),
  time_step_max: number(0.1, Number.MIN_VALUE),
  time_step_limit: range(0, Infinity),
  tie_word_embeddings: flag(false),
  eos_token_id: ids(2),
} as const;

/** What computes the same numbers another way, starts weights that are loaded, or is not read by Transformers either. */
const ignored = [
  "chunk_size",
  "residual_in_fp32",
  "rescale_prenorm_residual",
  "time_step_floor",
  "time_step_rank",
  "time_step_init_scheme",
  "intermediate_size",
  "norm_before_gate",
  "rms_norm",
] as const;

/** The configuration of Mamba-2 in Transformers. */
export type Mamba2Config = ConfigOf<typeof fields>;

/** Mamba-2 (Dao & Gu 2024) as a language model: `Mamba2ForCausalLM` of Transformers, whose names its parameters have. */
export class Mamba2ForCausalLM extends CausalLM {
  static readonly architecture = "Mamba2ForCausalLM";
  static readonly modelType = "mamba2";
  static readonly tied = ["lm_head.weight", "backbone.embeddings.weight"] as const;
  static readonly floats = floatsOf(fields, ["time_step_floor"]);
  readonly config: Mamba2Config;
  readonly backbone: MambaBackbone;
  readonly lm_head: Linear;

  /** @throws on an entry of the configuration that is not known or cannot be. */
  constructor(config: Partial<Mamba2Config>, options: CausalLMOptions = {}) {
    super();
    this.config = Mamba2ForCausalLM.complete("Mamba2ForCausalLM", config);
    const c = this.config;
    const mixer = {
      headSize: c.head_dim,
      stateSize: c.state_size,
      groups: c.n_groups,
      convKernel: c.conv_kernel,
      expand: c.expand,
      bias: c.use_bias,
      convBias: c.use_conv_bias,
      timeStepMin: c.time_step_min,
      timeStepMax: c.time_step_max,
      timeStepLimit: c.time_step_limit,
      eps: c.layer_norm_epsilon,
      ...options,
    };
    this.backbone = new MambaBackbone(c, options, () => new Mamba2(c.hidden_size, mixer));
    this.lm_head = outputHead(this.backbone.embeddings, c.tie_word_embeddings, options);
  }

  static complete(where: string, given: object): Mamba2Config {
    const config = completeConfig(where, fields, ignored, given);
    const { hidden_size, expand, num_heads, head_dim, n_groups } = config;
    if (expand * hidden_size !== num_heads * head_dim)
      throw new RangeError(
        `${where}: expand * hidden_size must be num_heads * head_dim but they are ${expand * hidden_size} and ${num_heads * head_dim}`,
      );
    if (num_heads % n_groups !== 0)
      throw new RangeError(`${where}: num_heads must be a multiple of n_groups but they are ${num_heads} and ${n_groups}`);
    return config;
  }

  static shapes(config: Mamba2Config): Iterable<readonly [string, Shape]> {
    const { hidden_size, num_heads, head_dim, n_groups, state_size, conv_kernel, use_bias, use_conv_bias } = config;
    const inner = num_heads * head_dim;
    const channels = inner + 2 * n_groups * state_size;
    const mixer: [string, Shape][] = [
      ["dt_bias", [num_heads]],
      ["A_log", [num_heads]],
      ["D", [num_heads]],
      ["in_proj.weight", [inner + channels + num_heads, hidden_size]],
      ["conv1d.weight", [channels, 1, conv_kernel]],
      ["norm.weight", [inner]],
      ["out_proj.weight", [hidden_size, inner]],
    ];
    if (use_bias) mixer.push(["in_proj.bias", [inner + channels + num_heads]], ["out_proj.bias", [hidden_size]]);
    if (use_conv_bias) mixer.push(["conv1d.bias", [channels]]);
    return mambaShapes(config, mixer);
  }

  protected body(ids: Tensor, options: CausalLMForwardOptions) {
    return this.backbone.run("Mamba2ForCausalLM.forward", ids, options);
  }

  protected logits(hidden: Tensor): Tensor {
    return this.lm_head.forward(hidden);
  }
}
