/** Configuration of a Keras layer, as the file has it. */
export interface KerasConfig extends KerasModelConfig {
  readonly className: string;
  readonly name: string;
  /** Its own settings, such as `units` and `recurrent_activation`. */
  readonly settings: Readonly<Record<string, unknown>>;
}

/** The layers of a model, or none of a layer that is no model. */
export interface KerasModelConfig {
  readonly layers: readonly KerasConfig[];
}

const MAX_DEPTH = 200;

type JsonObject = Record<string, unknown>;
const isObject = (v: unknown): v is JsonObject => v !== null && typeof v === "object" && !Array.isArray(v);

/** Whether the brackets of a JSON text are nested deeper than any configuration is. */
function tooDeep(text: string): boolean {
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === '"') {
      for (i++; i < text.length && text[i] !== '"'; i++) if (text[i] === "\\") i++;
    } else if (c === "{" || c === "[") {
      if (++depth > MAX_DEPTH) return true;
    } else if (c === "}" || c === "]") depth--;
  }
  return false;
}

/** A layer out of `{ class_name, config }`. @throws saying what is not as Keras writes it. */
export function kerasConfig(value: unknown): KerasConfig {
  if (!isObject(value) || typeof value.class_name !== "string" || !isObject(value.config))
    throw new TypeError(`a layer must have class_name and config but is ${JSON.stringify(value)?.slice(0, 60)}`);
  const { class_name: className, config: settings } = value;
  const { name = "", layers } = settings;
  if (typeof name !== "string") throw new TypeError(`a layer's name must be a text but is ${JSON.stringify(name).slice(0, 60)}`);
  return { className, name, settings, layers: Array.isArray(layers) ? layers.map(kerasConfig) : [] };
}

/** The layers of a model, out of the untrusted config.json of a .keras file. @throws naming the file and what is wrong. */
export function parseKerasConfig(path: string, bytes: Uint8Array): KerasModelConfig {
  const fail = (what: string, cause?: unknown): never => {
    throw new Error(`${path}: config.json ${what}`, { cause });
  };
  let json: unknown;
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    if (tooDeep(text)) return fail("is nested too deeply");
    json = JSON.parse(text);
  } catch (cause) {
    if ((cause as Error).message.startsWith(path)) throw cause;
    return fail("is not JSON", cause);
  }
  try {
    return kerasConfig(json);
  } catch (cause) {
    return fail(`is not of a Keras model: ${(cause as Error).message}`, cause);
  }
}
