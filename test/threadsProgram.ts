// What the tests of threads compute in the main thread, in workers and in child processes: the same numbers everywhere.
import { parentPort, workerData } from "node:worker_threads";
import { Adam, Linear, LSTM, meanSquaredError, scope } from "../src/index.js";
import { Generator, uniform } from "../src/tensor/random.js";

/** Losses of a few training steps, then outputs of a stream of the trained layer. */
export function numbers(steps = 6): number[] {
  const generator = new Generator(11);
  const layer = new LSTM(24, 80, { layers: 2, generator });
  const head = new Linear(80, 3, { generator });
  const parameters = [...layer.parameters(), ...head.parameters()];
  const optimizer = new Adam(parameters, { lr: 0.01 });
  const losses = Array.from({ length: steps }, (_, step) =>
    scope(() => {
      const x = uniform([20, 30, 24], { low: -1, high: 1, generator: new Generator(step) });
      const y = uniform([20, 30, 3], { low: -1, high: 1, generator: new Generator(step + 100) });
      optimizer.zeroGrad();
      const loss = meanSquaredError(head.forward(layer.forward(x).output), y);
      loss.backward();
      optimizer.step();
      return loss.dataSync()[0];
    }),
  );
  const stream = layer.stream();
  const outputs = Array.from({ length: 20 }, (_, t) => [...stream.step(Float32Array.from({ length: 24 }, (_, i) => Math.sin(t + i)))]);
  stream.dispose();
  parameters.forEach((p) => p.dispose());
  return [...losses, ...outputs.flat()];
}

if (workerData === "end" || workerData === "go on") {
  parentPort!.postMessage(numbers());
  while (workerData === "go on") numbers(1);
}
if (process.argv[2] === "numbers") process.send!(numbers());
