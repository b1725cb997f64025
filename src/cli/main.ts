#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { Command, CommanderError, Option } from "commander";
import { cellNames } from "../models/languageModel.js";
import { fraction, integer, notNegative, positive } from "./arguments.js";
import type { Settings } from "./run.js";
import { sampleCommand, type SampleArguments } from "./sample.js";
import { trainCommand, type TrainArguments } from "./train.js";

const settingNames = [
  "cell",
  "hidden",
  "layers",
  "embed",
  "seq",
  "batch",
  "val",
  "seed",
  "lr",
  "clip",
] as const satisfies readonly (keyof Settings)[];

const deviceOption = () =>
  new Option("--device <name>", "where to compute (default: the best there is)").choices(["cpu", "cuda", "reference"]);
const threadsOption = () => new Option("--threads <n>", "threads on the cpu (default: all cores)").argParser(integer(1));

type TrainFlags = Settings & Omit<TrainArguments, "settings" | "asked">;

/** Ends the command unless this option, and no argument beside options, was given. Unknown options are refused before. */
function need(command: Command, option: string, value: unknown): void {
  const [stray] = command.args;
  if (stray !== undefined) command.error(`error: unexpected argument '${stray}'; the ${command.name()} command reads ${option}`);
  if (value === undefined) command.error(`error: required option '${option}' not specified`);
}

function trainProgram(): Command {
  return new Command("train")
    .description("Trains a character model on a text and saves it; a terminal shows a progress bar.")
    .option("--text <file>", "UTF-8 text to learn")
    .addOption(new Option("--cell <name>", "recurrent layers").choices(cellNames).default("lstm"))
    .option("--hidden <n>", "units of a layer", integer(1), 256)
    .option("--layers <n>", "layers", integer(1), 2)
    .option("--embed <n>", "size of a character's vector", integer(1), 128)
    .option("--seq <n>", "characters of a window, through which gradients flow", integer(1), 100)
    .option("--batch <n>", "windows side by side", integer(1), 32)
    .option("--steps <n>", "steps to make in all, those before --resume included", integer(1), 2000)
    .option("--lr <x>", "learning rate of Adam", positive, 2e-3)
    .option("--clip <x>", "largest norm of the gradient", positive, 1)
    .option("--val <x>", "last part of the text, set apart to validate on (its first 262144 characters)", fraction, 0.1)
    .option("--seed <n>", "seed of the first weights", integer(0), 1)
    .addOption(deviceOption())
    .addOption(threadsOption())
    .option("--out <dir>", "folder of the checkpoint", "runs/char")
    .option("--resume", "go on from the checkpoint in --out", false)
    .option("--json", "write one JSON object a step", false)
    .action(async (flags: TrainFlags, command: Command) => {
      need(command, "--text <file>", flags.text);
      const given = settingNames.filter((name) => command.getOptionValueSource(name) === "cli");
      const pick = (names: readonly (keyof Settings)[]) => Object.fromEntries(names.map((name) => [name, flags[name]]));
      await trainCommand({ ...flags, settings: pick(settingNames) as unknown as Settings, asked: pick(given) });
    });
}

function sampleProgram(): Command {
  return new Command("sample")
    .description("Writes text as a trained model would, character by character.")
    .option("--model <dir>", "folder that train saved to, or a checkpoint file")
    .option("--prompt <text>", "text to go on from")
    .option("--length <n>", "characters to write", integer(0), 500)
    .option("--temperature <x>", "below 1 bolder choices become rarer; 0 takes the likeliest always", notNegative, 0.8)
    .option("--top-k <n>", "choose among the n likeliest characters only", integer(1))
    .option("--seed <n>", "seed of the choices (default: another each time)", integer(0))
    .addOption(deviceOption())
    .action((flags: SampleArguments, command: Command) => {
      need(command, "--model <dir>", flags.model);
      return sampleCommand(flags);
    });
}

/** Every subcommand throws what commander would exit with, and writes one line of error. */
function strict(command: Command): Command {
  return command
    .exitOverride()
    .allowExcessArguments()
    .showSuggestionAfterError()
    .configureOutput({ outputError: (text, write) => write(text.replace(/\s*\n\s*(?=\S)/g, " ")) });
}

const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { version: string };
const program = strict(new Command("throughtime"))
  .description("Recurrent neural networks: train a character model on a text, and sample from it.")
  .version(version);
for (const command of [trainProgram(), sampleProgram()]) program.addCommand(strict(command));

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 1;
  else {
    process.stderr.write(`throughtime: ${(error instanceof Error ? error.message : String(error)).replace(/\s*\n\s*/g, " ")}\n`);
    process.exitCode = 1;
  }
}
