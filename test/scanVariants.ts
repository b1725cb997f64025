import type { Backend } from "../src/backend/backend.js";
import * as init from "../src/nn/init.js";
import * as nn from "../src/nn/layers.js";
import type { ScanLayer } from "../src/nn/scanLayer.js";
import type { Generator } from "../src/tensor/random.js";

export interface Where {
  readonly device: Backend;
  readonly dtype: "float32" | "float64";
  readonly generator: Generator;
}

const ranks = { decayRank: 2, rateRank: 3, valueRank: 2, gateRank: 4 };

/** Where products of low rank start as zero, they are given something to say. */
function lively(layer: nn.RWKV7TimeMix): nn.RWKV7TimeMix {
  for (const t of [layer.w1, layer.a1, layer.g1]) init.identity(t, { scale: 0.5 });
  return layer;
}

/** Every layer whose recurrence is linear, with each of its options; all take 6 numbers a step. */
export const scanVariants: Readonly<Record<string, (where: Where) => ScanLayer<string>>> = {
  MinGRU: (where) => new nn.MinGRU(6, 5, where),
  "MinGRU, bias, output": (where) => new nn.MinGRU(6, 9, { bias: true, outputSize: 4, ...where }),
  MinLSTM: (where) => new nn.MinLSTM(6, 5, where),
  "MinLSTM, bias, output": (where) => new nn.MinLSTM(6, 9, { bias: true, outputSize: 4, ...where }),
  LinearAttention: (where) => new nn.LinearAttention(6, { heads: 2, ...where }),
  "LinearAttention, sizes": (where) => new nn.LinearAttention(6, { heads: 3, keySize: 5, valueSize: 4, ...where }),
  RetNet: (where) => new nn.RetNet(6, { heads: 2, ...where }),
  GLA: (where) => new nn.GLA(6, { heads: 1, gateRank: 2, ...where }),
  DeltaNet: (where) => new nn.DeltaNet(6, { heads: 2, ...where }),
  "DeltaNet, convolution": (where) => new nn.DeltaNet(6, { heads: 2, convKernel: 2, keySize: 4, valueSize: 5, ...where }),
  GatedDeltaNet: (where) => new nn.GatedDeltaNet(6, { heads: 3, ...where }),
  Mamba: (where) => new nn.Mamba(6, where),
  "Mamba, all options": (where) =>
    new nn.Mamba(6, { stateSize: 3, convKernel: 2, expand: 1, timeStepRank: 4, bias: true, convBias: false, ...where }),
  MLSTM: (where) => new nn.MLSTM(6, { heads: 2, ...where }),
  "MLSTM, all options": (where) => new nn.MLSTM(6, { heads: 4, convKernel: 2, projFactor: 1, blockSize: 8, ...where }),
  SLSTMBlock: (where) => new nn.SLSTMBlock(6, { heads: 2, ...where }),
  "SLSTMBlock, all options": (where) => new nn.SLSTMBlock(6, { heads: 3, convKernel: 3, depth: 1, ...where }),
  Mamba2: (where) => new nn.Mamba2(6, { headSize: 4, stateSize: 3, ...where }),
  "Mamba2, all options": (where) =>
    new nn.Mamba2(6, {
      headSize: 3,
      stateSize: 5,
      groups: 2,
      convKernel: 2,
      bias: true,
      convBias: false,
      timeStepLimit: [0.01, 0.05],
      eps: 1e-3,
      ...where,
    }),
  RWKV7TimeMix: (where) => lively(new nn.RWKV7TimeMix(6, { headSize: 3, ...ranks, ...where })),
  "RWKV7TimeMix, second layer": (where) => lively(new nn.RWKV7TimeMix(6, { headSize: 2, layer: 1, layers: 3, ...ranks, ...where })),
  RWKV7ChannelMix: (where) => new nn.RWKV7ChannelMix(6, where),
  "RWKV7ChannelMix, hidden": (where) => new nn.RWKV7ChannelMix(6, { hiddenSize: 5, layer: 1, layers: 3, ...where }),
  QRNN: (where) => new nn.QRNN(6, 5, where),
  "QRNN, window, f-pooling": (where) => new nn.QRNN(6, 7, { window: 2, outputGate: false, ...where }),
  SRU: (where) => new nn.SRU(6, 6, where),
  "SRU, tanh, skip of its own": (where) => new nn.SRU(6, 9, { activation: "tanh", highwayBias: -1, ...where }),
  HGRN: (where) => new nn.HGRN(6, 5, where),
  "HGRN, lower bound": (where) => new nn.HGRN(6, 9, { lowerBound: 0.6, eps: 1e-6, ...where }),
  RWKV4TimeMix: (where) => new nn.RWKV4TimeMix(6, where),
  "RWKV4TimeMix, in a stack": (where) => new nn.RWKV4TimeMix(6, { hiddenSize: 9, layer: 2, layers: 4, ...where }),
  RWKV4ChannelMix: (where) => new nn.RWKV4ChannelMix(6, where),
  "RWKV4ChannelMix, in a stack": (where) => new nn.RWKV4ChannelMix(6, { hiddenSize: 5, layer: 1, layers: 3, ...where }),
  RWKV5TimeMix: (where) => new nn.RWKV5TimeMix(6, { headSize: 3, ...where }),
  "RWKV5TimeMix, upper layer": (where) => new nn.RWKV5TimeMix(6, { headSize: 2, layer: 2, layers: 3, ...where }),
  RWKV6TimeMix: (where) => {
    const layer = new nn.RWKV6TimeMix(6, { headSize: 3, mixRank: 2, decayRank: 3, ...where });
    for (const t of [layer.time_maa_w1, layer.time_decay_w1]) init.normal(t, { std: 0.5, generator: where.generator });
    return layer;
  },
  RWKV6ChannelMix: (where) => new nn.RWKV6ChannelMix(6, { layer: 1, layers: 2, ...where }),
  S4: (where) => new nn.S4(6, { stateSize: 4, ...where }),
  "S4, fourier": (where) => new nn.S4(6, { stateSize: 6, measure: "fourier", timeStepMin: 0.05, timeStepMax: 0.5, ...where }),
  S4D: (where) => new nn.S4D(6, { stateSize: 4, ...where }),
  "S4D, convolution": (where) => new nn.S4D(6, { stateSize: 4, mode: "convolution", ...where }),
  S5: (where) => new nn.S5(6, { stateSize: 4, ...where }),
  "S5, bilinear": (where) => new nn.S5(6, { stateSize: 10, discretization: "bilinear", timeStepMin: 0.01, ...where }),
};
