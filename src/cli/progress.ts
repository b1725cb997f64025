import { SingleBar } from "cli-progress";

/** What the command reports of a step. */
export interface Report {
  readonly step: number;
  readonly loss: number;
  readonly bitsPerChar: number;
  readonly charsPerSecond: number;
  /** At evaluations. */
  readonly valLoss?: number;
}

/** Where reports go. */
export interface Progress {
  report(step: Report): void;
  /** A line for people. */
  note(line: string): void;
  /** Ends the bar, if there is one. */
  stop(): void;
}

const group = new Intl.NumberFormat("en");
/** A count with its thousands apart. */
export const count = (v: number): string => group.format(Math.round(v));
const bits = (loss: number): string => (loss / Math.LN2).toFixed(3);

/** One JSON object a line on stdout, notes on stderr. */
const json: Progress = {
  report: (step) => process.stdout.write(`${JSON.stringify(step)}\n`),
  note: (line) => process.stderr.write(`${line}\n`),
  stop: () => undefined,
};

/** A plain line a hundredth of the way, and at evaluations. */
function lines(total: number): Progress {
  const every = Math.max(1, Math.round(total / 100));
  const note = (line: string) => process.stdout.write(`${line}\n`);
  return {
    note,
    stop: () => undefined,
    report({ step, loss, bitsPerChar, charsPerSecond, valLoss }) {
      if (step % every !== 0 && step !== total && valLoss === undefined) return;
      const validation = valLoss === undefined ? "" : `  validation ${valLoss.toFixed(4)} (${bits(valLoss)} bits/char)`;
      note(
        `step ${step}/${total}  loss ${loss.toFixed(4)}  ${bitsPerChar.toFixed(3)} bits/char  ${count(charsPerSecond)} chars/s${validation}`,
      );
    },
  };
}

/** A bar that is drawn over itself. */
function bar(first: number, total: number): Progress {
  const drawn = new SingleBar({
    format: "{bar} {value}/{total} loss {loss} {bits} bits/char {speed} chars/s {eta_formatted} left{validation}",
    stream: process.stdout,
    barCompleteChar: "\u2588",
    barIncompleteChar: "\u2591",
    barsize: 14,
    hideCursor: true,
    etaBuffer: 50,
    fps: 5,
  });
  let validation = "";
  let running = false;
  const stop = () => {
    if (running) drawn.stop();
    running = false;
  };
  return {
    stop,
    note(line) {
      stop();
      process.stdout.write(`${line}\n`);
    },
    report({ step, loss, bitsPerChar, charsPerSecond, valLoss }) {
      if (valLoss !== undefined) validation = `, validation ${bits(valLoss)} bits/char`;
      const values = { loss: loss.toFixed(3), bits: bitsPerChar.toFixed(2), speed: count(charsPerSecond), validation };
      if (!running) drawn.start(total, first, values);
      running = true;
      drawn.update(step, values);
    },
  };
}

/** A bar on a terminal, plain lines elsewhere, or JSON if asked. */
export function openProgress(asJson: boolean, first: number, total: number): Progress {
  return asJson ? json : process.stdout.isTTY ? bar(first, total) : lines(total);
}
