import { checkCount, checkOptions } from "../tensor/check.js";
import type { Batch } from "./batch.js";

/** Where a run through a text stands; plain numbers, so that a checkpoint can hold it. */
export interface TextPosition {
  /** Passes through the text that are complete. */
  readonly epoch: number;
  /** Windows of this pass that were handed out. */
  readonly window: number;
}

export interface CharacterBatchOptions {
  /** Rows read side by side. Default 32. */
  readonly batch?: number;
  /** Steps of a window. Default 100. */
  readonly seq?: number;
  /** Passes through the text; `Infinity` never ends. Default 1. */
  readonly epochs?: number;
  /** Hand out the shorter last window of each pass too. Default false. */
  readonly partial?: boolean;
  /** Go on from here. Default: the start. */
  readonly position?: TextPosition;
}

/** A batch of `characterBatches`: int32 inputs, and as targets the same text one character later. */
export interface CharacterBatch extends Batch {
  readonly inputs: { readonly data: Int32Array; readonly shape: readonly [number, number] };
  readonly targets: { readonly data: Int32Array; readonly shape: readonly [number, number] };
  readonly reset: boolean;
}

/** A text cut into rows of equal length that are read in consecutive windows, so that state may go from one to the next. */
export class CharacterBatches implements Iterable<CharacterBatch> {
  /** Windows of one pass. */
  readonly windows: number;
  private readonly options: Required<CharacterBatchOptions>;
  /** Steps of a row, each with a character before and one after. */
  private readonly steps: number;
  private at: TextPosition;

  constructor(
    private readonly ids: Int32Array,
    options: CharacterBatchOptions = {},
  ) {
    const where = "characterBatches";
    checkOptions(where, options, ["batch", "seq", "epochs", "partial", "position"]);
    const { batch = 32, seq = 100, epochs = 1, partial = false, position = { epoch: 0, window: 0 } } = options;
    checkCount(where, "batch", batch);
    checkCount(where, "seq", seq);
    if (epochs !== Infinity) checkCount(where, "epochs", epochs);
    this.options = { batch, seq, epochs, partial, position };
    if (ids.length === 0) throw new RangeError(`${where}: the text is empty`);
    this.steps = Math.floor((ids.length - 1) / batch);
    const least = batch * (partial ? 1 : seq) + 1;
    if (ids.length < least) {
      const window = partial ? "step" : `window of ${seq} steps`;
      throw new RangeError(
        `${where}: the text must have at least ${least} characters for one ${window} in each of ${batch} rows but has ${ids.length}`,
      );
    }
    this.windows = partial ? Math.ceil(this.steps / seq) : Math.floor(this.steps / seq);
    checkCount(where, "position.epoch", position.epoch, 0);
    checkCount(where, "position.window", position.window, 0);
    if (position.window > this.windows)
      throw new RangeError(`${where}: position.window must be at most ${this.windows} but is ${position.window}`);
    this.at = position;
  }

  /** Where the next batch comes from. */
  get position(): TextPosition {
    return this.at;
  }

  /** Goes on from `position`, which moves with every batch; so a second loop continues where a first was left. */
  *[Symbol.iterator](): Iterator<CharacterBatch> {
    const { batch, seq, epochs } = this.options;
    for (;;) {
      if (this.at.window >= this.windows) this.at = { epoch: this.at.epoch + 1, window: 0 };
      const { epoch, window } = this.at;
      if (epoch >= epochs) return;
      const start = window * seq;
      const length = Math.min(seq, this.steps - start);
      const take = (shift: number) => {
        const data = new Int32Array(batch * length);
        for (let r = 0; r < batch; r++) {
          const from = r * this.steps + start + shift;
          data.set(this.ids.subarray(from, from + length), r * length);
        }
        return { data, shape: [batch, length] as const };
      };
      this.at = { epoch, window: window + 1 };
      yield { inputs: take(0), targets: take(1), reset: window === 0 };
    }
  }
}

/**
 * Batches of a text for training a character model, as PyTorch's language model examples cut it: the ids are laid out
 * in `batch` rows, which are read side by side in consecutive windows of `seq` steps; the targets are the same rows one
 * character later. The first window of a pass says `reset`.
 *
 * @throws RangeError if the text is empty, or too short for one window (saying how long it must be).
 */
export function characterBatches(ids: Int32Array, options: CharacterBatchOptions = {}): CharacterBatches {
  return new CharacterBatches(ids, options);
}
