// What adding.mjs and copy.mjs share: recurrent layers, and a race between them.
import { parseArgs } from "node:util";
import {
  Adam,
  clipGradNorm,
  drawGradientFlow,
  evaluate,
  Generator,
  gradientFlow,
  GRU,
  IndRNN,
  init,
  Linear,
  LSTM,
  manualSeed,
  Module,
  RNN,
  scope,
  tensor,
} from "throughtime";

/** A plain network whose recurrent weights are set: it learns what to read and what to say, and these only slowly. */
function started(inputs, hidden, nonlinearity, recurrent) {
  const rnn = new RNN(inputs, hidden, { nonlinearity });
  recurrent(rnn.weight_hh_l0);
  init.normal(rnn.weight_ih_l0, { std: 0.1 });
  init.zeros(rnn.bias_ih_l0);
  init.zeros(rnn.bias_hh_l0);
  return rnn;
}

/** An IndRNN whose last layer remembers: as in its paper, its weights start where a memory halves over a sequence at most. */
function remembering(inputs, hidden, length) {
  const rnn = new IndRNN(inputs, hidden, { layers: 2, steps: length });
  init.uniform(rnn.weight_hh_l1, { low: 0.5 ** (1 / length), high: 2 ** (1 / length) });
  return rnn;
}

/** Keeps an IndRNN where no memory more than doubles over a sequence, as its paper does after every step. */
function bound(rnn, length) {
  const most = 2 ** (1 / length);
  for (const [name, p] of rnn.namedParameters())
    if (name.startsWith("weight_hh"))
      p.device.write(
        p.buffer(),
        p.dataSync().map((u) => Math.min(most, Math.max(-most, u))),
      );
}

const cells = {
  rnn: { make: (inputs, hidden) => new RNN(inputs, hidden), lr: 2e-3 },
  lstm: { make: (inputs, hidden, length) => init.chrono(new LSTM(inputs, hidden), length), lr: 1e-2 },
  gru: { make: (inputs, hidden, length) => init.chrono(new GRU(inputs, hidden), length), lr: 1e-2 },
  indrnn: { make: remembering, lr: 2e-3, after: bound },
  irnn: { make: (inputs, hidden) => started(inputs, hidden, "relu", init.identity), lr: 1e-2, slowly: 0.003 },
  orthogonal: { make: (inputs, hidden) => started(inputs, hidden, "tanh", init.orthogonal), lr: 1e-2, slowly: 0.003 },
};

class Reader extends Module {
  constructor(rnn, outputs) {
    super();
    this.rnn = rnn;
    this.head = new Linear(rnn.outputSize, outputs);
  }
  forward(x) {
    return { output: this.head.forward(this.rnn.forward(x).output) };
  }
}

/** The command line: --cell a,b,..., --length, --steps, --hidden, --seed and other numbers, --draw. */
export function options({ cell, ...numbers }) {
  const defaults = { length: 200, hidden: 64, seed: 1, ...numbers };
  const entries = Object.entries(defaults).map(([name, value]) => [name, { type: "string", default: String(value) }]);
  const known = { cell: { type: "string", default: cell }, draw: { type: "boolean", default: false }, ...Object.fromEntries(entries) };
  const { values } = parseArgs({ options: known });
  const names = values.cell.split(",");
  const unknown = names.find((name) => !(name in cells));
  if (unknown !== undefined) throw new Error(`--cell must be of ${Object.keys(cells).join(", ")} but is ${unknown}`);
  return { names, draw: values.draw, ...Object.fromEntries(Object.keys(defaults).map((name) => [name, Number(values[name])])) };
}

/** One step of training; gives the loss before. */
async function descend(model, optimizers, { inputs, targets }, loss) {
  const value = scope(() => {
    model.zeroGrad();
    const { output } = model.forward(tensor(inputs.data, { shape: inputs.shape }));
    const value = loss({ output }, { targets: tensor(targets.data, { shape: targets.shape }) });
    value.backward();
    clipGradNorm(model, 1);
    for (const optimizer of optimizers) optimizer.step();
    return value;
  });
  const number = await value.item();
  value.dispose();
  return number;
}

/** Trains one layer after another on a task, all on the same batches, and prints how each did and how far its gradients reach in the end. */
export async function race({ inputs, outputs, batch, loss, chance, solved }, { names, length, steps, hidden, seed, draw }) {
  const show = (columns) =>
    console.log(
      columns
        .map((c, i) => String(c).padEnd([12, 7, 9, 9][i] ?? 10))
        .join("")
        .trimEnd(),
    );
  console.log(`A guess has a loss of ${chance.toPrecision(2)}; below ${solved} counts as solved.\n`);
  show(["cell", "steps", "loss", "", "gradient", "t = T", "T/2", "0"]);
  for (const name of names) {
    manualSeed(seed);
    const random = new Generator(seed);
    const { make, lr, slowly = 1, after } = cells[name];
    const model = new Reader(make(inputs, hidden, length), outputs);
    const apart = slowly === 1 ? [] : [model.rnn.weight_hh_l0, model.rnn.bias_ih_l0, model.rnn.bias_hh_l0];
    const rest = model.parameters().filter((p) => !apart.includes(p));
    const optimizers = [new Adam(rest, { lr }), ...apart.map((p) => new Adam([p], { lr: lr * slowly }))];
    let step = 0;
    for (let mean = chance; step < steps && mean >= solved; step++) {
      mean = 0.95 * mean + 0.05 * (await descend(model, optimizers, batch(random), loss));
      after?.(model.rnn, length);
      if (process.stderr.isTTY) process.stderr.write(`\r${name} ${step + 1}: ${mean.toFixed(3)} \r`);
    }
    const test = batch(random);
    const score = await evaluate(model, [test], { loss });
    const flow = await gradientFlow(model, test, { loss });
    for (const [state, norms] of Object.entries(flow.layers.at(-1).norms)) {
      const at = [1, 0.5, 0].map((share) => norms[Math.round(share * (norms.length - 1))].toExponential(1));
      const verdict = score < 2 * solved ? "solved" : "failed";
      show([...(state === "h" ? [name, step, score.toFixed(4), verdict] : ["", "", "", ""]), `dL/d${state}`, ...at]);
    }
    if (draw) console.log(`\n${drawGradientFlow(flow)}\n`);
  }
}
