import { Adam, characterBatches, device, Generator, LanguageModel, train, type TrainStep } from "../src/index.js";

/** The character model that is measured end to end, and how it is trained. */
export const setting = { vocabulary: 96, embed: 128, hidden: 256, layers: 2, batch: 32, steps: 100, lr: 1e-3, clipNorm: 1 } as const;

export type Setting = { readonly [key in keyof typeof setting]: number };

/** A text in which each of `symbols` is one of four that depend on the two before it, so that there is something to learn. */
export function markovText(length: number, symbols: number): Int32Array {
  let state = 1;
  const below = (n: number) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % n;
  };
  const next = new Map<number, readonly number[]>();
  const text = new Int32Array(length);
  for (let i = 2; i < length; i++) {
    const before = text[i - 2] * symbols + text[i - 1];
    let choices = next.get(before);
    if (!choices) next.set(before, (choices = Array.from({ length: 4 }, () => below(symbols))));
    text[i] = choices[below(4)];
  }
  return text;
}

export function characterModel({ vocabulary, embed, hidden, layers }: Setting): LanguageModel {
  return new LanguageModel(vocabulary, { embed, hidden, layers, generator: new Generator(0), device: device("cpu") });
}

/** Trains on without end: every step starts from a zero state, is clipped and updates by Adam. */
export function training(model: LanguageModel, { vocabulary, batch, steps, lr, clipNorm }: Setting): AsyncGenerator<TrainStep> {
  const text = markovText(Math.max(200_000, 4 * batch * steps), vocabulary);
  const batches = characterBatches(text, { batch, seq: steps, epochs: Infinity });
  return train(model, batches, { optimizer: new Adam(model, { lr }), clipNorm });
}

/** Goes on from symbol 0, one symbol at a time, each the likeliest after those before it. */
export function greedy(model: LanguageModel): () => number {
  const stream = model.stream();
  const id = new Int32Array(1);
  const logits = new Float32Array(model.vocabSize);
  return () => {
    stream.step(id, logits);
    let best = 0;
    for (let i = 1; i < logits.length; i++) if (logits[i] > logits[best]) best = i;
    return (id[0] = best);
  };
}
