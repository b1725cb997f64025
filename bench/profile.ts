/**
 * Prints where the time of a training step of a character model goes, or of making a character:
 *   npm run bench:profile -- [--task train|sample] [--steps N] [--threads N] [--vocabulary V] [--embed E] [--hidden H]
 *     [--layers L] [--batch B] [--length T]
 */
import { parseArgs } from "node:util";
import { device, drawProfile } from "../src/index.js";
import { characterModel, greedy, setting, training } from "./characterModel.js";
import { stop, threadsOf } from "./select.js";

const sizes = { vocabulary: "vocabulary", embed: "embed", hidden: "hidden", layers: "layers", batch: "batch", length: "steps" } as const;

function parse() {
  try {
    const text = { type: "string" } as const;
    const flags = { vocabulary: text, embed: text, hidden: text, layers: text, batch: text, length: text, steps: text, threads: text };
    const { values } = parseArgs({ options: { ...flags, task: { type: "string", default: "train" } } });
    const count = (name: keyof typeof flags, otherwise: number) => {
      const value = Number(values[name] ?? otherwise);
      if (!(Number.isInteger(value) && value > 0)) throw new RangeError(`--${name} must be a positive integer but is ${values[name]}`);
      return value;
    };
    const { task } = values;
    if (task !== "train" && task !== "sample") throw new RangeError(`--task must be train or sample but is ${task}`);
    const threads = threadsOf(values);
    if (threads) process.env.THROUGHTIME_THREADS = String(threads);
    const chosen = Object.entries(sizes).map(([flag, key]) => [key, count(flag as keyof typeof sizes, setting[key])] as const);
    return { task, steps: count("steps", task === "train" ? 20 : 5000), setting: { ...setting, ...Object.fromEntries(chosen) } };
  } catch (error) {
    return stop(error);
  }
}

const { task, steps, setting: chosen } = parse();
const model = characterModel(chosen);

async function trained(): Promise<() => Promise<void>> {
  const loop = training(model, chosen);
  const run = async (n: number) => {
    for (let k = 0; k < n; k++) await loop.next();
  };
  await run(3);
  return () => run(steps);
}

function sampled(): () => void {
  const next = greedy(model);
  const run = (n: number) => {
    for (let k = 0; k < n; k++) next();
  };
  run(500);
  return () => {
    run(steps);
  };
}

const body = task === "train" ? await trained() : sampled();
const profile = await device.profile(body, "cpu");
const { isa, threads } = device("cpu").info();
const unit = task === "train" ? chosen.batch * chosen.steps : 1;
console.log(Object.entries(chosen).map(([name, value]) => `${name} ${value}`).join(", ")); // prettier-ignore
console.log(`${task}, one of ${steps} steps, ${isa}, ${threads} threads: ${Math.round((unit * steps) / profile.seconds)} characters/s\n`);
console.log(drawProfile(profile, { steps }));
process.exit();
