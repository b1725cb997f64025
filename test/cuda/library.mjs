// The built library, for programs that have nothing but Node and the built files: THROUGHTIME_DIST, or dist of this folder.
import { join } from "node:path";
import { pathToFileURL } from "node:url";

export const dist = process.env.THROUGHTIME_DIST ?? join(import.meta.dirname, "..", "..", "dist");
export const load = (file) => import(pathToFileURL(join(dist, file)).href);

const library = await load("index.js");
export default library;

/** What device.info() says of the GPU. Without one the process ends here, with a line that is not overlooked. */
export function gpu(nothing) {
  const info = library.device.info().devices.find(({ name }) => name === "cuda");
  if (info.available) return info;
  console.log(`\n*** ${nothing}: ${info.reason} ***\n`);
  process.exit(0);
}
