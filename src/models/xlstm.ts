import type { Embedding } from "../nn/embedding.js";
import { constant, fill } from "../nn/fill.js";
import { Linear } from "../nn/linear.js";
import { Module, place, type Placement } from "../nn/module.js";
import { RMSNorm } from "../nn/norm.js";
import { ScanLayer, type ScanInput, type ScanState } from "../nn/scanLayer.js";
import type { StateTree } from "../nn/stream.js";
import { add, mul, scale, sigmoid, silu, tanh } from "../ops/elementwise.js";
import { matrixMemory } from "../ops/mlstm.js";
import { reshape, split } from "../ops/movement.js";
import { layerNorm, rmsNorm } from "../ops/norm.js";
import { ones, tensor, zeros } from "../tensor/create.js";
import type { Shape } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { CausalLM, checkDepth, placementOf, table, type Body, type CausalLMForwardOptions, type CausalLMOptions } from "./causalLM.js";
import { choice, completeConfig, count, flag, floatsOf, ids, maybe, number, type ConfigOf } from "./config.js";

const fields = {
  vocab_size: count(50304),
  hidden_size: count(4096),
  embedding_dim: maybe(count(4096)),
  num_hidden_layers: count(32),
  num_blocks: maybe(count(32)),
  num_heads: count(8),
  use_bias: flag(false),
  norm_eps: number(1e-6, 0),
  eps: number(1e-6, 0),
  qk_dim_factor: number(0.5, Number.MIN_VALUE),
  v_dim_factor: number(1, Number.MIN_VALUE),
  ffn_proj_factor: number(2.667, Number.MIN_VALUE),
  ffn_round_up_to_multiple_of: count(64),
  gate_soft_cap: maybe(number(15, Number.MIN_VALUE), 15),
  output_logit_soft_cap: maybe(number(30, Number.MIN_VALUE), 30),
  weight_mode: choice<"single" | "fused">("single", ["single", "fused"]),
  eos_token_id: ids(2),
} as const;

/** What computes the same numbers another way, or is not read by Transformers either. */
const ignored = [
  "tie_word_embeddings",
  "norm_reduction_force_float32",
  "add_out_norm",
  "chunkwise_kernel",
  "sequence_kernel",
  "step_kernel",
  "mode",
  "chunk_size",
  "return_last_states",
  "autocast_kernel_dtype",
  "inference_state_dtype",
  "max_inference_chunksize",
] as const;

/** The configuration of xLSTM in Transformers. */
export type xLSTMConfig = ConfigOf<typeof fields> & { readonly embedding_dim: number; readonly num_blocks: number };

/** The widths of a block: of all queries, of all values, and inside the feed-forward part. */
function widths({ hidden_size, qk_dim_factor, v_dim_factor, ffn_proj_factor, ffn_round_up_to_multiple_of: step }: xLSTMConfig) {
  const up = Math.floor((hidden_size * ffn_proj_factor + step - 1) / step) * step;
  return { qk: Math.trunc(hidden_size * qk_dim_factor), v: Math.trunc(hidden_size * v_dim_factor), up };
}

/** cap * tanh(x / cap); x itself without a cap. */
const softCap = (x: Tensor, cap: number | null): Tensor => (cap === null ? x : scale(tanh(scale(x, 1 / cap)), cap));

/** Gain, and shift where the configuration has biases, of a norm over all of the last axis, or over each head's part. */
class Norm extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor | null;

  constructor(
    features: number,
    bias: boolean,
    private readonly eps: number,
    options: Placement,
  ) {
    super();
    const settings = { requiresGrad: true, ...place(options) };
    this.weight = ones([features], settings);
    this.bias = bias ? zeros([features], settings) : null;
  }

  /** By the root mean square, [N, T, C] -> [N, T, C]. */
  forward(x: Tensor): Tensor {
    return this.shifted(rmsNorm(x, this.weight, { eps: this.eps }));
  }

  /** [N, T, heads, V] -> [N, T, heads * V] */
  byHead(x: Tensor): Tensor {
    const [n, steps, heads, size] = x.shape;
    return this.shifted(mul(reshape(layerNorm(x, null, null, { eps: this.eps }), [n, steps, heads * size]), this.weight));
  }

  private shifted(x: Tensor): Tensor {
    return this.bias ? add(x, this.bias) : x;
  }
}

