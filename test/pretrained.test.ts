import { readdirSync, rmSync } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  AdamW,
  concat,
  device,
  fromPretrained,
  Generator,
  noGrad,
  readSafetensors,
  savePretrained,
  scope,
  slice,
  tensor,
  train,
} from "../src/index.js";
import { architectures } from "../src/io/architectures.js";
import { leaves } from "../src/nn/stream.js";
import { all, idsOf, logitsOf, make, models, on, prompt, read, testFolder, V } from "./pretrained.js";

const path = testFolder();

// Two orders of the same float32 sums of numbers of order one.
const CLOSE = 1e-5;
function expectClose(got: readonly number[], wanted: readonly number[]): void {
  expect(got.length).toBe(wanted.length);
  got.forEach((v, i) => expect(Math.abs(v - wanted[i])).toBeLessThanOrEqual(CLOSE));
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
    await savePretrained(make(kind), path());
    const model = await fromPretrained(path(), { device: on });
    const data = Int32Array.from({ length: 24 }, (_, i) => (i * 5) % V);
    const batch = { inputs: { shape: [2, 12], data }, targets: { shape: [2, 12], data: data.map((v) => (v + 5) % V) } };
    const losses: number[] = [];
    for await (const { loss } of train(model, new Array(25).fill(batch), { optimizer: new AdamW(model, { lr: 0.02 }), clipNorm: 1 }))
      // prettier-ignore
      losses.push(loss);
    expect(losses.at(-1)).toBeLessThan(0.9 * losses[0]);
    await savePretrained(model, path());
    expect(logitsOf(await fromPretrained(path(), { device: on }), [prompt])).toEqual(logitsOf(model.eval(), [prompt]));
  });
});

test("RWKV-7 is known by its tensors alone", async () => {
  for (const kind of ["rwkv-7", "rwkv-7, spare tensors"]) {
    const model = make(kind);
    await savePretrained(model, path());
    rmSync(path("config.json"));
    const loaded = await fromPretrained(path(), { device: on });
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
