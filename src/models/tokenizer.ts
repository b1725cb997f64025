/** Between text and ids. */
export interface Tokenizer {
  /** How many ids there are: each is below it. */
  readonly size: number;
  encode(text: string): number[];
  /** Special tokens are left out. */
  decode(ids: readonly number[]): string;
}

/** Ids after which unfinished characters are given up on. */
const PATIENCE = 16;

/** Ids in front of a text that may have a say in how it begins. */
const CONTEXT = 4;

/**
 * Text of ids that come one at a time, in whole characters: a piece is held back while its last character may not be
 * complete, or while it may be the beginning of one of the strings to stop at.
 */
export class TextPieces {
  /** Whether a string to stop at was found; nothing comes after it. */
  stopped = false;
  private readonly ids: number[];
  /** The ids in front are those whose text is out; they are kept for what the next ones look like behind them. */
  private done: number;
  private held = "";

  /** `context`: ids that went before, of which a few are needed. */
  constructor(
    private readonly tokenizer: Tokenizer,
    private readonly stops: readonly string[],
    context: readonly number[] = [],
  ) {
    this.ids = context.slice(-CONTEXT);
    this.done = this.ids.length;
  }

  /** What can be given out now that `id` is there; may be empty. */
  push(id: number): string {
    this.ids.push(id);
    const { ids, done } = this;
    const before = this.tokenizer.decode(ids.slice(0, done));
    const after = this.tokenizer.decode(ids);
    if (after.endsWith("\uFFFD") && ids.length - done < PATIENCE) return "";
    if (after.length <= before.length && ids.length - done < PATIENCE) return "";
    this.ids.splice(0, done);
    this.done = this.ids.length;
    return this.release(after.slice(before.length), false);
  }

  /** What was held back, at the end. */
  end(): string {
    if (this.stopped) return "";
    const { ids, done } = this;
    const rest = this.tokenizer.decode(ids).slice(this.tokenizer.decode(ids.slice(0, done)).length);
    return this.release(rest, true);
  }

  private release(text: string, all: boolean): string {
    const whole = this.held + text;
    const found = this.stops.map((stop) => whole.indexOf(stop)).filter((at) => at >= 0);
    if (found.length > 0) {
      this.stopped = true;
      return whole.slice(0, Math.min(...found));
    }
    const kept = all ? 0 : Math.max(0, ...this.stops.map((stop) => overlap(whole, stop)));
    this.held = whole.slice(whole.length - kept);
    return whole.slice(0, whole.length - kept);
  }
}

/** Characters at the end of a text that begin `stop`. */
function overlap(text: string, stop: string): number {
  for (let n = Math.min(stop.length - 1, text.length); n > 0; n--) if (text.endsWith(stop.slice(0, n))) return n;
  return 0;
}
