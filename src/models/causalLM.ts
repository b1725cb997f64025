import { Embedding } from "../nn/embedding.js";
import { normal } from "../nn/fill.js";
import { Linear } from "../nn/linear.js";
import { Module, type Placement } from "../nn/module.js";
import { streamModel, type StateTree, type Stream } from "../nn/stream.js";
import { streamsModel, type Streams, type StreamsOptions } from "../nn/streams.js";
import { slice, stack } from "../ops/movement.js";
import { checkOptions } from "../tensor/check.js";
import { showShape, type Shape } from "../tensor/op.js";
import type { Generator } from "../tensor/random.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkGenerate, generateIds, generateText, type GenerateOptions } from "./generate.js";
import type { Tokenizer } from "./tokenizer.js";

export interface CausalLMOptions extends Placement {
  /** Source of the initial weights. Default: the process's generator. */
  readonly generator?: Generator;
}

/** What every such model's `forward` may be given beside ids. */
export interface CausalLMForwardOptions {
  /** The state to go on from; that of the start by default. */
  readonly state?: StateTree;
  /** Valid steps of each row, 0 to T; all by default. */
  readonly lengths?: readonly number[] | Int32Array;
  /** Return `hiddenStates` too. Default false. */
  readonly hiddenStates?: boolean;
}

/** What a model's layers make of ids: the last hidden values [N, T, C], the state, and a value for each layer. */
export interface Body {
  readonly hidden: Tensor;
  readonly state: StateTree;
  readonly layers: readonly Tensor[];
}

/** A kind of published model: how its configuration is read, and which tensors a checkpoint of it holds. */
export interface Architecture<C extends object = object> {
  new (config: Partial<C>, options?: CausalLMOptions): CausalLM;
  /** As `config.json` has it, in `architectures` and `model_type`. */
  readonly architecture: string;
  readonly modelType: string;
  /** The parameter that is another one where the configuration says `tie_word_embeddings`, and which. */
  readonly tied?: readonly [string, string];
  /** Entries of the configuration that are floating-point numbers. */
  readonly floats: readonly string[];
  /** @throws on an entry that is not known or cannot be. */
  complete(where: string, given: object): C;
  /** Names and shapes of the parameters, without making them. */
  shapes(config: C): Iterable<readonly [string, Shape]>;
}

/**
 * A published language model: ids in, logits of the next id out, and a state of fixed size between steps. Its parameters
 * have the names of the checkpoint.
 */
export abstract class CausalLM extends Module {
  /** As in `config.json`, completed. */
  abstract readonly config: {
    readonly vocab_size: number;
    readonly eos_token_id: number | readonly number[] | null;
  };
  /** Between text and ids, where the model was loaded with one. */
  tokenizer: Tokenizer | null = null;

  /** What the layers make of ids int32 [N, T]. */
  protected abstract body(ids: Tensor, options: Pick<CausalLMForwardOptions, "state" | "lengths">): Body;

  /** Logits of the last hidden values. */
  protected abstract logits(hidden: Tensor): Tensor;

  get vocabSize(): number {
    return this.config.vocab_size;
  }

  /**
   * ids int32 [N, T] -> `logits` [N, T, vocabSize] for the id after each, and the `state` to go on from. With
   * `hiddenStates` also those that Transformers gives, [layers + 1, N, T, C]: after each layer (of xLSTM: before it), and after the last norm.
   *
   * @throws on a wrong shape, state or option.
   */
  forward(ids: Tensor, options: CausalLMForwardOptions = {}): { logits: Tensor; state: StateTree; hiddenStates?: Tensor } {
    const where = `${this.constructor.name}.forward`;
    checkOptions(where, options, ["state", "lengths", "hiddenStates"]);
    if (ids.shape.length !== 2 || ids.dtype !== "int32")
      throw new RangeError(`${where}: ids must be int32 [N, T] but is ${ids.dtype} ${showShape(ids.shape)}`);
    return scope(() => {
      const { hidden, state, layers } = this.body(ids, options);
      const logits = this.logits(hidden);
      return { logits, state, ...(options.hiddenStates && { hiddenStates: stack([...layers, hidden]) }) };
    });
  }

  /** A stream over one sequence: `step([id])` gives the logits of the next id. The state stays on the device. */
  override stream(): Stream {
    return streamModel(this, { shape: [1, 1], dtype: "int32" });
  }

  /** Many sequences, stepped together by one id each: see `Streams`. */
  override streams(options: StreamsOptions = {}): Streams {
    return streamsModel(this, { ...options, shape: [1, 1], dtype: "int32" });
  }

  /** @internal The last logits and the state of one row. */
  prefill(ids: Tensor, state: StateTree | undefined): { logits: Tensor; state: StateTree } {
    const { hidden, state: next } = this.body(ids, { state });
    return { logits: this.logits(slice(hidden, 1, hidden.shape[1] - 1)), state: next };
  }

  /**
   * Goes on from a prompt: yields one id after another, or pieces of text if the prompt is text. The prompt is read in one
   * pass; then each step takes the same time and no more memory, however long the text. Ends at one of the ids
   * `eos_token_id` of the configuration, which is not yielded.
   *
   * @throws at once on an empty prompt, an id outside the vocabulary or an option out of range, and on text without a
   * tokenizer; while it runs, if logits are not finite.
   */
  generate(prompt: string, options?: GenerateOptions): AsyncGenerator<string, void, undefined>;
  generate(prompt: ArrayLike<number>, options?: GenerateOptions): AsyncGenerator<number, void, undefined>;
  generate(prompt: string | ArrayLike<number>, options: GenerateOptions = {}): AsyncGenerator<string | number, void, undefined> {
    checkGenerate(`${this.constructor.name}.generate`, this, prompt, options);
    return typeof prompt === "string" ? generateText(this, prompt, options) : generateIds(this, prompt, options);
  }
}

/** @internal Where parameters live that are not drawn. */
export const placementOf = ({ device, dtype }: CausalLMOptions): Placement => ({ device, dtype });

/** @internal A table of vectors whose initial values have a small deviation, so that it can also be a head. */
export function table(count: number, features: number, std: number, { generator, ...placement }: CausalLMOptions): Embedding {
  const made = new Embedding(count, features, { generator, ...placement });
  normal(made.weight, { std, generator });
  return made;
}

/** @internal The product of the hidden values with a matrix of its own, or with the table of an embedding. */
export function outputHead(embeddings: Embedding, tie: boolean, { generator, ...placement }: CausalLMOptions): Linear {
  const head = new Linear(embeddings.features, embeddings.count, { bias: false, generator, ...placement });
  if (tie) {
    head.weight.dispose();
    Object.assign(head, { weight: embeddings.weight });
  }
  return head;
}

/** @internal A state of so many layers, or none. @throws RangeError if it is of another number. */
export function checkDepth(where: string, state: StateTree | undefined, layers: number): readonly StateTree[] | undefined {
  if (state === undefined) return undefined;
  if (!Array.isArray(state) || state.length !== layers) {
    const actual = Array.isArray(state) ? `has ${state.length}` : "is no list";
    throw new RangeError(`${where}: state must have an entry for each of ${layers} layers but ${actual}`);
  }
  return state as readonly StateTree[];
}
