import { Dropout } from "../nn/dropout.js";
import { Embedding } from "../nn/embedding.js";
import { GRU, LSTM, RNN } from "../nn/layers.js";
import { Linear } from "../nn/linear.js";
import { Module, type Placement } from "../nn/module.js";
import type { ForwardOptions, Recurrent } from "../nn/recurrent.js";
import { streamModel, type Stream } from "../nn/stream.js";
import { streamsModel, type Streams, type StreamsOptions } from "../nn/streams.js";
import { checkCount, checkOptions } from "../tensor/check.js";
import { showShape, type Shape } from "../tensor/op.js";
import type { Generator } from "../tensor/random.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkPrompt, continued, pacer } from "./generate.js";
import { checkSampling, samplingOptions, Seen, type SamplingOptions } from "./sampling.js";

const stacks = {
  lstm: (i: number, h: number, options: object) => new LSTM(i, h, options) as Recurrent<string>,
  gru: (i: number, h: number, options: object) => new GRU(i, h, options) as Recurrent<string>,
  elman: (i: number, h: number, options: object) => new RNN(i, h, options) as Recurrent<string>,
} as const;

/** Gates of each, for the shapes of its weights. */
const gates = { lstm: 4, gru: 3, elman: 1 } as const;

/** The recurrent layers a language model can be built of. */
export type CellName = keyof typeof stacks;
export const cellNames = Object.keys(stacks) as readonly CellName[];

/** What a language model looks like: enough to build it again. */
export interface LanguageModelConfig {
  /** Default `lstm`. */
  readonly cell?: CellName;
  /** Units of a layer. Default 256. */
  readonly hidden?: number;
  /** Default 2. */
  readonly layers?: number;
  /** Size of the vector of an id. Default 128. */
  readonly embed?: number;
  /** Probability of zeroing an output between layers and before the head while training. Default 0. */
  readonly dropout?: number;
  /** Use the table of id vectors for the head too (Press & Wolf 2017); needs embed = hidden. Default false. */
  readonly tie?: boolean;
}

export interface LanguageModelOptions extends LanguageModelConfig, Placement {
  /** Source of the initial weights and of dropout. Default: the process's generator. */
  readonly generator?: Generator;
}

export interface SampleOptions extends SamplingOptions {
  /** How many ids to make. Default: without end. */
  readonly length?: number;
  /** Default: the process's generator. */
  readonly generator?: Generator;
  /** Ends the sequence early, without an error. */
  readonly signal?: AbortSignal;
}

/** Names and shapes of the parameters of such a model, without making it. */
export function* languageModelShapes(vocabSize: number, config: Required<LanguageModelConfig>): Iterable<[string, Shape]> {
  const { cell, hidden, layers, embed, tie } = config;
  const rows = gates[cell] * hidden;
  yield ["embed.weight", [vocabSize, embed]];
  for (let k = 0; k < layers; k++) {
    yield [`rnn.weight_ih_l${k}`, [rows, k === 0 ? embed : hidden]];
    yield [`rnn.weight_hh_l${k}`, [rows, hidden]];
    yield [`rnn.bias_ih_l${k}`, [rows]];
    yield [`rnn.bias_hh_l${k}`, [rows]];
  }
  if (!tie) yield ["head.weight", [vocabSize, hidden]];
  yield ["head.bias", [vocabSize]];
}

/** Foretells the next id of a sequence: embedding, recurrent layers, linear (Mikolov et al. 2010; Graves 2013). */
export class LanguageModel extends Module {
  readonly config: Required<LanguageModelConfig>;
  readonly embed: Embedding;
  readonly rnn: Recurrent<string>;
  readonly drop: Dropout;
  readonly head: Linear;

  /** @throws on an unknown cell or option, a size that is not a positive integer, or `tie` with embed other than hidden. */
  constructor(
    readonly vocabSize: number,
    options: LanguageModelOptions = {},
  ) {
    super();
    const where = "LanguageModel";
    checkOptions(where, options, ["cell", "hidden", "layers", "embed", "dropout", "tie", "generator", "device", "dtype"]);
    const { cell = "lstm", hidden = 256, layers = 2, embed = 128, dropout = 0, tie = false, generator, device, dtype } = options;
    checkCount(where, "vocabSize", vocabSize);
    if (!cellNames.includes(cell))
      throw new RangeError(`${where}: cell must be one of ${cellNames.join(", ")} but is ${JSON.stringify(cell)}`);
    if (tie && embed !== hidden) throw new RangeError(`${where}: tie needs embed equal to hidden but they are ${embed} and ${hidden}`);
    this.config = { cell, hidden, layers, embed, dropout, tie };
    const shared = { generator, device, dtype };
    this.embed = new Embedding(vocabSize, embed, shared);
    this.rnn = stacks[cell](embed, hidden, { ...shared, layers, dropout });
    this.drop = new Dropout(dropout, { generator });
    this.head = new Linear(hidden, vocabSize, shared);
    if (tie) {
      // The head's narrow initial range suits both uses; the embedding's would give huge first logits.
      this.embed.weight.dispose();
      Object.assign(this.embed, { weight: this.head.weight });
    }
  }

  /**
   * ids int32 [N, T] -> `logits` [N, T, vocabSize] for the id after each, and the final `state` of the recurrent layers.
   * To go on in a later batch, pass the state on, detached.
   */
  forward(ids: Tensor, options: ForwardOptions<string> = {}): { logits: Tensor; state: Record<string, Tensor> } {
    if (ids.shape.length !== 2) throw new RangeError(`LanguageModel.forward: ids must be [N, T] but is ${showShape(ids.shape)}`);
    return scope(() => {
      const { output, state } = this.rnn.forward(this.embed.lookup(ids), options);
      return { logits: this.head.forward(this.drop.forward(output)), state };
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

  /**
   * Goes on from a prompt of at least one id: yields one id after another, each chosen from the logits and fed back.
   * Lets the event loop turn every few milliseconds.
   *
   * @throws on an empty prompt, an id outside the vocabulary, an option out of range, or logits that are not finite.
   */
  async *sample(prompt: ArrayLike<number>, options: SampleOptions = {}): AsyncGenerator<number, void, undefined> {
    const where = "LanguageModel.sample";
    checkOptions(where, options, [...samplingOptions, "length", "generator", "signal"]);
    checkSampling(where, options);
    const { length = Infinity, generator, signal, ...sampling } = options;
    if (length !== Infinity) checkCount(where, "length", length, 0);
    checkPrompt(where, prompt, this.vocabSize);
    using stream = this.stream();
    const logits = new Float32Array(this.vocabSize);
    const pace = pacer();
    for (let i = 0; i < prompt.length && !signal?.aborted; i++) {
      stream.step([prompt[i]], logits);
      await pace();
    }
    yield* continued(stream, logits, new Seen(this.vocabSize, prompt), { ...sampling, generator, signal, maxTokens: length });
  }
}
