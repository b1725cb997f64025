// What reduced precision costs: a character model is trained in float32 on nine tenths of a text, and its bits per
// character on the last tenth are measured in float32, bfloat16 and bytes.
//   node examples/precision.mjs [text file] [--steps 600] [--hidden 256] [--batch 32] [--cell lstm|gru|rnn] [--trained bf16]
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import {
  Adam,
  CarriedState,
  characterBatches,
  crossEntropy,
  dequantize,
  Embedding,
  GRU,
  Linear,
  LSTM,
  manualSeed,
  Module,
  noGrad,
  quantize,
  RNN,
  scope,
  tensor,
  train,
  Vocabulary,
} from "throughtime";

const options = {
  steps: { type: "string", default: "600" },
  hidden: { type: "string", default: "256" },
  batch: { type: "string", default: "32" },
  cell: { type: "string", default: "lstm" },
  trained: { type: "string", default: "float32" },
};
const { values, positionals } = parseArgs({ options, allowPositionals: true });
const [steps, hidden] = [Number(values.steps), Number(values.hidden)];
const text = readFileSync(positionals[0] ?? new URL("../README.md", import.meta.url), "utf8");
const vocabulary = Vocabulary.fromText(text);
const ids = vocabulary.encode(text);
const cut = Math.floor(ids.length * 0.9);
const held = ids.subarray(cut, cut + 100_001);

class CharModel extends Module {
  embed = new Embedding(vocabulary.size, 64);
  rnn = new { lstm: LSTM, gru: GRU, rnn: RNN }[values.cell](64, hidden, { layers: 2, precision: values.trained });
  head = new Linear(hidden, vocabulary.size, { precision: values.trained });
  forward(x, { state } = {}) {
    const { output, state: next } = this.rnn.forward(this.embed.forward(x), { state });
    return { logits: this.head.forward(output), state: next };
  }
}

manualSeed(1);
const model = new CharModel();
const batches = characterBatches(ids.subarray(0, cut), { batch: Number(values.batch), seq: 50, epochs: Infinity });
const trained = train(model, batches, { optimizer: new Adam(model, { lr: 4e-3 }), carryState: new CarriedState(), clipNorm: 1 });
for await (const { step, loss } of trained) {
  if (step % 100 === 0 || step === steps) console.log(`step ${step}: ${(loss / Math.LN2).toFixed(3)} bits/char in training`);
  if (step === steps) break;
}

/** Bits per character of the held-out text, read in one go. */
function bits() {
  const on = (part) => tensor(part, { shape: [1, part.length] });
  const loss = scope(() => noGrad(() => crossEntropy(model.forward(on(held.slice(0, -1))).logits, on(held.slice(1)))));
  return loss.dataSync()[0] / Math.LN2;
}

/** Sets a precision of all products: the two that layers take as an option, or bytes. */
function use(precision) {
  if (precision === "int8") return quantize(model);
  for (const layer of [model.rnn, model.head]) layer.precision = precision;
  return dequantize(model).eval();
}

let exact = NaN;
for (const precision of ["float32", "bf16", "int8"]) {
  use(precision);
  const start = performance.now();
  const cost = bits();
  const rate = (held.length - 1) / (performance.now() - start);
  if (precision === "float32") exact = cost;
  const more = cost - exact;
  console.log(
    `${precision.padEnd(8)} ${cost.toFixed(4)} bits/char (${more < 0 ? "-" : "+"}${Math.abs(more).toFixed(4)}), ${rate.toFixed(0)}k chars/s`,
  );
}
