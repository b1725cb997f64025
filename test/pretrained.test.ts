import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  AdamW,
  concat,
  device,
  fromPretrained,
  Generator,
  Mamba2ForCausalLM,
  MambaForCausalLM,
  noGrad,
  readSafetensors,
  RWKV7ForCausalLM,
  RwkvForCausalLM,
  savePretrained,
  scope,
  slice,
  tensor,
  train,
  writeSafetensors,
  xLSTMForCausalLM,
  type CausalLM,
  type GenerateOptions,
  type SafeTensor,
  type Tensor,
} from "../src/index.js";
import { architectures } from "../src/io/architectures.js";
import { leaves } from "../src/nn/stream.js";
import { nativeAvailable } from "./helpers.js";

const on = nativeAvailable ? ("cpu" as const) : ("reference" as const);
const V = 19;

/** A small model of each kind, with each option that changes what its checkpoint holds. */
const models: Readonly<Record<string, (generator: Generator) => CausalLM>> = {
  mamba: (generator) =>
    new MambaForCausalLM({ vocab_size: V, hidden_size: 6, num_hidden_layers: 2, state_size: 3, conv_kernel: 3 }, { device: on, generator }),
  "mamba, untied, biases": (generator) =>
    new MambaForCausalLM(
      {
        vocab_size: V,
        hidden_size: 6,
        num_hidden_layers: 1,
        use_bias: true,
        use_conv_bias: false,
        tie_word_embeddings: false,
        time_step_rank: 2,
      },
      { device: on, generator },
    ),
  "mamba-2": (generator) =>
    new Mamba2ForCausalLM(
      { vocab_size: V, hidden_size: 6, num_hidden_layers: 2, num_heads: 4, head_dim: 3, n_groups: 2, state_size: 5 },
      { device: on, generator },
    ),
  "mamba-2, tied, biases": (generator) =>
    new Mamba2ForCausalLM(
      {
        vocab_size: V,
        hidden_size: 6,
        num_hidden_layers: 2,
        num_heads: 3,
        head_dim: 4,
        n_groups: 1,
        state_size: 5,
        use_bias: true,
        use_conv_bias: false,
        tie_word_embeddings: true,
        time_step_limit: [0.01, 0.05],
      },
      { device: on, generator },
    ),
  "rwkv-4": (generator) =>
    new RwkvForCausalLM(
      { vocab_size: V, hidden_size: 6, num_hidden_layers: 3, attention_hidden_size: 5, intermediate_size: 7, rescale_every: 2 },
      { device: on, generator },
    ),
  "rwkv-4, tied": (generator) =>
    new RwkvForCausalLM({ vocab_size: V, hidden_size: 6, num_hidden_layers: 1, tie_word_embeddings: true }, { device: on, generator }),
  "rwkv-7": (generator) => new RWKV7ForCausalLM(rwkv7, { device: on, generator }),
  "rwkv-7, spare tensors": (generator) =>
    new RWKV7ForCausalLM({ ...rwkv7, spare_norms: true, spare_value_mix: true, dim_ffn: 9 }, { device: on, generator }),
  xlstm: (generator) =>
    new xLSTMForCausalLM(
      { vocab_size: V, hidden_size: 8, num_hidden_layers: 2, num_heads: 2, ffn_round_up_to_multiple_of: 4 },
      { device: on, generator },
    ),
  "xlstm, fused, biases": (generator) =>
    new xLSTMForCausalLM(
      { vocab_size: V, hidden_size: 8, num_hidden_layers: 1, num_heads: 2, use_bias: true, weight_mode: "fused", gate_soft_cap: null },
      { device: on, generator },
    ),
};
const ranks = { decay_lora: 2, aaa_lora: 3, mv_lora: 2, gate_lora: 4 };
const rwkv7 = { vocab_size: V, n_embd: 6, n_layer: 2, head_size: 3, ...ranks };

const make = (kind: string) => models[kind](new Generator(5)).eval();
const idsOf = (rows: number[][]) => tensor(Int32Array.from(rows.flat()), { shape: [rows.length, rows[0].length], device: device(on) });
const read = (t: Tensor) => Array.from(t.dataSync());
const logitsOf = (model: CausalLM, rows: number[][]) => scope(() => noGrad(() => read(model.forward(idsOf(rows)).logits)));