/**
 * Gives a module the products of x that `parts` names, each by a matrix of its own, or all of them by the rows of one, named
 * `fused`. The result computes them.
 */
function addProducts(
  module: Module,
  inputs: number,
  parts: Readonly<Record<string, number>>,
  fused: string | null,
  options: CausalLMOptions & { readonly bias: boolean },
): (x: Tensor) => Tensor[] {
  const sizes = Object.values(parts);
  const names = fused === null ? Object.keys(parts) : [fused];
  const outputs = fused === null ? sizes : [sizes.reduce((a, b) => a + b)];
  const made = names.map((name, i) => {
    const linear = new Linear(inputs, outputs[i], options);
    Object.assign(module, { [name]: linear });
    return linear;
  });
  return (x) => (fused === null ? made.map((linear) => linear.forward(x)) : split(made[0].forward(x), sizes, 2));
}

/** The matrix memory between products of x, read through a norm of each head and an output gate. */
class MemoryLayer extends ScanLayer<"C" | "n" | "m"> {
  readonly multihead_norm: Norm;
  readonly out_proj: Linear;
  readonly inputSize: number;
  readonly outputSize: number;
  private readonly products: (x: Tensor) => Tensor[];
  private readonly gates: (x: Tensor) => Tensor[];

  constructor(
    private readonly config: xLSTMConfig,
    options: CausalLMOptions,
  ) {
    super();
    const { hidden_size: C, num_heads: heads, use_bias: bias, norm_eps, weight_mode } = config;
    const { generator, ...placement } = options;
    const { qk, v } = widths(config);
    const single = weight_mode === "single";
    this.inputSize = this.outputSize = C;
    this.products = addProducts(this, C, { q: qk, k: qk, v, ogate_preact: v }, single ? null : "qkv_opreact", { bias, ...options });
    const preacts = { igate_preact: heads, fgate_preact: heads };
    const fused = single ? null : "ifgate_preact";
    this.gates = addProducts(this, C, preacts, fused, { bias: true, ...options });
    // Gates begin closed to the input, and with memories of several lengths.
    const starts = Array.from({ length: 2 * heads }, (_, i) => (i < heads ? -10 : 3 + (3 * (i - heads)) / Math.max(heads - 1, 1)));
    const children = new Map(this.children() as [string, Linear][]);
    for (const [i, name] of (fused === null ? Object.keys(preacts) : [fused]).entries()) {
      const { weight, bias } = children.get(name)!;
      constant(weight, 0);
      fill(bias!, tensor(fused === null ? starts.slice(i * heads, (i + 1) * heads) : starts, place(placement)));
    }
    this.multihead_norm = new Norm(v, bias, norm_eps, placement);
    this.out_proj = new Linear(v, C, { bias, generator, ...placement });
  }

  protected stateShapes(): Record<"C" | "n" | "m", Shape> {
    const { num_heads: heads } = this.config;
    const { qk, v } = widths(this.config);
    return { C: [heads, qk / heads, v / heads], n: [heads, qk / heads], m: [heads] };
  }

