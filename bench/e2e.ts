/**
 * Measures a character model end to end, training and sampling, against other programs that do the same work:
 *   npm run bench:e2e -- [--tasks train,sample] [--rounds 3] [--seconds 4] [--threads N] [--patience SECONDS]
 *     [--peer TASK:NAME=COMMAND]... [--out FILE.md]
 * COMMAND, run by a shell, prints a line of JSON with `chars_per_s`; it may use $THREADS and $SECONDS. Programs take turns.
 *   npm run bench:e2e -- --task train|sample is the program that is measured for this library.
 */
import { spawn } from "node:child_process";
import { availableParallelism, cpus, totalmem } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { device } from "../src/index.js";
import { writeFileAtomic } from "../src/io/files.js";
import { characterModel, greedy, setting, training } from "./characterModel.js";
import { machineTime, median } from "./measure.js";
import { OURS } from "./peer.js";
import { QUIET, quiet } from "./quiet.js";
import { stop, threadsOf } from "./select.js";

const tasks = ["train", "sample"] as const;
type Task = (typeof tasks)[number];

interface Answer {
  readonly chars_per_s: number;
  readonly [more: string]: unknown;
}
interface Peer {
  readonly task: Task;
  readonly name: string;
  readonly command: string;
}

function taskOf(text: string): Task {
  const task = tasks.find((one) => one === text);
  if (!task) throw new RangeError(`a task must be one of ${tasks.join(", ")} but is ${text}`);
  return task;
}

function parse() {
  try {
    const { values } = parseArgs({
      options: {
        task: { type: "string" },
        tasks: { type: "string", default: tasks.join(",") },
        rounds: { type: "string", default: "3" },
        seconds: { type: "string", default: "4" },
        patience: { type: "string", default: "300" },
        threads: { type: "string" },
        peer: { type: "string", multiple: true, default: [] },
        out: { type: "string" },
      },
    });
    const [rounds, seconds, patience] = [values.rounds, values.seconds, values.patience].map(Number);
    if (!(Number.isInteger(rounds) && rounds > 0)) throw new RangeError(`--rounds must be a positive integer but is ${values.rounds}`);
    if (!(seconds > 0)) throw new RangeError(`--seconds must be a positive number but is ${values.seconds}`);
    if (!(patience >= 0)) throw new RangeError(`--patience must be a number of seconds but is ${values.patience}`);
    const peers = values.peer.map((text): Peer => {
      const [, task, name, command] = /^([^:=]+):([^=]+)=(.+)$/.exec(text) ?? [];
      if (!command) throw new RangeError(`--peer must be TASK:NAME=COMMAND but is ${text}`);
      return { task: taskOf(task), name, command };
    });
    return {
      task: values.task === undefined ? null : taskOf(values.task),
      tasks: values.tasks.split(",").map(taskOf),
      threads: threadsOf(values) ?? availableParallelism(),
      ...{ rounds, seconds, patience, peers, out: values.out },
    };
  } catch (error) {
    return stop(error);
  }
}

const options = parse();

/** Characters a second: the median over blocks of 0.4 s, those during which others left the machine alone if there are any. */
async function blocks(characters: number, step: () => unknown): Promise<Answer> {
  const rates: { rate: number; others: number }[] = [];
  const end = performance.now() + options.seconds * 1000;
  while (performance.now() < end || rates.length < 5) {
    const times: number[] = [];
    const [before, cpu, start] = [machineTime(), process.cpuUsage(), performance.now()];
    let last = start;
    while (last - start < 400) {
      await step();
      const now = performance.now();
      times.push(now - last);
      last = now;
    }
    const { user, system } = process.cpuUsage(cpu);
    const busy = (machineTime()?.busy ?? 0) - (before?.busy ?? 0) - (user + system) / 1e6;
    rates.push({ rate: (characters / median(times)) * 1000, others: (Math.max(0, busy) / (last - start)) * 1000 });
  }
  const calm = rates.filter(({ others }) => others <= QUIET);
  const median_rate = median((calm.length > 0 ? calm : rates).map(({ rate }) => rate));
  const best = Math.max(...rates.map(({ rate }) => rate));
  return { chars_per_s: Math.round(median_rate), best: Math.round(best), blocks: rates.length, quiet_blocks: calm.length };
}