// Two orders of the same float32 sums of numbers of order one.
const CLOSE = 1e-5;
function expectClose(got: readonly number[], wanted: readonly number[]): void {
  expect(got.length).toBe(wanted.length);
  got.forEach((v, i) => expect(Math.abs(v - wanted[i])).toBeLessThanOrEqual(CLOSE));
}

let folder: string;
const path = (name: string) => join(folder, name);
beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), "pretrained-"))));
afterEach(() => rmSync(folder, { recursive: true }));

const prompt = [3, 1, 4, 1, 5, 9, 2];
async function all(model: CausalLM, options: GenerateOptions, from: number[] = prompt): Promise<number[]> {
  const made: number[] = [];
  for await (const id of model.generate(from, options)) made.push(id);
  return made;
}

describe.each(Object.keys(models))("%s", (kind) => {
  test("is saved and read back to the same numbers", async () => {
    const model = make(kind);
    await savePretrained(model, path("new/model"));
    expect(readdirSync(path("new"))).toEqual(["model"]);
    const file = await readSafetensors(path("new/model/model.safetensors"));
    expect(file.metadata).toEqual({ format: "pt" });
    expect([...file.tensors.keys()].sort()).toEqual(Object.keys(model.stateDict()).sort());
    const loaded = await fromPretrained(path("new/model"), { device: on });
    expect(loaded.constructor).toBe(model.constructor);
    expect(loaded.training).toBe(false);
    expect(loaded.config).toMatchObject(model.config);
    expect(logitsOf(loaded, [prompt])).toEqual(logitsOf(model, [prompt]));
  });

  test("has the parameters that its configuration tells", () => {
    const model = make(kind);
    const architecture = architectures.find((one) => one === (model.constructor as unknown))!;
    const told = new Map([...architecture.shapes(model.config)].map(([name, shape]) => [name, [...shape]]));
    expect(told).toEqual(new Map(Object.entries(model.stateDict()).map(([name, t]) => [name, [...t.shape]])));
  });

  test("gives the same in one pass, in parts, ragged, and as a stream", () =>
    scope(() =>
      noGrad(() => {
        const model = make(kind);
        const rows = [prompt, [7, 7, 0, 18, 2, 3, 3]];
        const ids = idsOf(rows);
        const whole = model.forward(ids);
        const first = model.forward(slice(ids, 1, 0, 3));
        const second = model.forward(slice(ids, 1, 3), { state: first.state });
        expectClose(read(concat([first.logits, second.logits], 1)), read(whole.logits));
        leaves(second.state).forEach(([, t], i) => expectClose(read(t), read(leaves(whole.state)[i][1])));
        const ragged = model.forward(ids, { lengths: [7, 4] });
        const alone = model.forward(idsOf([rows[1].slice(0, 4)]));
        leaves(ragged.state).forEach(([, t], i) => expectClose(read(slice(t, 1, 1)), read(leaves(alone.state)[i][1])));
        const none = model.forward(slice(ids, 1, 0, 0));
        expect(none.logits.shape).toEqual([2, 0, V]);
        expectClose(read(model.forward(ids, { state: none.state }).logits), read(whole.logits));
        using sessions = model.streams({ capacity: 2 });
        const both = rows.map(() => sessions.open());
        const stepped = prompt.map((_, t) => [...sessions.step(both, rows.map((row) => row[t]))]); // prettier-ignore
        expectClose(
          [0, 1].flatMap((n) => stepped.flatMap((step) => step.slice(n * V, (n + 1) * V))),
          read(whole.logits),
        );
        using stream = model.stream();
        expectClose(
          prompt.flatMap((id) => [...stream.step([id])]),
          read(slice(whole.logits, 0, 0, 1)),
        );
      }),
    ));

  test("generates what choosing the likeliest after a whole pass gives", async () => {
    const model = make(kind);
    const wanted = [...prompt];
    for (let i = 0; i < 6; i++) {
      const logits = logitsOf(model, [wanted]).slice(-V);
      wanted.push(logits.indexOf(Math.max(...logits)));
    }
    expect(await all(model, { temperature: 0, maxTokens: 6, ignoreEos: true })).toEqual(wanted.slice(prompt.length));
  });

  test("learns on after it was loaded", { timeout: 60_000 }, async () => {
    await savePretrained(make(kind), folder);
    const model = await fromPretrained(folder, { device: on });
    const data = Int32Array.from({ length: 24 }, (_, i) => (i * 5) % V);
    const batch = { inputs: { shape: [2, 12], data }, targets: { shape: [2, 12], data: data.map((v) => (v + 5) % V) } };
    const losses: number[] = [];
    for await (const { loss } of train(model, new Array(25).fill(batch), { optimizer: new AdamW(model, { lr: 0.02 }), clipNorm: 1 }))
      // prettier-ignore
      losses.push(loss);
    expect(losses.at(-1)).toBeLessThan(0.9 * losses[0]);
    await savePretrained(model, folder);
    expect(logitsOf(await fromPretrained(folder, { device: on }), [prompt])).toEqual(logitsOf(model.eval(), [prompt]));
  });
});

