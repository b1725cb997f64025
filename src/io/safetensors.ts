import { open, type FileHandle } from "node:fs/promises";
import { fileError, writeFileAtomic } from "./files.js";
import { fromBfloat16, fromHalf, toBfloat16, toHalf } from "./half.js";
import { headerBytes, parseHeader, SafetensorsError, type SafeDType, type TensorEntry } from "./safetensors-header.js";
import { showShape, size } from "../tensor/op.js";

export { SafetensorsError, type SafeDType };

/** The arrays tensors of a file come in. F16 and BF16 are widened to Float32Array (exactly); BOOL is 0 and 1. */
export type SafeArray =
  | Float64Array<ArrayBuffer>
  | Float32Array<ArrayBuffer>
  | BigInt64Array<ArrayBuffer>
  | BigUint64Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>
  | Int16Array<ArrayBuffer>
  | Uint16Array<ArrayBuffer>
  | Int8Array<ArrayBuffer>
  | Uint8Array<ArrayBuffer>;

export interface SafeTensor {
  readonly dtype: SafeDType;
  readonly shape: readonly number[];
  /** Row-major. */
  readonly data: SafeArray;
}

/** What a safetensors file holds. */
export interface SafetensorsFile {
  readonly metadata: Readonly<Record<string, string>>;
  readonly tensors: ReadonlyMap<string, SafeTensor>;
}

/** A tensor to write. The dtype defaults to that of the array. */
export interface TensorToWrite {
  readonly dtype?: SafeDType;
  readonly shape: readonly number[];
  readonly data: ArrayBufferView;
}

const arrays = {
  F64: Float64Array,
  F32: Float32Array,
  I64: BigInt64Array,
  U64: BigUint64Array,
  I32: Int32Array,
  U32: Uint32Array,
  I16: Int16Array,
  U16: Uint16Array,
  I8: Int8Array,
  U8: Uint8Array,
} as const;

const halves = { F16: { widen: fromHalf, narrow: toHalf }, BF16: { widen: fromBfloat16, narrow: toBfloat16 } } as const;

const isHalf = (dtype: SafeDType): dtype is keyof typeof halves => dtype in halves;
const arrayType = (dtype: SafeDType) => (isHalf(dtype) ? Float32Array : arrays[dtype === "BOOL" ? "U8" : dtype]);

/** Little-endian bytes of one tensor, in a buffer of their own, as the array of its dtype. */
function decode(dtype: SafeDType, bytes: ArrayBuffer): SafeArray {
  if (!isHalf(dtype)) return new (arrayType(dtype))(bytes);
  const { widen } = halves[dtype];
  const narrow = new Uint16Array(bytes);
  const data = new Float32Array(narrow.length);
  for (let i = 0; i < data.length; i++) data[i] = widen(narrow[i]);
  return data;
}

function encode(dtype: SafeDType, data: ArrayBufferView): Uint8Array {
  if (!isHalf(dtype)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const { narrow } = halves[dtype];
  const wide = data as Float32Array;
  const bytes = new Uint16Array(wide.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = narrow(wide[i]);
  return new Uint8Array(bytes.buffer);
}

/**
 * The content of a safetensors file already in memory. `name` stands in errors.
 *
 * @throws SafetensorsError if it is not one, naming what is wrong and with which tensor.
 */
export function parseSafetensors(bytes: Uint8Array, name = "safetensors data"): SafetensorsFile {
  const part = (offset: number, length: number) => Uint8Array.from(bytes.subarray(offset, offset + length)).buffer;
  const length = headerBytes(name, bytes.length, part(0, 8));
  const { metadata, entries } = parseHeader(name, part(8, length), bytes.length - 8 - length);
  const tensors = new Map<string, SafeTensor>();
  for (const { name: tensor, dtype, shape, begin, end } of entries)
    tensors.set(tensor, { dtype, shape, data: decode(dtype, part(8 + length + begin, end - begin)) });
  return { metadata, tensors };
}

const CHUNK = 2 ** 28;

async function readFully(handle: FileHandle, path: string, offset: number, length: number): Promise<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length;) {
    const { bytesRead } = await handle.read(bytes, done, Math.min(CHUNK, length - done), offset + done);
    if (bytesRead === 0) throw new SafetensorsError(`${path}: the file became shorter while it was read`);
    done += bytesRead;
  }
  return bytes.buffer;
}

/** @internal A safetensors file of which only the header was read. To be closed. */
export interface OpenSafetensors {
  readonly path: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly entries: readonly TensorEntry[];
  read(entry: TensorEntry): Promise<SafeTensor>;
  close(): Promise<void>;
}

/** @internal Reads and checks the header of a file. @throws as `readSafetensors` does. */
export async function openSafetensors(path: string): Promise<OpenSafetensors> {
  let handle: FileHandle | undefined;
  const failed = (cause: unknown) => (cause instanceof SafetensorsError ? cause : fileError("cannot read", path, cause));
  try {
    const file = (handle = await open(path, "r"));
    const stat = await file.stat();
    const total = stat.size;
    if (!stat.isFile()) throw new SafetensorsError(`${path}: not a regular file`);
    const length = headerBytes(path, total, await readFully(file, path, 0, Math.min(8, total)));
    const { metadata, entries } = parseHeader(path, await readFully(file, path, 8, length), total - 8 - length);
    return {
      path,
      metadata,
      entries,
      async read({ dtype, shape, begin, end }) {
        try {
          return { dtype, shape, data: decode(dtype, await readFully(file, path, 8 + length + begin, end - begin)) };
        } catch (cause) {
          throw failed(cause);
        }
      },
      close: () => file.close(),
    };
  } catch (cause) {
    await handle?.close();
    throw failed(cause);
  }
}

