// One text, one budget of parameters, six ways through time: an LSTM, minGRU, Mamba, RWKV-7, xLSTM and a causal Transformer
// learn the same characters, and then say what a token costs them as their context grows.
//   node examples/families.mjs [text file] [--families lstm,mingru,mamba,rwkv7,xlstm,transformer] [--steps 300] [--budget 250000]
//     [--contexts 64,256,1024,4096]
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { Adam, characterBatches, manualSeed, noGrad, scope, tensor, train, Vocabulary } from "throughtime";
import { families, sizedTo } from "./familyModels.mjs";
import { drawCurves, rows } from "./draw.mjs";

const text = { type: "string" };
const options = { families: { ...text, default: "lstm,mingru,mamba,rwkv7,xlstm,transformer" }, steps: { ...text, default: "300" } };
const more = { budget: { ...text, default: "250000" }, contexts: { ...text, default: "64,256,1024,4096" } };
const given = parseArgs({ options: { ...options, ...more }, allowPositionals: true });
const names = given.values.families.split(",");
const unknown = names.find((name) => !(name in families));
if (unknown !== undefined) throw new Error(`--families must be of ${Object.keys(families).join(", ")} but has ${unknown}`);
const [steps, budget] = [Number(given.values.steps), Number(given.values.budget)];

const source = readFileSync(given.positionals[0] ?? new URL("../README.md", import.meta.url), "utf8");
const vocabulary = Vocabulary.fromText(source);
const ids = vocabulary.encode(source);
const contexts = given.values.contexts.split(",").map(Number);

/** Bytes of every tensor in a state. */
const bytes = (state) =>
  typeof state.size === "number" ? 4 * state.size : Object.values(state).reduce((sum, part) => sum + bytes(part), 0);

/** Milliseconds of one more token behind a context, and bytes that are kept of it. */
function decode(model, context) {
  return noGrad(() =>
    scope(() => {
      const at = (i) => tensor(new Int32Array([ids[i % ids.length]]), { shape: [1, 1] });
      const past = Int32Array.from({ length: context }, (_, i) => ids[i % ids.length]);
      let { state } = model.forward(tensor(past, { shape: [1, context] }));
      const kept = bytes(state);
      const times = [];
      for (let i = 0; i < 12; i++) {
        const start = performance.now();
        const next = model.forward(at(context + i), { state });
        next.logits.dataSync();
        state = next.state;
        times.push(performance.now() - start);
      }
      return { ms: times.sort((a, b) => a - b)[times.length >> 1], kept };
    }),
  );
}

const curves = {};
const results = [
  ["family", "parameters", "bits/char", "chars/s", ...contexts.map((c) => `ms at ${c}`), ...contexts.map((c) => `KB at ${c}`)],
];
for (const name of names) {
  manualSeed(1);
  const model = sizedTo(name, vocabulary.size, budget);
  const batches = characterBatches(ids, { batch: 16, seq: 128, epochs: Infinity });
  const optimizer = new Adam(model, { lr: 3e-3 });
  const losses = [];
  const speeds = [];
  for await (const { step, loss, tokensPerSecond } of train(model.train(), batches, { optimizer, clipNorm: 1 })) {
    losses.push(loss / Math.LN2);
    speeds.push(tokensPerSecond);
    if (process.stderr.isTTY) process.stderr.write(`\r${name} ${step}/${steps}: ${losses.at(-1).toFixed(2)} bits \r`);
    if (step === steps) break;
  }
  curves[name] = losses;
  const last = losses.slice(-20).reduce((sum, loss) => sum + loss, 0) / Math.min(20, losses.length);
  const costs = contexts.map((context) => decode(model.eval(), context));
  const parameters = model.parameters().reduce((sum, { size }) => sum + size, 0);
  const speed = speeds.sort((a, b) => a - b)[speeds.length >> 1];
  const cost = [...costs.map(({ ms }) => ms.toFixed(2)), ...costs.map(({ kept }) => (kept / 1024).toFixed(0))];
  results.push([name, parameters, last.toFixed(3), Math.round(speed), ...cost]);
}
console.log(drawCurves(curves, "bits/char"));
console.log(`\n${rows(results)}`);