test("RWKV-7 is known by its tensors alone", async () => {
  for (const kind of ["rwkv-7", "rwkv-7, spare tensors"]) {
    const model = make(kind);
    await savePretrained(model, folder);
    rmSync(path("config.json"));
    const loaded = await fromPretrained(folder, { device: on });
    expect(loaded.config).toMatchObject(model.config);
    expect(logitsOf(loaded, [prompt])).toEqual(logitsOf(model, [prompt]));
  }
});

describe("generate", () => {
  test("stops at maxTokens, at ids, at the end of a text, and by its signal", async () => {
    const model = make("rwkv-4");
    const free = await all(model, { temperature: 0, maxTokens: 8, ignoreEos: true });
    const stop = free.find((id, i) => i > 1 && id !== free[0])!;
    expect(await all(model, { temperature: 0, ignoreEos: true, stop })).toEqual(free.slice(0, free.indexOf(stop)));
    expect(await all(model, { maxTokens: 0 })).toEqual([]);
    Object.assign(model, { config: { ...model.config, eos_token_id: [stop] } });
    expect(await all(model, { temperature: 0 })).toEqual(free.slice(0, free.indexOf(stop)));
    const abort = new AbortController();
    let seen = 0;
    for await (const id of model.generate(prompt, { ignoreEos: true, signal: abort.signal })) if (id >= 0 && ++seen === 5) abort.abort();
    expect(seen).toBe(5);
  });

  test("is repeated by a generator, and reads a prompt longer than one pass as it reads it in parts", async () => {
    const model = make("mamba-2");
    const options = { maxTokens: 30, ignoreEos: true, topK: 9, topP: 0.95, repetitionPenalty: 1.2 };
    const [a, b, c] = [1, 1, 2].map((seed) => all(model, { ...options, generator: new Generator(seed) }));
    expect(await a).toEqual(await b);
    expect(await a).not.toEqual(await c);
    const long = Array.from({ length: 2500 }, (_, i) => (i * i) % V);
    const logits = logitsOf(model, [long]).slice(-V);
    expect(await all(model, { temperature: 0, maxTokens: 1, ignoreEos: true }, long)).toEqual([logits.indexOf(Math.max(...logits))]);
  });

  test("says at once what does not fit", () => {
    const model = make("mamba");
    const where = "MambaForCausalLM.generate";
    expect(() => model.generate([])).toThrow(`${where}: prompt must have at least one id`);
    expect(() => model.generate([1, 19])).toThrow(`${where}: prompt must hold ids in [0, 18] but entry 1 is 19`);
    expect(() => model.generate("a")).toThrow(`${where}: the model has no tokenizer; give the prompt as ids`);
    expect(() => model.generate([1], { topk: 1 } as never)).toThrow(`${where}: unknown option topk; did you mean topK?`);
    expect(() => model.generate([1], { maxTokens: -1 })).toThrow(`${where}: maxTokens must be an integer of at least 0 but is -1`);
    expect(() => model.generate([1], { stop: "x" })).toThrow(`${where}: stop may hold strings only where the prompt is text`);
    expect(() => model.generate([1], { temperature: NaN })).toThrow(`${where}: temperature must be a number`);
    expect(() => model.forward(idsOf([[1]]), { state: [] })).toThrow("state must have an entry for each of 2 layers but has 0");
    expect(() => model.forward(tensor([[1]], { device: device(on) }))).toThrow("forward: ids must be int32 [N, T] but is float32 [1, 1]");
  });
});

