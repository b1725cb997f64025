// A user's program: learns whether a sequence rises or falls, then says how well and on which device.
import { Adam, crossEntropy, device, GRU, Linear, manualSeed, Module, select, tensor } from "throughtime";

class Direction extends Module {
  rnn = new GRU(1, 8);
  head = new Linear(8, 2);
  forward(x) {
    return this.head.forward(select(this.rnn.forward(x).state.h, 0, 0));
  }
}

manualSeed(1);
const rows = Array.from({ length: 32 }, (_, row) =>
  Array.from({ length: 5 }, (_, t) => [(row % 2 ? 1 : -1) * (t - 2) * 0.1 + Math.sin(row)]),
);
const x = tensor(rows);
const targets = tensor(Int32Array.from(rows, (_, row) => row % 2));
const model = new Direction();
const optimizer = new Adam(model, { lr: 0.02 });
const losses = [];
for (let step = 0; step < 60; step++) {
  const loss = crossEntropy(model.forward(x), targets);
  loss.backward();
  optimizer.step();
  optimizer.zeroGrad();
  losses.push((await loss.data())[0]);
}
console.log(JSON.stringify({ first: losses[0], last: losses.at(-1), ...device.info() }));
