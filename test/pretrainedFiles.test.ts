import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { beforeEach, describe, expect, test } from "vitest";
import {
  fromPretrained,
  Generator,
  MambaForCausalLM,
  readSafetensors,
  savePretrained,
  writeSafetensors,
  type SafeTensor,
} from "../src/index.js";
import { all, logitsOf, make, on, prompt, read, testFolder } from "./pretrained.js";

const path = testFolder();

describe("files", () => {
  const kind = "mamba-2";
  const json = (name: string) => JSON.parse(readFileSync(path(name), "utf8")) as Record<string, unknown>;
  const edit = (name: string, change: (json: Record<string, unknown>) => void) => {
    const value = json(name);
    change(value);
    writeFileSync(path(name), JSON.stringify(value));
  };
  const load = () => fromPretrained(path(), { device: on });
  const weights = "model.safetensors";
  const index = "model.safetensors.index.json";

  beforeEach(() => savePretrained(make(kind), path()));

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
    await savePretrained(make("mamba"), path());
    await rewrite((t) => t.set("lm_head.weight", t.get("backbone.embeddings.weight")!));
    expect(logitsOf(await load(), [prompt])).toEqual(logitsOf(make("mamba"), [prompt]));
    await rewrite((t) => (t.get("lm_head.weight")!.data[7] = 3 as never));
    await expect(load()).rejects.toThrow('model.safetensors: tensor "lm_head.weight" must be that of "backbone.embeddings.weight"');
  });

  test("options and models that are not known are refused", async () => {
    await expect(fromPretrained(path(), { devise: on } as never)).rejects.toThrow(
      "fromPretrained: unknown option devise; did you mean device?",
    );
    await expect(savePretrained(make(kind), path(), { dtype: "int8" } as never)).rejects.toThrow('savePretrained: dtype must be "float32"');
    await expect(savePretrained({} as never, path())).rejects.toThrow("savePretrained: model must be one of MambaForCausalLM, ");
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
    await savePretrained(new MambaForCausalLM(config, { device: on, generator: new Generator(2) }), path());
    writeFileSync(path("tokenizer.json"), typeof tokenizer === "string" ? tokenizer : JSON.stringify(tokenizer));
  };

  test("turns texts into ids and back, and goes with the model when it is saved", async () => {
    await saved(257);
    const model = await fromPretrained(path(), { device: on });
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
    expect((await fromPretrained(path(), { device: on, tokenizer: false })).tokenizer).toBeNull();
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
      const model = await fromPretrained(${JSON.stringify(path())});
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
    await expect(fromPretrained(path(), { device: on })).rejects.toThrow(message);
  });
});
