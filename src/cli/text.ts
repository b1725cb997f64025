import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { fileError } from "../io/files.js";

/** A text file and what identifies it. */
export interface Text {
  readonly text: string;
  readonly sha256: string;
}

/** Reads a UTF-8 text, without a byte order mark. @throws if it cannot be read, is not text in UTF-8, or is empty. */
export async function readText(path: string): Promise<Text> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (error) {
    throw fileError("cannot read", path, error);
  }
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    throw new Error(`${path}: the text must be UTF-8`, { cause: error });
  }
  // NUL is valid UTF-8, but of binary files and of texts in UTF-16.
  const zero = bytes.indexOf(0);
  if (zero >= 0) throw new Error(`${path}: the text must be UTF-8 but is binary: byte ${zero} is 0`);
  if (text.length === 0) throw new Error(`${path}: the text is empty`);
  return { text, sha256: createHash("sha256").update(bytes).digest("hex") };
}
