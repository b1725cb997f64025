import { mkdir, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { fileError } from "./files.js";

async function make(path: string, above: boolean): Promise<void> {
  try {
    await mkdir(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") {
      if ((await stat(path)).isDirectory()) return;
      throw new Error("there is a file of that name", { cause: error });
    }
    if (code !== "ENOENT" || !above || dirname(path) === path) throw error;
    await make(dirname(path), true);
    await make(path, false);
  }
}

/**
 * Makes a folder and those above it, unless they are there. (Node's own recursive mkdir never returns where the file
 * system refuses new folders with ENOENT, as /proc does.)
 *
 * @throws saying why it cannot be made.
 */
export async function makeFolder(path: string): Promise<void> {
  try {
    await make(path, true);
  } catch (error) {
    throw fileError("cannot make the folder", path, error);
  }
}
