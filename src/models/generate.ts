import { setImmediate } from "node:timers/promises";
import { inference } from "../nn/mode.js";
import { leaves, type Snapshot, type StateTree, type Stream } from "../nn/stream.js";
import { checkCount, checkOptions } from "../tensor/check.js";
import { tensor } from "../tensor/create.js";
import { noGrad } from "../tensor/graph.js";
import { defaultGenerator, type Generator } from "../tensor/random.js";
import { keep, scope } from "../tensor/scope.js";
import type { CausalLM } from "./causalLM.js";
import { checkSampling, pick, samplingOptions, Seen, type SamplingOptions } from "./sampling.js";
import { TextPieces } from "./tokenizer.js";

export interface GenerateOptions extends SamplingOptions {
  /** How many ids to make at most. Default: without end. */
  readonly maxTokens?: number;
  /** Ids, and for a text also strings, at which it ends; they are not yielded. */
  readonly stop?: string | number | readonly (string | number)[];
  /** Go on behind the ids that the model's configuration names as the end of a text. Default false. */
  readonly ignoreEos?: boolean;
  /** Ends the sequence early, without an error. */
  readonly signal?: AbortSignal;
  /** Default: the process's generator. */
  readonly generator?: Generator;
}

/** Milliseconds of sampling between turns of the event loop. */
const SLICE = 5;

/** @internal Lets the event loop turn every few milliseconds. */
export function pacer(): () => Promise<void> {
  let until = performance.now() + SLICE;
  return async () => {
    if (performance.now() < until) return;
    await setImmediate();
    until = performance.now() + SLICE;
  };
}

const listed = <T>(value: T | readonly T[] | null | undefined): readonly T[] =>
  Array.isArray(value) ? (value as readonly T[]) : value === null || value === undefined ? [] : [value as T];

const texts = (stop: GenerateOptions["stop"]) => listed(stop).filter((s): s is string => typeof s === "string");

/** @internal @throws RangeError or TypeError naming what does not fit. */
export function checkGenerate(where: string, model: CausalLM, prompt: string | ArrayLike<number>, options: GenerateOptions): void {
  checkOptions(where, options, [...samplingOptions, "maxTokens", "stop", "ignoreEos", "signal", "generator"]);
  checkSampling(where, options);
  const { maxTokens = Infinity, stop } = options;
  if (maxTokens !== Infinity) checkCount(where, "maxTokens", maxTokens, 0);
  for (const s of listed(stop))
    if (typeof s !== "string") checkCount(where, "stop", s, 0);
    else if (s === "") throw new RangeError(`${where}: stop must not be an empty string`);
  if (typeof prompt === "string") {
    if (!model.tokenizer) throw new Error(`${where}: the model has no tokenizer; give the prompt as ids`);
    return;
  }
  if (texts(stop).length > 0) throw new TypeError(`${where}: stop may hold strings only where the prompt is text`);
  checkPrompt(where, prompt, model.vocabSize);
}

/** @internal @throws RangeError unless the prompt holds ids of the vocabulary, at least one. */
export function checkPrompt(where: string, prompt: ArrayLike<number>, vocabSize: number): void {
  if (prompt.length === 0) throw new RangeError(`${where}: prompt must have at least one id`);
  const bad = Array.prototype.findIndex.call(prompt, (id: number) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
  if (bad >= 0) throw new RangeError(`${where}: prompt must hold ids in [0, ${vocabSize - 1}] but entry ${bad} is ${prompt[bad]}`);
}

/**
 * @internal Ids chosen one after another and fed back, from the logits of the first on. Each is chosen when it is asked
 * for; `logits` is overwritten.
 */
export async function* continued(
  stream: Stream,
  logits: Float32Array,
  seen: Seen,
  { maxTokens = Infinity, signal, generator = defaultGenerator, ...sampling }: GenerateOptions,
): AsyncGenerator<number, void, undefined> {
  const pace = pacer();
  for (let made = 0; made < maxTokens && !signal?.aborted; made++) {
    if (made > 0) stream.step([seen.last], logits);
    const id = pick(logits, generator.next(), sampling, seen);
    seen.add(id);
    await pace();
    yield id;
  }
}

/** Steps of a prompt that are read in one pass: longer ones take as many, so that memory does not grow with the prompt. */
const CHUNK = 1024;

/** Reads a prompt: the logits of the id after it, and the state as a stream takes it. */
async function read(model: CausalLM, prompt: ArrayLike<number>): Promise<{ logits: Float32Array; state: Snapshot }> {
  const { device } = model.parameters()[0];
  let state: StateTree | undefined;
  let logits = new Float32Array(0);
  const free = () => {
    if (state) for (const [, t] of leaves(state)) t.dispose();
  };
  try {
    for (let start = 0; start < prompt.length; start += CHUNK) {
      const part = Int32Array.from({ length: Math.min(CHUNK, prompt.length - start) }, (_, i) => prompt[start + i]);
      const next = scope(() =>
        noGrad(() =>
          inference(model, () => {
            const ids = tensor(part, { shape: [1, part.length], device });
            return model.prefill(ids, state);
          }),
        ),
      );
      keep(next);
      free();
      state = next.state;
      logits = Float32Array.from(await next.logits.data());
      next.logits.dispose();
    }
    const parts = await Promise.all(leaves(state!).map(async ([path, t]) => [path, await t.data()] as const));
    return { logits, state: Object.fromEntries(parts) };
  } finally {
    free();
  }
}

/** @internal */
export async function* generateIds(model: CausalLM, prompt: ArrayLike<number>, options: GenerateOptions): AsyncGenerator<number, void> {
  const { maxTokens = Infinity, stop, ignoreEos = false, signal } = options;
  if (maxTokens === 0 || signal?.aborted) return;
  const ends = new Set<unknown>([...listed(stop), ...(ignoreEos ? [] : listed(model.config.eos_token_id))]);
  const { logits, state } = await read(model, prompt);
  using stream = model.stream();
  stream.restore(state);
  for await (const id of continued(stream, logits, new Seen(model.vocabSize, prompt), options)) {
    if (ends.has(id)) return;
    yield id;
  }
}

/** @internal */
export async function* generateText(model: CausalLM, prompt: string, options: GenerateOptions): AsyncGenerator<string, void> {
  const where = `${model.constructor.name}.generate`;
  const ids = model.tokenizer!.encode(prompt);
  checkPrompt(where, ids, model.vocabSize);
  const pieces = new TextPieces(model.tokenizer!, texts(options.stop), ids);
  const only = listed(options.stop).filter((s) => typeof s === "number");
  for await (const id of generateIds(model, ids, { ...options, stop: only })) {
    const piece = pieces.push(id);
    if (piece !== "") yield piece;
    if (pieces.stopped) return;
  }
  const rest = pieces.end();
  if (rest !== "") yield rest;
}
