import { describe, expect, it } from "vitest";
import {
  Adam,
  characterBatches,
  device,
  Generator,
  LanguageModel,
  noGrad,
  tensor,
  train,
  Vocabulary,
  type CellName,
  type SampleOptions,
} from "../src/index.js";
import { languageModelShapes } from "../src/models/languageModel.js";
import { pick } from "../src/models/sampling.js";
import { devicesUnderTest } from "./helpers.js";

const text = "the cat sat on the mat. the rat sat on the hat. ".repeat(12);
const vocabulary = Vocabulary.fromText(text);

describe.each(devicesUnderTest())("LanguageModel on %s", (name) => {
  const dev = device(name);
  const make = (options: object = {}) =>
    new LanguageModel(vocabulary.size, { hidden: 24, layers: 1, embed: 8, device: dev, generator: new Generator(1), ...options });
  const ids = (values: number[][]) => tensor(values, { dtype: "int32", device: dev });

  it.each(["lstm", "gru", "elman"] as const)("of %s learns a text and writes it", { timeout: 60_000 }, async (cell: CellName) => {
    const model = make({ cell });
    const batches = characterBatches(vocabulary.encode(text), { batch: 4, seq: 24, epochs: Infinity });
    let [first, last] = [0, 0];
    for await (const { step, loss } of train(model, batches, { optimizer: new Adam(model, { lr: 0.02 }), clipNorm: 1, carryState: true })) {
      if (step === 1) first = loss;
      last = loss;
      if (step === 120) break;
    }
    // At first it knows nothing: the logarithm of the number of characters.
    expect(Math.abs(first - Math.log(vocabulary.size))).toBeLessThan(0.4);
    expect(last).toBeLessThan(0.5);
    let written = "";
    for await (const id of model.sample(vocabulary.encode("the "), { temperature: 0, length: 15 })) written += vocabulary.decode([id]);
    expect(text).toContain(`the ${written.slice(0, 8)}`);
  });

  it.each([{}, { cell: "gru", layers: 3 }, { cell: "elman", layers: 2, embed: 24, tie: true }] as const)(
    "has the parameters it says (%#)",
    (options) => {
      const model = make(options);
      const found = [...model.namedParameters()].map(([n, p]) => [n, p.shape]);
      expect(found).toEqual([...languageModelShapes(vocabulary.size, model.config)]);
    },
  );

  it("may use one table at both ends", () => {
    const model = make({ embed: 24, tie: true });
    expect(model.embed.weight).toBe(model.head.weight);
    expect([...model.namedParameters().keys()].filter((n) => n.startsWith("head"))).toEqual(["head.bias"]);
    const { logits } = noGrad(() => model.forward(ids([[1, 2]])));
    expect(Math.max(...logits.dataSync().map(Math.abs))).toBeLessThan(2);
    expect(() => make({ tie: true })).toThrow("LanguageModel: tie needs embed equal to hidden but they are 8 and 24");
  });

  it("carries state and knows lengths", () => {
    const model = make().eval();
    const values = (t: { dataSync(): ArrayLike<number> }) => Array.from(t.dataSync());
    noGrad(() => {
      const whole = model.forward(ids([[1, 2, 3, 4]]));
      const first = model.forward(ids([[1, 2]]));
      const second = model.forward(ids([[3, 4]]), { state: first.state });
      const joined = [...values(first.logits), ...values(second.logits)];
      values(whole.logits).forEach((v, i) => expect(Math.abs(v - joined[i])).toBeLessThan(1e-5));
      const ragged = model.forward(ids([[1, 2, 0, 0]]), { lengths: [2] });
      values(ragged.state.h).forEach((v, i) => expect(Math.abs(v - values(first.state.h)[i])).toBeLessThan(1e-5));
    });
  });

  it("samples the same from the same seed, and ends at its length or a signal", async () => {
    const model = make();
    const sample = async (options: SampleOptions) => {
      const found: number[] = [];
      for await (const id of model.sample([1, 2], options)) found.push(id);
      return found;
    };
    const a = await sample({ length: 40, generator: new Generator(7) });
    expect(a).toHaveLength(40);
    expect(await sample({ length: 40, generator: new Generator(7) })).toEqual(a);
    expect(await sample({ length: 40, generator: new Generator(8) })).not.toEqual(a);
    expect(new Set(await sample({ length: 40, topK: 1 })).size).toBeLessThan(new Set(a).size);
    expect(await sample({ length: 6, topK: 1 })).toEqual(await sample({ length: 6, temperature: 0 }));
    expect(await sample({ length: 0 })).toEqual([]);
    const stop = new AbortController();
    const found: number[] = [];
    for await (const id of model.sample([1], { signal: stop.signal })) {
      found.push(id);
      if (found.length === 5) stop.abort();
    }
    expect(found).toHaveLength(5);
  });

  it("turns the event loop while it samples", async () => {
    const model = make();
    let turns = 0;
    const timer = setInterval(() => turns++, 0);
    for await (const id of model.sample([1], { length: 20_000 })) {
      void id;
      if (turns > 1) break;
    }
    clearInterval(timer);
    expect(turns).toBeGreaterThan(1);
  });

  it("refuses bad arguments", async () => {
    expect(() => make({ cell: "lstn" })).toThrow('LanguageModel: cell must be one of lstm, gru, elman but is "lstn"');
    expect(() => make({ hiden: 3 })).toThrow("LanguageModel: unknown option hiden; did you mean hidden?");
    expect(() => make({ hidden: 0 })).toThrow("hidden");
    expect(() => make({ dropout: 2 })).toThrow("dropout must be a number in [0, 1] but is 2");
    expect(() => new LanguageModel(0, { device: dev })).toThrow("LanguageModel: vocabSize must be an integer of at least 1 but is 0");
    const model = make();
    expect(() => model.forward(tensor([1, 2], { dtype: "int32", device: dev }))).toThrow(
      "LanguageModel.forward: ids must be [N, T] but is [2]",
    );
    const first = (prompt: number[], options: object = {}) => model.sample(prompt, options).next();
    await expect(first([])).rejects.toThrow("LanguageModel.sample: prompt must have at least one id");
    await expect(first([1, 99])).rejects.toThrow(`prompt must hold ids in [0, ${vocabulary.size - 1}] but entry 1 is 99`);
    await expect(first([1], { temperature: -1 })).rejects.toThrow("temperature must be a number in [0, Infinity] but is -1");
    await expect(first([1], { topK: 0 })).rejects.toThrow("topK must be an integer of at least 1 but is 0");
    await expect(first([1], { topP: 2 })).rejects.toThrow("topP must be a number in [0, 1] but is 2");
    await expect(first([1], { length: -1 })).rejects.toThrow("length must be an integer of at least 0 but is -1");
    await expect(first([1], { temprature: 1 })).rejects.toThrow("unknown option temprature; did you mean temperature?");
    model.head.weight.device.write(model.head.weight.buffer(), new Float32Array(vocabulary.size * 24).fill(NaN));
    await expect(first([1])).rejects.toThrow("the model's logits must be finite but logit 0 is NaN");
  });
});

