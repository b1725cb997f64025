/**
 * Times a training step of each variant of a cell against the plain cell, in alternation, and ragged batches against
 * full ones: npm run bench:variants -- [--only NAME,...] [--rounds N] [--size T,B,I,H] [--json]
 */
import { parseArgs } from "node:util";
import { device, GRU, IndRNN, LSTM, MGU, RNN, scope, tensor, zeros, type Recurrent } from "../src/index.js";
import { median } from "./measure.js";
import { stop } from "./select.js";
import { noise } from "./workload.js";

interface Size {
  readonly T: number;
  readonly B: number;
  readonly I: number;
  readonly H: number;
}
type Make = (size: Size) => Recurrent<string>;

const on = device("cpu");
const rnn: Make = ({ I, H }) => new RNN(I, H, { device: on });
const gru: Make = ({ I, H }) => new GRU(I, H, { device: on });
const lstm: Make = ({ I, H }) => new LSTM(I, H, { device: on });
const lstmWith =
  (options: object): Make =>
  ({ I, H }) =>
    new LSTM(I, H, { device: on, ...options });
const gruWith =
  (options: object): Make =>
  ({ I, H }) =>
    new GRU(I, H, { device: on, ...options });

/** A variant, what it is compared with, and the share of steps that are valid. */
const variants: Readonly<Record<string, readonly [plain: Make, variant: Make, valid?: number]>> = {
  "lstm peephole": [lstm, lstmWith({ peephole: true })],
  "lstm coupled": [lstm, lstmWith({ coupled: "input" })],
  "lstm no input gate": [lstm, lstmWith({ without: "input" })],
  "lstm projection H/2": [lstm, ({ I, H }) => new LSTM(I, H, { device: on, projSize: H >> 1 })],
  "lstm layer norm": [lstm, lstmWith({ layerNorm: "output" })],
  "lstm layer norm carried": [lstm, lstmWith({ layerNorm: "carried" })],
  "lstm zoneout": [lstm, lstmWith({ zoneout: 0.1 })],
  "lstm zoneout h and c": [lstm, lstmWith({ zoneout: { h: 0.1, c: 0.1 } })],
  "lstm locked dropout": [lstm, lstmWith({ lockedDropout: { input: 0.2, output: 0.2, hidden: 0.2 } })],
  "lstm recurrent dropout": [lstm, lstmWith({ recurrentDropout: 0.2 })],
  "lstm weight drop": [lstm, lstmWith({ weightDrop: 0.3 })],
  "lstm cell clip": [lstm, lstmWith({ cellClip: 3 })],
  "lstm lengths 1/2": [lstm, lstm, 0.5],
  "lstm lengths 1/4": [lstm, lstm, 0.25],
  "gru reset before": [gru, gruWith({ reset: "before" })],
  "gru update writes": [gru, gruWith({ update: "write" })],
  "gru layer norm": [gru, gruWith({ layerNorm: true })],
  "gru zoneout": [gru, gruWith({ zoneout: 0.1 })],
  "gru lengths 1/2": [gru, gru, 0.5],
  mgu: [gru, ({ I, H }) => new MGU(I, H, { device: on })],
  indrnn: [rnn, ({ I, H }) => new IndRNN(I, H, { device: on })],
};

/** A training step: forward, and the gradient of every weight, bias and input. */
function trainer(layer: Recurrent<string>, { T, B, I }: Size, valid: number) {
  const values = (length: number, seed: number, shape: readonly number[], requiresGrad = false) =>
    tensor(noise(length, seed), { shape, device: on, requiresGrad });
  const x = values(B * T * I, 1, [B, T, I], true);
  const gradient = values(B * T * layer.outputSize, 2, [B, T, layer.outputSize]);
  const done = zeros([1], { device: on });
  // From 0 to twice the share, evenly, in no order.
  const lengths = valid === 1 ? undefined : Array.from({ length: B }, (_, i) => Math.round(2 * valid * T * ((((i * 37) % B) + 0.5) / B)));
  return () => {
    layer.zeroGrad();
    x.grad?.dispose();
    x.grad = null;
    const start = performance.now();
    scope(() => layer.forward(x, { lengths }).output.backward({ gradient }));
    done.dataSync();
    return performance.now() - start;
  };
}

function parse() {
  try {
    const { values } = parseArgs({
      options: {
        only: { type: "string" },
        rounds: { type: "string", default: "9" },
        size: { type: "string", default: "64,64,256,512" },
        json: { type: "boolean", default: false },
      },
    });
    const [T, B, I, H] = values.size.split(",").map(Number);
    const rounds = Number(values.rounds);
    if (![T, B, I, H, rounds].every((n) => Number.isInteger(n) && n > 0))
      throw new RangeError("--size and --rounds take positive integers");
    const names = values.only?.split(",") ?? Object.keys(variants);
    for (const name of names)
      if (!(name in variants)) throw new RangeError(`there is no variant ${name}: ${Object.keys(variants).join(", ")}`);
    return { size: { T, B, I, H }, rounds, names, json: values.json };
  } catch (error) {
    return stop(error);
  }
}

const { size, rounds, names, json } = parse();
const { isa, threads } = on.info();
if (!json) console.log(`T=${size.T} B=${size.B} I=${size.I} H=${size.H}, training, ${isa}, ${threads} threads, Node ${process.version}`);
if (!json) console.log(`${"variant".padEnd(26)}${["plain ms", "ms", "speed"].map((title) => title.padStart(10)).join("")}`);
for (const name of names) {
  const [plain, variant, valid = 1] = variants[name];
  const steps = [trainer(plain(size), size, 1), trainer(variant(size), size, valid)];
  const times: number[][] = [[], []];
  for (let round = -1; round < rounds; round++) {
    steps.forEach((step, i) => {
      const ms = step();
      if (round >= 0) times[i].push(ms);
    });
  }
  const [a, b] = times.map(median);
  if (json) console.log(JSON.stringify({ variant: name, ...size, plain_ms: a, ms: b, speed: a / b, valid }));
  else console.log(`${name.padEnd(26)}${[a.toFixed(1), b.toFixed(1), (a / b).toFixed(2)].map((text) => text.padStart(10)).join("")}`);
}
