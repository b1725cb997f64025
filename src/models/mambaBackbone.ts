import type { Embedding } from "../nn/embedding.js";
import { Module, type Placement } from "../nn/module.js";
import { RMSNorm } from "../nn/norm.js";
import type { ScanLayer, ScanState } from "../nn/scanLayer.js";
import type { StateTree } from "../nn/stream.js";
import { add } from "../ops/elementwise.js";
import type { Shape } from "../tensor/op.js";
import { checkDepth, table, type Body, type CausalLMForwardOptions, type CausalLMOptions } from "./causalLM.js";

/** What is common to the configurations of Mamba and Mamba-2. */
export interface MambaSizes {
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly num_hidden_layers: number;
  readonly layer_norm_epsilon: number;
  readonly initializer_range: number;
  readonly tie_word_embeddings: boolean;
}

/** x + mixer(norm(x)) */
class MambaBlock extends Module {
  readonly norm: RMSNorm;

  constructor(
    { hidden_size, layer_norm_epsilon }: MambaSizes,
    readonly mixer: ScanLayer<"conv" | "ssm">,
    placement: Placement,
  ) {
    super();
    this.norm = new RMSNorm(hidden_size, { eps: layer_norm_epsilon, ...placement });
  }
}

/** Vectors of ids, blocks around mixers, and a last norm: what Mamba and Mamba-2 are without their head. */
export class MambaBackbone extends Module {
  readonly embeddings: Embedding;
  readonly layers: readonly MambaBlock[];
  readonly norm_f: RMSNorm;

  constructor(config: MambaSizes, { generator, ...placement }: CausalLMOptions, mixer: () => ScanLayer<"conv" | "ssm">) {
    super();
    const { vocab_size, hidden_size, layer_norm_epsilon, initializer_range } = config;
    this.embeddings = table(vocab_size, hidden_size, initializer_range, { generator, ...placement });
    this.layers = Array.from({ length: config.num_hidden_layers }, () => new MambaBlock(config, mixer(), placement));
    this.norm_f = new RMSNorm(hidden_size, { eps: layer_norm_epsilon, ...placement });
  }

  run(where: string, ids: Parameters<Embedding["forward"]>[0], { state, lengths }: CausalLMForwardOptions): Body {
    const before = checkDepth(where, state, this.layers.length) as readonly ScanState<"conv" | "ssm">[] | undefined;
    let x = this.embeddings.forward(ids);
    const layers = [];
    const next: StateTree[] = [];
    for (const [i, { norm, mixer }] of this.layers.entries()) {
      const mixed = mixer.forward(norm.forward(x), { state: before?.[i], lengths });
      x = add(x, mixed.output);
      layers.push(x);
      next.push(mixed.state);
    }
    return { hidden: this.norm_f.forward(x), state: next, layers };
  }
}

/** Names and shapes of the parameters of such a model with mixers of these. */
export function* mambaShapes(config: MambaSizes, mixer: readonly (readonly [string, Shape])[]): Iterable<readonly [string, Shape]> {
  const { vocab_size, hidden_size, num_hidden_layers, tie_word_embeddings } = config;
  yield ["backbone.embeddings.weight", [vocab_size, hidden_size]];
  for (let i = 0; i < num_hidden_layers; i++) {
    yield [`backbone.layers.${i}.norm.weight`, [hidden_size]];
    for (const [name, shape] of mixer) yield [`backbone.layers.${i}.mixer.${name}`, shape];
  }
  yield ["backbone.norm_f.weight", [hidden_size]];
  if (!tie_word_embeddings) yield ["lm_head.weight", [vocab_size, hidden_size]];
}
