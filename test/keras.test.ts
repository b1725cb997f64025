import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { gunzipSync } from "node:zlib";
import * as h5 from "h5wasm";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  Bidirectional,
  ConvLSTM2d,
  device,
  Embedding,
  fromKeras,
  GRU,
  kerasLayer,
  LayerNorm,
  Linear,
  loadKeras,
  LSTM,
  readKeras,
  readSafetensors,
  RNN,
  tensor,
  type KerasLayer,
  type Module,
  type NumericArray,
  type Tensor,
} from "../src/index.js";
import { readZip } from "../src/io/zip.js";
import { zipFile, type ZipEntry } from "./zip.js";

const data = join(import.meta.dirname, "data");
const folder = mkdtempSync(join(tmpdir(), "keras-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** A file that Keras wrote, unpacked; made by data/make_keras.py. */
const files = Object.fromEntries(
  ["keras_sequence.keras", "keras_sequence.weights.h5", "keras_video.keras", "keras_video.weights.h5"].map((name) => {
    const path = join(folder, name);
    writeFileSync(path, gunzipSync(readFileSync(join(data, `${name}.gz`))));
    return [name, path];
  }),
);
const sequence = files["keras_sequence.keras"];
const weightsOnly = files["keras_sequence.weights.h5"];

async function expected(name: string): Promise<Record<string, { shape: readonly number[]; data: ArrayLike<number> }>> {
  const { tensors } = await readSafetensors(join(data, `${name}.safetensors`));
  return Object.fromEntries([...tensors].map(([key, t]) => [key, t as { shape: readonly number[]; data: Float32Array }]));
}

const on = { device: "reference", dtype: "float64" } as const;
const tensors = { device: device("reference"), dtype: "float64" } as const;
const run = (layer: Module, x: Tensor) => {
  const y = (layer as Linear).forward(x) as Tensor | { output: Tensor };
  return "output" in y ? y.output : y;
};

/** Largest difference; Keras computed in float32, on values below 2. */
function difference(t: Tensor, wanted: { readonly shape: readonly number[]; readonly data: ArrayLike<number> }): number {
  expect(t.shape).toEqual(wanted.shape);
  return Math.max(...Array.from(t.dataSync(), (v, i) => Math.abs(v - wanted.data[i])));
}

const zero = (...shape: number[]): NumericArray => ({ shape, data: new Float64Array(shape.reduce((a, b) => a * b, 1)) });

describe("files that Keras 3 wrote", () => {
  test("each layer of a .keras file computes what Keras computes", async () => {
    const layers = await readKeras(sequence);
    expect([...layers.keys()]).toEqual(["embedding", "both", "mine", "lstm", "layer_normalization", "before", "simple_rnn", "dense"]);
    const wanted = await expected("keras_sequence");
    let x = tensor(Int32Array.from(wanted.x.data), { shape: wanted.x.shape, device: tensors.device });
    for (const [name, layer] of layers) {
      const module = kerasLayer(layer, on).eval();
      x = run(module, x);
      expect({ name, off: difference(x, wanted[name]) }).toEqual({ name, off: expect.closeTo(0, 5) as number });
    }
  });

  test("they are layers of the kind that the configuration says", async () => {
    const layers = await readKeras(sequence);
    const made = [...layers.values()].map((layer) => kerasLayer(layer));
    expect(made.map(({ constructor }) => constructor)).toEqual([Embedding, GRU, LSTM, LSTM, LayerNorm, GRU, RNN, Linear]);
    expect(layers.get("mine")).toMatchObject({ path: "layers/lstm", className: "LSTM", config: { settings: { units: 5 } } });
    expect(layers.get("lstm")).toMatchObject({ path: "layers/lstm_1" });
    expect((made[1] as GRU).directions).toBe(2);
  });

  test("frames through a ConvLSTM2D", async () => {
    const layers = await readKeras(files["keras_video.keras"]);
    const { x, ...wanted } = await expected("keras_video");
    const [[name, layer]] = layers;
    const module = kerasLayer(layer, on);
    expect(module).toBeInstanceOf(ConvLSTM2d);
    expect(difference(run(module, tensor(Float64Array.from(x.data), { shape: x.shape, ...tensors })), wanted[name])).toBeLessThan(1e-6);
  });

  test("a .weights.h5 file has the same arrays, without configurations", async () => {
    const [whole, weights] = await Promise.all([readKeras(sequence), readKeras(weightsOnly)]);
    expect(new Set(weights.keys())).toEqual(new Set(whole.keys()));
    for (const [name, layer] of weights) {
      expect(layer).toEqual({ ...whole.get(name), config: null });
      expect(() => kerasLayer(layer)).toThrow(`kerasLayer: ${name}: a file of weights does not say what the layer computes`);
    }
  });

  test.each([sequence, weightsOnly])("loadKeras fills layers by name: %s", async (path) => {
    const mine = new LSTM(6, 5, on);
    const before = new GRU(2, 3, { reset: "before", ...on });
    const head = new Linear(2, 2, on);
    await loadKeras(path, { mine, before, dense: head });
    const layers = await readKeras(path);
    for (const [name, layer] of Object.entries({ mine, before, dense: head })) {
      const wanted = fromKeras(layers.get(name)!.weights);
      for (const [key, t] of Object.entries(layer.stateDict())) expect([...t.dataSync()]).toEqual([...Array.from(wanted[key].data)]);
    }
  });
});

describe("loadKeras changes nothing unless all fits", () => {
  const refused: [string, Record<string, () => Module>, string][] = [
    ["no such layer", { mine: () => new LSTM(6, 5), nobody: () => new LSTM(6, 5) }, "it has no layer nobody but embedding, both, mine"],
    ["another size", { mine: () => new LSTM(6, 5), lstm: () => new LSTM(5, 3, { bias: false }) }, "lstm: "],
    ["biases where there are none", { mine: () => new LSTM(6, 5), lstm: () => new LSTM(5, 2) }, "lstm: loadStateDict: missing bias_ih_l0"],
    ["another class", { mine: () => new GRU(6, 5) }, "mine: it needs LSTM (lstm) but the layer given is GRU (gru)"],
    ["another activation", { mine: () => new LSTM(6, 5), simple_rnn: () => new RNN(3, 2) }, "simple_rnn: it needs RNN (elman_relu)"],
    ["the reset on the other side", { mine: () => new LSTM(6, 5), before: () => new GRU(2, 3) }, "before: it needs GRU (gru_before)"],
  ];
  test.each(refused)("%s", async (_, make, message) => {
    const layers = Object.fromEntries(Object.entries(make).map(([name, layer]) => [name, layer()]));
    const before = Object.values(layers).map((layer) => layer.parameters().map((p) => [...p.dataSync()]));
    await expect(loadKeras(sequence, layers)).rejects.toThrow(message);
    expect(Object.values(layers).map((layer) => layer.parameters().map((p) => [...p.dataSync()]))).toEqual(before);
  });

  test("the reset on the other side is seen in a file of weights too", async () => {
    await expect(loadKeras(weightsOnly, { before: new GRU(2, 3) })).rejects.toThrow("before: it needs GRU (gru_before)");
  });
});

describe("configurations that there is nothing like here", () => {
  let layers: ReadonlyMap<string, KerasLayer>;
  beforeAll(async () => {
    layers = await readKeras(sequence);
  });
  const changed = (name: string, settings: Record<string, unknown>) => {
    const layer = layers.get(name)!;
    return { ...layer, config: { ...layer.config!, settings: { ...layer.config!.settings, ...settings } } };
  };

  test.each([
    ["mine", { activation: "mish" }, 'kerasLayer: mine: activation must be "tanh" or '],
    ["mine", { recurrent_activation: { class_name: "function", config: "my_gate" } }, "mine: recurrent_activation must be "],
    ["simple_rnn", { activation: "elu" }, 'simple_rnn: activation must be "tanh" or '],
    ["before", { reset_after: true }, "before: reset_after must be false but is true"],
    ["before", { use_bias: false }, "before: use_bias must be true but is false"],
    ["mine", { units: 7 }, "mine: units must be 5 as its arrays have it but is 7"],
    ["both", { merge_mode: "max" }, 'both: merge_mode must be "concat" or "sum" or "mul" or "ave" but is "max"'],
    ["both", { layer: { class_name: "Dense", config: {} } }, "both: Bidirectional must be around SimpleRNN, LSTM"],
    ["both", { layer: 3 }, "both: a layer must have class_name and config but is 3"],
  ])("%s with %o", (name, settings, message) => {
    expect(() => kerasLayer(changed(name, settings))).toThrow(message);
  });

  test("a class that is not known", () => {
    const layer = layers.get("dense")!;
    const odd = { ...layer, config: { ...layer.config!, className: "EinsumDense" } };
    expect(() => kerasLayer(odd)).toThrow("dense: there is no layer here for a EinsumDense with a weight [2, 2]");
    expect(() => kerasLayer({ ...layers.get("mine")!, config: layer.config })).toThrow(
      "there is no layer here for a Dense with these arrays",
    );
    expect(() => kerasLayer({ ...layers.get("mine")!, config: layers.get("before")!.config })).toThrow("its arrays are not those of a GRU");
  });

  test("activations, hard ones too, and go_backwards become options", () => {
    const layer = kerasLayer(changed("mine", { recurrent_activation: "hard_sigmoid", go_backwards: true }), on) as LSTM;
    expect(layer.reverse).toBe(true);
    const same = new LSTM(6, 5, { recurrentActivation: "hardSigmoid", reverse: true, ...on });
    same.loadStateDict(fromKeras(layers.get("mine")!.weights));
    const x = tensor(
      Float64Array.from({ length: 24 }, (_, i) => Math.sin(i)),
      { shape: [1, 4, 6], ...tensors },
    );
    expect([...run(layer, x).dataSync()]).toEqual([...run(same, x).dataSync()]);
  });

  test.each([
    ["sum", "sum", (a: number, b: number) => a + b],
    ["mul", "mul", (a: number, b: number) => a * b],
    ["ave", "average", (a: number, b: number) => (a + b) / 2],
  ] as const)("a Bidirectional that merges by %s", (merge_mode, merge, f) => {
    const source = changed("both", { merge_mode });
    const layer = kerasLayer(source, on) as Bidirectional;
    expect(layer).toBeInstanceOf(Bidirectional);
    expect(layer.merge).toBe(merge);
    const width = layer.outputSize;
    const x = tensor(
      Float64Array.from({ length: 4 * layer.inputSize }, (_, i) => Math.sin(i)),
      { shape: [1, 4, layer.inputSize], ...tensors },
    );
    const both = [...run(kerasLayer(layers.get("both")!, on), x).dataSync()];
    const wanted = Array.from({ length: 4 * width }, (_, i) => {
      const at = Math.floor(i / width) * 2 * width + (i % width);
      return f(both[at], both[at + width]);
    });
    expect([...run(layer, x).dataSync()]).toEqual(wanted);
    const inner = source.config.settings.layer as { config: object };
    const backwards = { ...inner, config: { ...inner.config, go_backwards: true } };
    expect(() => kerasLayer(changed("both", { merge_mode, layer: backwards }))).toThrow("both: go_backwards must be false but is true");
  });

  test("loadKeras fills two layers of one Bidirectional", async () => {
    const one = layers.get("both")!;
    const whole = kerasLayer(one, on);
    const { inputSize, hiddenSize, constructor } = whole as LSTM;
    const make = () => new (constructor as typeof LSTM)(inputSize, hiddenSize, on);
    const given = new Bidirectional(make(), make());
    await loadKeras(weightsOnly, { both: given });
    const x = tensor(
      Float64Array.from({ length: 4 * inputSize }, (_, i) => Math.cos(i)),
      { shape: [1, 4, inputSize], ...tensors },
    );
    expect([...run(given, x).dataSync()]).toEqual([...run(whole, x).dataSync()]);
    await expect(loadKeras(sequence, { both: given })).rejects.toThrow("both: it needs ");
  });
});

describe("fromKeras", () => {
  test("a GRU's gates z, r, h become r, z, n, and two biases stay two", () => {
    const state = fromKeras({
      kernel: { shape: [2, 3], data: [1, 2, 3, 4, 5, 6] },
      recurrent_kernel: { shape: [1, 3], data: [7, 8, 9] },
      bias: { shape: [2, 3], data: [10, 20, 30, 40, 50, 60] },
    });
    expect(Object.fromEntries(Object.entries(state).map(([name, { shape, data }]) => [name, [shape, Array.from(data)]]))).toEqual({
      weight_ih_l0: [[3, 2], [2, 5, 1, 4, 3, 6]],
      weight_hh_l0: [[3, 1], [8, 7, 9]],
      bias_ih_l0: [[3], [20, 10, 30]],
      bias_hh_l0: [[3], [50, 40, 60]],
    }); // prettier-ignore
  });

  test("a variable's full path is as good as its name", () => {
    const names = ["kernel", "recurrent_kernel", "bias"];
    const of = (prefix: string, end = "") =>
      Object.fromEntries(names.map((name, i) => [`${prefix}${name}${end}`, [zero(3, 8), zero(2, 8), zero(8)][i]]));
    expect(fromKeras(of("model/lstm/lstm_cell/", ":0"))).toEqual(fromKeras(of("")));
    const paths = { ...of("seq/bidirectional/forward_lstm/lstm_cell/"), ...of("seq/bidirectional/backward_lstm/lstm_cell/") };
    expect(fromKeras(paths)).toEqual(fromKeras({ ...of("forward/"), ...of("backward/") }));
    expect(Object.keys(fromKeras(paths))).toContain("bias_hh_l0_reverse");
  });

  test("a list of layers is a stack", () => {
    const stack = new LSTM(3, 2, { layers: 2, bidirectional: true });
    const layer = (inputs: number) =>
      Object.fromEntries(
        ["forward", "backward"].flatMap((side) => [
          [`${side}/kernel`, zero(inputs, 8)],
          [`${side}/recurrent_kernel`, zero(2, 8)],
          [`${side}/bias`, zero(8)],
        ]),
      ) as Record<string, NumericArray>;
    expect(() => stack.checkStateDict(fromKeras([layer(3), layer(4)]))).not.toThrow();
  });

  const lstm = { kernel: zero(3, 8), recurrent_kernel: zero(2, 8), bias: zero(8) };
  test.each([
    [{}, "there must be kernel and recurrent_kernel, kernel, embeddings, or gamma and beta but there is nothing"],
    [{ recurrent_kernel: zero(2, 8) }, "kernel is missing"],
    [{ ...lstm, recurrent_kernel: zero(3, 8) }, "recurrent_kernel must be [H, 1, 3 or 4 times H]"],
    [{ ...lstm, kernel: zero(3, 6) }, "kernel must be [I, 8] beside a recurrent_kernel [2, 8] but is [3, 6]"],
    [{ ...lstm, bias: zero(2, 8) }, "bias must be [8] but is [2, 8]"],
    [{ ...lstm, bias: { shape: [8], data: [1, 2] } }, "bias of shape [8] must have 8 values but has 2"],
    [{ ...lstm, gamma: zero(8) }, "a recurrent layer has kernel, recurrent_kernel and bias but there is gamma"],
    [{ ...lstm, "other/kernel": zero(3, 8) }, "the arrays must be of one layer but there are two called kernel"],
    [
      { "forward/kernel": zero(3, 8), "forward/recurrent_kernel": zero(2, 8) },
      "a Bidirectional needs arrays of forward/ and backward/ but has those of forward",
    ],
    [{ kernel: zero(3), bias: zero(3) }, "kernel must have two axes at least but is [3]"],
  ])("refuses %#", (weights, message) => {
    expect(() => fromKeras(weights as Record<string, NumericArray>)).toThrow(`fromKeras: ${message}`);
  });

  test("directions that differ, and a stack of what does not recur", () => {
    const side = (name: string, units: number) => ({
      [`${name}/kernel`]: zero(3, units),
      [`${name}/recurrent_kernel`]: zero(units, units),
    });
    expect(() => fromKeras({ ...side("forward", 2), ...side("backward", 3) })).toThrow("forward/ and backward/ must have the same shapes");
    expect(() => fromKeras([{ kernel: zero(2, 2) }, lstm])).toThrow("layer 0 of a stack must be recurrent");
  });
});

describe("files that are not what they seem", () => {
  const written = (name: string, bytes: Uint8Array) => {
    const path = join(folder, name);
    writeFileSync(path, bytes);
    return path;
  };
  const zipped = (...entries: ZipEntry[]) => written("forged.keras", zipFile(entries));
  const hdf5 = async (fill: (file: h5.File) => void) => {
    const { FS } = await h5.ready;
    const file = new h5.File("/made.h5", "w");
    fill(file);
    file.close();
    return FS.readFile("/made.h5");
  };
  /** A float32 array at a path whose groups are made. */
  const put = (file: h5.File, path: string, shape: number[], options: object = {}) => {
    const parts = path.split("/");
    for (let k = 1; k < parts.length; k++) {
      const group = parts.slice(0, k).join("/");
      if (!file.get(group)) file.create_group(group);
    }
    file.create_dataset({ name: path, data: new Float32Array(shape.reduce((a, b) => a * b)), shape, ...options });
  };
  const config = (json: unknown): ZipEntry => ({
    name: "config.json",
    data: Buffer.from(typeof json === "string" ? json : JSON.stringify(json)),
  });
  const model = { class_name: "Sequential", config: { name: "m", layers: [] } };
  const good = readFileSync(weightsOnly);
  const weights: ZipEntry = { name: "model.weights.h5", data: good };

  test("neither zip nor HDF5, absent, a folder", async () => {
    await expect(readKeras(written("x.keras", Buffer.from("hello")))).rejects.toThrow(
      "x.keras: it must be a .keras file (zip) or a .weights.h5 file",
    );
    await expect(readKeras(written("x.keras", Buffer.alloc(0)))).rejects.toThrow("x.keras: it must be");
    await expect(readKeras(join(folder, "none.keras"))).rejects.toThrow("no such file");
    await expect(readKeras(folder)).rejects.toThrow("cannot read");
  });

  test.each([9, 100, 5000, good.length - 1])("HDF5 cut after %i bytes", async (length) => {
    const path = written("cut.weights.h5", good.subarray(0, length));
    await expect(readKeras(path)).rejects.toThrow(/cut\.weights\.h5: not a readable HDF5 file: \S/);
  });

  test("bytes of an HDF5 file that are wrong never do worse than an error", async () => {
    for (let k = 0; k < 60; k++) {
      const bytes = Buffer.from(good);
      for (let j = 0; j < 6; j++) bytes[(k * 7919 + j * 104729) % bytes.length] ^= 1 + ((k * 31 + j * 17) % 255);
      const path = written("odd.weights.h5", bytes);
      const result = await readKeras(path).then(
        (layers) => layers.size > 0,
        (error: Error) => error.message.startsWith(path),
      );
      expect(result).toBe(true);
    }
  });

  test("HDF5 without layers, with groups nested without end, with numbers that are not floating", async () => {
    const none = written("none.weights.h5", await hdf5((file) => file.create_group("layers")));
    await expect(readKeras(none)).rejects.toThrow("none.weights.h5: it holds no layers with weights");
    const integers = await hdf5((file) => file.create_dataset({ name: "0", data: new Int32Array(4) }));
    await expect(readKeras(written("int.weights.h5", integers))).rejects.toThrow("it holds no layers with weights");
    const circle = await hdf5((file) => {
      file.create_group("a").create_hard_link("/a", "a");
    });
    await expect(readKeras(written("circle.weights.h5", circle))).rejects.toThrow("groups may be nested 32 deep");
  });

  test("more than may be read", async () => {
    await expect(readKeras(weightsOnly, { maxBytes: 1000 })).rejects.toThrow(`it may have at most 1000 bytes but has ${good.length}`);
    const large = await hdf5((file) => put(file, "layers/dense/vars/0", [256, 256], { chunks: [256, 256], compression: "gzip" }));
    expect(large.length).toBeLessThan(20_000);
    await expect(readKeras(written("large.weights.h5", large), { maxBytes: 20_000 })).rejects.toThrow(
      "dataset layers/dense/vars/0 is too large",
    );
  });

  test("Keras 2's arrays under their own names, and those of Keras 2.13", async () => {
    const old = await hdf5((file) => {
      for (const [name, shape] of Object.entries({ kernel: [3, 4], recurrent_kernel: [1, 4], bias: [4] }))
        put(file, `model_weights/lstm_3/lstm_3/lstm_cell/${name}:0`, shape);
      put(file, "optimizer_weights/adam/m:0", [3]);
    });
    const layers = await readKeras(written("old.h5", old));
    expect([...layers.keys()]).toEqual(["lstm_3"]);
    expect(() => new LSTM(3, 1).checkStateDict(fromKeras(layers.get("lstm_3")!.weights))).not.toThrow();
    const between = await hdf5((file) => {
      put(file, "_layer_checkpoint_dependencies/simple_rnn/cell/vars/0", [2, 1]);
      put(file, "_layer_checkpoint_dependencies/simple_rnn/cell/vars/1", [1, 1]);
    });
    const [layer] = (await readKeras(written("between.weights.h5", between))).values();
    expect(layer).toMatchObject({ name: "simple_rnn", path: "layers/simple_rnn", className: "SimpleRNN" });
    expect(Object.keys(layer.weights)).toEqual(["kernel", "recurrent_kernel"]);
  });

  test("deflated entries are read", async () => {
    const path = zipped({ ...config(model), deflate: true }, { ...weights, deflate: true });
    expect([...(await readKeras(path)).keys()]).toHaveLength(8);
  });

  test.each<[string, () => string, string]>([
    ["cut zip", () => written("cut.keras", readFileSync(sequence).subarray(0, 3000)), "cut.keras: "],
    ["no weights", () => zipped(config(model)), "it is not a .keras file: model.weights.h5 is missing"],
    ["no configuration", () => zipped(weights), "config.json is missing"],
    ["an entry twice", () => zipped(config(model), config(model), weights), "it has config.json twice"],
    [
      "a wrong checksum",
      () => zipped(config(model), { ...weights, claims: { crc: 1 } }),
      "model.weights.h5 is damaged: its checksum differs",
    ],
    ["less than claimed", () => zipped(config(model), { ...weights, deflate: true, claims: { size: good.length + 9 } }), "forged.keras: "],
    ["more than claimed", () => zipped(config(model), { ...weights, deflate: true, claims: { size: 100 } }), "forged.keras: "],
    ["a claim beyond reason", () => zipped(config(model), { ...weights, claims: { size: 2 ** 30 } }), "forged.keras: "],
    [
      "a bomb of configuration",
      () => zipped({ ...config(" ".repeat(2 ** 24 + 1)), deflate: true }, weights),
      "config.json may have at most 16777216 bytes",
    ],
    ["not JSON", () => zipped(config("{"), weights), "config.json is not JSON"],
    ["nested without end", () => zipped(config("[".repeat(5000)), weights), "config.json is nested too deeply"],
    ["not a model", () => zipped(config([1]), weights), "config.json is not of a Keras model: a layer must have class_name and config"],
    ["a layer without a class", () => zipped(config({ class_name: "S", config: { layers: [{}] } }), weights), "is not of a Keras model"],
    [
      "a name that is none",
      () => zipped(config({ class_name: "S", config: { name: 3 } }), weights),
      "a layer's name must be a text but is 3",
    ],
  ])("%s", async (_, make, message) => {
    await expect(readKeras(make())).rejects.toThrow(message);
  });

  test("an entry that is larger than it may be is not unpacked", async () => {
    const path = zipped({ name: "a", data: new Uint8Array(1000), deflate: true });
    await expect(readZip(path, { a: 999 })).rejects.toThrow("a may have at most 999 bytes unpacked but claims 1000");
    expect((await readZip(path, { a: 1000 })).get("a")).toHaveLength(1000);
    expect(await readZip(path, { b: 1000 })).toEqual(new Map());
  });

  test("without h5wasm the error says what to install", { timeout: 60_000 }, () => {
    const hook = `export async function resolve(name, context, next) {
      if (name === "h5wasm") throw Object.assign(new Error(), { code: "ERR_MODULE_NOT_FOUND" });
      return next(name, context);
    }`;
    const program = written(
      "absent.mts",
      Buffer.from(`import { register } from "node:module";
        register("data:text/javascript,${encodeURIComponent(hook)}");
        const { readKeras } = await import(${JSON.stringify(pathToFileURL(join(import.meta.dirname, "../src/index.ts")).href)});
        await readKeras(${JSON.stringify(sequence)}).catch((error) => console.log(error.message));`),
    );
    const printed = execFileSync(process.execPath, ["--import", import.meta.resolve("tsx"), program], { encoding: "utf8" });
    expect(printed).toContain("HDF5 files are read by the package h5wasm, which is not installed: npm install h5wasm");
  });
});