describe("files", () => {
  const kind = "mamba-2";
  const json = (name: string) => JSON.parse(readFileSync(path(name), "utf8")) as Record<string, unknown>;
  const edit = (name: string, change: (json: Record<string, unknown>) => void) => {
    const value = json(name);
    change(value);
    writeFileSync(path(name), JSON.stringify(value));
  };
  const load = () => fromPretrained(folder, { device: on });
  const weights = "model.safetensors";
  const index = "model.safetensors.index.json";

  beforeEach(() => savePretrained(make(kind), folder));

  async function rewrite(change: (tensors: Map<string, SafeTensor>) => void) {
    const tensors = new Map((await readSafetensors(path(weights))).tensors);
    change(tensors);
    await writeSafetensors(path(weights), tensors);
  }

  /** The weights in two files and an index. */
  async function shard() {
    const tensors = [...(await readSafetensors(path(weights))).tensors];
    const map: Record<string, string> = {};
    for (const part of [0, 1]) {
      const name = `model-0000${part + 1}-of-00002.safetensors`;
      const own = tensors.filter((_, i) => i % 2 === part);
      await writeSafetensors(path(name), new Map(own), { format: "pt" });
      for (const [tensor] of own) map[tensor] = name;
    }
    writeFileSync(path(index), JSON.stringify({ metadata: { total_size: 0 }, weight_map: map }));
    rmSync(path(weights));
    return map;
  }

  test("the weights may lie in shards, and be float16 and bfloat16 in part", async () => {
    const model = make(kind);
    await shard();
    expect(logitsOf(await load(), [prompt])).toEqual(logitsOf(model, [prompt]));
    const half = path("half");
    await savePretrained(model, half, { dtype: "bfloat16" });
    expect(JSON.parse(readFileSync(join(half, "config.json"), "utf8"))).toMatchObject({ dtype: "bfloat16" });
    const { tensors } = await readSafetensors(join(half, weights));
    expect(new Set([...tensors.values()].map(({ dtype }) => dtype))).toEqual(new Set(["BF16"]));
    const mixed = new Map([...tensors].map(([name, t], i) => [name, { ...t, dtype: (["F16", "BF16", "F32"] as const)[i % 3] }]));
    await writeSafetensors(join(half, weights), mixed);
    const loaded = await fromPretrained(half, { device: on });
    const name = "backbone.layers.0.mixer.in_proj.weight";
    expect(read(loaded.stateDict()[name])).toEqual(Array.from((await readSafetensors(join(half, weights))).tensors.get(name)!.data as Float32Array)); // prettier-ignore
  });

  test("config.json is as Transformers writes and wants it", () => {
    const text = readFileSync(path("config.json"), "utf8");
    expect(text).toContain('"time_step_limit": [\n    0.0,\n    {\n      "__float__": "Infinity"\n    }\n  ]');
    expect(json("config.json")).toMatchObject({ architectures: ["Mamba2ForCausalLM"], model_type: "mamba2", dtype: "float32" });
  });

  test("Python's Infinity, entries without meaning, and null for an absent id are taken", async () => {
    const text = readFileSync(path("config.json"), "utf8").replace(/\{\s*"__float__": "Infinity"\s*\}/, "Infinity");
    expect(text).toContain("0.0,\n    Infinity");
    writeFileSync(path("config.json"), text.replace("{", '{"torch_dtype": "float16", "chunk_size": 8, "eos_token_id": null,').replace('"eos_token_id": 2,', "")); // prettier-ignore
    expect((await load()).config).toMatchObject({ time_step_limit: [0, Infinity], eos_token_id: null });
  });

  test.each<[string, () => unknown, RegExp]>([
    ["an absent folder", () => rmSync(path(weights)), /there is neither model\.safetensors nor model\.safetensors\.index\.json/],
    ["no config.json", () => rmSync(path("config.json")), /config\.json: there is no such file, and the tensors are not those of RWKV-7/],
    ["a config.json that is cut", () => truncateSync(path("config.json"), 40), /config\.json: it is not JSON/],
    ["a list for a config", () => writeFileSync(path("config.json"), "[]"), /config\.json: it must hold a JSON object/],
    [
      "an unknown architecture",
      () => edit("config.json", (c) => (c.architectures = ["GPT2LMHeadModel"])),
      /config\.json: architectures must be one of .*Mamba2ForCausalLM.* but is \["GPT2LMHeadModel"\]/,
    ],
    [
      "a contradiction",
      () => edit("config.json", (c) => (c.model_type = "mamba")),
      /config\.json: model_type must be "mamba2" for Mamba2ForCausalLM but is "mamba"/,
    ],
    [
      "neither name nor type",
      () =>
        edit("config.json", (c) => {
          delete c.architectures;
          delete c.model_type;
        }),
      /config\.json: architectures must be one of/,
    ],
    [
      "an unknown option",
      () => edit("config.json", (c) => (c.n_group = 2)),
      /config\.json: configuration: unknown option n_group; did you mean n_groups\?/,
    ],
    [
      "quantised weights",
      () => edit("config.json", (c) => (c.quantization_config = {})),
      /config\.json: configuration: unknown option quantization_config/,
    ],
    [
      "a value of another type",
      () => edit("config.json", (c) => (c.use_bias = "no")),
      /config\.json: configuration: use_bias must be true or false but is "no"/,
    ],
    [
      "an activation that is not supported",
      () => edit("config.json", (c) => (c.hidden_act = "gelu")),
      /config\.json: configuration: hidden_act must be "silu" or "swish" but is "gelu"/,
    ],
    [
      "sizes that do not fit",
      () => edit("config.json", (c) => (c.head_dim = 4)),
      /config\.json: configuration: expand \* hidden_size must be num_heads \* head_dim but they are 12 and 16/,
    ],
    [
      "a huge size",
      () => edit("config.json", (c) => (c.num_hidden_layers = 1e9)),
      /model\.safetensors: of Mamba2ForCausalLM these tensors are missing: "backbone\.layers\.2\.norm\.weight" \[6\]/,
    ],
    [
      "another vocabulary",
      () => edit("config.json", (c) => (c.vocab_size = 1e12)),
      /model\.safetensors: tensor "backbone\.embeddings\.weight" must be \[1000000000000, 6\] by the configuration but is \[19, 6\]/,
    ],
    ["a file that is cut", () => truncateSync(path(weights), 3000), /model\.safetensors: .*bytes/],
    [
      "a missing tensor",
      () => rewrite((t) => t.delete("lm_head.weight")),
      /model\.safetensors: of Mamba2ForCausalLM these tensors are missing: "lm_head\.weight" \[19, 6\]$/,
    ],
    [
      "an extra tensor",
      () => rewrite((t) => t.set("extra", t.get("lm_head.weight")!)),
      /model\.safetensors: tensor "extra" is not one of Mamba2ForCausalLM with this configuration/,
    ],
    [
      "a tensor of another shape",
      () => rewrite((t) => t.set("backbone.norm_f.weight", { ...t.get("backbone.norm_f.weight")!, shape: [2, 3] })),
      /model\.safetensors: tensor "backbone\.norm_f\.weight" must be \[6\] by the configuration but is \[2, 3\]/,
    ],
    [
      "integers",
      () => rewrite((t) => t.set("backbone.norm_f.weight", { dtype: "I32", shape: [6], data: new Int32Array(6) })),
      /model\.safetensors: tensor "backbone\.norm_f\.weight" must be F32, F16, BF16 or F64 but is I32/,
    ],
  ])("%s is refused", async (_, spoil, message) => {
    // prettier-ignore
    await spoil();
    await expect(load()).rejects.toThrow(message);
  });

  test.each<[string, (map: Record<string, string>) => unknown, RegExp]>([
    [
      "a shard that is absent",
      () => rmSync(path("model-00002-of-00002.safetensors")),
      /cannot read .*model-00002-of-00002\.safetensors: no such file/,
    ],
    [
      "a tensor in another shard than it says",
      (map) => (map["lm_head.weight"] = map["lm_head.weight"].replace(/0000\d-/, (n) => (n === "00001-" ? "00002-" : "00001-"))),
      /index\.json: tensor "lm_head\.weight" should be in model-0000\d.* but is in model-0000\d/,
    ],
    [
      "a tensor that is in none",
      (map) => (map.ghost = "model-00001-of-00002.safetensors"),
      /index\.json: tensor "ghost" should be in model-00001-of-00002\.safetensors but is not there/,
    ],
    [
      "a tensor that is not listed",
      (map) => delete map["lm_head.weight"],
      /index\.json: tensor "lm_head\.weight" of model-0000\d-of-00002\.safetensors is not in the index/,
    ],
    [
      "a file elsewhere",
      (map) => (map["lm_head.weight"] = "../model.safetensors"),
      /index\.json: tensor "lm_head\.weight" must be in a safetensors file of this folder but is in "\.\.\/model\.safetensors"/,
    ],
    [
      "a number for a file",
      (map) => (map["lm_head.weight"] = 3 as never),
      /index\.json: tensor "lm_head\.weight" must be in a safetensors file of this folder but is in 3/,
    ],
  ])("an index with %s is refused", async (_, spoil, message) => {
    // prettier-ignore
    const map = await shard();
    spoil(map);
    writeFileSync(path(index), JSON.stringify({ weight_map: map }));
    await expect(load()).rejects.toThrow(message);
  });

  test("a tensor in two shards is refused, and an index without a map", async () => {
    const map = await shard();
    const tensors = new Map((await readSafetensors(path("model-00001-of-00002.safetensors"))).tensors);
    const [other] = (await readSafetensors(path("model-00002-of-00002.safetensors"))).tensors;
    await writeSafetensors(path("model-00001-of-00002.safetensors"), tensors.set(...other));
    await expect(load()).rejects.toThrow(/model-0000\d-of-00002\.safetensors: tensor ".*" is in model-0000\d-of-00002\.safetensors too/);
    writeFileSync(path(index), JSON.stringify({ weight_map: [map] }));
    await expect(load()).rejects.toThrow("model.safetensors.index.json: weight_map must be an object");
  });

  test("a copy of a tied head is taken, another head is not", async () => {
    await savePretrained(make("mamba"), folder);
    await rewrite((t) => t.set("lm_head.weight", t.get("backbone.embeddings.weight")!));
    expect(logitsOf(await load(), [prompt])).toEqual(logitsOf(make("mamba"), [prompt]));
    await rewrite((t) => (t.get("lm_head.weight")!.data[7] = 3 as never));
    await expect(load()).rejects.toThrow('model.safetensors: tensor "lm_head.weight" must be that of "backbone.embeddings.weight"');
  });

  test("options and models that are not known are refused", async () => {
    await expect(fromPretrained(folder, { devise: on } as never)).rejects.toThrow(
      "fromPretrained: unknown option devise; did you mean device?",
    );
    await expect(savePretrained(make(kind), folder, { dtype: "int8" } as never)).rejects.toThrow('savePretrained: dtype must be "float32"');
    await expect(savePretrained({} as never, folder)).rejects.toThrow("savePretrained: model must be one of MambaForCausalLM, ");
    writeFileSync(path("file"), "");
    await expect(savePretrained(make(kind), path("file/model"))).rejects.toThrow("there is a file of that name");
    expect(existsSync(path(weights))).toBe(true);
  });
});

