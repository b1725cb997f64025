import { checkOptions } from "../tensor/check.js";

export interface VocabularyOptions {
  /** A character to stand for every one that is not in the vocabulary; by default such a character is an error. */
  readonly unknown?: string;
}

/** The characters (Unicode code points) a model knows, each with an id from 0. */
export class Vocabulary {
  readonly unknown: string | undefined;
  private readonly ids = new Map<string, number>();

  /** @throws if a character is not one code point or stands twice, or `unknown` is not among them. */
  constructor(
    readonly characters: readonly string[],
    options: VocabularyOptions = {},
  ) {
    checkOptions("Vocabulary", options, ["unknown"]);
    if (characters.length === 0) throw new RangeError("Vocabulary: there must be at least one character");
    characters.forEach((c, id) => {
      if (typeof c !== "string" || [...c].length !== 1)
        throw new RangeError(`Vocabulary: character ${id} must be one code point but is ${JSON.stringify(c)}`);
      if (this.ids.has(c)) throw new RangeError(`Vocabulary: character ${JSON.stringify(c)} stands twice, as ${this.ids.get(c)} and ${id}`);
      this.ids.set(c, id);
    });
    if (options.unknown !== undefined && !this.ids.has(options.unknown)) {
      throw new RangeError(`Vocabulary: unknown must be one of the characters but is ${JSON.stringify(options.unknown)}`);
    }
    this.unknown = options.unknown;
  }

  /** The characters of a text in code point order, and `unknown` if given. @throws RangeError if the text is empty. */
  static fromText(text: string, options: VocabularyOptions = {}): Vocabulary {
    if (text.length === 0) throw new RangeError("Vocabulary.fromText: the text is empty");
    const found = new Set(text);
    if (options.unknown !== undefined) found.add(options.unknown);
    return new Vocabulary(
      [...found].sort((a, b) => a.codePointAt(0)! - b.codePointAt(0)!),
      options,
    );
  }

  get size(): number {
    return this.characters.length;
  }

  has(character: string): boolean {
    return this.ids.has(character);
  }

  /** The id of each character. @throws RangeError naming an unknown character and its position, unless there is `unknown`. */
  encode(text: string): Int32Array {
    const ids = new Int32Array(text.length);
    const other = this.unknown === undefined ? undefined : this.ids.get(this.unknown);
    let count = 0;
    for (const c of text) {
      const id = this.ids.get(c) ?? other;
      if (id === undefined) throw new RangeError(`Vocabulary.encode: unknown character ${JSON.stringify(c)} at position ${count}`);
      ids[count++] = id;
    }
    return ids.subarray(0, count);
  }

  /** The text of ids. @throws RangeError on an id outside the vocabulary. */
  decode(ids: ArrayLike<number>): string {
    let text = "";
    for (let i = 0; i < ids.length; i++) {
      const c = this.characters[ids[i]] as string | undefined;
      if (c === undefined)
        throw new RangeError(`Vocabulary.decode: ids must be integers in [0, ${this.size - 1}] but ids[${i}] is ${ids[i]}`);
      text += c;
    }
    return text;
  }
}
