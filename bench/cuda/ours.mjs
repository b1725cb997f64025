// Our side of bench:cuda: reads one request a line as JSON and answers it. {"case"} makes a case ready, {"run": MODE} takes
// one measurement of it: {"us"} is microseconds a step and layer. TF32 is what the environment says, so run.mjs has a
// process for each. peer.py answers the same.
import { createInterface } from "node:readline";
import library from "../../test/cuda/library.mjs";

const { device, Generator, GRU, LSTM, noGrad, RNN, scope, uniform } = library;
const Cells = { lstm: LSTM, gru: GRU, rnn: RNN };
const on = device("cuda");
const shortest = 2; // milliseconds of a measurement

let close = () => undefined;
let modes = {};

function prepare(c) {
  close();
  const { hidden, batch, steps, layers, bidirectional } = c;
  const generator = new Generator(1);
  // There is no float16 here; bfloat16 stands beside it.
  const precision = c.precision === "bf16" || c.precision === "fp16" ? { precision: "bf16" } : {};
  const model = new Cells[c.cell](hidden, hidden, { layers, bidirectional, device: on, generator, ...precision });
  const x = uniform([batch, steps, hidden], { low: -1, high: 1, generator, device: on });
  const gradient = uniform([batch, steps, hidden * (bidirectional ? 2 : 1)], { low: -1, high: 1, generator, device: on });
  const one = uniform([1], { generator, device: on });
  const lengths = Array.from({ length: batch }, (_, i) => Math.round(steps - (i * 0.75 * steps) / Math.max(1, batch - 1)));
  const options = c.ragged ? { lengths } : {};
  const parameters = [...model.parameters()];

  const bodies = {
    forward: () => scope(() => noGrad(() => void model.forward(x, options))),
    train: () =>
      scope(() => {
        for (const p of parameters) {
          p.grad?.dispose();
          p.grad = null;
        }
        model.forward(x, options).output.backward({ gradient });
      }),
  };
  const measured = (body, times) => {
    const start = performance.now();
    for (let i = 0; i < times; i++) body();
    one.dataSync(); // waits for the GPU
    return (performance.now() - start) / times;
  };
  modes = {};
  for (const [mode, body] of Object.entries(bodies)) {
    measured(body, 1);
    measured(body, 1);
    const times = Math.max(1, Math.ceil(shortest / measured(body, 1)));
    modes[mode] = () => (1000 * measured(body, times)) / steps / layers;
  }
  close = () => {
    for (const t of [x, gradient, one, ...parameters]) {
      t.grad?.dispose();
      t.dispose();
    }
  };
  return { ready: true };
}

const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);

say({ node: process.version });
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  try {
    say(request.case ? prepare(request.case) : { us: modes[request.run]() });
  } catch (error) {
    say({ error: error.message });
  }
}
