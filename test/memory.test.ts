import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, test, vi } from "vitest";
import {
  Adam,
  device,
  Embedding,
  exp,
  Linear,
  LSTM,
  Module,
  scale,
  scope,
  sum,
  train,
  zeros,
  type ForwardOptions,
  type Tensor,
} from "../src/index.js";
import { devicesUnderTest, nativeAvailable } from "./helpers.js";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

const rows = 2;
const steps = 4;
const classes = 7;

class Tagger extends Module {
  readonly embed = new Embedding(classes, 5);
  readonly rnn = new LSTM(5, 8);
  readonly head = new Linear(8, classes);

  forward(ids: Tensor, options: ForwardOptions<"h" | "c">) {
    const { output, state } = this.rnn.forward(this.embed.forward(ids), options);
    return { logits: this.head.forward(output), state };
  }
}

function* batches(count: number) {
  const shape = [rows, steps];
  for (let k = 0; k < count; k++) {
    const data = Int32Array.from({ length: rows * steps }, (_, i) => (k + i) % classes);
    yield { inputs: { data, shape }, targets: { data, shape } };
  }
}

describe.each(devicesUnderTest())("memory on %s", (name) => {
  test("a backward pass frees on its way what it has passed", () => {
    const backend = device(name);
    const [links, length] = [20, 1000];
    const x = zeros([length], { device: backend, requiresGrad: true });
    const loss = scope(() => {
      let y = x;
      for (let k = 0; k < links; k++) y = exp(scale(y, 0.1));
      return sum(y);
    });
    const before = backend.memory().bytes;
    let most = 0;
    const alloc = backend.alloc.bind(backend);
    const watched = vi.spyOn(backend, "alloc").mockImplementation((...args) => {
      most = Math.max(most, backend.memory().bytes);
      return alloc(...args);
    });
    loss.backward();
    watched.mockRestore();
    expect(most).toBeGreaterThan(0);
    // The gradient at hand, what is made of it, and at the end that of x; the values on the way make room for them.
    expect(most - before).toBeLessThan(5 * length * 8);
    for (const t of [loss, x, x.grad]) t?.dispose();
  });

  // The reference is some ten times slower: where there are native kernels they do the long run.
  const count = name === "cpu" || !nativeAvailable ? 10_000 : 1_000;

  test(`stays flat over ${count} training steps with a carried state`, { timeout: 300_000 }, async () => {
    const backend = device(name);
    const model = new Tagger().to(name);
    const optimizer = new Adam(model, { lr: 1e-3 });
    const resident: number[] = [];
    let live: object | undefined;
    let seen = 0;
    for await (const { step } of train(model, batches(count), { optimizer, clipNorm: 1, carryState: true })) {
      seen = step;
      if (step % (count / 20) !== 0) continue;
      live ??= backend.memory();
      expect(backend.memory()).toEqual(live);
      collectGarbage();
      resident.push(process.memoryUsage.rss() / 2 ** 20);
    }
    expect(seen).toBe(count);
    // A leaked buffer shows above. Here, over the last half of the run: 1 kB a step would be 5 MiB in the long run.
    const [early, late] = [Math.max(...resident.slice(5, 10)), Math.max(...resident.slice(15, 20))];
    expect(late - early).toBeLessThan(4);
  });
});
