import { describe, expect, test } from "vitest";
import { Generator, LanguageModel } from "../src/index.js";
import { pick, Seen } from "../src/models/sampling.js";
import { TextPieces, type Tokenizer } from "../src/models/tokenizer.js";

// Logits whose softmax is [0.5, 0.25, 0.125, 0.125].
const logits = [3, 2, 1, 1].map((v) => v * Math.LN2);
const draws = (options: object, seen?: Seen) => Array.from({ length: 8 }, (_, i) => pick(logits, (i + 0.5) / 8, options, seen));

describe("pick", () => {
  test("draws each id as often as its probability says", () => expect(draws({})).toEqual([0, 0, 0, 0, 1, 1, 2, 3]));

  test("topK leaves the likeliest, the first of equals", () => {
    expect(draws({ topK: 3 })).toEqual([0, 0, 0, 0, 0, 1, 1, 2]); // 4/7, 2/7, 1/7
    expect(draws({ topK: 1 })).toEqual(new Array(8).fill(0));
    expect(draws({ topK: 99 })).toEqual(draws({}));
  });

  test("topP leaves the fewest that reach it", () => {
    expect(draws({ topP: 0.7 })).toEqual([0, 0, 0, 0, 0, 1, 1, 1]); // 2/3, 1/3
    expect(draws({ topP: 0.75 })).toEqual(draws({ topP: 0.7 }));
    expect(draws({ topP: 0.4 })).toEqual(new Array(8).fill(0));
    expect(draws({ topP: 0 })).toEqual(new Array(8).fill(0));
    expect(draws({ topP: 0.7, topK: 1 })).toEqual(new Array(8).fill(0));
  });

  test("a temperature sharpens or flattens; 0 takes the likeliest", () => {
    expect(draws({ temperature: 0.5 })).toEqual([0, 0, 0, 0, 0, 0, 1, 2]); // 16, 4, 1, 1 of 22
    expect(draws({ temperature: 0 })).toEqual(new Array(8).fill(0));
  });

  test("a penalty divides positive logits of what was seen and multiplies negative ones", () => {
    const seen = new Seen(4, [0]);
    expect(draws({ temperature: 0, repetitionPenalty: 3 }, seen)).toEqual(new Array(8).fill(1));
    expect(draws({ temperature: 0, repetitionPenalty: 1.4 }, seen)).toEqual(new Array(8).fill(0));
    seen.add(1);
    expect(pick([-1, -2, -2.5], 0, { temperature: 0, repetitionPenalty: 3 }, seen)).toBe(2);
    expect(draws({ temperature: 0, repetitionPenalty: 3 })).toEqual(new Array(8).fill(0));
  });

  test("of 5000 logits, what topK leaves is what sorting all of them leaves", () => {
    const many = Array.from({ length: 5000 }, (_, i) => Math.sin(i * i));
    const best = many.map((v, i) => [v, i]).sort(([a, i], [b, j]) => b - a || i - j).slice(0, 40).map(([, i]) => i); // prettier-ignore
    const found = new Set(Array.from({ length: 400 }, (_, i) => pick(many, (i + 0.5) / 400, { topK: 40 })));
    expect([...found].sort((a, b) => a - b)).toEqual(best.sort((a, b) => a - b));
  });

  test.each([NaN, Infinity, -Infinity])("refuses the logit %s", (bad) =>
    expect(() => pick([1, bad], 0.5)).toThrow(`sample: the model's logits must be finite but logit 1 is ${bad}`),
  );
});

test("a language model repeats itself less under a penalty, which counts the prompt", async () => {
  const model = new LanguageModel(12, { hidden: 8, embed: 4, layers: 1, generator: new Generator(3) });
  const sample = async (options: object) => {
    const made: number[] = [];
    for await (const id of model.sample([1, 2, 3], { temperature: 0, length: 9, ...options })) made.push(id);
    return made;
  };
  expect(new Set(await sample({ repetitionPenalty: 1e6 })).size).toBeGreaterThan(new Set(await sample({})).size);
  await expect(model.sample([1], { repetitionPenalty: 0 }).next()).rejects.toThrow("LanguageModel.sample: repetitionPenalty must be");
});

describe("pieces of a text", () => {
  // Each id is a byte; bytes that are no character yet decode to U+FFFD, as byte-level tokenizers have it.
  const bytes: Tokenizer = { size: 256, encode: (text) => [...Buffer.from(text)], decode: (ids) => Buffer.from(ids).toString("utf8") };
  const pieces = (text: string | number[], stops: string[] = [], context: number[] = []) => {
    const made = new TextPieces(bytes, stops, context);
    const found: string[] = [];
    for (const id of typeof text === "string" ? bytes.encode(text) : text) {
      found.push(made.push(id));
      if (made.stopped) return found;
    }
    return [...found, made.end()];
  };

  test("hold a character back until all of its bytes are there", () => {
    expect(pieces("aé😀b")).toEqual(["a", "", "é", "", "", "", "😀", "b", ""]);
    expect(pieces("é", [], bytes.encode("ü"))).toEqual(["", "é", ""]);
  });

  test("give up on bytes that are no character", () => {
    expect(pieces([0xf0, 0x9f]).join("")).toBe("\uFFFD");
    const long = pieces(new Array<number>(40).fill(0xff));
    expect(long.join("")).toBe("\uFFFD".repeat(40));
    expect(long.findIndex((piece) => piece !== "")).toBeLessThan(20);
  });

  test("keep what went before a piece, for tokenizers that write a first word without its space", () => {
    const words: Tokenizer = {
      size: 2,
      encode: () => [],
      decode: (ids) => ids.map((id) => [" one", " two"][id]).join("").trimStart(), // prettier-ignore
    };
    const made = new TextPieces(words, [], [0]);
    expect([made.push(1), made.push(0), made.push(1)]).toEqual([" two", " one", " two"]);
  });

  test("end in front of a string to stop at, and hold back what may become one", () => {
    expect(pieces("one two", ["tw"])).toEqual(["o", "n", "e", " ", "", ""]);
    expect(pieces("atta", ["ttx"])).toEqual(["a", "", "", "tta", ""]);
    expect(pieces("at", ["ttx"])).toEqual(["a", "", "t"]);
    expect(pieces("abcd", ["d", "bc"]).join("")).toBe("a");
  });
});
