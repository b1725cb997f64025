// A character model written out: its own module, its own loop, saved and taken up again, streamed a character at a time.
//   node examples/charModel.mjs [text file] [--steps 300] [--length 300]
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import {
  Adam,
  CarriedState,
  characterBatches,
  Embedding,
  Linear,
  LSTM,
  manualSeed,
  Module,
  saveCheckpoint,
  softmax,
  streamModel,
  tensor,
  train,
  Vocabulary,
} from "throughtime";

class CharModel extends Module {
  constructor(characters) {
    super();
    this.embed = new Embedding(characters, 32);
    this.rnn = new LSTM(32, 128, { layers: 2, dropout: 0.1 });
    this.head = new Linear(128, characters);
  }
  forward(ids, { state } = {}) {
    const { output, state: next } = this.rnn.forward(this.embed.forward(ids), { state });
    return { logits: this.head.forward(output), state: next };
  }
}

const number = { type: "string", default: "300" };
const given = parseArgs({ options: { steps: number, length: number }, allowPositionals: true });
const [last, length] = [Number(given.values.steps), Number(given.values.length)];
const file = given.positionals[0] ?? new URL("../README.md", import.meta.url);
const text = readFileSync(file, "utf8");
const vocabulary = Vocabulary.fromText(text);
const batches = characterBatches(vocabulary.encode(text), { batch: 16, seq: 50, epochs: Infinity });

manualSeed(1);
const model = new CharModel(vocabulary.size);
const optimizer = new Adam(model, { lr: 4e-3 });
const carried = new CarriedState();
for await (const { step, loss, tokensPerSecond } of train(model, batches, { optimizer, carryState: carried, clipNorm: 1 })) {
  if (step % 50 === 0 || step === last)
    console.log(`step ${step}: ${(loss / Math.LN2).toFixed(2)} bits/char, ${Math.round(tokensPerSecond)} chars/s`);
  if (step === last) break;
}
// `readCheckpoint(path)` and its `restore` go on from here, bit for bit.
await saveCheckpoint("runs/example/model.safetensors", { model, optimizer, carried, vocabulary, position: batches.position });

const stream = streamModel(model, { shape: [1, 1], dtype: "int32" });
let id = 0;
for (let i = 0; i < length; i++) {
  const probabilities = softmax(tensor(stream.step([id]))).dataSync();
  let left = Math.random();
  id = probabilities.findIndex((p) => (left -= p) < 0);
  process.stdout.write(vocabulary.characters[Math.max(0, id)]);
}
process.stdout.write("\n");
stream.dispose();
