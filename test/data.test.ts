import { describe, expect, it } from "vitest";
import { characterBatches, padBatch, Vocabulary, windows, type CharacterBatch } from "../src/index.js";

describe("Vocabulary", () => {
  it("has the code points of a text in order and goes both ways", () => {
    const v = Vocabulary.fromText("naïve 🐋 whale");
    expect(v.characters).toEqual([" ", "a", "e", "h", "l", "n", "v", "w", "ï", "🐋"]);
    expect(v.size).toBe(10);
    expect([...v.encode("🐋a")]).toEqual([9, 1]);
    expect(v.decode(v.encode("a 🐋 whale"))).toBe("a 🐋 whale");
  });

  it("names an unknown character and where it stands, in characters", () => {
    expect(() => Vocabulary.fromText("ab🐋").encode("a🐋x")).toThrow('Vocabulary.encode: unknown character "x" at position 2');
  });

  it("may have a character for the unknown", () => {
    const v = Vocabulary.fromText("ab", { unknown: "?" });
    expect(v.decode(v.encode("axb"))).toBe("a?b");
    expect(new Vocabulary(v.characters, { unknown: "?" }).encode("z")).toEqual(v.encode("?"));
  });

  it("refuses what cannot be", () => {
    expect(() => Vocabulary.fromText("")).toThrow("the text is empty");
    expect(() => new Vocabulary([])).toThrow("at least one character");
    expect(() => new Vocabulary(["a", "bc"])).toThrow('character 1 must be one code point but is "bc"');
    expect(() => new Vocabulary(["a", "b", "a"])).toThrow('character "a" stands twice, as 0 and 2');
    expect(() => new Vocabulary(["a"], { unknown: "?" })).toThrow('unknown must be one of the characters but is "?"');
    expect(() => Vocabulary.fromText("ab").decode([0, 2])).toThrow("ids must be integers in [0, 1] but ids[1] is 2");
  });
});

describe("characterBatches", () => {
  const ids = (n: number) => Int32Array.from({ length: n }, (_, i) => i);
  const rows = ({ data, shape: [n, t] }: CharacterBatch["inputs"]) =>
    Array.from({ length: n }, (_, r) => [...data.subarray(r * t, (r + 1) * t)]);

  it("reads rows side by side in consecutive windows, the targets one character on", () => {
    const batches = [...characterBatches(ids(15), { batch: 2, seq: 3 })];
    expect(batches.map(({ inputs }) => rows(inputs))).toEqual([
      [
        [0, 1, 2],
        [7, 8, 9],
      ],
      [
        [3, 4, 5],
        [10, 11, 12],
      ],
    ]);
    expect(batches.map(({ reset }) => reset)).toEqual([true, false]);
    for (const { inputs, targets } of batches) expect([...targets.data]).toEqual([...inputs.data].map((v) => v + 1));
  });

  it("may hand out the shorter last window, so that every target but those cut off by the rows is seen", () => {
    const batches = [...characterBatches(ids(15), { batch: 2, seq: 3, partial: true })];
    expect(batches.map(({ inputs }) => inputs.shape)).toEqual([
      [2, 3],
      [2, 3],
      [2, 1],
    ]);
    expect(batches.flatMap(({ targets }) => [...targets.data]).sort((a, b) => a - b)).toEqual([...ids(15)].slice(1));
  });

  it("goes on from a position, in this object and in another", () => {
    const options = { batch: 2, seq: 3, epochs: Infinity };
    const first = characterBatches(ids(22), options);
    const take = (from: Iterable<CharacterBatch>, n: number) => {
      const found: number[] = [];
      for (const { inputs } of from) {
        found.push(inputs.data[0]);
        if (found.length === n) break;
      }
      return found;
    };
    expect(take(first, 4)).toEqual([0, 3, 6, 0]);
    expect(first.position).toEqual({ epoch: 1, window: 1 });
    const second = characterBatches(ids(22), { ...options, position: first.position });
    expect(take(second, 4)).toEqual([3, 6, 0, 3]);
    expect(take(first, 4)).toEqual([3, 6, 0, 3]);
  });

  it("makes as many passes as asked", () => {
    const batches = characterBatches(ids(9), { batch: 1, seq: 4, epochs: 3 });
    expect([...batches].map(({ reset }) => reset)).toEqual([true, false, true, false, true, false]);
    expect([...batches]).toEqual([]);
  });

  it("says how long the text must be", () => {
    const options = { batch: 4, seq: 8 };
    expect(() => characterBatches(ids(0), options)).toThrow("characterBatches: the text is empty");
    expect(() => characterBatches(ids(32), options)).toThrow(
      "characterBatches: the text must have at least 33 characters for one window of 8 steps in each of 4 rows but has 32",
    );
    expect([...characterBatches(ids(33), options)]).toHaveLength(1);
    expect(() => characterBatches(ids(4), { ...options, partial: true })).toThrow("at least 5 characters for one step");
    expect([...characterBatches(ids(5), { ...options, partial: true })]).toHaveLength(1);
  });

  it("refuses bad options", () => {
    expect(() => characterBatches(ids(99), { batch: 0 })).toThrow("batch must be an integer of at least 1 but is 0");
    expect(() => characterBatches(ids(99), { seq: 1.5 })).toThrow("seq must be an integer");
    expect(() => characterBatches(ids(99), { epochs: NaN })).toThrow("epochs must be an integer");
    expect(() => characterBatches(ids(99), { sequence: 3 } as never)).toThrow("unknown option sequence");
    expect(() => characterBatches(ids(99), { batch: 1, seq: 9, position: { epoch: 0, window: 11 } })).toThrow(
      "position.window must be at most 10 but is 11",
    );
  });
});

