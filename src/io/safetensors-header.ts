import { showShape } from "../tensor/op.js";

/** The element types that are read and written. */
export type SafeDType = "F64" | "F32" | "F16" | "BF16" | "I64" | "U64" | "I32" | "U32" | "I16" | "U16" | "I8" | "U8" | "BOOL";

/** Bytes of one value. */
const widths: Readonly<Record<SafeDType, number>> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  U64: 8,
  I32: 4,
  U32: 4,
  I16: 2,
  U16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
};

/** The cap of the format's own library on the header. */
const MAX_HEADER = 100_000_000;

/** A safetensors file that is cut, forged, or of a kind that is not read. */
export class SafetensorsError extends Error {
  override readonly name = "SafetensorsError";
}

/** Where a tensor lies in the file, offsets counted from the end of the header. */
export interface TensorEntry {
  readonly name: string;
  readonly dtype: SafeDType;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

/** A value out of an untrusted file, short enough for an error. */
function show(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** Length of the header, from the first eight bytes of a file of `fileSize` bytes. */
export function headerBytes(file: string, fileSize: number, prefix: ArrayBuffer): number {
  if (prefix.byteLength < 8)
    throw new SafetensorsError(`${file}: a safetensors file has at least 8 bytes but this has ${prefix.byteLength}`);
  const length = new DataView(prefix).getBigUint64(0, true);
  if (length > MAX_HEADER) throw new SafetensorsError(`${file}: the header may have at most ${MAX_HEADER} bytes but claims ${length}`);
  if (Number(length) > fileSize - 8)
    throw new SafetensorsError(`${file}: the header claims ${length} bytes but only ${fileSize - 8} follow`);
  return Number(length);
}

type JsonObject = Record<string, unknown>;
const isObject = (v: unknown): v is JsonObject => v !== null && typeof v === "object" && !Array.isArray(v);

/** A header is an object of objects of lists. */
const MAX_DEPTH = 3;

/**
 * Finds what JSON.parse would let pass: a key that an object has twice, and nesting deep enough to exhaust the memory.
 * The text need not be valid JSON.
 */
function findFault(json: string): string | null {
  const open: (Set<string> | null)[] = [];
  for (let i = 0; i < json.length; i++) {
    const c = json[i];
    if (c === "{" || c === "[") {
      if (open.length === MAX_DEPTH) return "is nested too deeply";
      open.push(c === "{" ? new Set() : null);
    } else if (c === "}" || c === "]") {
      open.pop();
    } else if (c === '"') {
      const start = i++;
      while (i < json.length && json[i] !== '"') i += json[i] === "\\" ? 2 : 1;
      let next = i + 1;
      while (next < json.length && json.charCodeAt(next) <= 32) next++;
      if (json[next] !== ":") continue;
      const key = JSON.parse(json.slice(start, i + 1)) as string;
      const keys = open.at(-1);
      if (keys?.has(key)) return `has ${show(key)} twice`;
      keys?.add(key);
    }
  }
  return null;
}

function parseJson(file: string, bytes: ArrayBuffer): JsonObject {
  let fault: string | null;
  let json: unknown;
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    fault = text.startsWith("{") ? findFault(text) : "must begin with {";
    if (fault === null) json = JSON.parse(text);
  } catch {
    throw new SafetensorsError(`${file}: the header is not JSON`);
  }
  if (fault !== null) throw new SafetensorsError(`${file}: the header ${fault}`);
  return json as JsonObject;
}

function parseMetadata(file: string, value: unknown): Record<string, string> {
  if (value === undefined || value === null) return {};
  if (!isObject(value)) throw new SafetensorsError(`${file}: __metadata__ must be an object but is ${show(value)}`);
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== "string") throw new SafetensorsError(`${file}: metadata ${show(key)} must be a string but is ${show(text)}`);
  }
  return value as Record<string, string>;
}

const isCount = (v: unknown): v is number => Number.isSafeInteger(v) && (v as number) >= 0;

function parseEntry(file: string, name: string, value: unknown, dataSize: number): TensorEntry {
  const fail = (what: string): never => {
    throw new SafetensorsError(`${file}: tensor ${show(name)}: ${what}`);
  };
  if (/\p{Surrogate}/u.test(name)) fail("the name is not well-formed text");
  if (!isObject(value)) return fail(`the entry must be an object but is ${show(value)}`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== "string" || !Object.hasOwn(widths, dtype))
    return fail(`dtype must be one of ${Object.keys(widths).join(", ")} but is ${show(dtype)}`);
  if (!Array.isArray(shape) || !shape.every(isCount)) return fail(`shape must be a list of non-negative integers but is ${show(shape)}`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount))
    return fail(`data_offsets must be two non-negative integers but is ${show(offsets)}`);
  const [begin, end] = offsets;
  if (begin > end || end > dataSize)
    return fail(`data_offsets must lie in order within the ${dataSize} bytes of data but are ${show(offsets)}`);
  let bytes = widths[dtype as SafeDType];
  for (const d of shape) {
    bytes *= d;
    if (!Number.isSafeInteger(bytes)) return fail(`shape ${show(shape)} is too large`);
  }
  if (end - begin !== bytes)
    return fail(`${dtype} ${shape.length > 8 ? show(shape) : showShape(shape)} needs ${bytes} bytes but data_offsets span ${end - begin}`);
  return { name, dtype: dtype as SafeDType, shape, begin, end };
}

/** Reads and checks a header: the tensors must cover the `dataSize` bytes behind it without overlap, hole or rest. */
export function parseHeader(
  file: string,
  bytes: ArrayBuffer,
  dataSize: number,
): { metadata: Record<string, string>; entries: TensorEntry[] } {
  const { __metadata__, ...rest } = parseJson(file, bytes);
  const metadata = parseMetadata(file, __metadata__);
  const entries = Object.entries(rest).map(([name, value]) => parseEntry(file, name, value, dataSize));
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let covered = 0;
  for (const { name, begin, end } of entries) {
    if (begin !== covered)
      throw new SafetensorsError(`${file}: tensor ${show(name)} begins at byte ${begin} of the data but the one before ends at ${covered}`);
    covered = end;
  }
  if (covered !== dataSize)
    throw new SafetensorsError(`${file}: the tensors cover ${covered} bytes but ${dataSize} bytes of data follow the header`);
  return { metadata, entries };
}
