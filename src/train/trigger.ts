import { checkCount, checkNumber } from "../tensor/check.js";

/** What a trigger remembers; plain numbers, so that a checkpoint can hold it. */
export interface TriggerState {
  /** The losses reported since the last that mattered, oldest first. */
  readonly losses: readonly number[];
  /** The least of those before. */
  readonly best: number | null;
  readonly fired: boolean;
}

/**
 * The non-monotonic trigger of NT-ASGD (Merity et al. 2017): fires once a reported loss is above the least of all but the
 * last `patience` before it, and stays fired. Report the validation loss after each epoch, and begin to average when it fires.
 */
export class NonMonotonicTrigger {
  private losses: number[] = [];
  private best = Infinity;
  private on = false;

  constructor(private readonly patience = 5) {
    checkCount("NonMonotonicTrigger", "patience", patience);
  }

  /** Whether it has fired. */
  get fired(): boolean {
    return this.on;
  }

  /** Takes a loss into account and says whether the trigger has fired; NaN counts as a loss without improvement. */
  report(loss: number): boolean {
    if (this.best !== Infinity && !(loss <= this.best)) this.on = true;
    this.losses.push(loss);
    if (this.losses.length > this.patience) this.best = Math.min(this.best, nanLast(this.losses.shift()!));
    return this.on;
  }

  state(): TriggerState {
    return { losses: [...this.losses], best: this.best === Infinity ? null : this.best, fired: this.on };
  }

  setState({ losses, best, fired }: TriggerState): void {
    if (losses.length > this.patience)
      throw new RangeError(`NonMonotonicTrigger: losses must be at most ${this.patience} but are ${losses.length}`);
    if (best !== null) checkNumber("NonMonotonicTrigger", "best", best);
    [this.losses, this.best, this.on] = [[...losses], best ?? Infinity, fired];
  }
}

const nanLast = (loss: number): number => (Number.isNaN(loss) ? Infinity : loss);
