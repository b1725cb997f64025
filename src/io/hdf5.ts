import type { Dataset, File, Group } from "h5wasm";
import type { NumericArray } from "./layouts.js";

/** Groups and datasets together, and how deep they may be nested: links of a forged file can go in circles. */
const MAX_OBJECTS = 100_000;
const MAX_DEPTH = 32;

/** Floating-point arrays of an HDF5 file by path, and the text attribute `name` of the groups that have one. */
export interface Hdf5Content {
  readonly arrays: ReadonlyMap<string, NumericArray>;
  readonly names: ReadonlyMap<string, string>;
}

type Library = typeof import("h5wasm");
type Module = Awaited<Library["ready"]>;

/** HDF5's own library in WebAssembly: it sees no files but those it is given. */
async function library(path: string): Promise<{ h5: Library; module: Module }> {
  try {
    const h5 = await import("h5wasm");
    return { h5, module: await h5.ready };
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ERR_MODULE_NOT_FOUND") throw cause;
    throw new Error(`${path}: HDF5 files are read by the package h5wasm, which is not installed: npm install h5wasm`, { cause });
  }
}

/** HDF5 reports a stack of errors, the reason last. */
function reason(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.startsWith("HDF5-DIAG") ? ([...text.matchAll(/ in H5\w+\(\): (.*)/g)].at(-1)?.[1] ?? "it is damaged") : text;
}

const FLOAT = 1;

function readDataset(path: string, dataset: Dataset, left: number): NumericArray {
  const { shape, size, total_size: count, littleEndian, virtual_sources: virtual } = dataset.metadata;
  const fail = (what: string): never => {
    throw new Error(`dataset ${path} ${what}`);
  };
  if (!littleEndian || shape === null || virtual) return fail("must be stored in the file itself, little-endian");
  if (count * Math.max(size, 8) > left) fail("is too large");
  const { value } = dataset;
  if (typeof value === "number") return { shape, data: [value] };
  if (!(value instanceof Float32Array || value instanceof Float64Array)) return fail(`of ${8 * size} bits a number is not supported`);
  return value.length === count ? { shape, data: value } : fail("is cut");
}

function walk({ Group, Dataset, Attribute }: Library, file: File, wanted: (path: string) => boolean, maxBytes: number): Hdf5Content {
  const arrays = new Map<string, NumericArray>();
  const names = new Map<string, string>();
  let objects = 0;
  let left = maxBytes;
  const visit = (group: Group, prefix: string, depth: number) => {
    if (depth > MAX_DEPTH) throw new Error(`groups may be nested ${MAX_DEPTH} deep but ${prefix.slice(0, 80)}... is deeper`);
    for (const key of group.keys()) {
      if (++objects > MAX_OBJECTS) throw new Error(`it may have at most ${MAX_OBJECTS} objects but has more`);
      const path = prefix + key;
      if (!wanted(path)) continue;
      const item = group.get(key);
      if (item instanceof Group) {
        const name = (item.attrs as Partial<typeof item.attrs>).name;
        if (name instanceof Attribute && typeof name.value === "string") names.set(path, name.value);
        visit(item, `${path}/`, depth + 1);
      } else if (item instanceof Dataset && item.metadata.type === FLOAT) {
        const array = readDataset(path, item, left);
        left -= 8 * array.data.length;
        arrays.set(path, array);
      }
    }
  };
  visit(file, "", 0);
  return { arrays, names };
}

let opened = 0;

/**
 * Reads the floating-point arrays of an HDF5 file in memory, of the paths that are `wanted`, as long as they take no more
 * than `maxBytes` as float64. Links out of the file are not followed.
 *
 * @throws naming the file, if h5wasm is not installed, or it is not an HDF5 file, is cut, or holds what is not wanted so.
 */
export async function readHdf5(path: string, bytes: Uint8Array, wanted: (path: string) => boolean, maxBytes: number): Promise<Hdf5Content> {
  const { h5, module } = await library(path);
  const name = `/throughtime-${opened++}.h5`;
  let file: File | undefined;
  module.activate_throwing_error_handler();
  try {
    module.FS.writeFile(name, bytes);
    file = new h5.File(name, "r");
    return walk(h5, file, wanted, maxBytes);
  } catch (cause) {
    throw new Error(`${path}: not a readable HDF5 file: ${reason(cause)}`, { cause });
  } finally {
    try {
      file?.close();
      module.FS.unlink(name);
    } finally {
      module.deactivate_throwing_error_handler();
    }
  }
}