describe("windows", () => {
  it("cuts inputs and what follows them, with a stride, in batches", () => {
    const series = Float32Array.from({ length: 20 }, (_, i) => i);
    const found = windows(series, { input: 3, horizon: 2, stride: 2, features: 2, batch: 2 });
    expect(found.count).toBe(3);
    for (let pass = 0; pass < 2; pass++) {
      const [first, second] = [...found];
      expect(first.inputs).toEqual({ shape: [2, 3, 2], data: Float32Array.of(0, 1, 2, 3, 4, 5, 4, 5, 6, 7, 8, 9) });
      expect(first.targets).toEqual({ shape: [2, 2, 2], data: Float32Array.of(6, 7, 8, 9, 10, 11, 12, 13) });
      expect(second.inputs).toMatchObject({ shape: [1, 3, 2] });
      expect(second.targets).toEqual({ shape: [1, 2, 2], data: Float32Array.of(14, 15, 16, 17) });
    }
  });

  it("says how long the series must be", () => {
    expect(() => windows([1, 2, 3], { input: 3 })).toThrow("series must have at least 4 steps (input 3 and horizon 1) but has 3");
    expect(() => windows([1, 2, 3], { input: 1, features: 2 })).toThrow("series must have a multiple of 2 values but has 3");
    expect(() => windows([1, 2, 3], { input: 0 })).toThrow("input must be an integer of at least 1 but is 0");
  });
});

describe("padBatch", () => {
  it("lays ids side by side and keeps their lengths", () => {
    const { data, shape, lengths } = padBatch([Int32Array.of(1, 2, 3), Int32Array.of(), Int32Array.of(4)], { value: -1 });
    expect(data).toEqual(Int32Array.of(1, 2, 3, -1, -1, -1, 4, -1, -1));
    expect(shape).toEqual([3, 3]);
    expect(lengths).toEqual(Int32Array.of(3, 0, 1));
  });

  it("lays steps of several features side by side", () => {
    const padded = padBatch(
      [
        [1, 2],
        [3, 4, 5, 6],
      ],
      { features: 2 },
    );
    expect(padded).toEqual({ data: Float32Array.of(1, 2, 0, 0, 3, 4, 5, 6), shape: [2, 2, 2], lengths: Int32Array.of(1, 2) });
  });

  it("refuses nothing, and half a step", () => {
    expect(() => padBatch([])).toThrow("there must be at least one sequence");
    expect(() => padBatch([[1, 2], [3]], { features: 2 })).toThrow("sequence 1 must have a multiple of 2 values but has 1");
  });
});