describe("a tokenizer", () => {
  // Byte-level: each byte is an id, written as the character that stands for it; and the id 256 ends a text.
  const visible = [...Array(256).keys()].filter((b) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174);
  const hidden = [...Array(256).keys()].filter((b) => !visible.includes(b));
  const character = (b: number) => String.fromCodePoint(visible.includes(b) ? b : 256 + hidden.indexOf(b));
  const vocab = Object.fromEntries([...Array(256).keys()].map((b) => [character(b), b]));
  const end = { id: 256, content: "<end>", single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  const bytes = {
    version: "1.0",
    added_tokens: [end],
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: "BPE", vocab: { ...vocab, "<end>": 256 }, merges: [], fuse_unk: false, byte_fallback: false },
  };
  const saved = async (size: number, tokenizer: unknown = bytes) => {
    const config = { vocab_size: size, hidden_size: 6, num_hidden_layers: 1, eos_token_id: 256 };
    await savePretrained(new MambaForCausalLM(config, { device: on, generator: new Generator(2) }), folder);
    writeFileSync(path("tokenizer.json"), typeof tokenizer === "string" ? tokenizer : JSON.stringify(tokenizer));
  };

  test("turns texts into ids and back, and goes with the model when it is saved", async () => {
    await saved(257);
    const model = await fromPretrained(folder, { device: on });
    const text = "Über 😀 naïve  words";
    expect(model.tokenizer!.encode(text)).toEqual([...Buffer.from(text)]);
    expect(model.tokenizer!.decode([...Buffer.from(text), 256])).toBe(text);
    const ids = await all(model, { maxTokens: 40, ignoreEos: true, generator: new Generator(1) }, [...Buffer.from("Once")]);
    let written = "";
    for await (const piece of model.generate("Once", { maxTokens: 40, ignoreEos: true, generator: new Generator(1) })) written += piece;
    expect(written).toBe(model.tokenizer!.decode(ids));
    const found = ids.map((id) => character(id)).findIndex((c, i) => i > 3 && /[!-~]/.test(c));
    const stop = String.fromCharCode(ids[found]);
    let until = "";
    for await (const piece of model.generate("Once", { stop, ignoreEos: true, generator: new Generator(1) })) until += piece;
    expect(until).toBe(written.slice(0, written.indexOf(stop)));
    await savePretrained(model, path("again"));
    expect(readFileSync(path("again/tokenizer.json"), "utf8")).toBe(JSON.stringify(bytes));
    expect((await fromPretrained(folder, { device: on, tokenizer: false })).tokenizer).toBeNull();
  });

  test("without the package, ids are taken, and a text says what to install", { timeout: 60_000 }, async () => {
    await saved(257);
    const hook = `export async function resolve(name, context, next) {
      if (name === "@huggingface/tokenizers") throw Object.assign(new Error(), { code: "ERR_MODULE_NOT_FOUND" });
      return next(name, context);
    }`;
    const program = `import { register } from "node:module";
      register("data:text/javascript,${encodeURIComponent(hook)}");
      const { fromPretrained } = await import(${JSON.stringify(pathToFileURL(join(import.meta.dirname, "../src/index.ts")).href)});
      const model = await fromPretrained(${JSON.stringify(folder)});
      for await (const id of model.generate([1], { maxTokens: 1, ignoreEos: true })) console.log(typeof id);
      await model.generate("a").next().catch((error) => console.log(error.message));`;
    writeFileSync(path("absent.mts"), program);
    const printed = execFileSync(process.execPath, ["--import", import.meta.resolve("tsx"), path("absent.mts")], { encoding: "utf8" });
    expect(printed).toMatch(/^number$/m);
    expect(printed).toContain("tokenizer.json: it is read by the package @huggingface/tokenizers, which is not installed: npm install");
  });

  test.each<[string, number, unknown, RegExp]>([
    ["ids beyond the vocabulary", 200, bytes, /tokenizer\.json: its ids must be below the model's vocab_size, 200, but "<end>" has 256/],
    [
      "no vocabulary",
      300,
      { ...bytes, added_tokens: [], model: { ...bytes.model, vocab: {} } },
      /tokenizer\.json: it must have a vocabulary/,
    ],
    ["no model", 300, { version: "1.0" }, /tokenizer\.json: not a tokenizer that can be read/],
    ["half a file", 300, JSON.stringify(bytes).slice(0, 900), /tokenizer\.json: it is not JSON/],
  ])("with %s is refused", async (_, size, tokenizer, message) => {
    // prettier-ignore
    await saved(size, tokenizer);
    await expect(fromPretrained(folder, { device: on })).rejects.toThrow(message);
  });
});