  protected run({ x, state, lengths }: ScanInput<"C" | "n" | "m">) {
    const { num_heads: heads, gate_soft_cap, eps } = this.config;
    const [n, steps] = x.shape;
    const byHead = (t: Tensor) => reshape(t, [n, steps, heads, t.shape[2] / heads]);
    const [q, k, v, open] = this.products(x);
    const [inputGate, forgetGate] = this.gates(x).map((t) => softCap(t, gate_soft_cap));
    const { device, dtype } = x;
    // Transformers begins with a stabiliser of 0, a stream too.
    const start = (name: "C" | "n" | "m") => state[name] ?? zeros([n, ...this.stateShapes()[name]], { device, dtype });
    const memory = matrixMemory(
      {
        q: byHead(scale(q, (q.shape[2] / heads) ** -0.5)),
        k: byHead(k),
        v: byHead(v),
        inputGate,
        forgetGate,
        state: { C: start("C"), n: start("n"), m: start("m") },
        lengths,
      },
      { eps },
    );
    const read = mul(sigmoid(open), this.multihead_norm.byHead(memory.output));
    return { output: this.out_proj.forward(read), state: { ...memory.state } };
  }
}

/** W_down (silu(gate) * z), gate and z products of x. */
class FeedForward extends Module {
  readonly proj_down: Linear;
  private readonly products: (x: Tensor) => Tensor[];

  constructor(config: xLSTMConfig, options: CausalLMOptions) {
    super();
    const { hidden_size: C, use_bias: bias, weight_mode } = config;
    const { up } = widths(config);
    const parts = { proj_up_gate: up, proj_up: up };
    this.products = addProducts(this, C, parts, weight_mode === "single" ? null : "proj_up_gate_z", { bias, ...options });
    this.proj_down = new Linear(up, C, { bias, ...options });
  }

  forward(x: Tensor): Tensor {
    const [gate, z] = this.products(x);
    return this.proj_down.forward(mul(silu(gate), z));
  }
}

class Block extends Module {
  readonly norm_mlstm: Norm;
  readonly mlstm_layer: MemoryLayer;
  readonly norm_ffn: Norm;
  readonly ffn: FeedForward;

  constructor(config: xLSTMConfig, options: CausalLMOptions) {
    super();
    const placement = placementOf(options);
    const norm = () => new Norm(config.hidden_size, config.use_bias, config.norm_eps, placement);
    this.norm_mlstm = norm();
    this.mlstm_layer = new MemoryLayer(config, options);
    this.norm_ffn = norm();
    this.ffn = new FeedForward(config, options);
  }
}

class Backbone extends Module {
  readonly embeddings: Embedding;
  readonly blocks: readonly Block[];
  readonly out_norm: RMSNorm;

  constructor(config: xLSTMConfig, options: CausalLMOptions) {
    super();
    const placement = placementOf(options);
    const { vocab_size, hidden_size, num_blocks, norm_eps } = config;
    this.embeddings = table(vocab_size, hidden_size, Math.sqrt(2 / (5 * hidden_size)), options);
    this.blocks = Array.from({ length: num_blocks }, () => new Block(config, options));
    this.out_norm = new RMSNorm(hidden_size, { eps: norm_eps, ...placement });
  }
}

/**
 * xLSTM of mLSTM blocks (Beck et al. 2025, "xLSTM 7B") as a language model: `xLSTMForCausalLM` of Transformers, whose names
 * its parameters have. Gates and logits are capped softly, by cap * tanh(x / cap).
 */
export class xLSTMForCausalLM extends CausalLM {
  static readonly architecture = "xLSTMForCausalLM";
  static readonly modelType = "xlstm";
  static readonly floats = floatsOf(fields);
  readonly config: xLSTMConfig;
  readonly backbone: Backbone;
  readonly lm_head: Linear;

  /** @throws on an entry of the configuration that is not known or cannot be. */
  constructor(config: Partial<xLSTMConfig>, options: CausalLMOptions = {}) {
    super();
    this.config = xLSTMForCausalLM.complete("xLSTMForCausalLM", config);
    const { hidden_size, vocab_size } = this.config;
    this.backbone = new Backbone(this.config, options);
    this.lm_head = new Linear(hidden_size, vocab_size, { bias: false, ...options });
  }

