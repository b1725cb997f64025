import type { Linear } from "../nn/linear.js";
import { Mamba } from "../nn/mamba.js";
import type { Shape } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { CausalLM, outputHead, type CausalLMForwardOptions, type CausalLMOptions } from "./causalLM.js";
import { choice, completeConfig, count, flag, floatsOf, ids, maybe, number, type ConfigOf } from "./config.js";
import { MambaBackbone, mambaShapes } from "./mambaBackbone.js";

const fields = {
  vocab_size: count(50280),
  hidden_size: count(768),
  num_hidden_layers: count(32),
  state_size: count(16),
  conv_kernel: count(4),
  expand: count(2),
  intermediate_size: maybe(count(1536)),
  use_bias: flag(false),
  use_conv_bias: flag(true),
  hidden_act: choice("silu", ["silu", "swish"]),
  layer_norm_epsilon: number(1e-5, 0),
  initializer_range: number(0.1, 0),
  time_step_min: number(0.001, Number.MIN_VALUE),
  time_step_max: number(0.1, Number.MIN_VALUE),
  tie_word_embeddings: flag(true),
  eos_token_id: ids(0),
} as const;

/** What computes the same numbers another way, starts weights that are loaded, or is not read by Transformers either. */
const ignored = [
  "residual_in_fp32",
  "rescale_prenorm_residual",
  "time_step_floor",
  "time_step_scale",
  "time_step_init_scheme",
  "use_mambapy",
  "use_associative_scan",
  "d_inner",
  "d_model",
  "n_layer",
  "fused_add_norm",
  "pad_vocab_size_multiple",
  "rms_norm",
  "ssm_cfg",
] as const;

/** The configuration of Mamba in Transformers. */
export type MambaConfig = ConfigOf<typeof fields> & { readonly intermediate_size: number; readonly time_step_rank: number };

/** Mamba (Gu & Dao 2023) as a language model: `MambaForCausalLM` of Transformers, whose names its parameters have. */
export class MambaForCausalLM extends CausalLM {
  static readonly architecture = "MambaForCausalLM";
  static readonly modelType = "mamba";
  static readonly tied = ["lm_head.weight", "backbone.embeddings.weight"] as const;
  static readonly floats = floatsOf(fields, ["time_step_floor", "time_step_scale"]);
  readonly config: MambaConfig;
  readonly backbone: MambaBackbone;
  readonly lm_head: Linear;

  /** @throws on an entry of the configuration that is not known or cannot be. */
  constructor(config: Partial<MambaConfig>, options: CausalLMOptions = {}) {
    super();
    this.config = MambaForCausalLM.complete("MambaForCausalLM", config);
    const c = this.config;
    const mixer = {
      stateSize: c.state_size,
      convKernel: c.conv_kernel,
      expand: c.expand,
      timeStepRank: c.time_step_rank,
      bias: c.use_bias,
      convBias: c.use_conv_bias,
      timeStepMin: c.time_step_min,
      timeStepMax: c.time_step_max,
      ...options,
    };
    this.backbone = new MambaBackbone(c, options, () => new Mamba(c.hidden_size, mixer));
    this.lm_head = outputHead(this.backbone.embeddings, c.tie_word_embeddings, options);
  }

  static complete(where: string, given: object): MambaConfig {
    const { time_step_rank: rank = "auto", ...rest } = given as { time_step_rank?: unknown };
    const config = completeConfig(where, fields, ignored, rest);
    const { hidden_size, expand, intermediate_size } = config;
    const inner = expand * hidden_size;
    if (!Number.isInteger(inner) || (intermediate_size ?? inner) !== inner)
      throw new RangeError(`${where}: intermediate_size must be expand * hidden_size = ${inner} but is ${intermediate_size}`);
    const time_step_rank = rank === "auto" || rank === null ? Math.ceil(hidden_size / 16) : rank;
    count(1).check(where, "time_step_rank", time_step_rank);
    return Object.freeze({ ...config, intermediate_size: inner, time_step_rank: time_step_rank as number });
  }

  static shapes(config: MambaConfig): Iterable<readonly [string, Shape]> {
    const { hidden_size, intermediate_size: inner, state_size, time_step_rank, conv_kernel, use_bias, use_conv_bias } = config;
    const mixer: [string, Shape][] = [
      ["A_log", [inner, state_size]],
      ["D", [inner]],
      ["in_proj.weight", [2 * inner, hidden_size]],
      ["conv1d.weight", [inner, 1, conv_kernel]],
      ["x_proj.weight", [time_step_rank + 2 * state_size, inner]],
      ["dt_proj.weight", [inner, time_step_rank]],
      ["dt_proj.bias", [inner]],
      ["out_proj.weight", [hidden_size, inner]],
    ];
    if (use_bias) mixer.push(["in_proj.bias", [2 * inner]], ["out_proj.bias", [hidden_size]]);
    if (use_conv_bias) mixer.push(["conv1d.bias", [inner]]);
    return mambaShapes(config, mixer);
  }

  protected body(ids: Tensor, options: CausalLMForwardOptions) {
    return this.backbone.run("MambaForCausalLM.forward", ids, options);
  }

  protected logits(hidden: Tensor): Tensor {
    return this.lm_head.forward(hidden);
  }
}
