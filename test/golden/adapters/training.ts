import { Embedding } from "../../../src/nn/embedding.js";
import { GRU, LSTM, RNN } from "../../../src/nn/layers.js";
import { Linear } from "../../../src/nn/linear.js";
import { Module } from "../../../src/nn/module.js";
import type { ForwardOptions, Recurrent } from "../../../src/nn/recurrent.js";
import { CarriedState } from "../../../src/train/carried.js";
import { Adagrad, Adam, AdamW, RMSprop, SGD } from "../../../src/train/optimizers.js";
import { train } from "../../../src/train/train.js";
import type { Tensor } from "../../../src/tensor/tensor.js";
import { prefixed, values, type Adapter } from "../adapter.js";

interface Config {
  readonly cell: "lstm" | "gru" | "rnn";
  readonly vocab: number;
  readonly embed: number;
  readonly hidden_size: number;
  readonly layers: number;
  readonly steps: number;
  readonly clip_norm: number | null;
  /** As written in Python, such as `Adam(lr=1e-2)`. */
  readonly optimizer: string;
}

const optimizers = { SGD, Adam, AdamW, RMSprop, Adagrad };
const cells = { lstm: LSTM, gru: GRU, rnn: RNN };

/** `weight_decay=0.1, nesterov=True` as options. */
function keywords(text: string): Record<string, number | boolean> {
  const pairs = text.split(",").map((pair) => pair.split("=").map((s) => s.trim()));
  const camel = (name: string) => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
  return Object.fromEntries(pairs.map(([name, value]) => [camel(name), value === "True" || (value !== "False" && Number(value))]));
}

function optimizerOf(text: string, model: Module) {
  const [, name, options] = /^(\w+)\((.*)\)$/.exec(text) ?? [];
  if (!(name in optimizers)) throw new Error(`no optimizer stands for ${text}`);
  return new optimizers[name as keyof typeof optimizers](model, keywords(options));
}

/** Embedding, recurrent layers, linear: what the cases train. */
class Model extends Module {
  readonly embed: Embedding;
  readonly rnn: Recurrent<string>;
  readonly head: Linear;

  constructor({ cell, vocab, embed, hidden_size: H, layers }: Config, place: object) {
    super();
    this.embed = new Embedding(vocab, embed, place);
    this.rnn = new cells[cell](embed, H, { layers, ...place });
    this.head = new Linear(H, vocab, place);
  }

  forward(ids: Tensor, options: ForwardOptions<string>) {
    const { output, state } = this.rnn.forward(this.embed.forward(ids), options);
    return { logits: this.head.forward(output), state };
  }
}

/** Whole training runs, the state carried from batch to batch. */
export const training: Adapter = {
  families: ["training"],

  async run(c, place) {
    const config = c.config as unknown as Config;
    const { steps, clip_norm: clip } = config;
    const model = new Model(config, place);
    model.loadStateDict(c.under("param."));
    const [ids, targets] = ["input.ids", "input.targets"].map((key) => c.values(key));
    const [, rows, length] = ids.shape;
    const batches = Array.from({ length: steps }, (_, step) => {
      const cut = ({ data }: typeof ids) => ({
        shape: [rows, length],
        data: Int32Array.from({ length: rows * length }, (_, i) => data[step * rows * length + i]),
      });
      return { inputs: cut(ids), targets: cut(targets) };
    });
    const carryState = new CarriedState();
    const losses: number[] = [];
    const norms: number[] = [];
    for await (const { loss, gradNorm } of train(model, batches, {
      optimizer: optimizerOf(config.optimizer, model),
      carryState,
      ...(clip !== null && { clipNorm: clip }),
    })) {
      losses.push(loss);
      norms.push(gradNorm);
    }
    const all = (tensors: Record<string, Tensor>) => Object.entries(tensors).map(([name, t]) => [name, values(t)] as const);
    return {
      "output.loss": { shape: [losses.length], data: losses },
      "output.grad_norm": { shape: [norms.length], data: norms },
      ...prefixed("output.final.", Object.fromEntries(all(model.stateDict()))),
      ...Object.fromEntries(all(carryState.stateDict()).map(([s, v]) => [`output.${s}_n`, v])),
    };
  },
};
