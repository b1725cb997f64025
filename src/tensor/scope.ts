/** What a scope can end: tensors, and nothing else at present. */
interface Held {
  dispose(): void;
}

const scopes: Set<Held>[] = [];

/** Registers a new tensor with the innermost scope. */
export function track(held: Held): void {
  scopes.at(-1)?.add(held);
}

/**
 * Runs `body` and frees every tensor made inside that is not part of what it returns (searched through arrays and
 * plain objects). What is returned belongs to the scope around. What the autograd tape still needs lives until backward.
 *
 * @throws if `body` returns a promise: a scope ends when `body` returns, so it cannot span an await.
 */
export function scope<T>(body: () => T): T {
  const mine = new Set<Held>();
  scopes.push(mine);
  let result: T | undefined;
  try {
    result = body();
    if (result instanceof Promise) throw new Error("scope: the body must be synchronous but returned a promise");
    return result;
  } finally {
    scopes.pop();
    release(result, mine);
    for (const held of mine) held.dispose();
  }
}

/** Takes tensors out of the current scopes: they live until they are disposed of or collected. Returns its argument. */
export function keep<T>(value: T): T {
  const found = new Set<Held>();
  collect(value, (held) => found.add(held));
  for (const open of scopes) for (const held of found) open.delete(held);
  return value;
}

/** Frees now what the innermost scope would free at its end; leaves alone what is not its own. */
export function drop(held: Held): void {
  if (scopes.at(-1)?.delete(held)) held.dispose();
}

function release(value: unknown, mine: Set<Held>): void {
  collect(value, (held) => {
    if (mine.delete(held)) track(held);
  });
}

function collect(value: unknown, visit: (held: Held) => void): void {
  if (value === null || typeof value !== "object") return;
  if ("dispose" in value && typeof value.dispose === "function") visit(value as Held);
  else if (Array.isArray(value)) for (const item of value) collect(item, visit);
  else if (Object.getPrototypeOf(value) === Object.prototype) for (const item of Object.values(value)) collect(item, visit);
}
