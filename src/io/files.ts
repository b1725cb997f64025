import { randomBytes } from "node:crypto";
import { open, rename, rm, type FileHandle } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

const reasons: Readonly<Record<string, string>> = {
  EACCES: "permission denied",
  EDQUOT: "the disk quota is used up",
  EISDIR: "it is a folder",
  ENOENT: "no such file or folder",
  ENOSPC: "no space left on the device",
  ENOTDIR: "a part of the path is not a folder",
  EPERM: "not permitted",
  EROFS: "the file system is read-only",
};

/** One sentence for a failed file operation: what was tried, on which path, and why it failed. */
export function fileError(what: string, path: string, cause: unknown): Error {
  const { code = "", message = String(cause) } = cause as NodeJS.ErrnoException;
  const reason = reasons[code];
  return new Error(`${what} ${path}: ${reason ? `${reason} (${code})` : message}`, { cause });
}

/** Makes a rename in a folder outlast a power cut. Windows has no such call and needs none. */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform === "win32") return;
  let handle: FileHandle | undefined;
  try {
    handle = await open(folder, "r");
    await handle.sync();
  } catch (cause) {
    throw fileError("cannot flush the folder", folder, cause);
  } finally {
    await handle?.close();
  }
}

/**
 * Writes a file so that at every moment the path holds either all of the old content or all of the new: into a temporary
 * file of the same folder, flushed to the disk, then renamed over the path.
 *
 * @throws if anything fails (no space, no permission): the temporary file is removed and what was at the path is untouched.
 */
export async function writeFileAtomic(path: string, chunks: Iterable<Uint8Array>): Promise<void> {
  const folder = dirname(path);
  const temporary = join(folder, `.${basename(path)}.${randomBytes(6).toString("hex")}.tmp`);
  let handle: FileHandle | undefined;
  try {
    handle = await open(temporary, "wx");
    for (const chunk of chunks) await handle.writeFile(chunk);
    await handle.sync();
    await handle.close();
    await rename(temporary, path);
  } catch (cause) {
    await handle?.close().catch(() => undefined);
    if (handle) await rm(temporary, { force: true });
    throw fileError("cannot write", path, cause);
  }
  await syncFolder(folder);
}
