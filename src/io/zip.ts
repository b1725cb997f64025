import type { Readable } from "node:stream";
import { crc32 } from "node:zlib";
import type { Entry, ZipFile } from "yauzl";

const MAX_ENTRIES = 10_000;
/** Bytes that one byte of a deflate stream can stand for. */
const DEFLATE_RATIO = 1032;

async function unpack(path: string, zip: ZipFile, entry: Entry, limit: number): Promise<Uint8Array<ArrayBuffer>> {
  const name = entry.fileName;
  if (!entry.canDecodeFileData()) throw new Error(`${path}: ${name} is encrypted or compressed in a way that is not known`);
  if (entry.uncompressedSize > limit)
    throw new RangeError(`${path}: ${name} may have at most ${limit} bytes unpacked but claims ${entry.uncompressedSize}`);
  if (entry.uncompressedSize > DEFLATE_RATIO * (entry.compressedSize + 1))
    throw new RangeError(`${path}: ${name} claims ${entry.uncompressedSize} bytes, which its ${entry.compressedSize} cannot hold`);
  // The stream ends with an error where there is more or less than the entry claims.
  const stream: Readable = await zip.openReadStreamPromise(entry);
  const bytes = new Uint8Array(entry.uncompressedSize);
  let done = 0;
  let sum = 0;
  for await (const chunk of stream as AsyncIterable<Uint8Array>) {
    bytes.set(chunk, done);
    done += chunk.length;
    sum = crc32(chunk, sum);
  }
  if (sum !== entry.crc32) throw new Error(`${path}: ${name} is damaged: its checksum differs`);
  return bytes;
}

/**
 * Entries of a zip file by name, each of at most the bytes it is given; what is not there is left out.
 *
 * @throws naming the file, if it is not a zip file, is cut or damaged, has an entry twice or one that is too large.
 */
export async function readZip(path: string, limits: Readonly<Record<string, number>>): Promise<Map<string, Uint8Array<ArrayBuffer>>> {
  let zip: ZipFile | undefined;
  try {
    const { openPromise } = await import("yauzl");
    zip = await openPromise(path, { autoClose: false, lazyEntries: true });
    if (zip.entryCount > MAX_ENTRIES) throw new RangeError(`it may have at most ${MAX_ENTRIES} entries but claims ${zip.entryCount}`);
    const entries = new Map<string, Entry>();
    for await (const entry of zip.eachEntry()) {
      if (!Object.hasOwn(limits, entry.fileName)) continue;
      if (entries.has(entry.fileName)) throw new Error(`it has ${entry.fileName} twice`);
      entries.set(entry.fileName, entry);
    }
    const found = new Map<string, Uint8Array<ArrayBuffer>>();
    for (const [name, entry] of entries) found.set(name, await unpack(path, zip, entry, limits[name]));
    return found;
  } catch (cause) {
    const { message } = cause as Error;
    throw message.startsWith(path) ? cause : new Error(`${path}: ${message}`, { cause });
  } finally {
    zip?.close();
  }
}
