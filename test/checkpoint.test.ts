import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  Adam,
  AdamW,
  CarriedState,
  characterBatches,
  defaultGenerator,
  describeLanguageModel,
  device,
  Generator,
  LanguageModel,
  Linear,
  loadLanguageModel,
  loadWeights,
  LSTM,
  manualSeed,
  Module,
  readCheckpoint,
  saveCheckpoint,
  saveWeights,
  SGD,
  tensor,
  train,
  Vocabulary,
  type CellName,
  type Optimizer,
} from "../src/index.js";
import { parseSafetensors, serializeSafetensors, type TensorToWrite } from "../src/io/safetensors.js";
import { devicesUnderTest } from "./helpers.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "throughtime-"));
});
afterAll(() => rm(folder, { recursive: true }));

const text = "she sells sea shells by the sea shore. ".repeat(20);
const vocabulary = Vocabulary.fromText(text);
const ids = vocabulary.encode(text);
const reference = device("reference");

const weights = (model: Module) => Object.fromEntries([...model.namedParameters()].map(([n, p]) => [n, Array.from(p.dataSync())]));

/** A trained model and everything that goes with it. */
async function trained(options: object = {}, steps = 3) {
  const generator = new Generator(11);
  const model = new LanguageModel(vocabulary.size, {
    cell: "gru",
    hidden: 6,
    layers: 2,
    embed: 4,
    dropout: 0.3,
    device: reference,
    generator,
    ...options,
  });
  const optimizer = new Adam(model, { lr: 0.01 });
  const carried = new CarriedState();
  const batches = characterBatches(ids, { batch: 3, seq: 7, epochs: Infinity });
  for await (const { step } of train(model, batches, { optimizer, carryState: carried })) if (step === steps) break;
  const parts = { model, optimizer, carried, generators: { own: generator } };
  return {
    ...parts,
    parts,
    position: batches.position,
    notes: { vocabulary, position: batches.position, config: describeLanguageModel(model), extra: { note: "ahoi 🐋" } },
  };
}

describe.each(devicesUnderTest())("a run resumed from a checkpoint on %s", (name) => {
  const dev = device(name);
  const optimizers: Record<string, (model: Module) => Optimizer> = {
    Adam: (m) => new Adam(m, { lr: 0.01, amsgrad: true }),
    AdamW: (m) => new AdamW(m, { lr: 0.01 }),
    SGD: (m) => new SGD(m, { lr: 0.3, momentum: 0.9, dampening: 0.1 }),
  };

  it.each([
    ["lstm", "Adam"],
    ["gru", "AdamW"],
    ["elman", "SGD"],
  ] as const)("is the run that was never stopped, bit for bit: %s, %s", async (cell: CellName, kind: string) => {
    const path = join(folder, `${name}-${cell}.safetensors`);
    const k = 7; // The text has five windows: the run goes over its end, and stops inside the second pass.
    const text = { batch: 5, seq: 29, epochs: Infinity };
    const options = { cell, hidden: 13, layers: 2, embed: 9, dropout: 0.4, device: dev };
    const go = async (
      model: LanguageModel,
      optimizer: Optimizer,
      carried: CarriedState,
      batches: ReturnType<typeof characterBatches>,
      until: number,
    ) => {
      const losses: number[] = [];
      for await (const { step, loss, gradNorm } of train(model, batches, {
        optimizer,
        carryState: carried,
        clipNorm: 1,
        schedule: (s) => 0.95 ** s,
      })) {
        losses.push(loss, gradNorm);
        if (step === until) break;
      }
      return losses;
    };

    manualSeed(4);
    const model = new LanguageModel(vocabulary.size, options);
    const [optimizer, carried, batches] = [optimizers[kind](model), new CarriedState(), characterBatches(ids, text)];
    await go(model, optimizer, carried, batches, k);
    await saveCheckpoint(path, { model, optimizer, carried, vocabulary, position: batches.position, config: describeLanguageModel(model) });
    const expected = await go(model, optimizer, carried, batches, 2 * k);

    manualSeed(99);
    const loaded = await loadLanguageModel(path, { device: dev });
    const [second, state] = [optimizers[kind](loaded.model), new CarriedState()];
    loaded.checkpoint.restore({ model: loaded.model, optimizer: second, carried: state, generators: { default: defaultGenerator } });
    expect(loaded.checkpoint.step).toBe(k);
    const found = await go(loaded.model, second, state, characterBatches(ids, { ...text, position: loaded.checkpoint.position }), 2 * k);

    expect(found).toEqual(expected);
    expect(weights(loaded.model)).toEqual(weights(model));
    for (const [slot, t] of Object.entries(second.stateDict().tensors))
      expect(t.dataSync(), slot).toEqual(optimizer.stateDict().tensors[slot].dataSync());
    expect(state.stateDict().h.dataSync()).toEqual(carried.stateDict().h.dataSync());
    expect(loaded.vocabulary.characters).toEqual(vocabulary.characters);
  });
});

