// The six models of families.mjs and mechanisms.mjs: an embedding, a body of two layers, and a head. Every body is given x
// [N, T, C] and the state to go on from, and gives its output and the next state.
import {
  add,
  Embedding,
  gelu,
  LayerNorm,
  Linear,
  LSTM,
  Mamba,
  MinGRU,
  Module,
  RWKV7ChannelMix,
  RWKV7TimeMix,
  SLSTM,
  Stacked,
  XLSTM,
} from "throughtime";
import { Attention } from "./attention.mjs";

const depth = 2;

/** x + layer(norm(x)), and where there is one, y + network(norm(y)). */
class Residual extends Module {
  constructor(size, layer, network = null) {
    super();
    this.norm = new LayerNorm(size);
    this.layer = layer;
    this.network = network;
    if (network) this.second = new LayerNorm(size);
  }
  forward(x, { state = {} } = {}) {
    const mixed = this.layer.forward(this.norm.forward(x), { state: state.layer });
    const y = add(x, mixed.output);
    if (!this.network) return { output: y, state: { layer: mixed.state } };
    const seen = this.network.forward(this.second.forward(y), { state: state.network });
    return { output: add(y, seen.output), state: { layer: mixed.state, network: seen.state ?? {} } };
  }
}

/** W_2 gelu(W_1 x). */
class Network extends Module {
  constructor(size) {
    super();
    this.up = new Linear(size, 4 * size);
    this.down = new Linear(4 * size, size);
  }
  forward(x) {
    return { output: this.down.forward(gelu(this.up.forward(x))) };
  }
}

/** Residual blocks one after another; the state is a list of theirs. */
class Body extends Module {
  constructor(blocks) {
    super();
    this.blocks = blocks;
  }
  forward(x, { state } = {}) {
    let output = x;
    const states = this.blocks.map((block, k) => {
      const result = block.forward(output, { state: state?.[k] });
      output = result.output;
      return result.state;
    });
    return { output, state: states };
  }
}

const blocks = (make) => new Body(Array.from({ length: depth }, (_, k) => make(k)));
const headSize = (size) => (size % 32 === 0 ? 32 : 16);

/** The body of each family for so many channels. */
export const families = {
  lstm: (size) => new LSTM(size, size, { layers: depth }),
  slstm: (size) => new Stacked(Array.from({ length: depth }, () => new SLSTM(size, size))),
  mingru: (size) => blocks(() => new Residual(size, new MinGRU(size, 2 * size, { outputSize: size }))),
  mamba: (size) => blocks(() => new Residual(size, new Mamba(size))),
  rwkv7: (size) =>
    blocks((layer) => {
      const place = { layer, layers: depth };
      const ranks = { decayRank: 16, rateRank: 16, valueRank: 16, gateRank: 32 };
      const mix = new RWKV7TimeMix(size, { headSize: headSize(size), valueMix: false, ...ranks, ...place });
      return new Residual(size, mix, new RWKV7ChannelMix(size, place));
    }),
  mlstm: (size) => new XLSTM(size, { blocks: ["m", "m"], heads: 2 }),
  xlstm: (size) => new XLSTM(size, { blocks: ["m", "s"], heads: 2 }),
  transformer: (size) => blocks(() => new Residual(size, new Attention(size, { heads: size / 16 }), new Network(size))),
};

/** ids [N, T] -> logits of the next ones. */
export class LanguageModel extends Module {
  constructor(name, characters, size) {
    super();
    this.embed = new Embedding(characters, size);
    this.body = families[name](size);
    this.norm = new LayerNorm(size);
    this.head = new Linear(size, characters);
  }
  forward(ids, { state } = {}) {
    const { output, state: next } = this.body.forward(this.embed.forward(ids), { state });
    return { logits: this.head.forward(this.norm.forward(output)), state: next };
  }
}

/** The model of a family whose parameters come nearest to a budget. */
export function sizedTo(name, characters, budget) {
  let best = null;
  for (let size = 16; size <= 512; size += 16) {
    const model = new LanguageModel(name, characters, size);
    const off = Math.abs(model.parameters().reduce((sum, p) => sum + p.size, 0) - budget);
    if (best && off >= best.off) break;
    best = { off, model };
  }
  return best.model;
}