describe("picking from logits", () => {
  const logits = [Math.log(0.5), Math.log(0.3), Math.log(0.15), Math.log(0.05)];
  const shares = (options: object) => {
    const counts = [0, 0, 0, 0];
    for (let k = 0; k < 1000; k++) counts[pick(logits, (k + 0.5) / 1000, options)]++;
    return counts.map((c) => c / 1000);
  };

  it("draws by probability", () => {
    expect(shares({})).toEqual([0.5, 0.3, 0.15, 0.05]);
    // The squares of the probabilities, over their sum 0.365.
    [0.25, 0.09, 0.0225, 0.0025].forEach((square, id) => expect(shares({ temperature: 0.5 })[id]).toBeCloseTo(square / 0.365, 2));
    expect(shares({ temperature: 0 })).toEqual([1, 0, 0, 0]);
    expect(shares({ temperature: 1e-300 })).toEqual([1, 0, 0, 0]);
  });

  it("leaves out what topK and topP exclude", () => {
    expect(shares({ topK: 2 }).map((v) => +v.toFixed(3))).toEqual([0.625, 0.375, 0, 0]);
    expect(shares({ topK: 9 })).toEqual(shares({}));
    expect(shares({ topP: 0.7 }).map((v) => +v.toFixed(3))).toEqual([0.625, 0.375, 0, 0]);
    expect(shares({ topP: 0 })).toEqual([1, 0, 0, 0]);
    expect(shares({ topK: 3, topP: 0.5 })).toEqual([1, 0, 0, 0]);
  });

  it("takes the first of equals, and every one is in reach", () => {
    expect(pick([1, 1, 1], 0, { temperature: 0 })).toBe(0);
    expect([0, 0.4, 0.9999999].map((u) => pick([7, 7, 7], u))).toEqual([0, 1, 2]);
  });
});