describe("a checkpoint", () => {
  it("holds a table that serves both ends once, and gives it back to both", async () => {
    const path = join(folder, "tied.safetensors");
    const { model } = await trained({ embed: 6, tie: true });
    await saveCheckpoint(path, { model, vocabulary, config: describeLanguageModel(model) });
    const names = [...parseSafetensors(await readFile(path)).tensors.keys()];
    expect(names.filter((n) => n.endsWith("embed.weight") || n.endsWith("head.weight"))).toEqual(["embed.weight"]);
    const loaded = await loadLanguageModel(path, { device: reference });
    expect(loaded.model.head.weight).toBe(loaded.model.embed.weight);
    expect(weights(loaded.model)).toEqual(weights(model));
  });

  it("is one moment, whatever is queued meanwhile", async () => {
    const path = join(folder, "moment.safetensors");
    const { model, parts, notes } = await trained();
    const before = weights(model);
    const saving = saveCheckpoint(path, { ...parts, ...notes });
    model.head.bias!.device.write(model.head.bias!.buffer(), new Float32Array(vocabulary.size));
    await saving;
    expect(Array.from(parseSafetensors(await readFile(path)).tensors.get("head.bias")!.data as Float32Array)).toEqual(before["head.bias"]);
  });

  it("holds the model under its own names, the rest apart, and hands the notes back", async () => {
    const path = join(folder, "a", "new", "folder", "model.safetensors");
    const { parts, notes, model } = await trained();
    await saveCheckpoint(path, { ...parts, ...notes });
    expect(await readdir(join(folder, "a", "new", "folder"))).toEqual(["model.safetensors"]);
    const names = [...parseSafetensors(await readFile(path)).tensors.keys()];
    expect(names.filter((n) => !/^(optimizer|state)\./.test(n)).sort()).toEqual([...model.namedParameters().keys()].sort());
    expect(names).toContain("optimizer.rnn.weight_hh_l1.exp_avg_sq");
    expect(names).toContain("state.h");
    const read = await readCheckpoint(path);
    expect(read).toMatchObject({
      config: { cell: "gru", hidden: 6 },
      extra: { note: "ahoi 🐋" },
      position: { epoch: 0, window: 3 },
      step: 3,
    });
    expect(read.vocabulary!.characters).toEqual(vocabulary.characters);
  });

  it("may hold the model alone", async () => {
    const path = join(folder, "alone.safetensors");
    const [model, other] = [1, 2].map((seed) => new Linear(3, 2, { device: reference, generator: new Generator(seed) }));
    await saveCheckpoint(path, { model, generators: {} });
    const read = await readCheckpoint(path);
    read.restore({ model: other });
    expect(weights(other)).toEqual(weights(model));
    expect([read.step, read.config, read.vocabulary, read.position]).toEqual([0, undefined, undefined, undefined]);
    expect(() => read.restore({ model: other, optimizer: new SGD(other) })).toThrow("alone.safetensors: it holds no optimizer");
    expect(() => read.restore({ model: other, carried: new CarriedState() })).toThrow("it holds no carried state");
    expect(() => read.restore({ model: other, generators: { x: new Generator() } })).toThrow("it holds no generator x");
    await expect(loadLanguageModel(path)).rejects.toThrow("it holds no vocabulary");
  });

  it("refuses a parameter named like a part of it", async () => {
    class Odd extends Module {
      readonly state = new Linear(1, 1, { device: reference });
    }
    await expect(saveCheckpoint(join(folder, "odd"), { model: new Odd() })).rejects.toThrow("a parameter may not be called state.weight");
  });

  it("stays as it was when the next cannot be written", async () => {
    const path = join(folder, "kept.safetensors");
    const { parts, notes, model } = await trained();
    await saveCheckpoint(path, { ...parts, ...notes });
    const before = await readFile(path);
    const circular: Record<string, unknown> = {};
    circular.self = circular;
    await expect(saveCheckpoint(path, { ...parts, ...notes, extra: circular as never })).rejects.toThrow();
    model.head.bias!.dispose();
    await expect(saveCheckpoint(path, { ...parts, ...notes })).rejects.toThrow("was freed");
    await expect(saveCheckpoint(join(path, "model.safetensors"), { model: new Linear(1, 1, { device: reference }) })).rejects.toThrow(
      /cannot make the folder .*kept.safetensors/,
    );
    await expect(saveCheckpoint("/proc/no/model.safetensors", { model: new Linear(1, 1, { device: reference }) })).rejects.toThrow(
      "cannot make the folder /proc/no",
    );
    expect(await readFile(path)).toEqual(before);
    expect((await readdir(folder)).filter((n) => n.includes("tmp"))).toEqual([]);
  });
});

