import type { DeviceName } from "../backend/devices.js";
import { characterBatches } from "../data/characters.js";
import { evaluate, train, type TrainStep } from "../train/train.js";
import { useDevice } from "./arguments.js";
import { count, openProgress, type Progress } from "./progress.js";
import { CHECKPOINT, resumeRun, startRun, type Run, type Settings } from "./run.js";
import { readText } from "./text.js";

export interface TrainArguments {
  readonly text: string;
  readonly out: string;
  readonly steps: number;
  readonly device?: DeviceName;
  readonly threads?: number;
  readonly resume: boolean;
  readonly json: boolean;
  readonly settings: Settings;
  /** Those of the settings that were given and not left to their defaults. */
  readonly asked: Partial<Settings>;
}

/** Steps between evaluations, each followed by a save. */
const PERIOD = 250;
/** Characters that an evaluation reads at most. */
const LONGEST = 2 ** 18;

/** Ends the run at SIGINT and SIGTERM, or when nobody reads the output any more. A second signal ends the process. */
function stopSignal(progress: Progress): { readonly signal: AbortSignal; close(): void } {
  const stop = new AbortController();
  const onSignal = () => {
    if (stop.signal.aborted) {
      progress.stop();
      process.exit(130);
    }
    stop.abort();
  };
  const onError = () => stop.abort();
  process.on("SIGINT", onSignal).on("SIGTERM", onSignal);
  process.stdout.on("error", onError);
  return {
    signal: stop.signal,
    close: () => {
      process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
    },
  };
}

/** Mean loss on the validation text; undefined without one or when stopped meanwhile. */
async function validate({ model, validation, settings }: Run, signal: AbortSignal): Promise<number | undefined> {
  const ids = validation.subarray(0, LONGEST);
  if (ids.length < 2) return undefined;
  // A short text is read in fewer rows: each should have a window.
  const batch = Math.max(1, Math.min(settings.batch, Math.floor((ids.length - 1) / settings.seq)));
  const batches = characterBatches(ids, { batch, seq: settings.seq, partial: true });
  const loss = await evaluate(model, batches, { carryState: true, signal }).catch((error: unknown) => {
    if (signal.aborted) return undefined;
    throw error;
  });
  return signal.aborted ? undefined : loss;
}

/** Characters per second, the last steps counting most. */
function speedometer(): (step: TrainStep) => number {
  let seconds = 0;
  let chars = 0;
  return (step) => {
    seconds = 0.95 * seconds + step.seconds;
    chars = 0.95 * chars + step.tokens;
    return chars / seconds;
  };
}

function checkFinite({ step, loss, gradNorm }: TrainStep, saved: number): void {
  const what = !Number.isFinite(loss) ? "loss" : !Number.isFinite(gradNorm) ? "gradient" : null;
  if (what)
    throw new Error(
      `the ${what} is not finite at step ${step}: training has diverged; a lower --lr or --clip may help${saved > 0 ? ` (the checkpoint of step ${saved} is kept)` : ""}`,
    );
}

async function loop(run: Run, total: number, progress: Progress, signal: AbortSignal): Promise<void> {
  const { model, optimizer, carried, batches, settings } = run;
  const speed = speedometer();
  let saved = optimizer.steps;
  for await (const step of train(model, batches, { optimizer, clipNorm: settings.clip, carryState: carried, signal })) {
    checkFinite(step, saved);
    const last = step.step >= total;
    const due = last || step.step % PERIOD === 0;
    const valLoss = due ? await validate(run, signal) : undefined;
    if (valLoss !== undefined) checkFinite({ ...step, loss: valLoss }, saved);
    progress.report({
      step: step.step,
      loss: step.loss,
      bitsPerChar: step.loss / Math.LN2,
      charsPerSecond: speed(step),
      ...(valLoss !== undefined && { valLoss }),
    });
    if (due) {
      await run.save();
      saved = step.step;
    }
    if (last) break;
  }
  if (saved < optimizer.steps || saved === 0) await run.save();
}

/** The command `train`. Ends well when it has made its steps or was asked to stop; the checkpoint is saved either way. */
export async function trainCommand({
  text: path,
  out,
  steps,
  device,
  threads,
  resume,
  json,
  settings,
  asked,
}: TrainArguments): Promise<void> {
  const file = await readText(path);
  const where = useDevice(device, threads);
  const run = resume ? await resumeRun(path, file, out, asked) : await startRun(path, file, out, settings);
  const { model, optimizer, vocabulary } = run;
  const first = optimizer.steps;
  const progress = openProgress(json, first, steps);
  const { cell, layers, hidden } = model.config;
  const weights = model.parameters().reduce((sum, p) => sum + p.size, 0);
  progress.note(
    `${path}: ${count(run.characters)} characters, ${vocabulary.size} different; ${cell} of ${layers} x ${hidden}, ${count(weights)} weights; ${where}`,
  );
  if (first >= steps) return progress.note(`${out} has made ${first} steps already; --steps above that goes on`);
  const { signal, close } = stopSignal(progress);
  try {
    await loop(run, steps, progress, signal);
  } finally {
    progress.stop();
    close();
  }
  const stopped = signal.aborted ? `stopped at step ${optimizer.steps} of ${steps}, to go on with --resume; ` : "";
  progress.note(`${stopped}saved to ${out}/${CHECKPOINT}`);
}