async function measureTraining(): Promise<Answer> {
  const losses: number[] = [];
  const loop = training(characterModel(setting), setting);
  const step = async () => {
    const { value } = (await loop.next()) as { value: { loss: number } };
    losses.push(value.loss);
  };
  for (let k = 0; k < 3; k++) await step();
  const result = await blocks(setting.batch * setting.steps, step);
  return { ...result, first_loss: losses[0], last_loss: losses.at(-1), steps: losses.length };
}

/** Steps in a row before the clock is read, as one takes microseconds. */
const IN_A_ROW = 20;

async function measureSampling(): Promise<Answer> {
  const next = greedy(characterModel(setting));
  const first_symbols = Array.from({ length: 24 }, next);
  for (let k = 0; k < 500; k++) next();
  const result = await blocks(IN_A_ROW, () => {
    for (let k = 0; k < IN_A_ROW; k++) next();
  });
  return { ...result, first_symbols };
}

/** Runs a program to its end. @throws unless it prints an answer. */
async function ask({ name, task, command }: Peer): Promise<Answer> {
  const env = { ...process.env, THREADS: String(options.threads), SECONDS: String(options.seconds), PYTHONDONTWRITEBYTECODE: "1" };
  const child = spawn("sh", ["-c", command], { stdio: ["ignore", "pipe", "inherit"], env });
  let text = "";
  for await (const chunk of child.stdout) text += String(chunk);
  for (const line of text.split("\n").reverse()) {
    try {
      const answer = JSON.parse(line) as Partial<Answer> | null;
      if (typeof answer?.chars_per_s === "number") return answer as Answer;
    } catch {
      // Not the answer: programs may print what they like beside it.
    }
  }
  throw new Error(`${name} (${task}): the command printed no line of JSON with chars_per_s`);
}

async function compare(): Promise<string> {
  const itself = fileURLToPath(import.meta.url);
  const own = (task: Task): Peer => ({
    ...{ task, name: OURS },
    command: `"${process.execPath}" --import tsx "${itself}" --task ${task} --threads $THREADS --seconds $SECONDS`,
  });
  const others = quiet(options.patience);
  const sections: string[] = [];
  for (const task of options.tasks) {
    const peers = [own(task), ...options.peers.filter((peer) => peer.task === task)];
    const rates = new Map(peers.map(({ name }) => [name, [] as number[]]));
    for (let k = 0; k < options.rounds; k++) {
      for (const peer of peers) {
        await others();
        const answer = await ask(peer);
        rates.get(peer.name)!.push(answer.chars_per_s);
        console.error(`${task}, round ${k + 1}: ${peer.name} ${JSON.stringify(answer)}`);
      }
    }
    const ours = median(rates.get(OURS)!);
    const lines = [...rates].map(([name, list]) => {
      const ratio = name === OURS ? "" : `x${(ours / median(list)).toFixed(2)}`;
      return `| ${name} | ${Math.round(median(list))} | ${ratio} | ${list.join(", ")} |`;
    });
    sections.push(`\n## ${task}\n\n| program | characters/s | ${OURS} ahead by | rounds |\n|---|---:|---:|---|\n${lines.join("\n")}\n`);
  }
  const { vocabulary, embed, hidden, layers, batch, steps } = setting;
  const about = [
    `${new Date().toISOString().slice(0, 10)}, ${cpus()[0].model.trim()}, ${availableParallelism()} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, ${process.platform} ${process.arch}`,
    `${options.threads} threads each, ${options.rounds} rounds of ${options.seconds} s in turns, medians; Node ${process.version}, ${device("cpu").info().isa}`,
    `embedding ${embed}, LSTM of ${layers} layers of ${hidden}, linear and softmax ${vocabulary}; training: ${batch} rows of ${steps} steps, Adam, clipped; sampling: one character at a time, greedy`,
  ];
  return `# A character model end to end\n\n${about.map((line) => `- ${line}`).join("\n")}\n${sections.join("")}`;
}

try {
  if (options.task) {
    process.env.THROUGHTIME_THREADS = String(options.threads);
    console.log(JSON.stringify(await (options.task === "train" ? measureTraining() : measureSampling())));
  } else {
    const text = await compare();
    console.log(text);
    if (options.out) await writeFileAtomic(options.out, [Buffer.from(text)]);
  }
  process.exit();
} catch (error) {
  stop(error);
}