describe("a bad checkpoint", () => {
  /** Writes a checkpoint after changing its tensors and metadata. */
  async function forged(change: (tensors: Map<string, TensorToWrite>, metadata: Record<string, string>) => void): Promise<string> {
    const good = join(folder, "good.safetensors");
    const { parts, notes } = await trained();
    await saveCheckpoint(good, { ...parts, ...notes });
    const { tensors, metadata } = parseSafetensors(await readFile(good));
    const [changed, strings] = [new Map<string, TensorToWrite>(tensors), { ...metadata }];
    change(changed, strings);
    const path = join(folder, "forged.safetensors");
    await writeFile(path, serializeSafetensors(changed, strings));
    return path;
  }
  const floats = (...shape: number[]): TensorToWrite => ({ shape, data: new Float32Array(shape.reduce((a, b) => a * b, 1)) });
  type Change = Parameters<typeof forged>[0];

  /** Tries to restore everything into a model that has done something else, and sees that it is as before. */
  async function attempt(path: string): Promise<void> {
    const target = await trained({}, 5);
    const show = () => [
      weights(target.model),
      target.optimizer.stateDict().steps,
      Object.values(target.optimizer.stateDict().tensors).map((t) => Array.from(t.dataSync())),
      Array.from(target.carried.stateDict().h.dataSync()),
      target.parts.generators.own.state(),
    ];
    const before = show();
    try {
      (await readCheckpoint(path)).restore(target.parts);
    } finally {
      expect(show()).toEqual(before);
    }
  }

  it("that is cut anywhere is refused", async () => {
    const path = await forged(() => undefined);
    const whole = await readFile(path);
    for (const length of [0, 5, 100, whole.length >> 1, whole.length - 1]) {
      await writeFile(path, whole.subarray(0, length));
      await expect(attempt(path), `${length} bytes`).rejects.toThrow(/forged\.safetensors: /);
      await expect(loadLanguageModel(path)).rejects.toThrow(/forged\.safetensors: /);
    }
  });

  const changes: [string, Change, string][] = [
    ["without a tensor", (t) => t.delete("rnn.bias_hh_l1"), "it is not of this model: it is missing rnn.bias_hh_l1"],
    ["with another tensor", (t) => t.set("rnn.weight_hr_l0", floats(2)), "it is not of this model: it has the unknown rnn.weight_hr_l0"],
    [
      "with a tensor of another shape",
      (t) => t.set("head.bias", floats(3)),
      `it is not of this model: head.bias must be [${vocabulary.size}] but is [3]`,
    ],
    [
      "with integers for weights",
      (t) => t.set("head.bias", { shape: [vocabulary.size], data: new Int32Array(vocabulary.size) }),
      "tensor head.bias must hold floating numbers but is I32",
    ],
    ["without a moment", (t) => t.delete("optimizer.head.bias.exp_avg"), "Adam.loadStateDict: missing head.bias.exp_avg"],
    [
      "with a moment of another shape",
      (t) => t.set("optimizer.head.bias.exp_avg", floats(1)),
      "Adam.loadStateDict: head.bias.exp_avg must be",
    ],
    [
      "of another optimizer",
      (_, m) => (m.optimizer = m.optimizer.replace("Adam", "SGD")),
      "Adam.loadStateDict: the state must be of Adam but is of SGD",
    ],
    [
      "with counts of unknown parameters",
      (_, m) => (m.optimizer = m.optimizer.replace('"counts":{', '"counts":{"x":1,')),
      "there is no parameter x",
    ],
    ["without the version", (_, m) => delete m.throughtime, "it is not a checkpoint of throughtime"],
    ["of a later version", (_, m) => (m.throughtime = "2"), 'the checkpoint\'s version must be 1 but is "2"'],
    ["with broken JSON", (_, m) => (m.optimizer = "{"), "metadata optimizer is not JSON"],
    [
      "with a negative step",
      (_, m) => (m.optimizer = m.optimizer.replace('"steps":3', '"steps":-3')),
      "metadata optimizer is not as a checkpoint has it",
    ],
    [
      "with a forged generator",
      (_, m) => (m.generators = '{"own":{"seed":0.5,"offset":0}}'),
      "metadata generators is not as a checkpoint has it",
    ],
    ["without the generator", (_, m) => (m.generators = "{}"), "it holds no generator own"],
    ["with a position that is no place", (_, m) => (m.position = '{"epoch":"0"}'), "metadata position is not as a checkpoint has it"],
    ["with a forged vocabulary", (_, m) => (m.vocabulary = '{"characters":[1,2]}'), "metadata vocabulary is not as a checkpoint has it"],
    ["with a character twice", (_, m) => (m.vocabulary = '{"characters":["a","a"]}'), 'character "a" stands twice'],
  ];
  it.each(changes)("%s is refused, naming file and reason, and nothing is changed", async (_, change, message) => {
    const path = await forged(change);
    await expect(attempt(path)).rejects.toThrow(message);
    await expect(attempt(path)).rejects.toThrow(path);
  });

  const config =
    (change: (config: Record<string, unknown>) => void): Change =>
    (_, m) => {
      const value = JSON.parse(m.config) as Record<string, unknown>;
      change(value);
      m.config = JSON.stringify(value);
    };
  const models: [string, Change, string][] = [
    ["without a configuration", (_, m) => delete m.config, "the checkpoint must be of a LanguageModel but is of none"],
    ["of another kind of model", config((c) => (c.model = "Tagger")), "must be of a LanguageModel but is of Tagger"],
    [
      "that claims to be huge",
      config((c) => (c.hidden = 1e9)),
      "rnn.weight_ih_l0 must be [3000000000, 4] for its configuration but is [18, 4]",
    ],
    [
      "that claims to be endless",
      config((c) => (c.layers = 2 ** 40)),
      "rnn.weight_ih_l2 must be [18, 6] for its configuration but is absent",
    ],
    ["of an unknown cell", config((c) => (c.cell = "constructor")), "configuration: cell must be one of lstm, gru, elman"],
    ["of another cell", config((c) => (c.cell = "lstm")), "rnn.weight_ih_l0 must be [24, 4] for its configuration but is [18, 4]"],
    ["with an unknown option", config((c) => (c.heads = 8)), "configuration: unknown option heads"],
    ["with a size that is none", config((c) => (c.embed = "4")), "configuration: embed must be an integer"],
    ["with other characters", (_, m) => (m.vocabulary = '{"characters":["a","b"]}'), "embed.weight must be [2, 4] for its configuration"],
  ];
  it.each(models)("%s makes no language model", async (_, change, message) => {
    await expect(loadLanguageModel(await forged(change), { device: reference })).rejects.toThrow(message);
  });

  it("that is not there, or is a folder, is named", async () => {
    await expect(readCheckpoint(join(folder, "nothing"))).rejects.toThrow(/nothing: no such file or folder/);
    await expect(readCheckpoint(folder)).rejects.toThrow(folder);
  });
});

