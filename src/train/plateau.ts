import { checkCount, checkNumber, checkOptions } from "../tensor/check.js";
import type { Optimizer } from "./optimizer.js";

export interface PlateauOptions {
  /** The learning rate is multiplied by it. Default 0.1. */
  readonly factor?: number;
  /** Reports without improvement that are tolerated. Default 10. */
  readonly patience?: number;
  /** What counts as an improvement: below best * (1 - threshold). Default 1e-4. */
  readonly threshold?: number;
  /** Reports after a reduction that are not counted. Default 0. */
  readonly cooldown?: number;
  /** The learning rate goes no lower. Default 0. */
  readonly minLr?: number;
}

export interface PlateauState {
  readonly best: number | null;
  readonly bad: number;
  readonly cooling: number;
}

/** Lowers an optimizer's learning rate when a loss has stopped falling; the counting is PyTorch's. */
export class ReduceOnPlateau {
  private readonly options: Required<PlateauOptions>;
  private best = Infinity;
  private bad = 0;
  private cooling = 0;

  constructor(
    private readonly optimizer: Optimizer,
    options: PlateauOptions = {},
  ) {
    const where = "ReduceOnPlateau";
    checkOptions(where, options, ["factor", "patience", "threshold", "cooldown", "minLr"]);
    const { factor = 0.1, patience = 10, threshold = 1e-4, cooldown = 0, minLr = 0 } = options;
    checkNumber(where, "factor", factor, 0, 1, true);
    checkCount(where, "patience", patience, 0);
    checkNumber(where, "threshold", threshold, 0, 1);
    checkCount(where, "cooldown", cooldown, 0);
    checkNumber(where, "minLr", minLr, 0);
    this.options = { factor, patience, threshold, cooldown, minLr };
  }

  /** Reports a loss, such as that of the validation set; a NaN counts as no improvement. */
  report(loss: number): void {
    const { factor, patience, threshold, cooldown, minLr } = this.options;
    const better = loss < this.best * (1 - threshold) || (this.best === Infinity && loss < Infinity);
    if (better) this.best = loss;
    this.bad = better ? 0 : this.bad + 1;
    if (this.cooling > 0) {
      this.cooling--;
      this.bad = 0;
    }
    if (this.bad <= patience) return;
    this.optimizer.lr = Math.max(minLr, this.optimizer.lr * factor);
    this.cooling = cooldown;
    this.bad = 0;
  }

  state(): PlateauState {
    return { best: this.best === Infinity ? null : this.best, bad: this.bad, cooling: this.cooling };
  }

  setState({ best, bad, cooling }: PlateauState): void {
    if (best !== null) checkNumber("ReduceOnPlateau", "best", best);
    checkCount("ReduceOnPlateau", "bad", bad, 0);
    checkCount("ReduceOnPlateau", "cooling", cooling, 0);
    [this.best, this.bad, this.cooling] = [best ?? Infinity, bad, cooling];
  }
}
