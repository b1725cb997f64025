import { checkChoice, checkCount, checkNumber, checkOptions } from "../tensor/check.js";

/** One entry of a model's `config.json`: what it is by default, and what it may be. */
export interface Field<T> {
  readonly default: T;
  /** @throws naming the entry, unless the value is one. */
  readonly check: (where: string, name: string, value: unknown) => void;
  /** Whether Transformers insists on a floating-point number, 1.0 instead of 1. */
  readonly float?: boolean;
}

/** The entries of a `config.json` that a model reads. */
export type Fields = Readonly<Record<string, Field<unknown>>>;

/** A configuration with every entry, under the names of `config.json`. */
export type ConfigOf<F extends Fields> = { readonly [K in keyof F]: F[K] extends Field<infer T> ? T : never };

const field = <T>(value: T, check: Field<T>["check"], float = false): Field<T> => ({ default: value, check, float });

export const count = (value: number, least = 1): Field<number> => field(value, (where, name, v) => checkCount(where, name, v, least));
export const flag = (value: boolean): Field<boolean> => field(value, (where, name, v) => checkChoice(where, name, v, [true, false]));
export const number = (value: number, low = -Infinity, high = Infinity): Field<number> =>
  field(value, (where, name, v) => checkNumber(where, name, v, low, high), true);
export const choice = <T extends string>(value: T, choices: readonly T[]): Field<T> =>
  field(value, (where, name, v) => checkChoice(where, name, v, choices));

/** What may also be null, as it is by default; what that means is up to the model. */
export const maybe = <T>({ check, float }: Field<T>, value: T | null = null): Field<T | null> =>
  field(
    value,
    (where, name, v) => {
      if (v !== null) check(where, name, v);
    },
    float,
  );

/** Two numbers in order; the second may be infinite. */
export const range = (low: number, high: number): Field<readonly [number, number]> =>
  field(
    [low, high] as const,
    (where, name, v) => {
      const ok = Array.isArray(v) && v.length === 2 && v.every((x) => typeof x === "number") && v[0] <= v[1];
      if (!ok) throw new RangeError(`${where}: ${name} must be two numbers in order but is ${JSON.stringify(v)}`);
    },
    true,
  );

/** An id of the vocabulary, several, or none. */
export const ids = (value: number | null): Field<number | readonly number[] | null> =>
  field<number | readonly number[] | null>(value, (where, name, v) => {
    for (const id of Array.isArray(v) ? v : v === null ? [] : [v]) checkCount(where, name, id, 0);
  });

/** The entries that are floating-point numbers, and `others` of which that is known. */
export const floatsOf = (fields: Fields, others: readonly string[] = []): readonly string[] => [
  ...Object.keys(fields).filter((name) => fields[name].float),
  ...others,
];

/** What Transformers writes of every model and what changes no number that a model computes. */
const general = [
  "_name_or_path",
  "architectures",
  "model_type",
  "dtype",
  "torch_dtype",
  "transformers_version",
  "use_cache",
  "bos_token_id",
  "pad_token_id",
  "sep_token_id",
  "decoder_start_token_id",
  "output_attentions",
  "output_hidden_states",
  "return_dict",
  "return_dict_in_generate",
  "torchscript",
  "chunk_size_feed_forward",
  "is_encoder_decoder",
  "is_decoder",
  "problem_type",
  "id2label",
  "label2id",
  "tokenizer_class",
  "prefix",
  "task_specific_params",
] as const;

/**
 * A configuration with its defaults filled in; entries that change nothing are kept as they are.
 *
 * @throws naming the entry, on one that is not known, neither in `fields` nor in `ignored`, and on a value it cannot have.
 */
export function completeConfig<F extends Fields>(where: string, fields: F, ignored: readonly string[], given: object): ConfigOf<F> {
  checkOptions(where, given, [...Object.keys(fields), ...general, ...ignored]);
  const config: Record<string, unknown> = { ...given };
  for (const [name, { default: value, check }] of Object.entries(fields)) {
    if (config[name] === undefined) config[name] = value;
    check(where, name, config[name]);
  }
  return Object.freeze(config) as ConfigOf<F>;
}