/**
 * Reads a safetensors file. Every length and offset is checked before anything is read.
 *
 * @throws SafetensorsError if it is not one, naming what is wrong and with which tensor; Error if it cannot be read.
 */
export async function readSafetensors(path: string): Promise<SafetensorsFile> {
  const file = await openSafetensors(path);
  try {
    const tensors = new Map<string, SafeTensor>();
    for (const entry of file.entries) tensors.set(entry.name, await file.read(entry));
    return { metadata: file.metadata, tensors };
  } finally {
    await file.close();
  }
}

// The order the format's own library writes: wide types first, so that every tensor is aligned, then by name.
const order: readonly SafeDType[] = ["U64", "I64", "F64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16", "I8", "U8", "BOOL"];

function checkTensor(
  name: string,
  { dtype, shape, data }: TensorToWrite,
): { dtype: SafeDType; shape: readonly number[]; data: ArrayBufferView } {
  const where = `writeSafetensors: tensor ${JSON.stringify(name)}`;
  if (name === "__metadata__" || /\p{Surrogate}/u.test(name)) throw new RangeError(`${where}: the name cannot stand in a safetensors file`);
  const type = dtype ?? order.find((d) => !isHalf(d) && d !== "BOOL" && data instanceof arrayType(d));
  if (type === undefined || !order.includes(type))
    throw new TypeError(`${where}: dtype must be one of ${order.join(", ")} but is ${String(type)}`);
  if (!(data instanceof arrayType(type)))
    throw new TypeError(`${where}: data of ${type} must be a ${arrayType(type).name} but is a ${data.constructor.name}`);
  if (shape.some((d) => !Number.isSafeInteger(d) || d < 0) || size(shape) !== data.length) {
    throw new RangeError(`${where}: shape ${showShape(shape)} needs ${size(shape)} values but data has ${data.length}`);
  }
  return { dtype: type, shape, data };
}

/** Bytes of a safetensors file, header first, one chunk a tensor. The same content always gives the same bytes. */
function chunks(tensors: ReadonlyMap<string, TensorToWrite>, metadata: Readonly<Record<string, string>>): Uint8Array[] {
  const rank = (d: SafeDType) => order.indexOf(d);
  const list = [...tensors].map(([name, t]) => ({ name, ...checkTensor(name, t) }));
  list.sort((a, b) => rank(a.dtype) - rank(b.dtype) || Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)));
  const bodies = list.map(({ dtype, data }) => encode(dtype, data));
  const notes = Object.entries(metadata);
  for (const [key, value] of notes) {
    if (typeof value !== "string")
      throw new TypeError(`writeSafetensors: metadata ${JSON.stringify(key)} must be a string but is ${typeof value}`);
    if (/\p{Surrogate}/u.test(key + value))
      throw new RangeError(`writeSafetensors: metadata ${JSON.stringify(key)} is not well-formed text`);
  }
  let offset = 0;
  const pairs = notes.map((pair) => pair.map((text) => JSON.stringify(text)).join(":"));
  const parts = pairs.length > 0 ? [`"__metadata__":{${pairs.join(",")}}`] : [];
  list.forEach(({ name, dtype, shape }, i) => {
    const entry: Pick<TensorEntry, "dtype" | "shape"> & { data_offsets: number[] } = {
      dtype,
      shape,
      data_offsets: [offset, (offset += bodies[i].length)],
    };
    parts.push(`${JSON.stringify(name)}:${JSON.stringify(entry)}`);
  });
  const header = Buffer.from(`{${parts.join(",")}}`);
  const start = Buffer.alloc(8 + Math.ceil(header.length / 8) * 8, " ");
  start.writeBigUInt64LE(BigInt(start.length - 8));
  header.copy(start, 8);
  return [start, ...bodies];
}

/** A safetensors file as bytes. @throws as `writeSafetensors` does. */
export function serializeSafetensors(
  tensors: ReadonlyMap<string, TensorToWrite>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  return Buffer.concat(chunks(tensors, metadata));
}

/**
 * Writes a safetensors file atomically: the path holds either the old content or all of the new.
 * Float32Array data is rounded to nearest where the dtype is F16 or BF16.
 *
 * @throws TypeError or RangeError if a tensor's dtype, shape and data do not fit; Error if the file cannot be written.
 */
export async function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, TensorToWrite>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  await writeFileAtomic(path, chunks(tensors, metadata));
}

/** The values as numbers. @throws RangeError if a 64-bit integer has no exact number. */
export function toNumbers({ data }: SafeTensor): ArrayLike<number> {
  if (!(data instanceof BigInt64Array || data instanceof BigUint64Array)) return data;
  return Array.from(data as Iterable<bigint>, (v) => {
    const n = Number(v);
    if (!Number.isSafeInteger(n)) throw new RangeError(`toNumbers: ${v} has no exact number`);
    return n;
  });
}
