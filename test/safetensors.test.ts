import fc from "fast-check";
import { mkdtempSync, openSync, readFileSync, readdirSync, rmSync, writeFileSync, closeSync, ftruncateSync, writeSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { writeFileAtomic } from "../src/io/files.js";
import { fromBfloat16, fromHalf, toBfloat16, toHalf } from "../src/io/half.js";
import {
  parseSafetensors,
  readSafetensors,
  SafetensorsError,
  serializeSafetensors,
  toNumbers,
  writeSafetensors,
  type TensorToWrite,
} from "../src/io/safetensors.js";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "safetensors-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** A file with a header of any text. */
function forge(header: string | Uint8Array, data = 0, length?: bigint): Uint8Array {
  const text = Buffer.from(header as string);
  const start = Buffer.alloc(8);
  start.writeBigUInt64LE(length ?? BigInt(text.length));
  return Buffer.concat([start, text, Buffer.alloc(data)]);
}

const entry = (dtype: unknown, shape: unknown, offsets: unknown) => JSON.stringify({ dtype, shape, data_offsets: offsets });
const good = entry("F32", [2], [0, 8]);

describe("a file written by Python's safetensors", () => {
  const path = join(import.meta.dirname, "data/dtypes.safetensors");

  test("gives every dtype's values", async () => {
    const { tensors } = await readSafetensors(path);
    const values = Object.fromEntries([...tensors].map(([name, t]) => [name, [t.dtype, t.shape, Array.from(toNumbers(t))]]));
    expect(values).toEqual({
      f64: ["F64", [2], [0.1, -1e300]],
      f32: ["F32", [2, 2], [1, -2.5, 0.125, 3]],
      f16: ["F16", [3], [65504, -(2 ** -24), 0.333251953125]],
      bf16: ["BF16", [2], [3.140625, -(2 ** 100)]],
      i64: ["I64", [2], [-(2 ** 40), 7]],
      i32: ["I32", [2], [-(2 ** 31), 7]],
      i16: ["I16", [2], [-300, 7]],
      i8: ["I8", [3], [-128, 0, 127]],
      u64: ["U64", [1], [2 ** 40]],
      u32: ["U32", [1], [2 ** 32 - 1]],
      u16: ["U16", [1], [65535]],
      u8: ["U8", [3], [0, 128, 255]],
      bool: ["BOOL", [3], [1, 0, 1]],
      scalar: ["F32", [], [3.5]],
      "no rows": ["F32", [0, 4], []],
      'ü漢"\n\u{1f600}': ["F32", [1], [1]],
      "\uffee": ["F32", [1], [1]],
    });
  });

  test("is written again byte for byte", async () => {
    const { tensors, metadata } = await readSafetensors(path);
    expect(metadata).toEqual({ format: "pt" });
    expect(Buffer.compare(serializeSafetensors(tensors, metadata), readFileSync(path))).toBe(0);
  });
});

describe("round trip", () => {
  const arrays = fc.oneof(
    fc.float32Array().map((a) => ["F32", Float32Array.from(a)] as const),
    fc.float64Array().map((a) => ["F64", Float64Array.from(a)] as const),
    fc.int32Array().map((a) => ["I32", Int32Array.from(a)] as const),
    fc.bigInt64Array().map((a) => ["I64", BigInt64Array.from(a)] as const),
    fc.uint8Array().map((a) => ["U8", Uint8Array.from(a)] as const),
    fc.int8Array().map((a) => ["I8", Int8Array.from(a)] as const),
  );
  const text = fc.string({ unit: "grapheme" });
  const names = text.filter((s) => s !== "__metadata__");

  test("keeps names, shapes, values and metadata", () => {
    fc.assert(
      fc.property(fc.dictionary(names, arrays), fc.dictionary(text, text), (content, metadata) => {
        const tensors = new Map<string, TensorToWrite>();
        for (const [name, [dtype, data]] of Object.entries(content)) tensors.set(name, { dtype, shape: [1, data.length], data });
        const bytes = serializeSafetensors(tensors, metadata);
        expect((8 + Number(Buffer.from(bytes).readBigUInt64LE())) % 8).toBe(0);
        const back = parseSafetensors(bytes);
        expect(back.tensors.size).toBe(tensors.size);
        for (const [name, { dtype, shape, data }] of tensors) expect(back.tensors.get(name)).toEqual({ dtype, shape, data });
        expect({ ...back.metadata }).toEqual({ ...metadata });
        expect(Buffer.compare(serializeSafetensors(back.tensors, back.metadata), bytes)).toBe(0);
      }),
    );
  });

  test("does not depend on the order in which tensors come", () => {
    const a: [string, TensorToWrite] = ["a", { shape: [1], data: Float32Array.of(1) }];
    const b: [string, TensorToWrite] = ["b", { shape: [2], data: Float64Array.of(2, 3) }];
    expect(serializeSafetensors(new Map([a, b]))).toEqual(serializeSafetensors(new Map([b, a])));
  });

  test("through a file", async () => {
    const path = join(folder, "a.safetensors");
    await writeSafetensors(path, new Map([["w", { dtype: "F16", shape: [2, 1], data: Float32Array.of(1.00048828125, 70000) }]]), {
      step: "3",
    });
    const { tensors, metadata } = await readSafetensors(path);
    expect(metadata).toEqual({ step: "3" });
    expect(tensors.get("w")).toEqual({ dtype: "F16", shape: [2, 1], data: Float32Array.of(1, Infinity) });
  });

  test.each<[string, string, TensorToWrite]>([
    ["shape", "shape [3] needs 3 values but data has 2", { shape: [3], data: Float32Array.of(1, 2) }],
    ["negative shape", "shape [-1, -2]", { shape: [-1, -2], data: Float32Array.of(1, 2) }],
    ["dtype", "data of I32 must be a Int32Array but is a Float32Array", { dtype: "I32", shape: [1], data: Float32Array.of(1) }],
    ["array", "dtype must be one of", { shape: [1], data: new DataView(new ArrayBuffer(8)) }],
    ["__metadata__", "the name cannot stand", { shape: [1], data: Float32Array.of(1) }],
    ["\ud800", "the name cannot stand", { shape: [1], data: Float32Array.of(1) }],
  ])("refuses to write a tensor with a wrong %s", (name, message, value) => {
    expect(() => serializeSafetensors(new Map([[name, value]]))).toThrow(message);
  });

  test("refuses metadata that is not text", () => {
    expect(() => serializeSafetensors(new Map(), { step: 3 as unknown as string })).toThrow(
      'metadata "step" must be a string but is number',
    );
  });

  test("a 64-bit integer without an exact number is not rounded in silence", () => {
    expect(() => toNumbers({ dtype: "I64", shape: [1], data: BigInt64Array.of(2n ** 60n) })).toThrow(
      "1152921504606846976 has no exact number",
    );
  });
});

describe("hostile files", () => {
  test.each<[string, string, Uint8Array]>([
    ["empty", "at least 8 bytes but this has 0", new Uint8Array(0)],
    ["cut in the length", "at least 8 bytes but this has 7", new Uint8Array(7)],
    ["header beyond the end", "claims 40 bytes but only 2 follow", forge("{}", 0, 40n)],
    ["huge header", "at most 100000000 bytes but claims 18446744073709551615", forge("{}", 0, 2n ** 64n - 1n)],
    ["not JSON", "the header is not JSON", forge('{"a":')],
    ["open string", "the header is not JSON", forge('{"a')],
    ["trailing text", "the header is not JSON", forge("{} x")],
    ["invalid UTF-8", "the header is not JSON", forge(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x7d))],
    ["byte order mark", "must begin with {", forge("\ufeff{}")],
    ["a list", "must begin with {", forge("[]")],
    ["deep nesting", "nested too deeply", forge(`{"a":${"[".repeat(1e6)}`)],
    ["a name twice", 'has "a" twice', forge(`{"a":${good},"\\u0061":${good}}`, 8)],
    ["a field twice", 'has "dtype" twice', forge('{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 8)],
    ["metadata of numbers", 'metadata "step" must be a string but is 3', forge('{"__metadata__":{"step":3}}')],
    ["metadata a list", "__metadata__ must be an object", forge('{"__metadata__":[]}')],
    ["entry null", 'tensor "a": the entry must be an object but is null', forge('{"a":null}')],
    ["surrogate in a name", "not well-formed", forge(`{"\\ud800":${good}}`, 8)],
    [
      "unknown dtype",
      'tensor "a": dtype must be one of F64, F32, F16, BF16, I64, U64, I32, U32, I16, U16, I8, U8, BOOL but is "F8_E4M3"',
      forge(`{"a":${entry("F8_E4M3", [2], [0, 2])}}`, 2),
    ],
    ["inherited dtype", "dtype must be one of", forge(`{"a":${entry("constructor", [2], [0, 2])}}`, 2)],
    [
      "negative shape",
      'tensor "a": shape must be a list of non-negative integers but is [-1]',
      forge(`{"a":${entry("F32", [-1], [0, 4])}}`, 4),
    ],
    ["fractional shape", "shape must be a list", forge(`{"a":${entry("F32", [1.5], [0, 6])}}`, 6)],
    ["overflowing shape", "is too large", forge(`{"a":${entry("F32", [2 ** 31, 2 ** 31, 4], [0, 0])}}`)],
    ["offsets reversed", "data_offsets must lie in order", forge(`{"a":${entry("F32", [2], [8, 0])}}`, 8)],
    [
      "offsets beyond the end",
      'tensor "a": data_offsets must lie in order within the 4 bytes of data but are [0,8]',
      forge(`{"a":${good}}`, 4),
    ],
    ["offsets not integers", "data_offsets must be two non-negative integers", forge(`{"a":${entry("F32", [2], [0, "8"])}}`, 8)],
    ["size against shape", 'tensor "a": F32 [3] needs 12 bytes but data_offsets span 8', forge(`{"a":${entry("F32", [3], [0, 8])}}`, 8)],
    [
      "overlap",
      'tensor "b" begins at byte 4 of the data but the one before ends at 8',
      forge(`{"a":${good},"b":${entry("F32", [1], [4, 8])}}`, 8),
    ],
    ["hole", 'tensor "b" begins at byte 12', forge(`{"a":${good},"b":${entry("F32", [1], [12, 16])}}`, 16)],
    ["bytes left over", "the tensors cover 8 bytes but 9 bytes of data follow", forge(`{"a":${good}}`, 9)],
    ["no tensors but data", "the tensors cover 0 bytes", forge("{}", 1)],
  ])("%s", (_, message, bytes) => {
    expect(() => parseSafetensors(bytes, "model.safetensors")).toThrow(SafetensorsError);
    expect(() => parseSafetensors(bytes, "model.safetensors")).toThrow("model.safetensors: ");
    expect(() => parseSafetensors(bytes, "model.safetensors")).toThrow(message);
  });

  test("long values are shortened in errors", () => {
    const bytes = forge(`{"${"x".repeat(10_000)}":null}`);
    expect(() => parseSafetensors(bytes)).toThrow(/^.{1,200}$/);
  });

  test("__proto__ is a name like any other", () => {
    const bytes = forge(`{"__metadata__":{"__proto__":"m"},"__proto__":${good}}`, 8);
    const { tensors, metadata } = parseSafetensors(bytes);
    expect([...tensors.keys()]).toEqual(["__proto__"]);
    expect(Object.entries(metadata)).toEqual([["__proto__", "m"]]);
    expect(Object.getPrototypeOf(metadata)).toBe(Object.prototype);
  });

  test("a header padded or aligned otherwise is read", () => {
    const { tensors } = parseSafetensors(forge(`{"a":${good},"b":${entry("U8", [1], [8, 9])},"c":${entry("F64", [1], [9, 17])}}  \n`, 17));
    expect(tensors.get("c")!.data).toEqual(Float64Array.of(0));
  });

  test("any damage to a good file gives the library's error or another good file", () => {
    const bytes = serializeSafetensors(
      new Map<string, TensorToWrite>([
        ["a", { shape: [2, 3], data: new Float32Array(6) }],
        ["b", { shape: [5], data: new Uint8Array(5) }],
        ["c", { dtype: "BF16", shape: [], data: new Float32Array(1) }],
      ]),
      { note: "x" },
    );
    const header = 8 + Number(Buffer.from(bytes).readBigUInt64LE());
    const at = fc.nat(header + 8);
    const damage = fc.oneof(
      fc.record({ at, byte: fc.nat(255) }).map(
        ({ at, byte }) =>
          (b: number[]) =>
            void (b[at] = byte),
      ),
      fc.record({ at, byte: fc.constantFrom(...'0123456789{}[]",:-.eE\\ '.split("")) }).map(
        ({ at, byte }) =>
          (b: number[]) =>
            void (b[at] = byte.charCodeAt(0)),
      ),
      at.map((at) => (b: number[]) => void (b.length = Math.min(b.length, at))),
      fc.record({ at, more: fc.uint8Array({ maxLength: 4 }) }).map(
        ({ at, more }) =>
          (b: number[]) =>
            void b.splice(at, 0, ...more),
      ),
      fc.record({ at, n: fc.nat(8) }).map(
        ({ at, n }) =>
          (b: number[]) =>
            void b.splice(at, n),
      ),
    );
    let refused = 0;
    fc.assert(
      fc.property(fc.array(damage, { minLength: 1, maxLength: 4 }), (damages) => {
        const list = [...bytes];
        for (const d of damages) d(list);
        try {
          const back = parseSafetensors(Uint8Array.from(list));
          for (const t of back.tensors.values()) expect(t.data.length).toBe(t.shape.reduce((a, b) => a * b, 1));
        } catch (error) {
          if (!(error instanceof SafetensorsError)) throw error;
          refused++;
        }
      }),
      { numRuns: 3000 },
    );
    expect(refused).toBeGreaterThan(1000);
  });

  test("a file of 5 GB that claims what it has not is refused without reading it", async () => {
    const path = join(folder, "sparse.safetensors");
    const fd = openSync(path, "w");
    writeSync(fd, forge(`{"a":${entry("F32", [2 ** 32], [0, 2 ** 34])}}`));
    ftruncateSync(fd, 5e9);
    closeSync(fd);
    await expect(readSafetensors(path)).rejects.toThrow(SafetensorsError);
    rmSync(path);
  });

  test("a missing file, a folder", async () => {
    await expect(readSafetensors(join(folder, "none"))).rejects.toThrow(/^cannot read .*none: no such file or folder \(ENOENT\)$/);
    await expect(readSafetensors(folder)).rejects.toThrow("not a regular file");
  });
});

describe("16-bit floats", () => {
  const all = Array.from({ length: 65536 }, (_, i) => i);

  test.each([
    ["half", toHalf, fromHalf],
    ["bfloat16", toBfloat16, fromBfloat16],
  ])("every %s survives", (_, to, from) => {
    expect(all.filter((b) => !Number.isNaN(from(b)) && to(from(b)) !== b)).toEqual([]);
    expect(from(to(NaN))).toBeNaN();
  });

  test.each([
    ["half", toHalf, fromHalf, 65519],
    ["bfloat16", toBfloat16, fromBfloat16, 3.389e38],
  ])("%s rounds to nearest, ties to even", (_, to, from, limit) => {
    fc.assert(
      fc.property(
        fc.float({ noNaN: true, min: -Math.fround(limit), minExcluded: true, max: Math.fround(limit), maxExcluded: true }),
        (x) => {
          const b = to(x);
          const error = Math.abs(from(b) - x);
          for (const other of [b - 1, b + 1]) {
            const rival = Math.abs(from(other & 0xffff) - x);
            if (Number.isFinite(rival)) expect(error < rival || (error === rival && b % 2 === 0)).toBe(true);
          }
        },
      ),
      { numRuns: 2000 },
    );
    expect(to(Infinity)).toBe(to(-Infinity) - 0x8000);
  });

  test("ties", () => {
    expect([1 + 2 ** -11, 1 + 3 * 2 ** -11, 2 ** -25, 65519, 65520].map((x) => fromHalf(toHalf(x)))).toEqual([
      1,
      1 + 2 ** -9,
      0,
      65504,
      Infinity,
    ]);
    expect([1 + 2 ** -8, 1 + 3 * 2 ** -8].map((x) => fromBfloat16(toBfloat16(x)))).toEqual([1, 1 + 2 ** -6]);
  });
});

describe("atomic writing", () => {
  const bytes = (text: string) => Buffer.from(text);

  test("replaces the content and leaves nothing beside it", async () => {
    const path = join(folder, "replace", "..", "file");
    await writeFileAtomic(path, [bytes("old")]);
    await writeFileAtomic(path, [bytes("n"), bytes(""), bytes("ew")]);
    expect(readFileSync(path, "utf8")).toBe("new");
    expect(readdirSync(folder).filter((f) => f.endsWith(".tmp"))).toEqual([]);
  });

  test.each(["writeFile", "sync"] as const)("no space left at %s: one clear error, the old file stays", async (call) => {
    const path = join(folder, "full");
    writeFileSync(path, "old");
    const handle = await open(path);
    const spy = vi
      .spyOn(Object.getPrototypeOf(handle) as typeof handle, call)
      .mockRejectedValueOnce(Object.assign(new Error("write"), { code: "ENOSPC" }));
    await handle.close();
    await expect(writeFileAtomic(path, [bytes("new")])).rejects.toThrow(`cannot write ${path}: no space left on the device (ENOSPC)`);
    spy.mockRestore();
    expect(readFileSync(path, "utf8")).toBe("old");
    expect(readdirSync(folder).filter((f) => f.endsWith(".tmp"))).toEqual([]);
  });

  test("content that fails midway leaves the old file", async () => {
    const path = join(folder, "midway");
    writeFileSync(path, "old");
    const failing = function* () {
      yield bytes("ne");
      throw new Error("no more");
    };
    await expect(writeFileAtomic(path, failing())).rejects.toThrow(`cannot write ${path}: no more`);
    expect(readFileSync(path, "utf8")).toBe("old");
    expect(readdirSync(folder).filter((f) => f.endsWith(".tmp"))).toEqual([]);
  });

  test("folders that are not there or are not folders", async () => {
    await expect(writeFileAtomic(join(folder, "none", "a"), [])).rejects.toThrow("no such file or folder (ENOENT)");
    await expect(writeFileAtomic(join(import.meta.filename, "a"), [])).rejects.toThrow("a part of the path is not a folder (ENOTDIR)");
    await expect(writeFileAtomic(folder, [bytes("a")])).rejects.toThrow(/^cannot write/);
  });
});
