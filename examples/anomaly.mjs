// Watches a sensor: learns its rhythm, then reads it one value at a time and reports what it did not expect.
//   node examples/anomaly.mjs [--steps 300]
import { parseArgs } from "node:util";
import { Adam, GRU, Linear, Module, manualSeed, meanSquaredError, train } from "throughtime";

const given = parseArgs({ options: { steps: { type: "string", default: "300" } } });
const last = Number(given.values.steps);

class Forecaster extends Module {
  rnn = new GRU(1, 32);
  head = new Linear(32, 1);
  forward(x, { state } = {}) {
    const { output, state: next } = this.rnn.forward(x, { state });
    return { output: this.head.forward(output), state: next };
  }
}

let seed = 1;
const noise = () => ((seed = (seed * 48271) % 2147483647) / 2147483647 - 0.5) * 0.1;
const reading = (t) => Math.sin(t / 5) + 0.5 * Math.sin(t / 13) + noise();

// Rows of 100 steps that start anywhere; the target of each step is the next reading.
const rows = 16;
const steps = 100;
function* batches() {
  for (;;) {
    const inputs = new Float32Array(rows * steps);
    const targets = new Float32Array(rows * steps);
    for (let n = 0; n < rows; n++) {
      const start = Math.abs(noise()) * 1e5;
      for (let t = 0, next = reading(start); t < steps; t++) {
        inputs[n * steps + t] = next;
        targets[n * steps + t] = next = reading(start + t + 1);
      }
    }
    const shape = [rows, steps, 1];
    yield { inputs: { data: inputs, shape }, targets: { data: targets, shape } };
  }
}

manualSeed(1);
const model = new Forecaster();
const options = {
  optimizer: new Adam(model, { lr: 5e-3 }),
  clipNorm: 1,
  loss: (result, batch) => meanSquaredError(result.output, batch.targets),
};
for await (const { step, loss } of train(model, batches(), options)) {
  if (step % 50 === 0 || step === last) console.log(`step ${step}: mean squared error ${loss.toFixed(4)}`);
  if (step === last) break;
}

const stream = model.stream({ shape: [1, 1, 1] });
let expected = 0;
for (let t = 0; t < 400; t++) {
  const value = reading(t) + (t === 250 ? 0.8 : 0); // one false reading
  const surprise = Math.abs(value - expected);
  if (t > 50 && surprise > 0.4) console.log(`t = ${t}: read ${value.toFixed(2)}, expected ${expected.toFixed(2)}`);
  expected = stream.step([value])[0];
}
stream.dispose();
