import { describe, expect, test } from "vitest";
import {
  crossEntropy,
  device,
  Embedding,
  Generator,
  GRU,
  LSTM,
  RNN,
  sum,
  square,
  tensor,
  type Recurrent,
  type Tensor,
} from "../src/index.js";
import { characterModel, setting } from "../bench/characterModel.js";
import { devicesUnderTest, nativeAvailable } from "./helpers.js";

const COUNT = 6;
const FEATURES = 17;

const ids = (n: number, steps: number, on: ReturnType<typeof device>) =>
  tensor(
    Int32Array.from({ length: n * steps }, (_, i) => (i * i + 3 * i) % (COUNT - 1)),
    { shape: [n, steps], device: on },
  );

const layers: Record<string, (on: object) => Recurrent<string>> = {
  "LSTM of two layers": (on) => new LSTM(FEATURES, 19, { layers: 2, ...on }),
  "bidirectional GRU": (on) => new GRU(FEATURES, 5, { bidirectional: true, ...on }),
  "RNN without biases": (on) => new RNN(FEATURES, 33, { bias: false, ...on }),
  "LSTM with layer norm": (on) => new LSTM(FEATURES, 7, { layerNorm: "output", ...on }),
  "LSTM with zoneout": (on) => new LSTM(FEATURES, 7, { zoneout: 0.3, ...on }),
  "LSTM with locked dropout of x": (on) => new LSTM(FEATURES, 7, { lockedDropout: { input: 0.3 }, ...on }),
};

describe.each(devicesUnderTest())("what is looked up on %s", (name) => {
  const on = device(name);

  describe.each(Object.entries(layers))("%s", (_, make) => {
    test.each([undefined, [9, 0, 4]])("gives what the vectors give, lengths %s", (lengths) => {
      const generator = new Generator(1);
      const embed = new Embedding(COUNT, FEATURES, { device: on, generator });
      const layer = make({ device: on, generator });
      const x = ids(3, 9, on);
      const masks = layer.drawMasks(3, 9);
      const run = (input: Parameters<typeof layer.forward>[0]) => {
        embed.zeroGrad();
        layer.zeroGrad();
        const { output, state } = layer.forward(input, { masks, ...(lengths && { lengths }) });
        const results = [output, ...Object.values(state)].map((t) => t.dataSync());
        sum(square(output)).backward();
        const grads = [...embed.parameters(), ...layer.parameters()].map((p) => p.grad!.dataSync());
        return [...results, ...grads];
      };
      const plain = run(embed.forward(x));
      const looked = run(embed.lookup(x));
      // Sums over 27 steps of products of order one, taken in another order: rounding of a few 1e-7 each.
      plain.forEach((values, i) => {
        const most = Math.max(...Array.from(values, Math.abs));
        const off = Math.max(0, ...Array.from(values, (v, j) => Math.abs(looked[i][j] - v)));
        expect(off).toBeLessThanOrEqual(2e-6 * (1 + most));
      });
    });
  });

  test("is a tensor while ids are dropped; ids are rows and steps", () => {
    const embed = new Embedding(COUNT, FEATURES, { dropout: 0.5, device: on });
    expect((embed.lookup(ids(2, 3, on)) as Tensor).shape).toEqual([2, 3, FEATURES]);
    expect(embed.eval().lookup(ids(2, 3, on))).toHaveProperty("table", embed.weight);
    expect(() => embed.lookup(tensor(Int32Array.of(1), { device: on }))).toThrow("Embedding.lookup: ids must be [N, T] but is [1]");
  });
});

test.skipIf(!nativeAvailable)("a language model multiplies its weights with the table, but for a single step", async () => {
  const model = characterModel({ ...setting, vocabulary: COUNT, embed: FEATURES, hidden: 8 });
  const on = device("cpu");
  const linears = async (steps: number) => {
    const { kernels } = await device.profile(() => void crossEntropy(model.forward(ids(2, steps, on)).logits, ids(2, steps, on)), "cpu");
    return kernels.find(({ kernel }) => kernel === "linear")!.calls;
  };
  expect([await linears(COUNT), await linears(1)]).toEqual([2, 1]);
});
