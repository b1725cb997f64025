import type { Module } from "./module.js";

function all(module: Module): Module[] {
  return [module, ...module.children().flatMap(([, child]) => all(child))];
}

/** Runs `body` with a module and all below it in inference mode, then gives each the mode it had. `body` must be synchronous. */
export function inference<T>(model: Module, body: () => T): T {
  const restore = modes(model);
  model.eval();
  try {
    return body();
  } finally {
    restore();
  }
}

/** Remembers the mode of a module and of all below it; the result sets them again. */
export function modes(model: Module): () => void {
  const before = all(model).map((m) => [m, m.training] as const);
  return () => {
    for (const [m, training] of before) m.training = training;
  };
}