describe("plain weights", () => {
  it("go out under PyTorch's names and layout, and come in from a PyTorch state dict", async () => {
    const path = join(folder, "plain.safetensors");
    const make = (seed: number) => new LSTM(3, 5, { layers: 2, bidirectional: true, device: reference, generator: new Generator(seed) });
    const [model, other] = [make(1), make(2)];
    await saveWeights(path, model);
    const { tensors, metadata } = parseSafetensors(await readFile(path));
    expect(metadata).toEqual({ format: "pt" });
    expect(tensors.size).toBe(16);
    expect(tensors.get("weight_ih_l1_reverse")).toMatchObject({ dtype: "F32", shape: [20, 10] });
    expect(tensors.get("bias_hh_l0")).toMatchObject({ dtype: "F32", shape: [20] });
    await loadWeights(path, other);
    expect(weights(other)).toEqual(weights(model));
  });

  it("come out of a checkpoint without the rest, and in any floating type", async () => {
    const path = join(folder, "with.safetensors");
    const { model, parts, notes } = await trained();
    await saveCheckpoint(path, { ...parts, ...notes });
    const other = new LanguageModel(vocabulary.size, { ...model.config, device: reference, dtype: "float64" });
    await loadWeights(path, other);
    expect(weights(other)).toEqual(weights(model));
    const linear = new Linear(1, 2, { bias: false, device: reference });
    await writeFile(
      path,
      serializeSafetensors(new Map([["weight", { dtype: "BF16" as const, shape: [2, 1], data: Float32Array.of(1.5, -2) }]])),
    );
    await loadWeights(path, linear);
    expect(weights(linear)).toEqual({ weight: [1.5, -2] });
  });

  it("of another model change nothing", async () => {
    const path = join(folder, "other.safetensors");
    await saveWeights(path, new Linear(2, 2, { device: reference }));
    const model = new Linear(3, 2, { device: reference });
    const before = weights(model);
    await expect(loadWeights(path, model)).rejects.toThrow(`${path}: it is not of this model: weight must be [2, 3] but is [2, 2]`);
    expect(weights(model)).toEqual(before);
  });

  it("of a model whose parameters are called like parts of a checkpoint load all the same", async () => {
    class Odd extends Module {
      readonly state = new Linear(1, 1, { device: reference });
      readonly scale = tensor([2], { device: reference, requiresGrad: true });
    }
    const path = join(folder, "odd.safetensors");
    const [model, other] = [new Odd(), new Odd()];
    await saveWeights(path, model);
    await loadWeights(path, other);
    expect(weights(other)).toEqual(weights(model));
  });
});