  static complete(where: string, given: object): xLSTMConfig {
    const found = completeConfig(where, fields, ignored, given);
    const { hidden_size, embedding_dim, num_hidden_layers, num_blocks, num_heads: heads } = found;
    const config = Object.freeze({ ...found, embedding_dim: embedding_dim ?? hidden_size, num_blocks: num_blocks ?? num_hidden_layers });
    if (config.embedding_dim !== hidden_size)
      throw new RangeError(`${where}: embedding_dim must be hidden_size, ${hidden_size}, but is ${embedding_dim}`);
    if (config.num_blocks !== num_hidden_layers)
      throw new RangeError(`${where}: num_blocks must be num_hidden_layers, ${num_hidden_layers}, but is ${num_blocks}`);
    for (const [name, width] of Object.entries(widths(config)))
      if (width < 1 || (name !== "up" && width % heads !== 0))
        throw new RangeError(
          `${where}: hidden_size times ${name}_dim_factor must be a multiple of num_heads but they are ${width} and ${heads}`,
        );
    return config;
  }

  static *shapes(config: xLSTMConfig): Iterable<readonly [string, Shape]> {
    const { vocab_size, hidden_size: C, num_blocks, num_heads: heads, use_bias, weight_mode } = config;
    const { qk, v, up } = widths(config);
    const linear = (name: string, inputs: number, outputs: number, bias = use_bias): [string, Shape][] => [
      [`${name}.weight`, [outputs, inputs]],
      ...(bias ? [[`${name}.bias`, [outputs]] as [string, Shape]] : []),
    ];
    const norm = (name: string, width: number): [string, Shape][] => [
      [`${name}.weight`, [width]],
      ...(use_bias ? [[`${name}.bias`, [width]] as [string, Shape]] : []),
    ];
    yield ["backbone.embeddings.weight", [vocab_size, C]];
    for (let i = 0; i < num_blocks; i++) {
      const block = `backbone.blocks.${i}`;
      const layer = `${block}.mlstm_layer`;
      yield* norm(`${block}.norm_mlstm`, C);
      if (weight_mode === "single") {
        for (const [name, width] of Object.entries({ q: qk, k: qk, v, ogate_preact: v })) yield* linear(`${layer}.${name}`, C, width);
        for (const name of ["igate_preact", "fgate_preact"]) yield* linear(`${layer}.${name}`, C, heads, true);
        for (const name of ["proj_up_gate", "proj_up"]) yield* linear(`${block}.ffn.${name}`, C, up);
      } else {
        yield* linear(`${layer}.qkv_opreact`, C, 2 * qk + 2 * v);
        yield* linear(`${layer}.ifgate_preact`, C, 2 * heads, true);
        yield* linear(`${block}.ffn.proj_up_gate_z`, C, 2 * up);
      }
      yield* norm(`${layer}.multihead_norm`, v);
      yield* linear(`${layer}.out_proj`, v, C);
      yield* norm(`${block}.norm_ffn`, C);
      yield* linear(`${block}.ffn.proj_down`, up, C);
    }
    yield ["backbone.out_norm.weight", [C]];
    yield ["lm_head.weight", [vocab_size, C]];
  }

  protected body(ids: Tensor, { state, lengths }: CausalLMForwardOptions): Body {
    const { embeddings, blocks, out_norm } = this.backbone;
    const before = checkDepth("xLSTMForCausalLM.forward", state, blocks.length) as readonly ScanState<"C" | "n" | "m">[] | undefined;
    let x = embeddings.forward(ids);
    const layers: Tensor[] = [];
    const next: StateTree[] = [];
    for (const [i, { norm_mlstm, mlstm_layer, norm_ffn, ffn }] of blocks.entries()) {
      layers.push(x);
      const memory = mlstm_layer.forward(norm_mlstm.forward(x), { state: before?.[i], lengths });
      x = add(x, memory.output);
      x = add(x, ffn.forward(norm_ffn.forward(x)));
      next.push(memory.state);
    }
    return { hidden: out_norm.forward(x), state: next, layers };
  }

  protected logits(hidden: Tensor): Tensor {
    return softCap(this.lm_head.forward(hidden), this.config.output_logit_soft_cap);
  }
}
